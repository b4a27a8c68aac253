//go:build linux

package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/result"
)

// stress makes TestStress play the whole catalogue, several times, which takes minutes: make stress.
var stress = flag.Bool("stress", false, "play the whole catalogue on a machine that does not keep up")

// TestStress: on a machine that does not keep up a cell is a PASS, or an ERROR that says what was late. It never accuses the
// kernel.
func TestStress(t *testing.T) {
	needPlay(t)
	all := []string{"run", "all", "--migrate=all", "--family=all", "--format=jsonl"}
	if !*stress {
		t.Parallel()
		few := []string{"run", "bpf-drain,synack-timer,chain-timer,relisten,hot-reload-plain", "--migrate=off,sysctl", "--family=ipv4",
			"--repeat=2", "--format=jsonl"}
		playSlowly(t, "stopped at random", few, stopAtRandom)
		return
	}
	cells := 0
	for range 2 {
		cells += playSlowly(t, "stopped at random", all, stopAtRandom)
		cells += playSlowly(t, "beside busy loops", append(all, "--parallel=64"), besideBusyLoops)
	}
	cells += playSlowly(t, "with a tenth of a processor", all, aTenthOfACPU)
	t.Logf("%d cells", cells)
}

// playSlowly runs rpmig while something keeps it from keeping up, and returns how many cells were played.
func playSlowly(t *testing.T, how string, args []string, hinder func(t *testing.T, p *process)) int {
	t.Helper()
	p := command(t, "rpmig", args...)
	p.start()
	hinder(t, p)
	<-p.ended
	run, err := result.Read(bytes.NewReader(p.stdout.Bytes()))
	if err != nil {
		t.Fatalf("%s: %v\n%s", how, err, &p.stderr)
	}
	if run.Missing() > 0 {
		t.Errorf("%s: %d cells are missing\n%s", how, run.Missing(), &p.stderr)
	}
	for _, c := range run.Cells {
		slow := strings.HasPrefix(c.Reason, "too slow for this case: ")
		if c.Status == result.Fail || c.Status == result.Error && !slow {
			t.Errorf("%s: %s: %s: %s", how, c.ID(), c.Status, c.Reason)
		}
	}
	t.Logf("%s: %s", how, run.Summary())
	return len(run.Cells)
}

// stopAtRandom stops the process again and again, for up to seconds, until it ends.
func stopAtRandom(t *testing.T, p *process) {
	t.Helper()
	const seed = 7
	random := rand.New(rand.NewPCG(seed, seed))
	for {
		for _, pause := range []struct {
			sig  unix.Signal
			long time.Duration
		}{{unix.SIGCONT, 20*time.Millisecond + time.Duration(random.IntN(600))*time.Millisecond}, {unix.SIGSTOP, 10*time.Millisecond + time.Duration(random.IntN(2000))*time.Millisecond}} {
			if err := p.Process.Signal(pause.sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
				t.Fatal(err)
			}
			select {
			case <-p.ended:
				return
			case <-time.After(pause.long):
			}
		}
	}
}

// besideBusyLoops keeps all processors busy until the process ends.
func besideBusyLoops(_ *testing.T, p *process) {
	loops := 3 * runtime.NumCPU()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(loops + 2))
	var stop atomic.Bool
	var busy sync.WaitGroup
	for range loops {
		busy.Go(func() {
			for !stop.Load() { //nolint:staticcheck // it is what it is for
			}
		})
	}
	<-p.ended
	stop.Store(true)
	busy.Wait()
}

// aTenthOfACPU puts the process into a cgroup of its own until it ends.
func aTenthOfACPU(t *testing.T, p *process) {
	t.Helper()
	name := fmt.Sprintf("rpmig-test-%d", p.Process.Pid)
	var folder string
	var limits map[string]string
	for _, parent := range []string{"/sys/fs/cgroup/cpu", "/sys/fs/cgroup"} {
		folder = filepath.Join(parent, name)
		if os.Mkdir(folder, 0o755) != nil {
			continue
		}
		t.Cleanup(func() { _ = os.Remove(folder) })
		if _, err := os.Stat(filepath.Join(folder, "cpu.cfs_quota_us")); err == nil {
			limits = map[string]string{"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "10000"}
			break
		}
		if _, err := os.Stat(filepath.Join(folder, "cpu.max")); err == nil {
			limits = map[string]string{"cpu.max": "10000 100000"}
			break
		}
	}
	if limits == nil {
		t.Log("no cgroup with a limit on the processor can be made here: it is played without")
		return
	}
	limits["cgroup.procs"] = strconv.Itoa(p.Process.Pid)
	for _, file := range []string{"cpu.cfs_period_us", "cpu.cfs_quota_us", "cpu.max", "cgroup.procs"} {
		if value, ok := limits[file]; ok {
			if err := os.WriteFile(filepath.Join(folder, file), []byte(value), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	<-p.ended
}

// TestStopped: a cell that was stopped for longer than its timers run is measured again, and that is told. Without that it would
// be a FAIL: its requests are gone by then.
func TestStopped(t *testing.T) {
	t.Parallel()
	needPlay(t)
	ledger := t.TempDir()
	p := command(t, "rpmig", "run", "bpf-drain", "--migrate=off", "--out", ledger).start()
	host, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the cell has request sockets", func() bool {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", p.Process.Pid))
		for _, task := range tasks {
			ns, err := os.Readlink(filepath.Join(task, "ns/net"))
			if err != nil || ns == host {
				continue
			}
			tcp, _ := os.ReadFile(filepath.Join(task, "net/tcp"))
			if bytes.Contains(tcp, []byte(" 03 ")) { // SYN_RECV (net/ipv4/tcp_ipv4.c:get_openreq4)
				return true
			}
		}
		return false
	})
	if err := p.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(8 * time.Second) // for the kernel's timers, which is what is tried
	if err := p.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	p.want(0, []string{"Measured again, alone", "1 measured again"}, nil)
	text, err := os.ReadFile(filepath.Join(ledger, ledgerName))
	if err != nil || !strings.Contains(string(text), `"void":{"status":"ERROR","reason":"too slow for this case: `) {
		t.Errorf("%v: the ledger does not tell of the first measurement: %s", err, text)
	}
}
