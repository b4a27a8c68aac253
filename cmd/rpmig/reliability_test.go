//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/scenarios"
)

// silent is a stream with nothing on it.
var silent = []string{""}

// TestOrdinaryUser: all but the modes with a program are played without root, and these say what they lack.
func TestOrdinaryUser(t *testing.T) {
	t.Parallel()
	needPlay(t)
	uid := ordinary()
	p := command(t, "rpmig", "run", "quiz?", "--family=ipv4,ipv6", "--migrate=all", "--format=jsonl", "--out=out").as(uid)
	p.want(0, nil, nil)
	run, err := result.Read(&p.stdout)
	if err != nil {
		t.Fatal(err)
	}
	if want := 2 * 2 * len(migrate.Modes()); len(run.Cells) != want {
		t.Errorf("%d cells, want %d", len(run.Cells), want)
	}
	needsBPF := map[string]bool{}
	for _, m := range migrate.Modes() {
		needsBPF[m.Name] = m.HasProgram()
	}
	for _, c := range run.Cells {
		switch {
		case !needsBPF[c.Mode] && c.Status != result.Pass:
			t.Errorf("%s: %s: %s", c.ID(), c.Status, c.Reason)
		case needsBPF[c.Mode] && (c.Status != result.Skip || !matches("CAP_BPF.*sudo rpmig", c.Reason)):
			t.Errorf("%s: %s: %s, want a SKIP with its reason", c.ID(), c.Status, c.Reason)
		}
	}
	command(t, "rpmig", "doctor").as(uid).want(1, []string{
		`^yes +privileges +an ordinary user`, `^yes .*migration by sysctl`, `^no .*BPF migrate program`, `^no +kernel's trace +trace the kernel: load the tracing programs:(?s:.*)CAP_BPF`, `hint: run it as root`,
	}, silent)
	command(t, "rpmig", "run", "quiz1", "--migrate=bpf", "--no-control").as(uid).want(4, []string{"SKIP"}, nil)
}

// TestNoRights: neither root nor user namespaces.
func TestNoRights(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	refused := []string{
		`\Arpmig: error: no right to make network namespaces, and no user namespace to get it in: .*\n` +
			`rpmig: hint: run it as root.*sudo sysctl -w user.max_user_namespaces=.*\n\z`,
	}
	command(t, "stage", "max-user-namespaces=0", "nobody", "--", "rpmig", "run", "all").in(userNS()).want(70, silent, refused)
	command(t, "stage", "max-user-namespaces=0", "nobody", "--", "rpmig", "doctor").in(userNS()).want(1,
		[]string{`^no +user namespaces`, `^no +\* network namespaces(?s:.*)hint:(?s:.*)user\.max_user_namespaces`}, silent)
}

// TestNamespaceLimit: user.max_net_namespaces has no room, for any cell or for some.
func TestNamespaceLimit(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	command(t, "stage", "max-net-namespaces=0", "--", "rpmig", "run", "all").in(userNS()).want(70, silent, []string{
		`\Arpmig: error: .*\nrpmig: hint: .*sudo sysctl -w user.max_net_namespaces=.*\n\z`,
	})
	// Room for what is made before the first cell, and not for all cells side by side: they wait for each other. The kernel
	// takes a namespace off the count some time after it has gone.
	for _, most := range []string{"4", "20"} {
		p := command(t, "stage", "max-net-namespaces="+most, "--", "rpmig", "run", "quiz?", "--family=ipv4,ipv6", "--migrate=off,sysctl", "--repeat=10", "--parallel=40", "-q")
		p.in(userNS()).want(0, []string{`^80 cells: 80 PASS$`}, silent)
	}
}

// noVerdictButPass: a cell that could not be played must not look as if the kernel had done wrong.
func noVerdictButPass(t *testing.T, ledger io.Reader) *result.Run {
	t.Helper()
	run, err := result.Read(ledger)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range run.Cells {
		if c.Status == result.Fail || c.Status == result.Pass && c.Connections.Staged == 0 {
			t.Errorf("%s: %s: %s", c.ID(), c.Status, c.Reason)
		}
	}
	return run
}

// TestSignals: an interrupted run ends soon, cleans up, and leaves a ledger that can be read.
func TestSignals(t *testing.T) {
	t.Parallel()
	needPlay(t)
	for _, uid := range users() {
		for _, sig := range []unix.Signal{unix.SIGINT, unix.SIGTERM} {
			t.Run(fmt.Sprintf("%s/%d", unix.SignalName(sig), uid), func(t *testing.T) {
				t.Parallel()
				p := command(t, "rpmig", "run", "quiz?", "--family=ipv4,ipv6", "--migrate=off,sysctl,bpf", "--repeat=100000", "--out=out").as(uid).leader()
				p.start().lines(20)
				to := p.Process.Pid
				if sig == unix.SIGINT {
					to = -to // as a terminal does it
				}
				if err := unix.Kill(to, sig); err != nil {
					t.Fatal(err)
				}
				sent := time.Now()
				p.want(70, []string{`cells: .*planned and not played`}, []string{
					`^rpmig: the ledger is out/run\.jsonl$`, `^rpmig: error: interrupted: \d+ of 1200000 cells were played$`,
				})
				if took := time.Since(sent); took > soon {
					t.Errorf("it took %v to end", took)
				}
				f, err := os.Open(filepath.Join(p.dir, "out", ledgerName))
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				run := noVerdictButPass(t, f)
				for _, c := range run.Cells {
					if c.Status == result.Error {
						t.Errorf("%s: %s: %s", c.ID(), c.Status, c.Reason)
					}
				}
				if run.Count(result.Pass) == 0 {
					t.Errorf("the ledger has %s", run.Summary())
				}
				command(t, "rpmig", "report", filepath.Join(p.dir, "out")).want(0,
					[]string{`cells: .*planned and not played`}, []string{`cut short: \d+ of 1200000 cells are missing`})
				if left := p.marked(); len(left) > 0 {
					t.Errorf("processes %v are left", left)
				}
			})
		}
	}
}

// TestReportsComeAsCellsEnd: whatever ends rpmig, the cells that had ended are in the log. After other signals than SIGKILL the
// report says that it is not whole, and a reader that has stopped to read does not keep rpmig.
func TestReportsComeAsCellsEnd(t *testing.T) {
	t.Parallel()
	needPlay(t)
	heads := map[string]string{"ktap": "KTAP version 1\n1..", "tap": "TAP version 13\n1..", "jsonl": `{"schema":`}
	for format, head := range heads {
		for _, sig := range []unix.Signal{unix.SIGKILL, unix.SIGTERM} {
			t.Run(format+"/"+sig.String(), func(t *testing.T) {
				t.Parallel()
				p := command(t, "rpmig", "run", "quiz1", "--migrate=off", "--repeat=1000000", "--format="+format)
				log, err := os.Create(filepath.Join(p.dir, "log"))
				if err != nil {
					t.Fatal(err)
				}
				defer log.Close()
				p.Stdout = log
				p.start()
				read := func() string {
					text, err := os.ReadFile(log.Name())
					if err != nil {
						t.Fatal(err)
					}
					return string(text)
				}
				until(t, "three cells have ended", func() bool { return strings.Count(read(), "\n") > 10 })
				p.signal(p.Process.Pid, sig)
				text := read()
				if sig == unix.SIGKILL { // which ends a write(2) to a file between two pages (generic_perform_write)
					text = text[:strings.LastIndexByte(text, '\n')+1]
				}
				if !strings.HasPrefix(text, head) || !strings.HasSuffix(text, "\n") {
					t.Errorf("got %.200q", text)
				}
				ended := strings.Contains(text, "\n# Totals: ")
				// Each is the result of a cell: a reader of what is left counts them from 1, and has the plan before them.
				results := regexp.MustCompile(`(?m)^ok (\d+) quiz1\.(?:ipv4|ipv6)\.off(?:\.\d+)? # time=\d+ms$`).FindAllStringSubmatch(text, -1)
				if format == "jsonl" {
					results = regexp.MustCompile(`(?m)^{"scenario":"quiz1",.*}$`).FindAllStringSubmatch(text, -1)
				}
				for i, r := range results {
					if format != "jsonl" && r[1] != strconv.Itoa(i+1) {
						t.Fatalf("result %d is numbered %s", i+1, r[1])
					}
				}
				if len(results) < 3 {
					t.Errorf("%d cells have ended: %.2000q", len(results), text)
				}
				if said := matches(`\nnot ok \d+ rpmig\.whole-plan-played # ERROR \d+ planned cells were not played\n# Totals: `, text); said != ended ||
					ended != (sig == unix.SIGTERM && format != "jsonl") {
					t.Errorf("it says that it is not whole: %t, and it has an end: %t", said, ended)
				}
				if format == "jsonl" {
					command(t, "rpmig", "report", log.Name()).want(0, nil, []string{"cut short"})
				}
			})
		}
	}
	t.Run("nobody reads", func(t *testing.T) {
		t.Parallel()
		p := command(t, "rpmig", "run", "quiz1", "--migrate=off", "--repeat=1000000", "--format=tap")
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		p.Stdout = w
		p.start()
		w.Close()
		until(t, "the pipe is full", func() bool {
			n, err := unix.IoctlGetInt(int(r.Fd()), unix.TIOCINQ)
			return err == nil && n > 60000
		})
		p.signal(p.Process.Pid, unix.SIGTERM)
		if got := p.ProcessState.ExitCode(); got != 70 {
			t.Errorf("exit status %d, want 70: %s", got, &p.stderr)
		}
	})
}

// TestKill: SIGKILL at any moment leaves no process, no program, and a ledger that can be read. That no namespace is
// left is TestKillFreesNamespaces, and that nothing on the host has changed is TestMain.
func TestKill(t *testing.T) {
	t.Parallel()
	needPlay(t)
	for _, uid := range users() { // without root there are two processes, of which one is killed
		for _, lines := range []int{0, 1, 2, 30} {
			t.Run(fmt.Sprintf("%d/%d", lines, uid), func(t *testing.T) {
				t.Parallel()
				p := command(t, "rpmig", "run", "quiz?", "--family=ipv4,ipv6", "--migrate=off,sysctl,bpf", "--repeat=100000", "--out=out").as(uid).start()
				p.lines(lines)
				// It is halted first, so that its programs can be told.
				if err := p.Process.Signal(unix.SIGSTOP); err != nil {
					t.Fatal(err)
				}
				programs := programsOf(t, p.Process.Pid)
				if err := p.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				<-p.ended
				until(t, "no process is left", func() bool { return len(p.marked()) == 0 })
				for _, id := range programs {
					until(t, fmt.Sprintf("program %d is gone", id), func() bool {
						prog, err := ebpf.NewProgramFromID(id)
						if err == nil {
							prog.Close()
						}
						return errors.Is(err, fs.ErrNotExist)
					})
				}
				if matches("goroutine|DATA RACE", p.stderr.String()) {
					t.Errorf("stderr: %s", &p.stderr)
				}
				if lines > 0 {
					command(t, "rpmig", "report", filepath.Join(p.dir, "out")).want(0, nil, []string{"cut short"})
				}
			})
		}
	}
}

// programsOf returns the BPF programs to which a process has descriptors.
func programsOf(t *testing.T, pid int) []ebpf.ProgramID {
	t.Helper()
	var ids []ebpf.ProgramID
	infos, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range infos {
		b, _ := os.ReadFile(name)
		if m := regexp.MustCompile(`(?m)^prog_id:\s*(\d+)$`).FindSubmatch(b); m != nil {
			id, err := strconv.ParseUint(string(m[1]), 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, ebpf.ProgramID(id))
		}
	}
	return ids
}

// TestKillFreesNamespaces: where there may be twenty network namespaces, killed runs of seven do not use them up.
func TestKillFreesNamespaces(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	command(t, "stage", "max-net-namespaces=20", "--", "leftovers").in(userNS()).want(0, []string{"all are free"}, nil)
}

// TestFullDisk: a run that cannot be written down ends, and says why.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	needRoot(t)
	p := command(t, "stage", "private-mounts", "tiny-disk=disk", "--", "rpmig", "run", "quiz?", "--family=ipv4,ipv6", "--repeat=1000", "--out=disk/out")
	p.want(70, []string{"!FAIL", "!ERROR"}, []string{
		`^rpmig: error: .*no space left on device$`, `^rpmig: hint: the disk is full: .*--out`,
	})
	// The report cannot be written either.
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	p = command(t, "rpmig", "run", "quiz1")
	p.Stdout = full
	p.want(70, nil, []string{`^rpmig: error: write the report: .*no space left on device$`})
}

// TestFewDescriptors: with 64 there are fewer cells side by side, and what cannot be is said.
func TestFewDescriptors(t *testing.T) {
	t.Parallel()
	needPlay(t)
	command(t, "stage", "open-files=64", "--", "rpmig", "run", "quiz?", "--family=ipv4,ipv6", "-q").want(0, []string{`^12 cells: `}, nil)
	for _, flag := range []string{"--parallel=50", "--connections=100"} {
		command(t, "stage", "open-files=64", "--", "rpmig", "run", "quiz1", flag).want(70, silent, []string{
			`^rpmig: error: .*file descriptors, and the limit is 64$`, `^rpmig: hint: ulimit -n \d+, or .*--parallel or --connections$`,
		})
	}
}

// TestReadOnlySysctls: /proc/sys cannot be written, as in many containers.
func TestReadOnlySysctls(t *testing.T) {
	t.Parallel()
	needRoot(t)
	command(t, "stage", "private-mounts", "read-only=/proc/sys", "--", "rpmig", "run", "quiz?", "--family=ipv4,ipv6").want(70, []string{"!PASS", "!FAIL"}, []string{
		`^rpmig: error: .*read-only file system$`, `^rpmig: hint: /proc/sys must be writable`,
	})
	command(t, "stage", "private-mounts", "read-only=/proc/sys", "--", "rpmig", "doctor").want(1, []string{
		`^(no|unknown) +\* sysctls(?s:.*)read-only`, `hint: /proc/sys must be writable`,
	}, silent)
}

// TestTwoAtOnce: two of them do not meet.
func TestTwoAtOnce(t *testing.T) {
	needPlay(t)
	var both []*process
	for range 2 {
		both = append(both, command(t, "rpmig", "run", "quiz?", "--family=ipv4,ipv6", "--repeat=20", "-q").start())
	}
	for _, p := range both {
		p.want(0, []string{`^240 cells: \d+ PASS(, \d+ SKIP)?$`}, silent)
	}
}

// TestBrokenPipe: where its output is read no longer it ends, without a stack trace.
func TestBrokenPipe(t *testing.T) {
	t.Parallel()
	needPlay(t)
	for _, script := range []string{
		"rpmig run 'quiz?' --format=jsonl --repeat 4 | head -n 1",
		"rpmig run 'quiz?' -v | true",
		"rpmig list | true",
		"rpmig run 'quiz?' 2>&1 --out out | true",
		"rpmig run quiz1 -q >&-",
		"rpmig run quiz1 <&- 2>&-",
	} {
		p := command(t, "sh", "-c", script).want(0, nil, silent)
		until(t, "no process is left", func() bool { return len(p.marked()) == 0 })
	}
}

// TestTerminal: the live line fits the terminal and goes away; colours are shown, unless they are not wanted.
func TestTerminal(t *testing.T) {
	t.Parallel()
	needPlay(t)
	const width = 40
	for _, test := range []struct {
		env         string
		live, color bool
	}{{"TERM=xterm", true, true}, {"NO_COLOR=1", true, false}, {"TERM=dumb", false, false}} {
		t.Run(test.env, func(t *testing.T) {
			t.Parallel()
			// One of them sits out the SYN+ACK timer: shorter runs draw no line.
			p := command(t, "rpmig", "run", "quiz?,synack-timer", "--family=ipv4,ipv6", "--migrate=off,sysctl", "--repeat=3")
			p.Env = append(p.Env, "TERM=xterm", test.env)
			screen := terminal(t, p, width)
			if status := p.status(); status != 0 {
				t.Fatalf("exit status %d: %q", status, screen())
			}
			out := screen()
			drawn := regexp.MustCompile(`\r\x1b\[K([^\r\n]*)`).FindAllStringSubmatch(out, -1)
			if len(drawn) > 0 != test.live {
				t.Errorf("the live line was drawn %d times: %q", len(drawn), out)
			}
			for i, d := range drawn {
				if i == len(drawn)-1 {
					break // what clears it
				}
				if len(d[1]) >= width {
					t.Errorf("the live line has %d columns of %d: %q", len(d[1]), width, d[1])
				}
				if !matches(`^\d+ done, 0 failing, \d+ left(, about \d+ s to go)?$`, d[1]) {
					t.Errorf("the live line says %q", d[1])
				}
			}
			if test.live && strings.Contains(out[strings.LastIndex(out, "\x1b[K"):], " left") {
				t.Errorf("the live line stays: %q", out)
			}
			if colored := strings.Contains(strings.ReplaceAll(out, "\x1b[K", ""), "\x1b["); colored != test.color {
				t.Errorf("colours: %t, want %t: %q", colored, test.color, out)
			}
			if !matches(`\nrpmig: why: the same with -v; the story: rpmig explain [a-z0-9-]+\r?\nrpmig: next: rpmig run all --out=`, out) {
				t.Errorf("no word of how to see more: %q", out)
			}
			if !strings.Contains(out, "36 cells: ") {
				t.Errorf("no summary: %q", out)
			}
		})
	}
}

// terminal starts the process with a terminal for its outputs, and returns what has been shown there once it has ended.
func terminal(t *testing.T, p *process, columns uint16) func() string {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("needs a pseudo-terminal: %v", err)
	}
	t.Cleanup(func() { _ = master.Close() })
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns})
	}
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	p.Stdout, p.Stderr = tty, tty
	p.start()
	tty.Close()
	shown := make(chan string)
	go func() {
		b, _ := io.ReadAll(master) // EIO, once nobody has the terminal open
		shown <- string(b)
	}()
	var all string
	return func() string {
		if all == "" {
			all = <-shown
		}
		return all
	}
}

// TestSchema: every line of a real ledger is what the committed schema says.
func TestSchema(t *testing.T) {
	t.Parallel()
	needPlay(t)
	p := command(t, "rpmig", "run", "quiz?", "--family=ipv4,ipv6", "--migrate=all", "--connections=3", "--out=out", "-q").want(0, nil, silent)
	b, err := os.ReadFile(filepath.Join(p.dir, "out", ledgerName))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := followSchema(t, b), 1+2*2*len(migrate.Modes()); got != want {
		t.Errorf("%d lines, want %d: a header, and the cells", got, want)
	}
	run, err := result.Read(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := run.Header.Upstream, kernel.Upstream(); got != want {
		t.Errorf("upstream %q, want %q", got, want)
	}
}

// followSchema holds each line of a ledger against the committed schema, and returns how many there are.
func followSchema(t *testing.T, ledger []byte) (lines int) {
	t.Helper()
	schema, err := jsonschema.NewCompiler().Compile(filepath.Join("..", "..", "result", "run.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	for l := range bytes.Lines(ledger) {
		lines++
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(l))
		if err == nil {
			err = schema.Validate(v)
		}
		if err != nil {
			t.Errorf("line %d: %v\n%s", lines, err, l)
		}
	}
	return lines
}

// inProcess runs rpmig in the test's own process, with the scenarios.
func inProcess(ctx context.Context, all []lab.Scenario, args ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	status = run(ctx, env{args: args, stdout: &out, stderr: &errs, scenarios: all})
	return status, out.String(), errs.String()
}

// TestPanic: a scenario that panics is an ERROR, with the stack as its evidence, and the others are played.
func TestPanic(t *testing.T) {
	needRoot(t) // rpmig would start itself anew, without the test's scenarios
	needPlay(t)
	t.Setenv("TMPDIR", t.TempDir())
	boom := scenarios.All()[0]
	boom.Name, boom.Play = "boom", func(l *lab.Lab) { panic("boom\x1b[2J") }
	status, stdout, stderr := inProcess(t.Context(), append(scenarios.All(), boom), "run", "boom,quiz?", "--family=ipv4", "--migrate=off")
	if status != 70 || !matches(`(?m)^3 cells: 2 PASS, 1 ERROR$`, stdout) || strings.Contains(stdout+stderr, "\x1b") {
		t.Fatalf("exit status %d\n%s%s", status, stdout, stderr)
	}
	if !matches(`evidence in\s+\S+`, stdout) { // a long path is cut there, to fit the page
		t.Errorf("no word of the evidence:\n%s", stdout)
	}
	m := regexp.MustCompile(`(?m)^rpmig: why: rpmig explain (\S+)/(boom/ipv4/off)$`).FindStringSubmatch(stderr)
	if m == nil {
		t.Fatalf("the failing cell is not what is said to be looked at:\n%s", stderr)
	}
	stack, err := os.ReadFile(filepath.Join(m[1], "cells", m[2], "1", "panic.txt"))
	if err != nil || !bytes.Contains(stack, []byte("TestPanic")) {
		t.Errorf("the evidence is %q, %v", stack, err)
	}
}

// TestNothingLeaks: a run, one that is interrupted, and one that cannot be, leave no goroutine and no descriptor.
func TestNothingLeaks(t *testing.T) {
	needRoot(t) // rpmig would start itself anew
	needPlay(t)
	play := func(ctx context.Context, want int, args ...string) {
		t.Helper()
		if status, stdout, stderr := inProcess(ctx, scenarios.All(), args...); status != want {
			t.Fatalf("%q: exit status %d, want %d\n%s%s", args, status, want, stdout, stderr)
		}
	}
	play(t.Context(), 0, "run", "quiz1") // what is made once and stays
	before, running := descriptors(t), goleak.IgnoreCurrent()
	play(t.Context(), 0, "run", "quiz?", "--family=ipv4,ipv6", "--repeat=2")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	play(ctx, 70, "run", "quiz?", "--family=ipv4,ipv6", "--repeat=100000", "--out", filepath.Join(t.TempDir(), "out"))
	play(t.Context(), 64, "run", "quiz1", "--port=0")
	play(t.Context(), 0, "doctor")
	if err := goleak.Find(running); err != nil {
		t.Error(err)
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors are open, %d were", after, before)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
