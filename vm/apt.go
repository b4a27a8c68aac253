package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// apt fetches packages for an architecture. What to fetch from are the machine's own sources; its lists, its packages and its
// cache are not touched: apt keeps a state of its own below the cache.
type apt struct {
	cache *Cache
	arch  string
	say   func(format string, args ...any)

	renewed bool     // the lists were fetched by this process
	trouble []string // what apt said of sources that it could not fetch the lists of
}

// aptConf are apt's settings that can be set in a file alone (apt.conf(5)): what a distribution does after an update is for its
// own lists, and other indexes than those of packages are not asked for. As root, apt would read as a user who may not look
// into the cache.
const aptConf = `#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Architectures;
APT::Sandbox::User "";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::Languages "none";
Acquire::Retries "1";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
Acquire::IndexTargets::deb-src::Sources::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons-small::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons::DefaultEnabled "false";
Acquire::IndexTargets::deb::DEP-11-icons-hidpi::DefaultEnabled "false";
Acquire::IndexTargets::deb::CNF::DefaultEnabled "false";
`

func (a *apt) dir(name ...string) string {
	return a.cache.path(append([]string{"apt", a.arch}, name...)...)
}

// prepare makes apt's state, and holds it until released: apt fails where another one is at it.
func (a *apt) prepare(ctx context.Context) (release func(), err error) {
	for _, d := range []string{"state/lists/partial", "cache/archives/partial", "log"} {
		if err := os.MkdirAll(a.dir(d), 0o755); err != nil {
			return nil, failed(err, "", "make apt's state in the cache")
		}
	}
	lock, err := a.lock(ctx)
	if err != nil {
		return nil, err
	}
	for name, text := range map[string]string{"apt.conf": aptConf, "state/status": ""} {
		if err := os.WriteFile(a.dir(name), []byte(text), 0o644); err != nil {
			unix.Close(lock)
			return nil, failed(err, "", "make apt's state in the cache")
		}
	}
	return func() { unix.Close(lock) }, nil
}

// lock waits until no other rpmig uses apt's state.
func (a *apt) lock(ctx context.Context) (int, error) {
	lock, err := lockDir(a.dir(), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return lock, nil
	}
	if err == unix.EWOULDBLOCK {
		a.say("waiting for another rpmig that fetches packages")
		type locked struct {
			fd  int
			err error
		}
		got := make(chan locked, 1)
		go func() {
			fd, err := lockDir(a.dir(), unix.LOCK_EX)
			got <- locked{fd, err}
		}()
		select {
		case l := <-got:
			lock, err = l.fd, l.err
		case <-ctx.Done():
			return -1, ctx.Err()
		}
	}
	if err != nil {
		return -1, failed(err, "", "lock apt's state in the cache")
	}
	return lock, nil
}

// run runs a program of apt with that state in a folder, and returns what it prints.
func (a *apt) run(ctx context.Context, in, program string, args ...string) (string, error) {
	// Pdeathsig fires when the thread that forked ends (prctl(2)). apt's helpers end when it does.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	args = append([]string{
		"-q", "-c", a.dir("apt.conf"),
		"-o", "Dir::State=" + a.dir("state"), "-o", "Dir::State::Lists=" + a.dir("state/lists"),
		"-o", "Dir::State::Status=" + a.dir("state/status"), "-o", "Dir::State::Extended_States=" + a.dir("state/extended_states"),
		"-o", "Dir::Cache=" + a.dir("cache"), "-o", "Dir::Cache::Archives=" + a.dir("cache/archives"), "-o", "Dir::Log=" + a.dir("log"),
		"-o", "APT::Architecture=" + a.arch, "-o", "APT::Architectures=" + a.arch,
	}, args...)
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = in
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL, Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case errors.Is(err, exec.ErrNotFound):
		return "", failed(nil, "fetch linux-image-V.deb in another way, and --kernel FILE", "there is no %s on this machine to fetch packages with", program)
	case err != nil:
		return "", &aptError{program, err, complaints(complaint.String())}
	}
	return out.String(), nil
}

// aptError is what a program of apt said when it failed.
type aptError struct {
	program string
	err     error
	said    []string
}

func (e *aptError) Error() string {
	return fmt.Sprintf("%s: %v: %s", e.program, e.err, strings.Join(e.said, "; "))
}

// complaints are the errors and warnings of apt: the last few.
func complaints(said string) []string {
	const most = 3
	var lines []string
	for line := range strings.Lines(said) {
		if text, ok := strings.CutPrefix(line, "E: "); ok {
			lines = append(lines, strings.TrimSpace(text))
		} else if text, ok := strings.CutPrefix(line, "W: "); ok {
			lines = append(lines, strings.TrimSpace(text))
		}
	}
	return lines[max(0, len(lines)-most):]
}

// update fetches the lists of what there is to be had. Where one of several sources fails, the others' lists are there: whether
// that matters, the next step tells.
func (a *apt) update(ctx context.Context) error {
	a.say("fetching apt's lists for %s", a.arch)
	// Without the setting it is no failure that a source did not answer (apt-get(8), --error-on=any).
	_, err := a.run(ctx, a.dir(), "apt-get", "update", "--error-on=any")
	var said *aptError
	if errors.As(err, &said) {
		a.trouble = said.said
		for _, line := range said.said {
			a.say("apt: %s", line)
		}
		return nil
	}
	return err
}

// uri is a line of apt-get download --print-uris: 'URI' FILE SIZE HASH.
var uri = regexp.MustCompile(`(?m)^'[^']*' (\S+\.deb) (\d+) \S+$`)

// has asks whether a package can be had, and how large it is, in bytes as apt prints them.
func (a *apt) has(ctx context.Context, pkg string) (size string, ok bool, err error) {
	out, err := a.run(ctx, a.dir(), "apt-get", "download", "--print-uris", pkg) // it is silent of one that is in the folder
	var said *aptError
	if errors.As(err, &said) {
		return "", false, nil
	}
	if err != nil {
		return "", false, err
	}
	m := uri.FindStringSubmatch(out)
	if m == nil {
		return "", false, nil
	}
	return m[2], true, nil
}

// download fetches a package into a folder, and returns its path.
func (a *apt) download(ctx context.Context, pkg, size, dir string) (string, error) {
	a.say("downloading %s (%s)", pkg, megabytes(size))
	if _, err := a.run(ctx, dir, "apt-get", "download", pkg); err != nil {
		return "", err
	}
	found, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("apt-get download %s left %d packages (%w)", pkg, len(found), err)
	}
	return found[0], nil
}

func megabytes(size string) string {
	var n int64
	if _, err := fmt.Sscan(size, &n); err != nil {
		return "of unknown size"
	}
	return fmt.Sprintf("%d MB", (n+500_000)/1_000_000)
}

// kernels are the versions that can be had, of the flavours that end in cloud-ARCH: the smallest.
func (a *apt) kernels(ctx context.Context) ([]string, error) {
	out, err := a.run(ctx, a.dir(), "apt-cache", "pkgnames", "linux-image-")
	if err != nil {
		return nil, err
	}
	var names []string
	for name := range strings.Lines(out) {
		v := strings.TrimPrefix(strings.TrimSpace(name), "linux-image-")
		if strings.HasSuffix(v, "-cloud-"+a.arch) && v[0] >= '0' && v[0] <= '9' {
			names = append(names, v)
		}
	}
	slices.SortFunc(names, byNumbers)
	return names, nil
}

var digits = regexp.MustCompile(`\d+`)

// byNumbers compares versions by the numbers in them.
func byNumbers(a, b string) int {
	numbers := func(s string) (all []int) {
		for _, d := range digits.FindAllString(s, -1) {
			n := 0
			_, _ = fmt.Sscan(d, &n)
			all = append(all, n)
		}
		return all
	}
	return slices.Compare(numbers(a), numbers(b))
}
