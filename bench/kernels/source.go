package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/bench/tool"
)

// source is the package that the kernels are built from.
const source = "linux-source-6.12"

// fragment is what a kernel needs to boot in QEMU and for rpmig to play there, on top of tinyconfig.
//
//go:embed fragment.config
var fragment string

// tree is the source of a kernel, unpacked in the cache.
type tree struct {
	p       *player
	dir     string   // of this version: the package, the tree, and the files of the tree that patches change, as they were
	images  string   // the kernels that were built, of all versions
	version string   // of the package
	lock    *os.File // held by who builds
}

func (t *tree) src() string               { return filepath.Join(t.dir, source) }
func (t *tree) original(of string) string { return filepath.Join(t.dir, "original", of) }

// openTree finds the source's version, and keeps others from building there. Nothing is fetched yet.
func (p *player) openTree(ctx context.Context) (*tree, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	said, err := p.command(ctx, "/", "apt-cache", "show", "--no-all-versions", source)
	if err != nil {
		return nil, fmt.Errorf("%w (the kernels are built from Debian's package: apt-get update)", err)
	}
	t := &tree{p: p, images: filepath.Join(cache, "rpmig", "mutants", "images")}
	for line := range strings.SplitSeq(string(said), "\n") {
		if v, ok := strings.CutPrefix(line, "Version: "); ok {
			t.version = v
		}
	}
	if t.version == "" {
		return nil, fmt.Errorf("apt-cache show %s names no version", source)
	}
	t.dir = filepath.Join(cache, "rpmig", "mutants", source+"_"+t.version)
	if err := errors.Join(os.MkdirAll(t.dir, 0o755), os.MkdirAll(t.images, 0o755)); err != nil {
		return nil, err
	}
	if t.lock, err = os.Create(filepath.Join(t.dir, "lock")); err != nil {
		return nil, err
	}
	if err := unix.Flock(int(t.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.close()
		return nil, fmt.Errorf("lock %s: %w: another run is building there", t.dir, err)
	}
	return t, nil
}

func (t *tree) close() { _ = t.lock.Close() }

// image returns the path of a kernel, which is built unless it was before.
func (t *tree) image(ctx context.Context, m *mutant) (string, error) {
	h := sha256.New()
	for _, part := range [][]byte{[]byte(t.version), []byte(fragment), m.patch} {
		fmt.Fprintf(h, "%d\n", len(part))
		h.Write(part)
	}
	name := "as-it-is"
	if m.name != "" {
		name = m.name
	}
	path := filepath.Join(t.images, fmt.Sprintf("%s-%x", name, h.Sum(nil)[:8]))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := t.unpack(ctx); err != nil {
		return "", err
	}
	if err := t.restore(); err != nil {
		return "", err
	}
	if err := t.apply(ctx, m); err != nil {
		return "", err
	}
	fmt.Fprintf(os.Stderr, "kernels: building %s\n", name)
	nice := 0
	if _, err := os.Stat(filepath.Join(t.src(), "vmlinux")); err != nil { // the first takes minutes: in the background of what else is done
		nice = 10
	}
	if err := t.make(ctx, nice, fmt.Sprintf("-j%d", runtime.NumCPU()), "bzImage"); err != nil {
		return "", err
	}
	return path, copyFile(filepath.Join(t.src(), "arch", "x86", "boot", "bzImage"), path)
}

// unpack fetches the source and unpacks it, and configures it, unless that was done before.
func (t *tree) unpack(ctx context.Context) error {
	configured := filepath.Join(t.dir, "configured") // the last thing that is made, with the configuration that was wanted
	if had, err := os.ReadFile(configured); err == nil && string(had) == fragment {
		return nil
	}
	if _, err := os.Stat(filepath.Join(t.dir, "unpacked")); err != nil {
		fmt.Fprintf(os.Stderr, "kernels: fetching %s %s, some 150 MB, and unpacking it, some 1.5 GB\n", source, t.version)
		archive := filepath.Join("usr", "src", source+".tar.xz")
		for _, step := range [][]string{
			{"apt-get", "download", "-qq", source + "=" + t.version},
			{"sh", "-c", "dpkg-deb --extract " + source + "_*.deb ."},
			{"tar", "-xf", archive},
			{"sh", "-c", "rm -r usr " + source + "_*.deb"},
			{"touch", "unpacked"},
		} {
			if _, err := t.p.command(ctx, t.dir, step[0], step[1:]...); err != nil {
				return err
			}
		}
	}
	if err := t.restore(); err != nil {
		return err
	}
	wanted := filepath.Join(t.src(), "rpmig.config")
	if err := os.WriteFile(wanted, []byte(fragment), 0o644); err != nil {
		return err
	}
	if err := t.make(ctx, 0, "tinyconfig"); err != nil {
		return err
	}
	if _, err := t.p.command(ctx, t.src(), "scripts/kconfig/merge_config.sh", "-m", ".config", wanted); err != nil {
		return err
	}
	if err := t.make(ctx, 0, "olddefconfig"); err != nil {
		return err
	}
	taken, err := os.ReadFile(filepath.Join(t.src(), ".config"))
	if err != nil {
		return err
	}
	if line := notTaken(fragment, string(taken)); line != "" {
		return fmt.Errorf("configure %s: it does not take %s", source, line)
	}
	return os.WriteFile(configured, []byte(fragment), 0o644)
}

// notTaken is the first line of the fragment that is not in the configuration that was made of it: what it depends on is lacking.
func notTaken(fragment, config string) string {
	for line := range strings.SplitSeq(fragment, "\n") {
		if strings.HasPrefix(line, "CONFIG_") && !strings.Contains("\n"+config, "\n"+line+"\n") {
			return line
		}
	}
	return ""
}

// restore undoes the last patch, and removes the history of a bisection. A file that is as it was keeps its time, so that it is not
// compiled again.
func (t *tree) restore() error {
	if err := os.RemoveAll(filepath.Join(t.src(), ".git")); err != nil {
		return err
	}
	root := t.original("")
	if _, err := os.Stat(root); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		want, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if has, err := os.ReadFile(filepath.Join(t.src(), name)); err == nil && bytes.Equal(has, want) {
			return nil
		}
		return os.WriteFile(filepath.Join(t.src(), name), want, 0o644)
	})
}

// keep keeps files as they are, for restore.
func (t *tree) keep(files []string) error {
	for _, file := range files {
		kept := t.original(file)
		if _, err := os.Stat(kept); err == nil {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(kept), 0o755); err != nil {
			return err
		}
		if err := copyFile(filepath.Join(t.src(), file), kept); err != nil {
			return err
		}
	}
	return nil
}

// apply makes the change. What it changes is kept first, as it was.
func (t *tree) apply(ctx context.Context, m *mutant) error {
	if m.patch == nil {
		return nil
	}
	if err := t.keep(m.files); err != nil {
		return err
	}
	cmd := t.p.cmd(ctx, t.src(), "patch", "--strip=1", "--forward", "--batch", "--fuzz=0", "--no-backup-if-mismatch", "--reject-file=-")
	cmd.Stdin = bytes.NewReader(m.patch)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("the patch does not apply to %s %s: %s", source, t.version, tool.LastLine(said))
	}
	return nil
}

// make runs make there. Who has built the kernel, and when, is not in it.
func (t *tree) make(ctx context.Context, nice int, args ...string) error {
	_, err := t.p.command(ctx, t.src(), "nice", append([]string{"-n", fmt.Sprint(nice), "make", "-s",
		"KBUILD_BUILD_TIMESTAMP=@0", "KBUILD_BUILD_USER=rpmig", "KBUILD_BUILD_HOST=rpmig", "LOCALVERSION="}, args...)...)
	return err
}

// copyFile copies a file. The copy is there at once, or not at all.
func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }() // it was only read
	out, err := os.CreateTemp(filepath.Dir(to), ".copy-")
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Chmod(0o644), out.Close()); err == nil {
		err = os.Rename(out.Name(), to)
	}
	if err != nil {
		_ = os.Remove(out.Name())
	}
	return err
}
