// Package wait has a cell's thread wait for conditions, never for longer than it may, and takes note of where the machine has held
// the thread up.
package wait

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Why a wait has ended without its condition.
var (
	ErrTimeout   = errors.New("it did not happen")
	ErrCancelled = errors.New("cancelled")
)

// Waiter is what all waits of a cell have in common. Only one thread may use it.
type Waiter struct {
	// Mul is what the limits are multiplied by.
	Mul float64
	// Cancelled is a descriptor that becomes readable when the run is to end.
	Cancelled int
	// Prompt is the limit of waits that need none of the kernel's timers: one that takes long was held up.
	Prompt time.Duration
	// Leave lets another cell begin in this one's place. It is called once, when a wait is not brief. nil: none may.
	Leave func()
	// Delayed takes note that the machine has held the thread up, or what it waits for.
	Delayed func(what string, d time.Duration)

	seen time.Time // when the thread was seen last; zero where it has not been
}

// Scale is a limit as the user wants it.
func (w *Waiter) Scale(d time.Duration) time.Duration {
	return time.Duration(float64(d) * w.Mul)
}

// For blocks until the descriptor shows the event, and says in its error which condition it waited for.
func (w *Waiter) For(limit time.Duration, fd int, event int16, condition string) error {
	return w.Poll(limit, condition, func(left time.Duration) (bool, error) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: event}, {Fd: int32(w.Cancelled), Events: unix.POLLIN}}
		_, err := w.Nap(left, func(ms int) (int, error) { return unix.Poll(fds, ms) })
		if fds[1].Revents != 0 {
			return false, ErrCancelled
		}
		return fds[0].Revents != 0, err
	})
}

// Tick is how often a condition of which the kernel tells nothing is looked at: a state in its socket tables.
const Tick = 2 * time.Millisecond

// Until looks again and again whether a condition holds that no descriptor tells of: the longer it takes, the less often, since
// a moment more matters less.
func (w *Waiter) Until(limit time.Duration, condition string, holds func() (bool, error)) error {
	const seldom = 20 * time.Millisecond
	began := time.Now()
	return w.Poll(limit, condition, func(time.Duration) (bool, error) {
		ok, err := holds()
		if ok || err != nil {
			return ok, err
		}
		return false, w.Pause(min(max(Tick, time.Since(began)/8), seldom))
	})
}

// IsCancelled tells whether the run is to end.
func (w *Waiter) IsCancelled() bool {
	fds := []unix.PollFd{{Fd: int32(w.Cancelled), Events: unix.POLLIN}}
	n, _ := unix.Poll(fds, 0)
	return n > 0
}

// Pause lets time pass, unless the run is cancelled.
func (w *Waiter) Pause(d time.Duration) error {
	w.Worked()
	defer w.ReadClock()
	fds := []unix.PollFd{{Fd: int32(w.Cancelled), Events: unix.POLLIN}}
	for until := time.Now().Add(d); ; {
		left := time.Until(until)
		if left <= 0 {
			return nil
		}
		if n, _ := w.Nap(left, func(ms int) (int, error) { return unix.Poll(fds, ms) }); n > 0 {
			return ErrCancelled
		}
	}
}

// brief is how long a cell may wait before another begins in its place. A packet needs microseconds, and a kernel timer 200
// milliseconds or more.
const brief = 4 * time.Millisecond

// Yield tells that the cell has a kernel timer to sit out, and its processor nothing to do meanwhile.
func (w *Waiter) Yield() {
	if leave := w.Leave; leave != nil {
		w.Leave = nil
		leave()
	}
}

// Poll calls try until it says yes or the limit is over. EINTR is no answer.
func (w *Waiter) Poll(limit time.Duration, condition string, try func(left time.Duration) (bool, error)) error {
	w.Worked()
	defer w.ReadClock()
	patience, began := w.Scale(limit), time.Now()
	for deadline := began.Add(patience); ; {
		left := max(time.Until(deadline), 0)
		if w.Leave != nil {
			if time.Since(began) >= brief {
				w.Yield()
			} else {
				left = min(left, brief)
			}
		}
		ok, err := try(left)
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("wait until %s: %w", condition, err)
		case ok:
			// What needs no timer of the kernel's needs no more than microseconds.
			if took := time.Since(began); limit == w.Prompt && took > Late {
				w.Delayed("it took until "+condition, took)
			}
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("wait %v until %s: %w", patience, condition, ErrTimeout)
		}
	}
}
