//go:build linux

package main

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/bundle"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/reports"
	"github.com/rpmig/rpmig/result"
)

func (e *env) bundleCommand() *cli.Command {
	return &cli.Command{
		Name:      "bundle",
		Usage:     "put a run into one file to attach to a report, or check such a file",
		UsageText: "rpmig bundle DIR -o FILE.tar.gz [options]\nrpmig bundle --check FILE.tar.gz|DIR",
		Description: "DIR is what a run wrote with --out, or the folder that a failing run named. The\n" +
			"file holds report.txt, ready to be pasted into a mail; the ledger, the page and\n" +
			"the timelines; each cell's capture, socket tables, sysctls, rules and counters;\n" +
			"the BPF program with the verifier's log; and what is known of this machine now.\n" +
			"Of a run in several kernels, a bundle is of one: DIR/KERNEL.\n" +
			"--check prints the report of a bundle that is whole; of one that was packed again,\n" +
			"or of the folder into which it was unpacked, it says what still holds.",
		Flags: []cli.Flag{
			&cli.PathFlag{Name: "output", Aliases: []string{"o"}, Usage: "write the bundle to `FILE`"},
			boolFlag("check", "", "verify a bundle, and print the report that its ledger makes"),
			&cli.BoolFlag{Name: "redact", Value: true, DisableDefaultText: true,
				Usage: "leave out the names of host and user, paths under home, addresses and kernel pointers; --redact=false keeps them"},
			boolFlag("force", "", "write over a file"),
			verboseFlag(), noColorFlag(),
		},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 || c.Args().First() == "" {
				return &usageError{"bundle: want one folder, or with --check one file", "rpmig bundle DIR -o FILE.tar.gz, or: rpmig bundle --check FILE.tar.gz"}
			}
			from := c.Args().First()
			if c.Bool("check") {
				for _, name := range []string{"output", "force", "redact"} {
					if c.IsSet(name) {
						return &usageError{"bundle: --check writes no file, so --" + name + " means nothing", "rpmig bundle --check " + quote(from)}
					}
				}
				return e.checkBundle(c, from)
			}
			to := c.Path("output")
			if to == "" {
				return &usageError{"bundle: to which file?", "rpmig bundle " + quote(from) + " -o FILE.tar.gz"}
			}
			if err := freeForBundle(to, c.Bool("force"), "rpmig bundle "+quote(from)+" -o "+quote(to)+" --force"); err != nil {
				return err
			}
			saveMemory(190)
			// What is redacted may become shorter, but not by half: what cannot be bundled is not read for a minute.
			run, closed, err := openRun(c.Context, from, reading{stored: true, bytes: 2 * bundle.MaxLedger},
				func(dir string) string { return "rpmig bundle " + dir + " -o " + quote(to) })
			if errors.Is(err, errTooLarge) {
				return &hintedError{fmt.Errorf("bundle: %s: its ledger is larger than the %d MiB that a bundle may have of it", from, bundle.MaxLedger>>20),
					"run fewer scenarios or repeats, and bundle those"}
			} else if err != nil {
				return err
			}
			defer closed()
			(&recorded{runs: []*result.Run{run}}).sayBroken(e.stderr)
			root, err := os.OpenRoot(runDir(from)) // a ledger names files, and may come from a stranger
			if err != nil {
				return fmt.Errorf("bundle: %w", err)
			}
			defer func() { _ = root.Close() }()
			without, err := writeBundle(c.Context, to, root.FS(), run, c.Bool("redact"), c.Bool("force"))
			if err != nil {
				return err
			}
			e.tellWithout(without)
			fmt.Fprintf(e.stderr, "rpmig: the bundle is %s\n", printable(to))
			return nil
		},
	}
}

func (e *env) checkBundle(c *cli.Context, name string) error {
	saveMemory(190)
	var checked *bundle.Checked
	err := unlessEnded(c.Context, func() (err error) { // it may be a pipe without a writer
		checked, err = readBundle(c.Context, name)
		return err
	})
	var usage *usageError
	var access *fs.PathError
	var replay *bundle.ReplayError
	var none *bundle.NoArchiveError
	switch {
	case err == nil:
	case errors.Is(err, bundle.ErrNoManifest):
		return &hintedError{fmt.Errorf("%s: %w", name, err), "if it is the folder of a run: tar -xf " + quote(name) + ", and then rpmig report DIR; if it was a bundle, do not trust it"}
	case errors.As(err, &none):
		return kindOfFile(none.Head).refused(name, "bundle")
	case errors.As(err, &usage):
		return err
	case errors.As(err, &access):
		return fmt.Errorf("bundle: %w", err)
	case errors.As(err, &replay) || errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", name, err)
	default:
		return &hintedError{fmt.Errorf("%s: %w", name, err), "do not trust it: ask whoever sent it to send it again"}
	}
	if len(checked.Repack) == 0 {
		fmt.Fprintf(e.stderr, "rpmig: %s is whole: %d files, and its ledger makes its report again\n", printable(name), checked.Files)
	} else {
		fmt.Fprintf(e.stderr, "rpmig: %s was packed again (%s). What is in it is whole:\n"+
			"rpmig: %d files, each as its manifest.json lists it, and its ledger makes its report\n"+
			"rpmig: again. Whether the archive was the one that rpmig wrote cannot be told any more.\n",
			printable(name), strings.Join(checked.Repack, ", "), checked.Files)
	}
	e.tellWithout(checked.Without)
	format, err := reports.Lookup("text")
	if err != nil {
		return err
	}
	return e.render(c.Context, c, format, checked.Run, ".")
}

// readBundle checks a bundle, or the folder into which one was unpacked.
func readBundle(ctx context.Context, name string) (*bundle.Checked, error) {
	const listed = "manifest.json"
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &usageError{"bundle: " + err.Error(), "rpmig bundle --check FILE.tar.gz"}
	case err != nil:
		return nil, err
	case info.IsDir():
		root, err := os.OpenRoot(name)
		if err != nil {
			return nil, err
		}
		defer func() { _ = root.Close() }()
		if _, err := root.Lstat(listed); errors.Is(err, fs.ErrNotExist) {
			return nil, &usageError{fmt.Sprintf("bundle: %s has no %s, so no bundle was unpacked there", name, listed), "if it is the folder of a run: rpmig bundle " + quote(name) + " -o FILE.tar.gz"}
		}
		return bundle.CheckFolder(ctx, root.FS())
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return bundle.Check(ctx, f)
}

// writeBundle returns which captures the bundle does without.
func writeBundle(ctx context.Context, to string, files fs.FS, run *result.Run, redact, force bool) (without []reports.LeftOut, err error) {
	src, err := bundleSource(ctx, files, run)
	if err != nil {
		return nil, err
	}
	src.Redact = redact
	var left []reports.LeftOut // of a bundle that is given up another goroutine may go on with it
	src.Without = func(l reports.LeftOut) { left = append(left, l) }
	if err := bundle.Save(ctx, to, force, src); err != nil {
		return nil, bundleError(to, err)
	}
	return left, nil
}

// tellWithout says which captures are not in a bundle, though they should be.
func (e *env) tellWithout(without []reports.LeftOut) {
	const told = 5
	for _, l := range without[:min(told, len(without))] {
		fmt.Fprintf(e.stderr, "rpmig: not in the bundle: %s\n", printable(l.String()))
	}
	if more := len(without) - told; more > 0 {
		fmt.Fprintf(e.stderr, "rpmig: and %d more: its report.txt names them\n", more)
	}
}

// bundleError says what to do about a bundle that could not be written.
func bundleError(to string, err error) error {
	var hinted interface{ Hint() string }
	var at *fs.PathError
	wrapped := fmt.Errorf("write the bundle: %w", err)
	switch {
	case errors.Is(err, fs.ErrExist):
		return existsError(to, "add --force to the same command")
	case errors.Is(err, bundle.ErrNotPlain):
		return notPlainError(to)
	case errors.As(err, &hinted), errors.Is(err, context.Canceled), errors.Is(err, errNoTime):
		return wrapped
	case errors.Is(err, unix.ENOSPC) && errors.As(err, &at) && at.Path == os.TempDir() && filepath.Dir(to) != at.Path:
		return wrapped
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EFBIG):
		return &hintedError{wrapped, "the disk is full, and nothing was left on it: choose a file on another one"}
	default:
		return &hintedError{wrapped, "choose a file in a folder that is there and that you may write to"}
	}
}

// existsError tells how to write over a file by force.
func existsError(to, force string) error {
	return &usageError{fmt.Sprintf("bundle: %s is there already", to), "choose another file, or " + force}
}

// notPlainError says that there is no writing over what is no plain file.
func notPlainError(to string) error {
	return &usageError{fmt.Sprintf("bundle: %s is no plain file, and --force writes over no other", to), "choose a name that is free: " + quote(filepath.Base(to)+".tar.gz")}
}

// freeForBundle refuses a file to which no bundle can be written, before there is one. how says how to write over a file.
func freeForBundle(to string, force bool, how string) error {
	if info, err := os.Lstat(to); err == nil && info.IsDir() {
		return &usageError{fmt.Sprintf("bundle: %s is a folder", to), "choose a file: " + quote(filepath.Join(to, "run.tar.gz"))}
	}
	if err := ownFile("bundle", to); err != nil {
		return err
	}
	switch err := bundle.Free(to, force); {
	case errors.Is(err, fs.ErrExist):
		return existsError(to, how)
	case errors.Is(err, bundle.ErrNotPlain):
		return notPlainError(to)
	}
	dir := filepath.Dir(to)
	info, err := os.Stat(dir)
	if err == nil && info.IsDir() {
		err = mayWrite(dir) // else a run would be played first
	}
	switch {
	case err != nil && !notThere(err):
		return bundleError(to, err)
	case err != nil || !info.IsDir():
		return &usageError{fmt.Sprintf("bundle: %s is no folder", dir), "choose a file in a folder that is there"}
	default:
		return nil
	}
}

// mayWrite asks the kernel whether this user may make files in a folder.
func mayWrite(dir string) error {
	if err := unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS); err != nil {
		return &fs.PathError{Op: "write to", Path: dir, Err: err}
	}
	return nil
}

// bundling is the --bundle of a run. The nil one is that of a run without.
type bundling struct {
	to    string
	force bool
}

// newBundling makes the run leave the evidence of every cell somewhere.
func newBundling(c *cli.Context, out *output) (*bundling, error) {
	if !c.IsSet("bundle") {
		return nil, nil
	}
	if out.dir == "" {
		var err error
		if out.store, err = newStore(); err != nil {
			return nil, out.unwritten(err)
		}
	}
	return &bundling{to: c.Path("bundle"), force: c.Bool("force")}, nil
}

// end ends the ledger and writes the bundle, also of a run that was cut short.
func (b *bundling) end(ctx context.Context, out *output) error {
	if b == nil {
		return out.end()
	}
	files, done, err := out.kept()
	if err != nil {
		return errors.Join(err, out.end())
	}
	defer done()
	if err := out.end(); err != nil || len(out.run.Cells) == 0 {
		return err
	}
	if _, err := writeBundle(ctx, b.to, files, &out.run, true, b.force); err != nil {
		return err
	}
	out.words("rpmig: the bundle is %s\n", printable(b.to))
	return nil
}

// kept returns the run's folder, for as long as done is not called. Of a run that went wrong there is a folder afterwards.
func (o *output) kept() (files fs.FS, done func(), err error) {
	if o.store == nil {
		root, err := os.OpenRoot(o.dir)
		if err != nil {
			return nil, nil, o.unwritten(err)
		}
		return root.FS(), func() { _ = root.Close() }, nil
	}
	if files, err = o.store.files(); err != nil {
		return nil, nil, o.unwritten(err)
	}
	if o.run.Count(result.Fail)+o.run.Count(result.Error) > 0 || o.run.Ending != nil && o.run.Header.Guest != nil {
		if err := o.makeDir(); err != nil {
			return nil, nil, err
		}
		if err := os.CopyFS(o.dir, files); err != nil {
			return nil, nil, o.unwritten(err)
		}
		if err := o.open(); err != nil {
			return nil, nil, err
		}
	}
	return files, o.store.close, nil
}

// bundleSource gathers what is known of this machine now.
func bundleSource(ctx context.Context, files fs.FS, run *result.Run) (bundle.Source, error) {
	src := bundle.Source{Files: files, Run: run, Identity: identity()}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return src, fmt.Errorf("uname: %w", err)
	}
	env := reports.Environment{
		Release: unix.ByteSliceToString(u.Release[:]), Version: unix.ByteSliceToString(u.Version[:]), Machine: unix.ByteSliceToString(u.Machine[:]),
		UserNS: netns.InUserNS(), Sysctls: sysctls(), Tables: netns.IPTablesVersion(ctx),
		Rpmig: version, Go: runtime.Version(), Build: map[string]string{},
		LeftOut: []reports.LeftOut{},
	}
	if s := programLeftOut(files, run); s != "" {
		env.LeftOut = append(env.LeftOut, reports.LeftOut{Why: s})
	}
	// Where it cannot be read it is not known.
	tainted, _ := os.ReadFile("/proc/sys/kernel/tainted")
	env.Tainted = strings.TrimSpace(string(tainted))
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			env.Build[s.Key] = s.Value
		}
		env.Build["module"] = strings.TrimSpace(info.Main.Path + " " + info.Main.Version)
		for _, d := range info.Deps {
			if d.Path == "github.com/cilium/ebpf" {
				env.Build[d.Path] = d.Version
			}
		}
	}
	switch config := kernelConfig(env.Release); {
	case run.Header.Guest != nil:
		if src.KernelConfig = guestConfig(files, run.Header.Guest); src.KernelConfig == nil {
			env.LeftOut = append(env.LeftOut, reports.LeftOut{File: "kernel.config", Why: "which was not found beside the guest's kernel"})
		}
	case config == nil:
		env.LeftOut = append(env.LeftOut, reports.LeftOut{File: "kernel.config", Why: "which was found neither in /proc/config.gz nor in /boot or /lib/modules"})
	case env.Release != run.Header.Kernel:
		env.LeftOut = append(env.LeftOut, reports.LeftOut{File: "kernel.config", Why: "as the one found here is not of the run's kernel"})
	default:
		src.KernelConfig = config
	}
	src.Environment = env
	return src, nil
}

// programLeftOut says why a bundle has no BPF program; empty: it has one.
func programLeftOut(files fs.FS, run *result.Run) string {
	loads := map[string]bool{}
	for _, m := range migrate.Modes() {
		loads[m.Name] = m.HasProgram()
	}
	if !slices.ContainsFunc(run.Kinds(), func(k *result.Kind) bool { return loads[k.Mode] }) {
		return "a BPF program and the verifier's log: no mode of this run has one"
	}
	if _, err := fs.Stat(files, path.Join(programDir, programSource)); err != nil {
		return "the BPF program and the verifier's log, which are not in the run's folder"
	}
	return ""
}

// identity is what tells this machine and this user from others. What rpmig cannot find out is in none of its texts either.
func identity() bundle.Identity {
	var id bundle.Identity
	if h, err := os.Hostname(); err == nil {
		id.Hosts = append(id.Hosts, h)
	}
	for _, name := range []string{"USER", "LOGNAME", "SUDO_USER"} {
		id.Users = append(id.Users, os.Getenv(name))
	}
	id.Homes = append(id.Homes, os.Getenv("HOME"))
	if me, err := user.Current(); err == nil {
		id.Users, id.Homes = append(id.Users, me.Username), append(id.Homes, me.HomeDir)
	}
	if sudo, err := user.Lookup(cmp.Or(os.Getenv("SUDO_USER"), "root")); err == nil {
		id.Homes = append(id.Homes, sudo.HomeDir)
	}
	return id
}

// sysctls reads those that decide what can be played here.
func sysctls() map[string]string {
	files := []string{
		"net/ipv4/tcp_migrate_req", "net/ipv4/tcp_synack_retries", "net/ipv4/tcp_syncookies", "net/ipv4/tcp_fastopen",
		"net/core/somaxconn", "net/core/bpf_jit_enable", "kernel/unprivileged_bpf_disabled", "kernel/unprivileged_userns_clone",
		"kernel/apparmor_restrict_unprivileged_userns",
	}
	const root = "/proc/sys/"
	more, _ := filepath.Glob(root + "user/max_*_namespaces") // the pattern is good
	for _, name := range more {
		files = append(files, strings.TrimPrefix(name, root))
	}
	found := map[string]string{}
	for _, name := range files {
		if value, err := os.ReadFile(root + name); err == nil {
			found[strings.ReplaceAll(name, "/", ".")] = strings.Join(strings.Fields(string(value)), " ")
		}
	}
	return found
}

// maxConfig is how large a kernel's .config may be, in bytes.
const maxConfig = 16 << 20

// guestConfig returns the .config of a guest's kernel, which the run has left in its folder; nil where there is none.
func guestConfig(files fs.FS, g *result.Guest) []byte {
	if !fs.ValidPath(g.Config) || g.Config == "." {
		return nil
	}
	info, err := fs.Stat(files, g.Config)
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxConfig {
		return nil
	}
	config, err := fs.ReadFile(files, g.Config)
	if err != nil {
		return nil
	}
	return config
}

// kernelConfig returns what the running kernel was built with; nil where it does not say.
func kernelConfig(release string) []byte {
	if packed, err := os.ReadFile("/proc/config.gz"); err == nil {
		if zip, err := gzip.NewReader(bytes.NewReader(packed)); err == nil {
			if config, err := io.ReadAll(io.LimitReader(zip, maxConfig)); err == nil {
				return config
			}
		}
	}
	for _, name := range []string{"/boot/config-" + release, "/lib/modules/" + release + "/config", "/lib/modules/" + release + "/build/.config"} {
		if config, err := os.ReadFile(name); err == nil && len(config) <= maxConfig {
			return config
		}
	}
	return nil
}
