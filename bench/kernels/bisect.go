package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/bits"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rpmig/rpmig/bench/tool"
	"github.com/rpmig/rpmig/result"
)

// bisect finds a commit, and returns the exit status.
func (p *player) bisect(ctx context.Context, history string) (status int, err error) {
	find := map[string]func(context.Context, io.Writer) error{"source": p.bisectSource, "packages": p.bisectPackages}[history]
	if find == nil || flag.NArg() != 0 {
		return 2, errors.New("-bisect source, or -bisect packages")
	}
	if p.root, err = tool.ModuleRoot(); err != nil {
		return 2, err
	}
	done, err := p.build(ctx)
	if err != nil {
		return 2, err
	}
	defer func() { err = errors.Join(err, done()) }()
	if p.temp, err = os.MkdirTemp("", "rpmig-bisect-"); err != nil {
		return 2, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(p.temp)) }()
	if err := find(ctx, os.Stdout); err != nil {
		return 1, err
	}
	return 0, nil
}

// bisection is a git history, and the commit in it that git bisect has to find with the help of rpmig run --bisect.
type bisection struct {
	p       *player
	dir     string   // of the repository
	commits []string // what each is about, oldest first
	want    int      // the one to be found, an index of commits
	old     string   // what git bisect calls commits before the one that is looked for; empty: good
	changed string   // and those from it on; empty: bad
	test    string   // a shell's, of the commit that is checked out: git bisect run. "boot" before it starts a kernel.
}

// broke and harmless are the history of a source tree: a mutant among changes that break nothing, each of another file.
const broke = "ack-not-migrated"

var harmless = []string{
	"net/ipv4/tcp_minisocks.c", "net/ipv4/inet_hashtables.c", "net/ipv4/tcp_timer.c", "net/ipv4/inet_timewait_sock.c",
	"net/ipv4/tcp_cong.c", "net/ipv4/syncookies.c", "net/ipv4/tcp_rate.c",
}

// bisectSource finds the commit that broke the kernel, in its source tree. Each step builds a few files and links.
func (p *player) bisectSource(ctx context.Context, w io.Writer) (err error) {
	mutants, err := readMutants(filepath.Join(p.root, "bench", "kernels"))
	if err != nil {
		return err
	}
	i := slices.IndexFunc(mutants, func(m mutant) bool { return m.name == broke })
	if i < 0 {
		return fmt.Errorf("there is no %s.patch", broke)
	}
	m := &mutants[i]
	t, err := p.openTree(ctx)
	if err != nil {
		return err
	}
	defer t.close()
	for _, step := range []func() error{
		func() error { return t.unpack(ctx) }, t.restore, func() error { return t.keep(slices.Concat(harmless, m.files)) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	defer func() { err = errors.Join(err, t.restore()) }()
	b := &bisection{p: p, dir: t.src(), want: 1 + len(harmless)/2, test: fmt.Sprintf(`
		nice make -s LOCALVERSION= -j%d bzImage || exit 125
		boot
		"$RPMIG" run quiz2 --migrate=sysctl --kernel . --bisect`, runtime.NumCPU())}
	if err := b.init(ctx); err != nil {
		return err
	}
	if err := b.commit(ctx, source+" as it is", slices.Concat(harmless, m.files)...); err != nil {
		return err
	}
	for i, file := range harmless {
		if i == b.want-1 {
			if err := t.apply(ctx, m); err != nil {
				return err
			}
			if err := b.commit(ctx, m.title, m.files...); err != nil {
				return err
			}
		}
		if err := appendTo(filepath.Join(t.src(), file), "\n/* a change that breaks nothing */\n"); err != nil {
			return err
		}
		if err := b.commit(ctx, "a change of "+file, file); err != nil {
			return err
		}
	}
	return b.find(ctx, w)
}

// The packaged kernels that are walked through, and the first upstream release of their series in which what fastopen-quota looks
// for is fixed: CVE-2026-74696, as result.Bug has it.
const (
	firstPackaged, lastPackaged = 47, 56
	fixedIn                     = "6.1.183"
)

var packagedName = regexp.MustCompile(`(?m)^linux-image-(6\.1\.0-(\d+)-cloud-(?:amd64|arm64)) - `)

// packaged are the versions of Debian's kernels in what apt-cache search prints, oldest first.
func packaged(search string) []string {
	found := map[int]string{}
	for _, m := range packagedName.FindAllStringSubmatch(search, -1) {
		if n, err := strconv.Atoi(m[2]); err == nil && n >= firstPackaged && n <= lastPackaged && strings.HasSuffix(m[1], "-"+runtime.GOARCH) {
			found[n] = m[1]
		}
	}
	var versions []string
	for n := firstPackaged; n <= lastPackaged; n++ {
		if found[n] != "" {
			versions = append(versions, found[n])
		}
	}
	return versions
}

// upstream is the release that a package's version begins with, as 6.1.183 in 6.1.183-1.
var upstream = regexp.MustCompile(`(?m)^Version: (\d+\.\d+\.\d+)-`)

// fixed tells from what apt-cache show prints whether a package is of a release with the fix.
func fixed(show string) (bool, error) {
	m := upstream.FindStringSubmatch(show)
	if m == nil {
		return false, errors.New("apt-cache show names no version")
	}
	h := result.Header{Upstream: m[1]}
	before, known := h.Before(fixedIn)
	if !known {
		return false, fmt.Errorf("%s: no version of Linux", m[1])
	}
	return !before, nil
}

// bisectPackages finds the first of Debian's 6.1 kernels that has a fix. What is played fails where the bug is, so that a FAIL is
// what is old.
func (p *player) bisectPackages(ctx context.Context, w io.Writer) error {
	search, err := p.command(ctx, "/", "apt-cache", "search", "--names-only", `^linux-image-6\.1\.0-[0-9]+-cloud-`+runtime.GOARCH+`$`)
	if err != nil {
		return err
	}
	b := &bisection{p: p, want: -1, old: "broken", changed: "fixed", test: `
		boot
		"$RPMIG" run fastopen-quota --migrate=sysctl --family=ipv4 --strict --bisect --kernel "debian:$(cat version)"
		status=$?; case $status in 0) exit 1;; 1) exit 0;; *) exit $status;; esac`}
	versions := packaged(string(search))
	for i, v := range versions {
		show, err := p.command(ctx, "/", "apt-cache", "show", "--no-all-versions", "linux-image-"+v)
		if err != nil {
			return err
		}
		if has, err := fixed(string(show)); err != nil {
			return fmt.Errorf("linux-image-%s: %w", v, err)
		} else if has && b.want < 0 {
			b.want = i
		}
	}
	if b.want < 1 {
		return fmt.Errorf("of %s, which apt names, none is before %s, or none after: there is nothing to bisect (apt-get update)", strings.Join(versions, ", "), fixedIn)
	}
	if b.dir, err = os.MkdirTemp(p.temp, "versions-"); err != nil {
		return err
	}
	if err := b.init(ctx); err != nil {
		return err
	}
	for _, v := range versions {
		if err := os.WriteFile(filepath.Join(b.dir, "version"), []byte(v+"\n"), 0o644); err != nil {
			return err
		}
		if err := b.commit(ctx, v, "version"); err != nil {
			return err
		}
	}
	return b.find(ctx, w)
}

// git runs git in the repository, by no settings but its own.
func (b *bisection) git(ctx context.Context, args ...string) (string, error) {
	cmd := b.p.cmd(ctx, b.dir, "git", append([]string{"-c", "user.name=rpmig", "-c", "user.email=rpmig@localhost", "-c", "core.autocrlf=false"}, args...)...)
	cmd.Env = append(cmd.Env, "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "TMPDIR="+b.p.temp, "RPMIG="+b.p.rpmig, "RPMIG_BOOTS="+b.boots())
	var stdout bytes.Buffer
	person := struct{ io.Writer }{os.Stderr} // by a pipe, which is open for as long as what git has started
	cmd.Stdout, cmd.Stderr = &stdout, person
	if args[0] == "bisect" {
		cmd.Stdout = person // progress
	}
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("git %s: %w", args[0], err)
	}
	return strings.TrimSpace(stdout.String()), nil
}

// boots is the file that has a line for each boot.
func (b *bisection) boots() string { return filepath.Join(b.dir, ".git", "boots") }

func (b *bisection) init(ctx context.Context) error {
	_, err := b.git(ctx, "init", "-q")
	return err
}

func (b *bisection) commit(ctx context.Context, about string, files ...string) error {
	if _, err := b.git(ctx, append([]string{"add", "-f", "--"}, files...)...); err != nil {
		return err
	}
	b.commits = append(b.commits, about)
	_, err := b.git(ctx, "commit", "-q", "-m", about)
	return err
}

// find has git look for the commit, and checks what it finds, and that it took no more boots than a search by halves.
func (b *bisection) find(ctx context.Context, w io.Writer) error {
	began := time.Now()
	hashes, err := b.git(ctx, "rev-list", "--reverse", "HEAD")
	if err != nil {
		return err
	}
	all := strings.Fields(hashes)
	changed := cmp.Or(b.changed, "bad")
	if _, err := b.git(ctx, "bisect", "start", "--term-old="+cmp.Or(b.old, "good"), "--term-new="+changed, all[len(all)-1], all[0]); err != nil {
		return err
	}
	script := `boot() { echo >>"$RPMIG_BOOTS"; }` + b.test
	if _, err := b.git(ctx, "bisect", "run", "sh", "-c", script); err != nil {
		return err
	}
	found, err := b.git(ctx, "rev-parse", "refs/bisect/"+changed)
	if err != nil {
		return err
	}
	counted, err := os.ReadFile(b.boots())
	if err != nil {
		return err
	}
	boots := bytes.Count(counted, []byte("\n"))
	if err := b.judge(slices.Index(all, found), boots); err != nil {
		return err
	}
	fmt.Fprintf(w, "%s: the first %s of %d commits, found with %d boots in %v\n", b.commits[b.want], changed, len(all), boots, time.Since(began).Round(time.Second))
	return nil
}

// judge says what is wrong with what was found; nil: nothing.
func (b *bisection) judge(found, boots int) error {
	switch most := bits.Len(uint(len(b.commits)-1)) + 1; { // ⌈log2 n⌉ + 1
	case found < 0 || found >= len(b.commits):
		return errors.New("git bisect has found a commit that is not in the history")
	case found != b.want:
		return fmt.Errorf("git bisect has found %q, and it is %q", b.commits[found], b.commits[b.want])
	case boots < 1 || boots > most:
		return fmt.Errorf("it took %d boots: want 1 to %d for %d commits", boots, most, len(b.commits))
	}
	return nil
}

// appendTo adds a text to a file.
func appendTo(name, text string) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(b, text...), 0o644)
}
