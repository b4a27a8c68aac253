package wait

import (
	"time"

	"golang.org/x/sys/unix"
)

// Late is how long a cell may be held up at most. It leans on the kernel's timers, of which the shortest that matters is a client's
// first retransmission (TCP_RTO_MIN, 200 ms). Where its thread, or what handles its packets, is held up for as long as half of
// that, the case is no longer the one that was meant.
const Late = 100 * time.Millisecond

// slice is how long a cell sleeps at most before it looks at the clock: if it was stopped meanwhile (SIGSTOP, a paused
// virtual machine, a cgroup without a share left) the clock tells.
const slice = 100 * time.Millisecond

// ReadClock takes note that the thread runs.
func (w *Waiter) ReadClock() { w.seen = time.Now() }

// Worked takes note that the thread has not slept on purpose since the clock was read. If it has not run either, it was kept
// from it.
func (w *Waiter) Worked() {
	before := w.seen
	w.ReadClock()
	if before.IsZero() {
		return
	}
	gap := w.seen.Sub(before)
	if gap <= Late {
		return
	}
	// The thread is the cell's own, so all the processor time that it ever had is no more than some milliseconds.
	var ran unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ran) // it fails for a clock that there is not (clock_gettime(2))
	if idle := gap - time.Duration(ran.Nano()); idle > Late {
		w.Delayed("the cell's thread did not run", idle)
	}
}

// Nap sleeps in a system call with a time limit in milliseconds, but not for long, and takes note of a sleep that was longer
// than it should be.
func (w *Waiter) Nap(left time.Duration, sleep func(ms int) (int, error)) (int, error) {
	left = min(left, slice)
	began := time.Now()
	n, err := sleep(int((left + time.Millisecond - 1).Milliseconds()))
	if over := time.Since(began) - left; over > Late {
		w.Delayed("the cell's thread overslept", over)
	}
	return n, err
}
