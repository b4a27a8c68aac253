package load

import (
	"time"

	"golang.org/x/sys/unix"
)

// clock reads CLOCK_MONOTONIC as the runtime does, without a system call.
var clock = newMonotonic()

type monotonic struct {
	base   time.Time
	offset time.Duration // of base
}

// newMonotonic finds out what CLOCK_MONOTONIC showed at a time of the runtime's, to the time that two readings of it take.
func newMonotonic() monotonic {
	best := monotonic{}
	width := time.Duration(-1)
	for range 5 {
		var ts unix.Timespec
		before := time.Now()
		if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil { // cannot fail: the clock exists, and so does ts
			continue
		}
		if took := time.Since(before); width < 0 || took < width {
			width, best = took, monotonic{base: before, offset: time.Duration(ts.Nano()) - took/2}
		}
	}
	return best
}

func (m monotonic) now() time.Duration { return m.offset + time.Since(m.base) }

func microseconds(d time.Duration) int64 { return int64(d / time.Microsecond) }
