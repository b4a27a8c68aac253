package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// patience is how long something is waited for from a guest. The time during which the machine has no processor for it does not
// count: a guest on a machine that is busy is not one that hangs.
type patience struct {
	e      *emulator
	ticker *time.Ticker
	since  time.Time
	held   time.Duration // for how long QEMU had been held up by then; below zero: nobody has looked
}

// lookEvery is how often it is asked whether the wait has been long enough.
const lookEvery = 250 * time.Millisecond

func newPatience(e *emulator) *patience {
	p := &patience{e: e, ticker: time.NewTicker(lookEvery)}
	p.begin()
	return p
}

// begin begins to wait anew.
func (p *patience) begin() { p.since, p.held = time.Now(), -1 }

func (p *patience) look() <-chan time.Time { return p.ticker.C }

func (p *patience) stop() { p.ticker.Stop() }

// waited is for how long something has been waited for.
func (p *patience) waited() time.Duration {
	held := p.e.heldUp()
	if p.held < 0 {
		p.held = held
	}
	return time.Since(p.since) - (held - p.held)
}

// heldUp is for how long the thread of QEMU that has waited longest has waited for a processor: the second number of
// /proc/PID/task/TID/schedstat, in nanoseconds (Documentation/scheduler/sched-stats.rst); 0 where the kernel does not tell.
func (e *emulator) heldUp() time.Duration {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", e.pid)) // the pattern is good
	var most time.Duration
	for _, name := range threads {
		text, err := os.ReadFile(name)
		if err != nil { // it has ended
			continue
		}
		if numbers := strings.Fields(string(text)); len(numbers) > 1 {
			if n, err := strconv.ParseInt(numbers[1], 10, 64); err == nil {
				most = max(most, time.Duration(n))
			}
		}
	}
	return most
}
