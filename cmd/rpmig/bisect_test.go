//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/scenarios"
	"github.com/rpmig/rpmig/vm"
)

// TestBisectVerdict: only verdicts of the scenario are good or bad.
func TestBisectVerdict(t *testing.T) {
	run := func(statuses ...result.Status) *result.Run {
		r := &result.Run{Header: result.Header{Cells: len(statuses)}}
		for _, s := range statuses {
			r.Cells = append(r.Cells, result.Cell{Status: s})
		}
		return r
	}
	cut, died := run(result.Pass), run(result.Fail)
	cut.Header.Cells = 2
	died.Ending = &result.Ending{Why: "it died", Died: true}
	for name, c := range map[string]struct {
		runs []*result.Run
		want int
	}{
		"all as expected":          {[]*result.Run{run(result.Pass, result.Pass)}, 0},
		"otherwise":                {[]*result.Run{run(result.Pass, result.Fail)}, 1},
		"otherwise, and a SKIP":    {[]*result.Run{run(result.Skip, result.Fail)}, 1},
		"a known bug":              {[]*result.Run{run(result.Pass, result.XFail)}, 125},
		"a SKIP":                   {[]*result.Run{run(result.Pass, result.Skip)}, 125},
		"an ERROR":                 {[]*result.Run{run(result.Pass, result.Error)}, 125},
		"an ERROR beside a FAIL":   {[]*result.Run{run(result.Fail, result.Error)}, 125},
		"cut short":                {[]*result.Run{cut}, 125},
		"it did not boot, or died": {[]*result.Run{died}, 125},
		"nothing":                  {[]*result.Run{run()}, 125},
		"no run":                   {nil, 125},
	} {
		if got, why := bisectVerdict(c.runs); got != c.want || (why == "") != (got != 125) {
			t.Errorf("%s: %d, %q; want %d", name, got, why, c.want)
		}
	}
	e := &env{}
	for err, want := range map[error]int{fmt.Errorf("kernel .: %w", vm.ErrNotBuilt): 125, errors.New("no QEMU"): 128} {
		var b *bisectError
		if got := e.bisected(err, nil); !errors.As(got, &b) || b.status != want {
			t.Errorf("%v: %v, want %d", err, got, want)
		}
	}
}

// TestBisectCannotRun: however the flag is spelled, what is wrong with the command line says nothing of a kernel.
func TestBisectCannotRun(t *testing.T) {
	for _, c := range []struct {
		args string
		want int
	}{
		{"run quiz1 --bisect --nosuch", bisectAbort},
		{"run quiz1 --nosuch -bisect", bisectAbort},
		{"run quiz1 --bisect=true --port=0", bisectAbort},
		{"run nosuch -bisect=1", bisectAbort},
		{"run quiz1 --bisect=maybe", bisectAbort},
		{"runn quiz1 --bisect", bisectAbort},
		{"run quiz1 --bisect=false --nosuch", result.ExitUsage},
		{"run quiz1 --nosuch", result.ExitUsage},
		{"reload --nosuch -- server --bisect", result.ExitUsage},
	} {
		e := env{args: strings.Fields(c.args), stdout: io.Discard, stderr: io.Discard, scenarios: scenarios.All()}
		if got := run(t.Context(), e); got != c.want {
			t.Errorf("rpmig %s: %d, want %d", c.args, got, c.want)
		}
	}
}

// TestBisectCrash: a crash, here by SIGQUIT, is no status that git bisect takes for a bad kernel, as Go's own is.
func TestBisectCrash(t *testing.T) {
	t.Parallel()
	needPlay(t)
	for flag, want := range map[string]unix.Signal{"--bisect": unix.SIGABRT, "--strict": 0} {
		p := command(t, "rpmig", "run", "quiz1", "--migrate=off", "--repeat=100000", "--out=out", flag).start()
		until(t, "it plays", func() bool {
			info, err := os.Stat(filepath.Join(p.dir, "out", ledgerName))
			return err == nil && info.Size() > 0
		})
		p.signal(p.Process.Pid, unix.SIGQUIT)
		status, ok := p.ProcessState.Sys().(syscall.WaitStatus)
		if !ok || status.Signaled() != (want != 0) || want != 0 && status.Signal() != want {
			t.Errorf("%s: %v, want it ended by %v", flag, p.ProcessState, want)
		}
	}
}
