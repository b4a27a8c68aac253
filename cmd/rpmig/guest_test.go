//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/result"
)

// guestLimit is how long a test waits for a guest, on a machine that has other things to do.
const guestLimit = 5 * time.Minute

// packaged is a kernel of the distribution's, and rpmig as it is shipped: that of the tests is linked to libraries.
type packaged struct {
	rpmig string // path
	dir   string // with the package, unpacked
	name  string
}

var aPackage = regexp.MustCompile(`(?m)^linux-image-((6\.12|6\.1)\.[^ ]*-cloud-(?:amd64|arm64)) `)

// newestPackage is the version of the newest small kernel that apt knows, of the series that are looked for.
func newestPackage(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("apt-cache", "search", "--names-only", `^linux-image-6\.(1|12)\..*-cloud-(amd64|arm64)$`).Output()
	if err != nil {
		t.Skipf("needs apt, to fetch a kernel: %v", err)
	}
	newest, most := "", [3]int{}
	for _, m := range aPackage.FindAllStringSubmatch(string(out), -1) {
		var v [3]int
		for i, n := range regexp.MustCompile(`\d+`).FindAllString(m[1], 3) {
			v[i], _ = strconv.Atoi(n)
		}
		if slices.Compare(v[:], most[:]) > 0 {
			newest, most = m[1], v
		}
	}
	if newest == "" {
		t.Skip("needs a packaged kernel: apt knows no linux-image-6.12…-cloud or linux-image-6.1…-cloud (apt-get update?)")
	}
	return newest
}

// aKernel fetches a packaged kernel into the cache of whoever runs the tests, once, and builds rpmig.
func aKernel(t *testing.T) packaged {
	t.Helper()
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("needs QEMU: apt-get install qemu-system-x86")
	}
	version := newestPackage(t)
	p := packaged{rpmig: shipped(t), name: version}
	if out, err := exec.Command(p.rpmig, "kernels", "--fetch", "debian:"+version).CombinedOutput(); err != nil {
		t.Skipf("needs a packaged kernel, which could not be fetched: %v\n%s", err, out)
	}
	out, err := exec.Command(p.rpmig, "kernels", "--json").Output()
	if err != nil {
		t.Fatal(err)
	}
	var cache struct {
		Packages []struct{ From, Path string }
	}
	if err := json.Unmarshal(out, &cache); err != nil {
		t.Fatal(err)
	}
	for _, k := range cache.Packages {
		if k.From == "debian:"+version {
			p.dir = k.Path
		}
	}
	if p.dir == "" {
		t.Fatalf("debian:%s was fetched and is not in the cache:\n%s", version, out)
	}
	return p
}

// guestRun is a run in a guest.
type guestRun struct {
	*exec.Cmd
	t              *testing.T
	stdout, stderr bytes.Buffer
	out            string // --out
	ended          chan struct{}
}

func (p packaged) start(t *testing.T, env []string, args ...string) *guestRun {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), guestLimit)
	t.Cleanup(cancel)
	r := &guestRun{t: t, out: filepath.Join(t.TempDir(), "out"), ended: make(chan struct{})}
	args = append([]string{"run"}, args...)
	if !slices.Contains(args, "--kernel") {
		args = append(args, "--kernel", p.dir)
	}
	r.Cmd = exec.CommandContext(ctx, p.rpmig, append(args, "--out", r.out)...)
	r.Env = append(os.Environ(), env...)
	r.Stdout, r.Stderr = &r.stdout, &r.stderr
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = r.Wait() // ProcessState tells
		close(r.ended)
	}()
	return r
}

// want waits for the end of a run, and returns its ledger.
func (r *guestRun) want(status int, patterns ...string) *result.Run {
	r.t.Helper()
	<-r.ended
	said := r.stdout.String() + r.stderr.String()
	if got := r.ProcessState.ExitCode(); got != status {
		r.t.Errorf("exit status %d, want %d", got, status)
	}
	for _, p := range patterns {
		if !matches("(?m)"+p, said) {
			r.t.Errorf("it does not say %q", p)
		}
	}
	if r.t.Failed() {
		r.t.Fatalf("it said:\n%s", said)
	}
	return r.ledger()
}

// folder is that of the run's only kernel.
func (r *guestRun) folder() string {
	found, _ := filepath.Glob(filepath.Join(r.out, "*", ledgerName))
	if len(found) != 1 {
		return ""
	}
	return filepath.Dir(found[0])
}

func (r *guestRun) ledger() *result.Run {
	r.t.Helper()
	run, err := readLedger(r.t.Context(), r.folder())
	if err != nil {
		r.t.Fatal(err)
	}
	return run
}

// playing waits until some cells have come home, and returns the process ID of QEMU.
func (r *guestRun) playing() int {
	r.t.Helper()
	r.await("cells came home", func() bool {
		text, _ := os.ReadFile(filepath.Join(r.folder(), ledgerName))
		return bytes.Count(text, []byte("\n")) > 3
	})
	return r.qemu()
}

// qemu is the process ID of QEMU, once it runs.
func (r *guestRun) qemu() int {
	r.t.Helper()
	children := r.children()
	if len(children) != 1 {
		r.t.Fatalf("rpmig has %d children, want QEMU alone", len(children))
	}
	return children[0]
}

func (r *guestRun) await(what string, is func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(guestLimit); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("not within %v: %s; it said:\n%s", guestLimit, what, r.stderr.String())
		}
	}
}

func (r *guestRun) children() (all []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(text), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == strconv.Itoa(r.Process.Pid) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			all = append(all, pid)
		}
	}
	return all
}

// gone waits until a process has ended.
func (r *guestRun) gone(pid int) {
	r.t.Helper()
	r.await(fmt.Sprintf("process %d ended", pid), func() bool { return errors.Is(unix.Kill(pid, 0), unix.ESRCH) })
}

// TestGuest boots a packaged kernel: what is played there comes home as from here, and a guest that is lost is no PASS.
func TestGuest(t *testing.T) {
	p := aKernel(t)
	for name, f := range map[string]func(*testing.T, packaged){
		"whole": testGuestWhole, "splat": testGuestSplat, "panic": testGuestPanic, "hang": testGuestHang, "QEMU is killed": testGuestKilled, "rpmig is killed": testGuestOrphan,
		"interrupted": testGuestInterrupted, "too little memory": testGuestMemory, "half an image": testGuestHalf,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, p)
		})
	}
}

// testGuestWhole plays as an ordinary user without a home: there is no right here that it needs.
func testGuestWhole(t *testing.T, p packaged) {
	out := t.TempDir()
	cmd := exec.CommandContext(t.Context(), p.rpmig, "run", "quiz*", "--kernel", p.dir, "--out", out)
	cmd.Dir = "/"
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		mine := t.TempDir() // the cache may be in a home that is root's alone
		if out, err := exec.Command("cp", "-r", p.dir, mine).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		cmd.Args[4] = filepath.Join(mine, filepath.Base(p.dir))
		for _, dir := range []string{out, mine, filepath.Dir(p.rpmig)} {
			if err := errors.Join(os.Chmod(dir, 0o777), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
				t.Fatal(err)
			}
		}
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + mine}
	}
	said, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	r := &guestRun{t: t, out: out}
	run := r.ledger()
	if len(run.Cells) != 18 || run.Count(result.Pass) != 18 || run.Ending != nil {
		t.Errorf("%d cells, %d PASS, ending %v; want 18, 18 and none:\n%s", len(run.Cells), run.Count(result.Pass), run.Ending, said)
	}
	g := run.Header.Guest
	switch {
	case g == nil:
		t.Fatal("the ledger tells of no guest")
	case !strings.HasPrefix(g.Emulator, "QEMU ") || g.Memory == 0 || g.CPUs == 0 || g.Name != p.name || len(g.Image) != 64,
		g.Accelerator == "tcg" && !g.Virtual, run.Header.Kernel != p.name, !strings.Contains(p.dir, filepath.Base(g.From)):
		t.Errorf("the ledger tells of kernel %s and guest %+v", run.Header.Kernel, *g)
	}
	for _, name := range []string{g.Config, consoleName, "bpf/bpf.txt", run.Cells[0].Capture.File} {
		if info, err := os.Stat(filepath.Join(r.folder(), name)); err != nil || info.Size() == 0 && name != consoleName {
			t.Errorf("%q is missing: %v", name, err)
		}
	}
}

// testGuestSplat has the kernel print a backtrace whenever one cell is played.
func testGuestSplat(t *testing.T, p packaged) {
	const culprit = "quiz1/ipv4/sysctl/1"
	run := p.start(t, []string{"RPMIG_TEST_SYSRQ=l@" + culprit}, "quiz1").want(1, `the kernel reported a fault of its own: .*Call Trace`)
	for _, c := range run.Cells {
		want := result.Pass
		if c.ID() == culprit {
			want = result.Fail
		}
		if c.Status != want {
			t.Errorf("%s: %s: %s", c.ID(), c.Status, c.Reason)
		}
	}
}

// testGuestPanic has the kernel crash in the midst of a cell.
func testGuestPanic(t *testing.T, p packaged) {
	const died = "the kernel died: Kernel panic - not syncing: sysrq triggered crash"
	r := p.start(t, []string{"RPMIG_TEST_SYSRQ=c@quiz1/ipv4/sysctl/1"}, "quiz*")
	run := r.want(70, died, `planned and not played`)
	if run.Ending == nil || !run.Ending.Died || run.Ending.Why != died || len(run.Ending.Console) == 0 {
		t.Errorf("ending: %+v", run.Ending)
	}
	accused := false
	for _, c := range run.Cells {
		accused = accused || c.ID() == "quiz1/ipv4/sysctl/1" && c.Status == result.Fail && c.Reason == died
	}
	if !accused {
		t.Error("the cell that was played is no FAIL of the kernel's")
	}
	if console, err := os.ReadFile(filepath.Join(r.folder(), consoleName)); err != nil || !bytes.Contains(console, []byte("sysrq triggered crash")) {
		t.Errorf("the console's text: %v\n%s", err, console)
	}
}

// testGuestHang has nothing run in the guest any more, in the midst of a cell: nobody knows why, so that the kernel is not accused.
func testGuestHang(t *testing.T, p packaged) {
	const hung, silent = "quiz1/ipv4/sysctl/3", "the guest hung: it said nothing for 10s"
	r := p.start(t, []string{"RPMIG_TEST_SYSRQ=hang@" + hung, "RPMIG_TEST_SILENCE=10s"}, "quiz1", "--repeat=4")
	qemu := r.playing()
	run := r.want(70, silent, `planned and not played`)
	r.gone(qemu)
	if run.Ending == nil || run.Ending.Died || run.Ending.Why != silent || run.Missing() == 0 {
		t.Errorf("ending %+v, %d missing", run.Ending, run.Missing())
	}
	for _, c := range run.Cells {
		want := result.Pass
		if c.ID() == hung {
			want = result.Error
		}
		if c.Status != want || want == result.Error && c.Reason != silent {
			t.Errorf("%s: %s: %s", c.ID(), c.Status, c.Reason)
		}
	}
	if run.Count(result.Error) != 1 || run.Count(result.Pass) < 3 {
		t.Errorf("%d ERROR, %d PASS", run.Count(result.Error), run.Count(result.Pass))
	}
}

// testGuestKilled: without an end record there is no conclusion, but for what came home.
func testGuestKilled(t *testing.T, p packaged) {
	r := p.start(t, nil, "quiz1", "--repeat", "100000")
	if err := unix.Kill(r.playing(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	run := r.want(70, `the guest was lost: QEMU was killed: killed, and no end record had come`)
	if run.Ending == nil || run.Ending.Died || run.Count(result.Fail) > 0 || run.Count(result.Pass) == 0 || run.Missing() == 0 {
		t.Errorf("ending %+v, %d FAIL, %d PASS, %d missing", run.Ending, run.Count(result.Fail), run.Count(result.Pass), run.Missing())
	}
}

// testGuestOrphan: whatever ends rpmig ends QEMU.
func testGuestOrphan(t *testing.T, p packaged) {
	r := p.start(t, nil, "quiz1", "--repeat", "100000")
	qemu := r.playing()
	if err := r.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-r.ended
	r.gone(qemu)
	if len(r.ledger().Cells) == 0 {
		t.Error("what had come home is gone")
	}
}

func testGuestInterrupted(t *testing.T, p packaged) {
	r := p.start(t, nil, "quiz1", "--repeat", "100000")
	qemu := r.playing()
	if err := r.Process.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	run := r.want(70, `interrupted: \d+ of \d+ cells were played`, `cells: \d+ PASS`)
	if run.Ending != nil || run.Count(result.Pass) != len(run.Cells) {
		t.Errorf("ending %+v, %d PASS of %d", run.Ending, run.Count(result.Pass), len(run.Cells))
	}
	r.gone(qemu)
}

func testGuestMemory(t *testing.T, p packaged) {
	r := p.start(t, nil, "quiz1", "--memory=48", "--boot-timeout=10s")
	if run := r.want(70, `hint: .*--memory=`, `did not come up|the kernel died`); len(run.Cells) > 0 || run.Ending == nil {
		t.Errorf("%d cells, ending %v", len(run.Cells), run.Ending)
	}
}

func testGuestHalf(t *testing.T, p packaged) {
	images, _ := filepath.Glob(filepath.Join(p.dir, "boot", "vmlinuz-*"))
	if len(images) == 0 {
		t.Skip("the package has its image elsewhere")
	}
	image, err := os.ReadFile(images[0])
	if err != nil {
		t.Fatal(err)
	}
	half := filepath.Join(t.TempDir(), "vmlinuz")
	if err := os.WriteFile(half, image[:len(image)/2], 0o644); err != nil {
		t.Fatal(err)
	}
	r := p.start(t, nil, "quiz1", "--kernel", half)
	<-r.ended
	if status := r.ProcessState.ExitCode(); status != result.ExitUsage || !matches(`rpmig: error: .*ends early(?s:.*)rpmig: hint: `, r.stderr.String()) {
		t.Errorf("exit status %d:\n%s", status, r.stderr.String())
	}
}
