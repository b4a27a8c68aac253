package lab

import (
	"errors"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/tcp"
	"github.com/rpmig/rpmig/thread"
)

// AsleepInAccept has a thread sleep in accept(2) on a listener while something happens, and returns "woken" or "asleep":
// what it is once that has happened. A connection that the thread has accepted is noted as AcceptAll does.
func (s *Listener) AsleepInAccept(while func()) string {
	l := s.lab
	l.step("%s sleeps in accept", s.name)
	s.makeBlocking()
	child, from := -1, unix.Sockaddr(nil)
	said := l.asleep(s.fd, func() (err error) {
		child, from, err = unix.Accept4(s.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		return err
	}, while)
	l.must(wrap("make non-blocking", unix.SetNonblock(s.fd, true)))
	if child >= 0 {
		l.hold(child)
		l.accepted(s.name, tcp.AddrPort(from), l.read(child), serverEnd{fd: child})
	}
	return said
}

// makeBlocking lets accept(2) sleep on a listener. A timeout makes it give up with EINTR when it is interrupted, whatever
// SA_RESTART says (signal(7)).
func (s *Listener) makeBlocking() {
	l := s.lab
	l.must(wrap("make blocking", unix.SetNonblock(s.fd, false)))
	patience := unix.NsecToTimeval(l.scale(2 * outcomeTimeout).Nanoseconds())
	l.must(wrap("set SO_RCVTIMEO", unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience)))
}

// CloseInAccept has a thread sleep in accept(2) on a listener, closes the listener, and does something that wakes the thread.
// The call of the thread holds the listener's file (net/socket.c:__sys_accept4, fdget), so that the listener ends when accept
// returns. It returns what the thread has read of the connection that it has accepted; "nothing" if it sleeps on.
func (s *Listener) CloseInAccept(while func()) string {
	l, fd, child := s.lab, s.fd, -1
	l.step("a thread sleeps in accept on %s", s.name)
	s.makeBlocking()
	var closed, stopped atomic.Bool
	defer func() { l.noteStopped(stopped.Load()) }()
	said := l.asleep(fd, func() (err error) {
		child, err = tcp.Accept(fd)
		if errors.Is(err, unix.EINTR) && closed.Load() {
			stopped.Store(true)
			return errors.New("accept was interrupted") // again, it might be on the listener of another cell
		}
		return wrap("accept", err)
	}, func() {
		closed.Store(true)
		s.Close()
		while()
	})
	if said == "asleep" {
		return "nothing"
	}
	l.hold(child)
	return l.read(child).String()
}

// AsleepInEpoll is AsleepInAccept in epoll_wait(2), which accepts nothing.
func (s *Listener) AsleepInEpoll(while func()) string {
	l := s.lab
	l.step("%s sleeps in epoll_wait", s.name)
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	l.must(wrap("epoll_create1", err))
	defer unix.Close(ep)
	l.must(wrap("epoll_ctl", unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, s.fd, &unix.EpollEvent{Events: unix.EPOLLIN})))
	return l.asleep(ep, func() error {
		_, err := unix.EpollWait(ep, make([]unix.EpollEvent, 1), int(l.scale(2*outcomeTimeout).Milliseconds()))
		return err
	}, while)
}

// asleep has a thread call a function, which sleeps in a system call on the descriptor; then it does what is to be done
// meanwhile, and looks whether the thread still sleeps. It returns when the thread is done with the call.
func (l *Lab) asleep(fd int, call func() error, while func()) string {
	t := thread.Start(call)
	defer t.End()
	defer func() { l.noteStopped(t.Stopped()) }() // before it is ended
	l.awaitAsleep(t, fd)
	while()
	said := ""
	l.must(l.until(handshakeTimeout, "the thread is woken, or sleeps", func() (bool, error) {
		if over, err := t.Over(); over {
			said = "woken"
			return true, wrap("the thread that slept", err)
		}
		// A thread that the kernel has woken no longer counts as asleep.
		sleeps, err := t.SleepsOn(fd)
		said = "asleep"
		return sleeps, err
	}))
	return said
}

// awaitAsleep waits until a thread sleeps in a system call on a descriptor.
func (l *Lab) awaitAsleep(t *thread.Thread, fd int) {
	l.must(l.until(handshakeTimeout, "the thread sleeps", func() (bool, error) { return t.SleepsOn(fd) }))
}

// noteStopped takes note that a thread was stopped while it slept, for however short: its system call is not the one any more that
// the case is about.
func (l *Lab) noteStopped(was bool) {
	if was {
		l.delayed("a thread that slept was stopped, and went on", 0)
	}
}

// Shares has threads wait for connections of one listener, as a server's workers do: in accept(2), or each in epoll_wait(2) on an
// epoll of its own with EPOLLEXCLUSIVE. Clients come and go, one after another, each when all threads sleep. It returns how many
// each thread has accepted. The scenario has to ask for FramesServed of room in the capture for each client.
func (s *Listener) Shares(threads, clients int, byEpoll bool) []int {
	l := s.lab
	l.step("%d threads wait, and %d clients come and go", threads, clients)
	if !byEpoll {
		s.makeBlocking()
	}
	type got struct{ by, child int }
	accepted := make(chan got, threads)
	all, on := make([]*thread.Thread, threads), make([]int, threads)
	for i := range threads {
		on[i] = s.fd
		if byEpoll {
			ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
			l.must(wrap("epoll_create1", err))
			defer unix.Close(ep)
			in := &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLEXCLUSIVE}
			l.must(wrap("epoll_ctl", unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, s.fd, in)))
			on[i] = ep
		}
		t := thread.Start(func() error {
			for {
				if byEpoll {
					if _, err := unix.EpollWait(on[i], make([]unix.EpollEvent, 1), -1); err != nil {
						return err
					}
				}
				child, err := tcp.Accept(s.fd)
				if err == nil {
					accepted <- got{i, child}
				} else if !errors.Is(err, unix.EAGAIN) {
					return err
				}
			}
		})
		defer t.End()
		defer func() { l.noteStopped(t.Stopped()) }()
		all[i] = t
		// One after another: the order in which they first wait tells.
		l.awaitAsleep(t, on[i])
	}
	counts := make([]int, threads)
	for range clients {
		for i, t := range all {
			l.awaitAsleep(t, on[i])
		}
		client, err := l.dial(l.cfg.Family.Dial)
		l.must(err)
		l.obs.Staged++
		l.greet(client)
		var g got
		l.must(l.until(handshakeTimeout, "a thread has accepted", func() (bool, error) {
			select {
			case g = <-accepted:
				return true, nil
			default:
				return false, nil
			}
		}))
		counts[g.by]++
		l.hold(g.child)
		peer, err := unix.Getpeername(g.child)
		l.must(wrap("getpeername", err))
		l.accepted(s.name, tcp.AddrPort(peer), l.read(g.child), serverEnd{fd: g.child})
		said, err := l.chat(pair(client, g.child))
		l.must(err)
		l.obs.Accepted[len(l.obs.Accepted)-1].Talk = said[0]
		l.must(l.part(client))
		l.must(l.part(g.child))
	}
	return counts
}
