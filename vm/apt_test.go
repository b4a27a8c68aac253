package vm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// unreachable is a source of packages that does not answer, for sources.list(5).
const unreachable = "deb [trusted=yes] http://127.0.0.1:1/ ./\n"

// repository makes a source of packages on this machine, and tells apt of it and of another.
func repository(t *testing.T, packages map[string][]byte, other string) (dir string) {
	t.Helper()
	if _, err := exec.LookPath("apt-get"); err != nil {
		t.Skip("apt-get is not installed")
	}
	files := map[string]string{}
	var index strings.Builder
	for name, deb := range packages {
		files[name+".deb"] = string(deb)
		fmt.Fprintf(&index, "Package: %s\nVersion: 1.2-3\nArchitecture: %s\nFilename: ./%s.deb\nSize: %d\nSHA256: %x\n\n",
			name, runtime.GOARCH, name, len(deb), sha256.Sum256(deb))
	}
	files["Packages"] = index.String()
	dir = lay(t, files)
	etc := lay(t, map[string]string{
		"parts/here.sources": "Types: deb\nURIs: file:" + dir + "\nSuites: ./\nTrusted: yes\n",
		"parts/other.list":   other,
	})
	conf := filepath.Join(etc, "apt.conf")
	text := fmt.Sprintf("Dir::Etc::SourceParts %q;\nDir::Etc::SourceList \"/dev/null\";\n", filepath.Join(etc, "parts"))
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("APT_CONFIG", conf)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	return dir
}

// TestDebian fetches kernels by the real apt, of a source that is a folder.
func TestDebian(t *testing.T) {
	ko := string(koFile(t, modinfo("")))
	end := "-" + runtime.GOARCH
	image := func(v string) string { return string(bzImage(v+end, nil)) }
	whole := debOf(t, "linux-image-6.1-cloud"+end, ".xz", filesTar(t, [][2]string{
		{"./boot/vmlinuz-6.1-cloud" + end, image("6.1-cloud")}, {"./lib/modules/6.1-cloud" + end + "/" + nfTables, ko},
	}))
	dir := repository(t, map[string][]byte{
		"linux-image-6.1-cloud" + end: whole,
		"linux-image-6.2-cloud" + end: whole,
		"linux-image-7.3-cloud" + end: debOf(t, "linux-image-7.3-cloud"+end, ".xz", filesTar(t, nil)),
		"linux-binary-7.3-cloud" + end: debOf(t, "linux-binary-7.3-cloud"+end, ".xz", filesTar(t, [][2]string{
			{"./usr/lib/modules/7.3-cloud" + end + "/vmlinuz", image("7.3-cloud")},
		})),
		"linux-modules-7.3-cloud" + end: debOf(t, "linux-modules-7.3-cloud"+end, ".xz", filesTar(t, [][2]string{
			{"./usr/lib/modules/7.3-cloud" + end + "/" + nfTables, ko},
		})),
	}, "# none\n")
	var said []string
	find := func(version string) ([]*Kernel, error) {
		said = nil
		c, err := OpenCache()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return Find(context.Background(), []string{"debian:" + version}, Options{
			Cache: c, AnyArch: true, Words: func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) },
		})
	}
	for _, version := range []string{"6.1-cloud" + end, "7.3-cloud" + end} {
		found, err := find(version)
		if err != nil {
			t.Fatalf("%s: %v\n%s", version, err, strings.Join(said, "\n"))
		}
		if len(found) != 1 || found[0].Name != version || found[0].Modules == "" {
			t.Errorf("%s: got %+v", version, found)
		}
		if all := strings.Join(said, "\n"); !strings.Contains(all, "downloading linux-") {
			t.Errorf("%s: it said\n%s", version, all)
		}
	}

	// The archive no longer has what the lists of this morning tell of.
	if err := os.Remove(filepath.Join(dir, "linux-image-6.2-cloud"+end+".deb")); err != nil {
		t.Fatal(err)
	}
	_, err := find("6.2-cloud" + end)
	var e *Error
	if !errors.As(err, &e) || e.Usage() || e.Hint() == "" || !strings.Contains(err.Error(), "apt-get") {
		t.Errorf("one that has left: %v", err)
	}
	_, err = find("6.9-cloud" + end)
	refused(t, err, "have no linux-image-6.9-cloud"+end)
	if errors.As(err, &e) && !strings.Contains(e.Hint(), "debian:7.3-cloud"+end) {
		t.Errorf("the hint is %s", e.Hint())
	}

	t.Setenv("PATH", t.TempDir())
	if _, err := find("7.3-cloud" + end); err != nil || len(said) > 0 {
		t.Errorf("from the cache, without apt: %v; it said %s", err, said)
	}
	if _, err := find("6.2-cloud" + end); err == nil || !strings.Contains(err.Error(), "no apt-get on this machine") {
		t.Errorf("without apt: %v", err)
	}
}

// TestDebianUnreachable holds that a source that does not answer stops nothing that the others have, and that no conclusion is
// drawn from its silence.
func TestDebianUnreachable(t *testing.T) {
	end := "-" + runtime.GOARCH
	repository(t, map[string][]byte{"linux-image-6.1" + end: debOf(t, "linux-image-6.1"+end, ".xz", filesTar(t, [][2]string{
		{"./boot/vmlinuz-6.1" + end, string(bzImage("6.1"+end, nil))}, {"./lib/modules/6.1" + end + "/" + nfTables, string(koFile(t, modinfo("")))},
	}))}, unreachable)
	if _, err := Find(context.Background(), []string{"debian:6.1" + end}, Options{AnyArch: true}); err != nil {
		t.Error(err)
	}
	_, err := Find(context.Background(), []string{"debian:6.9" + end}, Options{AnyArch: true})
	var e *Error
	if !errors.As(err, &e) || e.Usage() || e.Hint() == "" || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("got the error %v", err)
	}
}

// TestDebianDamaged holds that a package which is not what its list says is not taken.
func TestDebianDamaged(t *testing.T) {
	name := "linux-image-6.1-" + runtime.GOARCH
	dir := repository(t, map[string][]byte{name: debOf(t, name, ".xz", filesTar(t, nil))}, "")
	file := filepath.Join(dir, name+".deb")
	b, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, bytes.ToUpper(b), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	_, err = Find(context.Background(), []string{"debian:6.1-" + runtime.GOARCH}, Options{})
	if err == nil || !strings.Contains(err.Error(), "Hash Sum mismatch") {
		t.Errorf("got the error %v", err)
	}
}

// TestDebianInterrupted holds that Ctrl-C ends apt, and what apt has started.
func TestDebianInterrupted(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\nsleep 1000 & echo $$ $! >" + fifo + "\nwait\n"
	if err := os.WriteFile(filepath.Join(dir, "apt-get"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	ctx, cancel := context.WithCancel(context.Background())
	child := -1 // a descriptor of what apt has started
	var apt int
	go func() {
		defer cancel()
		pids, err := os.ReadFile(fifo)
		var pid int
		if err == nil {
			_, err = fmt.Sscan(string(pids), &apt, &pid)
		}
		if err == nil {
			child, err = unix.PidfdOpen(pid, 0)
		}
		if err != nil {
			t.Error(err)
		}
	}()
	_, err := Find(ctx, []string{"debian:6.1-" + runtime.GOARCH}, Options{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got the error %v", err)
	}
	if err := unix.Kill(apt, 0); err != unix.ESRCH {
		t.Errorf("apt is still there: %v", err)
	}
	const deadline = 10_000 // ms
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(child), Events: unix.POLLIN}}, deadline); n != 1 {
		t.Errorf("what apt has started is still there: %v", err)
	}
	unix.Close(child)
}

func TestByNumbers(t *testing.T) {
	for _, c := range [][2]string{
		{"6.1.0-9", "6.1.0-10"}, {"5.10.0-46", "6.1.0-1"}, {"6.12.9+deb12-cloud", "6.12.117+deb12-cloud"},
	} {
		if byNumbers(c[0], c[1]) >= 0 || byNumbers(c[1], c[0]) <= 0 {
			t.Errorf("%s is not before %s", c[0], c[1])
		}
	}
}
