package harness

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/tcp"
)

// How long the Lab waits for a condition before it gives up, before --timeout-mul. None of them decides a verdict: a
// condition that does not come is an ERROR. The longest that a healthy kernel needs is a client's first retransmission
// (TCP_RTO_MIN, 200 ms) and, should that be lost, the next (400 ms later); but the processor of a virtual machine may stand
// still for seconds.
const (
	handshakeTimeout = 10 * time.Second
	outcomeTimeout   = 20 * time.Second
)

var (
	errTimeout   = errors.New("it did not happen")
	errCancelled = errors.New("cancelled")
)

func (l *Lab) scale(d time.Duration) time.Duration {
	return time.Duration(float64(d) * l.cfg.timeoutMul)
}

// wait blocks until the descriptor shows the event, and says in its error which condition it waited for.
func (l *Lab) wait(limit time.Duration, fd int, event int16, condition string) error {
	return l.poll(limit, condition, func(left time.Duration) (bool, error) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: event}, {Fd: int32(l.cfg.cancelled), Events: unix.POLLIN}}
		_, err := l.nap(left, func(ms int) (int, error) { return unix.Poll(fds, ms) })
		if fds[1].Revents != 0 {
			return false, errCancelled
		}
		return fds[0].Revents != 0, err
	})
}

// tick is how often a condition of which the kernel tells nothing is looked at: a state in its socket tables.
const tick = 2 * time.Millisecond

// until is a way to wait for a condition that no descriptor tells of.
type until = func(limit time.Duration, condition string, holds func() (bool, error)) error

// until looks again and again whether a condition holds that no descriptor tells of: the longer it takes, the less often, since
// a moment more matters less.
func (l *Lab) until(limit time.Duration, condition string, holds func() (bool, error)) error {
	const seldom = 20 * time.Millisecond
	began := time.Now()
	return l.poll(limit, condition, func(time.Duration) (bool, error) {
		ok, err := holds()
		if ok || err != nil {
			return ok, err
		}
		return false, l.pause(min(max(tick, time.Since(began)/8), seldom))
	})
}

// untilTimer is until for what happens when SYN+ACK timers fire. The kernel tells when that is due, so that there is no need to
// look before; a timer fires up to a jiffy late.
func (l *Lab) untilTimer(limit time.Duration, condition string, holds func() (bool, error)) error {
	return l.poll(limit, condition, func(left time.Duration) (bool, error) {
		// First: a timer that is found running after the condition was looked at may be the next one.
		requests, err := l.sockets(kernel.SynRecv)
		if err != nil {
			return false, err
		}
		ok, err := holds()
		if ok || err != nil {
			return ok, err
		}
		due := 0.0
		if len(requests) > 0 {
			sooner := func(a, b kernel.Socket) int { return cmp.Compare(a.Timer, b.Timer) }
			due = slices.MinFunc(requests, sooner).Timer
		}
		return false, l.pause(min(max(time.Duration(due*float64(time.Second)), tick), max(left, tick)))
	})
}

// cancelled tells whether the run is to end.
func (l *Lab) cancelled() bool {
	fds := []unix.PollFd{{Fd: int32(l.cfg.cancelled), Events: unix.POLLIN}}
	n, _ := unix.Poll(fds, 0)
	return n > 0
}

// pause lets time pass, unless the run is cancelled.
func (l *Lab) pause(d time.Duration) error {
	l.worked()
	defer l.clock.read()
	fds := []unix.PollFd{{Fd: int32(l.cfg.cancelled), Events: unix.POLLIN}}
	for until := time.Now().Add(d); ; {
		left := time.Until(until)
		if left <= 0 {
			return nil
		}
		if n, _ := l.nap(left, func(ms int) (int, error) { return unix.Poll(fds, ms) }); n > 0 {
			return errCancelled
		}
	}
}

// awaitDecided blocks until each connection is in the accept queue of one of the listeners, has been accepted, or has
// been reset at the client.
func (l *Lab) awaitDecided(limit time.Duration, listeners ...*Listener) error {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return wrap("epoll_create1", err)
	}
	defer unix.Close(ep)
	add := func(fd int, events uint32) {
		err = errors.Join(err, wrap("epoll_ctl", unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})))
	}
	add(l.cfg.cancelled, unix.EPOLLIN)
	listeners = slices.Concat(listeners, l.others)
	for _, s := range listeners {
		// Edge-triggered: sk_data_ready wakes us for each connection that reaches the accept queue, not only the first.
		add(s.fd, unix.EPOLLIN|unix.EPOLLET)
	}
	settled, waiting := 0, map[int32]bool{}
	for _, c := range l.clients {
		if c.accepted {
			settled++
		} else if c.fd >= 0 {
			add(c.fd, unix.EPOLLET) // EPOLLHUP and EPOLLERR come unasked
			waiting[int32(c.fd)] = true
		}
	}
	if err != nil {
		return err
	}
	events := make([]unix.EpollEvent, 64)
	return l.poll(limit, fmt.Sprintf("all %d connections settled", len(l.clients)), func(left time.Duration) (bool, error) {
		queued := 0
		for _, s := range listeners {
			n, err := tcp.AcceptQueue(s.fd)
			if err != nil {
				return false, err
			}
			queued += n
		}
		if queued+settled >= len(l.clients) {
			return true, nil
		}
		n, err := l.nap(left, func(ms int) (int, error) { return unix.EpollWait(ep, events, ms) })
		for _, e := range events[:max(n, 0)] {
			if e.Fd == int32(l.cfg.cancelled) {
				return false, errCancelled
			}
			if waiting[e.Fd] && e.Events&unix.EPOLLHUP != 0 {
				delete(waiting, e.Fd)
				settled++
			}
		}
		return false, err
	})
}

// brief is how long a cell may wait before another begins in its place. A packet needs microseconds, and a kernel timer 200
// milliseconds or more.
const brief = 4 * time.Millisecond

// yield tells that the cell has a kernel timer to sit out, and its processor nothing to do meanwhile.
func (l *Lab) yield() {
	if !l.yielded {
		l.yielded = true
		l.host.yield()
	}
}

// poll calls try until it says yes or the limit is over. EINTR is no answer.
func (l *Lab) poll(limit time.Duration, condition string, try func(left time.Duration) (bool, error)) error {
	l.worked()
	defer l.clock.read()
	patience, began := l.scale(limit), time.Now()
	for deadline := began.Add(patience); ; {
		left := max(time.Until(deadline), 0)
		if !l.yielded {
			if time.Since(began) >= brief {
				l.yield()
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
			if took := time.Since(began); limit == handshakeTimeout && took > late {
				l.delayed("it took until "+condition, took)
			}
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("wait %v until %s: %w", patience, condition, errTimeout)
		}
	}
}
