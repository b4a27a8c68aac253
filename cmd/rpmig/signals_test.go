//go:build linux

package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/result"
)

// soon is how long rpmig may take to end after a signal. It takes a tenth of a second or two, but these tests run side by side
// and keep the machine busy; what they are after took ten seconds or more.
const soon = 15 * time.Second

// leader puts the process into a process group of its own, as a shell does.
func (p *process) leader() *process {
	if p.SysProcAttr == nil {
		p.SysProcAttr = &syscall.SysProcAttr{}
	}
	p.SysProcAttr.Setpgid = true
	return p
}

// signal sends a signal to the process, and fails the test if it does not end soon.
func (p *process) signal(to int, signals ...unix.Signal) *process {
	p.t.Helper()
	for _, s := range signals {
		if err := unix.Kill(to, s); err != nil {
			p.t.Fatal(err)
		}
	}
	sent := time.Now()
	p.status()
	if took := time.Since(sent); took > soon {
		p.t.Errorf("it took %v to end", took)
	}
	return p
}

// clean fails the test if the process has left anything: a process, or a file besides these.
func (p *process) clean(files ...string) {
	p.t.Helper()
	until(p.t, "no process is left", func() bool { return len(p.marked()) == 0 })
	all, err := os.ReadDir(p.dir)
	if err != nil {
		p.t.Fatal(err)
	}
	left := map[string]bool{}
	for _, f := range all {
		left[f.Name()] = true
	}
	for _, name := range files {
		delete(left, name)
	}
	if len(left) > 0 {
		p.t.Errorf("%v are left", left)
	}
}

// iptables makes a script the iptables that the process finds. What it runs itself by that $name is that of the machine.
func (p *process) iptables(script string) *process {
	p.t.Helper()
	bin := filepath.Join(p.dir, "bin")
	if err := os.Mkdir(bin, 0o755); err != nil {
		p.t.Fatal(err)
	}
	for _, name := range []string{"iptables", "ip6tables"} {
		text := fmt.Sprintf("#!/bin/sh\nname=%s\nhere=%s\nPATH=%s\n%s\n", name, p.dir, os.Getenv("PATH"), script)
		if err := os.WriteFile(filepath.Join(bin, name), []byte(text), 0o755); err != nil {
			p.t.Fatal(err)
		}
	}
	p.Env = append(p.Env, "PATH="+bin+":"+os.Getenv("PATH"))
	return p
}

// hangs is an iptables that does not end, and neither does what it has started.
const hangs = "echo >$here/asked; sleep 1000; :"

// hangsInCells is one that does what it should until a cell needs it.
const hangsInCells = `case "$*" in *"--dport 80 "*) ` + hangs + `; esac; exec $name "$@"`

func (p *process) asked() *process {
	p.t.Helper()
	until(p.t, "iptables has been started", func() bool {
		_, err := os.Stat(filepath.Join(p.dir, "asked"))
		return err == nil
	})
	return p
}

// TestIPTablesFails: "auto" does without one that does not work, and says why; who asked for it gets a hint.
func TestIPTablesFails(t *testing.T) {
	t.Parallel()
	needPlay(t)
	why := `iptables does not work here: iptables --version: it says "garbage`
	quiz2 := []string{"run", "quiz2", "--migrate=off"}
	command(t, "rpmig", quiz2...).iptables("echo garbage").want(0, []string{"PASS"}, []string{`\Arpmig: ` + why + `.*; the ACK is dropped by nftables$`, "!hint"})
	command(t, "rpmig", append(quiz2, "-q")...).iptables("echo garbage").want(0, []string{"PASS"}, silent)
	command(t, "rpmig", append(quiz2, "--drop=iptables")...).iptables("echo garbage").want(70, silent, []string{`^rpmig: error: ` + why, `^rpmig: hint: rpmig run quiz2 --drop=nftables$`})
	p := command(t, "rpmig", quiz2...)
	p.Env = append(p.Env, "PATH="+p.dir)
	p.want(0, []string{"PASS"}, []string{"!iptables"}) // none is no fault
}

// TestIPTablesHangs: it is not waited for, neither at the start nor in a cell.
func TestIPTablesHangs(t *testing.T) {
	t.Parallel()
	needPlay(t)
	t.Run("it is not used", func(t *testing.T) {
		t.Parallel()
		p := command(t, "rpmig", "run", "quiz2", "--migrate=off").iptables(hangs)
		p.want(0, []string{"PASS"}, []string{`iptables --version: it did not end in 5s; the ACK is dropped by nftables$`}).clean("bin", "asked")
	})
	t.Run("the cell is an ERROR", func(t *testing.T) {
		t.Parallel()
		p := command(t, "rpmig", "run", "quiz2", "--migrate=off", "--drop=iptables", "--out=out").iptables(hangsInCells)
		p.want(70, []string{"it did not end in 5s"}, nil).clean("bin", "asked", "out")
	})
}

// TestIPTablesEndsWithRun: an iptables that hangs ends with rpmig, whatever ends that.
func TestIPTablesEndsWithRun(t *testing.T) {
	t.Parallel()
	needPlay(t)
	for name, script := range map[string]string{"at the start": hangs, "in a cell": hangsInCells} {
		for _, sig := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGKILL} {
			t.Run(name+"/"+unix.SignalName(sig), func(t *testing.T) {
				t.Parallel()
				p := command(t, "rpmig", "run", "quiz2", "--migrate=off").iptables(script).leader().start().asked()
				to := p.Process.Pid
				if sig == unix.SIGINT {
					to = -to // as a terminal does it
				}
				p.signal(to, sig)
				if sig != unix.SIGKILL {
					p.want(70, silent, []string{`\Arpmig: error: interrupted`, "!ERROR"})
				}
				p.clean("bin", "asked")
			})
		}
	}
}

// TestSignalToWorkers: a terminal's Ctrl-C reaches the whole process group. Workers leave it to rpmig, and no cell is an
// ERROR because of it.
func TestSignalToWorkers(t *testing.T) {
	t.Parallel()
	needPlay(t)
	for _, sig := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP} {
		t.Run(unix.SignalName(sig), func(t *testing.T) {
			t.Parallel()
			p := command(t, "rpmig", "run", "fd-pass-*,shared-listener-*,close-by-exit-*", "--migrate=off,sysctl", "--repeat=100000", "--parallel=4", "--out=out").leader().start()
			p.lines(20)
			p.signal(-p.Process.Pid, sig)
			p.want(70, []string{`planned and not played`}, []string{`^rpmig: error: interrupted: \d+ of`, "!ERROR"})
			f, err := os.Open(filepath.Join(p.dir, "out", ledgerName))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if run := noVerdictButPass(t, f); run.Count(result.Error) > 0 {
				t.Errorf("the ledger has %s", run.Summary())
			}
			p.clean("out")
		})
	}
}

// TestBundleInterrupted: a run with --bundle ends soon, and leaves a whole bundle or nothing, whatever ends it.
func TestBundleInterrupted(t *testing.T) {
	t.Parallel()
	needPlay(t)
	for _, sig := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGKILL} {
		for _, twice := range []bool{false, true} {
			if twice && sig == unix.SIGKILL {
				continue
			}
			t.Run(fmt.Sprintf("%s/%t", unix.SignalName(sig), twice), func(t *testing.T) {
				t.Parallel()
				p := command(t, "rpmig", "run", "quiz?,hot-reload-*", "--repeat=100000", "--bundle=run.tar.gz", "--format=jsonl")
				p.start()
				until(t, "it holds its evidence", func() bool { return p.holds(p.dir + "/") })
				signals := []unix.Signal{sig}
				if twice {
					signals = append(signals, sig)
				}
				p.signal(p.Process.Pid, signals...)
				if _, err := os.Stat(filepath.Join(p.dir, "run.tar.gz")); err == nil {
					command(t, "rpmig", "bundle", "--check", filepath.Join(p.dir, "run.tar.gz")).want(0, nil, nil)
				}
				p.clean("run.tar.gz")
			})
		}
	}
}

// holds tells whether the process has a descriptor of a file whose name begins so, as /proc shows it.
func (p *process) holds(name string) bool {
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", p.Process.Pid))
	for _, fd := range fds {
		if to, _ := os.Readlink(fd); strings.HasPrefix(to, name) {
			return true
		}
	}
	return false
}

// TestReportsEnd: a report and a bundle of a large ledger are given up at a signal, while they are read and while they are made.
func TestReportsEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ledger := filepath.Join(dir, ledgerName)
	largeLedger(t, ledger, 100000)
	for _, args := range [][]string{{"report", dir}, {"report", dir, "--format=html"}, {"bundle", dir, "-o", "b.tar.gz"}} {
		for _, after := range []time.Duration{0, time.Second} {
			t.Run(fmt.Sprint(args[0], args[2:], after), func(t *testing.T) {
				t.Parallel()
				p := command(t, "rpmig", args...).start()
				until(t, "it has opened the ledger", func() bool { return p.holds(ledger) || p.hasEnded() })
				select {
				case <-p.ended: // a fast machine
					return
				case <-time.After(after):
				}
				p.signal(p.Process.Pid, unix.SIGTERM).want(70, nil, []string{`^rpmig: error: .*terminated signal received$`})
				p.clean()
			})
		}
	}
}

// TestUntilFailCutShort: a run until something fails has no plan, by which cells could be missing. Its ledger tells all the same that
// something else has ended it, to each command that reads it.
func TestUntilFailCutShort(t *testing.T) {
	t.Parallel()
	needPlay(t)
	for _, tt := range []struct {
		sig    unix.Signal
		repeat []string
		why    string
	}{
		{unix.SIGKILL, nil, "it was to go on until something fails, and nothing has"},
		{unix.SIGKILL, []string{"--repeat=100000"}, `it was to go on until something fails, or for\s+100000\s+cells, and has \d+`},
		{unix.SIGINT, nil, `interrupted after \d+ cells`},
	} {
		t.Run(fmt.Sprint(unix.SignalName(tt.sig), tt.repeat), func(t *testing.T) {
			t.Parallel()
			p := command(t, "rpmig", append([]string{"run", "quiz1", "--migrate=off", "--until-fail", "--out=out"}, tt.repeat...)...).start()
			p.lines(3)
			p.signal(p.Process.Pid, tt.sig)
			out, broken := filepath.Join(p.dir, "out"), []string{"did not end by itself: " + tt.why}
			command(t, "rpmig", "report", out).want(0, []string{`It did not end by itself:\s+` + tt.why}, broken)
			command(t, "rpmig", "compare", out, out).want(70, []string{"the new run did not end by itself"}, nil)
			command(t, "rpmig", "baseline", out).want(0, nil, broken)
			b := command(t, "rpmig", "bundle", out, "-o", "b.tar.gz").want(0, nil, broken)
			command(t, "rpmig", "bundle", "--check", filepath.Join(b.dir, "b.tar.gz")).want(0, []string{`It did not end by itself:\s+` + tt.why}, nil)
		})
	}
	t.Run("whole", func(t *testing.T) {
		t.Parallel()
		p := command(t, "rpmig", "run", "quiz1", "--migrate=off", "--until-fail", "--repeat=3", "--out=out").want(0, nil, nil)
		command(t, "rpmig", "report", filepath.Join(p.dir, "out")).want(0, []string{"!by itself"}, silent)
	})
}

// largeLedger writes a ledger of so many cells.
func largeLedger(t *testing.T, name string, cells int) {
	t.Helper()
	c := result.Cell{Scenario: "quiz2", Family: "ipv4", Mode: "off", Status: result.Pass, Control: result.IsControl, Reason: "lost, as expected"}
	c.Steps = result.Steps{{Name: strings.Repeat("close A", 20)}}
	repeatCell(t, name, c, cells)
}

// repeatCell writes a ledger of a cell that was played so many times.
func repeatCell(t *testing.T, name string, c result.Cell, cells int) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := bufio.NewWriter(f)
	w, err := result.NewWriter(b, result.Header{Cells: cells, Kernel: "6.18.44"})
	for c.Repeat = 1; c.Repeat <= cells && err == nil; c.Repeat++ {
		err = w.Write(&c)
	}
	if err == nil {
		err = b.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestSilentPipes: a pipe without a writer, or with one that writes nothing, keeps no command from ending.
func TestSilentPipes(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"report", "dir"}, {"report", "dir/run.jsonl"}, {"explain", "dir/quiz1/ipv4/off"}, {"bundle", "dir", "-o", "x.tar.gz"},
		{"bundle", "--check", "dir/run.jsonl"}, {"docs", "--measure", "dir"},
		{"explain", "dir/run.jsonl"}, {"explain", "dir/run.jsonl", "--port=80"},
		{"compare", "dir", "dir"}, {"compare", "dir/run.jsonl", "other"}, {"merge", "dir", "dir", "-o", "x"}, {"baseline", "dir", "-o", "x.json"},
	} {
		for i, writer := range []bool{false, true, false, true} {
			sig := []unix.Signal{unix.SIGTERM, unix.SIGINT}[i/2]
			t.Run(fmt.Sprintf("%s/%t/%s", strings.Join(args, " "), writer, unix.SignalName(sig)), func(t *testing.T) {
				t.Parallel()
				p := command(t, "rpmig", args...)
				if err := os.Mkdir(filepath.Join(p.dir, "dir"), 0o755); err != nil {
					t.Fatal(err)
				}
				pipe := filepath.Join(p.dir, "dir", ledgerName)
				if err := unix.Mkfifo(pipe, 0o644); err != nil {
					t.Fatal(err)
				}
				p.start()
				if writer {
					// It can be opened so only once somebody opens it to read (fifo(7)).
					var fd int
					until(t, "it opens the pipe", func() (is bool) {
						var err error
						fd, err = unix.Open(pipe, unix.O_WRONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
						return err == nil
					})
					defer unix.Close(fd)
				} else {
					const inOpen = "wait_for_partner" // fs/pipe.c
					if told := waits(os.Getpid()); len(told) == 0 {
						t.Skip("this kernel does not say where threads wait (proc_pid_wchan(5))")
					}
					until(t, "it waits in open(2)", func() bool { return slices.Contains(waits(p.Process.Pid), inOpen) })
				}
				p.signal(p.Process.Pid, sig).want(70, silent, []string{`^rpmig: error: .*` + sig.String() + ` signal received$`})
			})
		}
	}
}

// TestSilentReaders: who does not read what a command prints keeps it from ending no more.
func TestSilentReaders(t *testing.T) {
	t.Parallel()
	lines := []string{
		"list", "explain all", "docs", "completion bash", "man", "version", "help", "run --help", "baseline dir", "baseline dir -o out",
		"report dir", "explain dir/quiz2/ipv4/off", "doctor", "doctor --json", "kernels", "kernels --json", "compare dir dir",
		"bundle --check bundle.tar.gz",
	}
	others := []string{"run", "reload", "merge"} // TestReportsComeAsCellsEnd; it comes to its end first; it prints nothing
	for _, c := range (&env{}).app().Commands {
		if !slices.ContainsFunc(lines, func(line string) bool { return strings.Fields(line)[0] == c.Name }) && !slices.Contains(others, c.Name) {
			t.Errorf("nothing is known of rpmig %s", c.Name)
		}
	}
	for _, line := range lines {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			p := command(t, "rpmig", strings.Fields(line)...)
			if err := os.Mkdir(filepath.Join(p.dir, "dir"), 0o755); err != nil {
				t.Fatal(err)
			}
			largeLedger(t, filepath.Join(p.dir, "dir", ledgerName), 3)
			if strings.HasPrefix(line, "bundle") {
				makes := command(t, "rpmig", "bundle", filepath.Join(p.dir, "dir"), "-o", filepath.Join(p.dir, "bundle.tar.gz"))
				makes.want(0, silent, nil)
			}
			out := filepath.Join(p.dir, "out")
			if err := unix.Mkfifo(out, 0o644); err != nil {
				t.Fatal(err)
			}
			full, err := os.OpenFile(out, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer full.Close()
			// Not a byte more fits in.
			if _, err := unix.FcntlInt(full.Fd(), unix.F_SETPIPE_SZ, os.Getpagesize()); err != nil {
				t.Fatal(err)
			}
			if _, err := full.Write(make([]byte, os.Getpagesize())); err != nil {
				t.Fatal(err)
			}
			if strings.HasSuffix(line, " out") {
				p.start()
				until(t, "it has opened the pipe", func() bool { return p.holds(out) })
			} else {
				p.Stdout = full
				p.start()
				if told := waits(os.Getpid()); len(told) == 0 {
					t.Skip("this kernel does not say where threads wait (proc_pid_wchan(5))")
				}
				const inWrite = "pipe_write" // fs/pipe.c; later kernels: anon_pipe_write
				until(t, "it waits in write(2)", func() bool {
					return slices.ContainsFunc(waits(p.Process.Pid), func(f string) bool { return strings.HasSuffix(f, inWrite) })
				})
			}
			p.signal(p.Process.Pid, unix.SIGTERM).want(70, silent, []string{`^rpmig: error: .*terminated signal received$`})
		})
	}
}

// waits returns the kernel functions in which the threads of a process wait, as far as the kernel tells.
func waits(pid int) (functions []string) {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/wchan", pid))
	for _, name := range threads {
		if b, err := os.ReadFile(name); err == nil && string(b) != "0" {
			functions = append(functions, string(b))
		}
	}
	return functions
}
