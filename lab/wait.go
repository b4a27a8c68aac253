package lab

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/tcp"
	"github.com/rpmig/rpmig/verdict"
	"github.com/rpmig/rpmig/wait"
)

// How long the Lab waits for a condition before it gives up, before --timeout-mul. None of them decides a verdict: a
// condition that does not come is an ERROR. The longest that a healthy kernel needs is a client's first retransmission
// (TCP_RTO_MIN, 200 ms) and, should that be lost, the next (400 ms later); but the processor of a virtual machine may stand
// still for seconds.
const (
	handshakeTimeout = 10 * time.Second
	outcomeTimeout   = 20 * time.Second
)

// What the waiter does.
var (
	errTimeout   = wait.ErrTimeout
	errCancelled = wait.ErrCancelled
)

const tick = wait.Tick

func (l *Lab) scale(d time.Duration) time.Duration { return l.waiter.Scale(d) }
func (l *Lab) worked()                             { l.waiter.Worked() }
func (l *Lab) yield()                              { l.waiter.Yield() }
func (l *Lab) pause(d time.Duration) error         { return l.waiter.Pause(d) }

func (l *Lab) nap(left time.Duration, sleep func(ms int) (int, error)) (int, error) {
	return l.waiter.Nap(left, sleep)
}

func (l *Lab) wait(limit time.Duration, fd int, event int16, condition string) error {
	return l.waiter.For(limit, fd, event, condition)
}

func (l *Lab) until(limit time.Duration, condition string, holds func() (bool, error)) error {
	return l.waiter.Until(limit, condition, holds)
}

func (l *Lab) poll(limit time.Duration, condition string, try func(left time.Duration) (bool, error)) error {
	return l.waiter.Poll(limit, condition, try)
}

// delayed notes that the machine has held the cell up.
func (l *Lab) delayed(what string, d time.Duration) {
	l.obs.Delays = append(l.obs.Delays, verdict.Delay{What: what, At: l.now(), Seconds: d.Seconds()})
}

// until is a way to wait for a condition that no descriptor tells of.
type until = func(limit time.Duration, condition string, holds func() (bool, error)) error

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
	add(l.cfg.Cancelled, unix.EPOLLIN)
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
			if e.Fd == int32(l.cfg.Cancelled) {
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
