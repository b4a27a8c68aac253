package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/tcp"
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
	var closed atomic.Bool
	said := l.asleep(fd, func() (err error) {
		child, err = tcp.Accept(fd)
		if errors.Is(err, unix.EINTR) && closed.Load() {
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
	return l.read(child)
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
	t := startThread(call)
	defer t.end()
	l.must(l.until(handshakeTimeout, "the thread sleeps", func() (bool, error) { return sleepsOn(t.id, fd) }))
	while()
	said := ""
	l.must(l.until(handshakeTimeout, "the thread is woken, or sleeps", func() (bool, error) {
		select {
		case err := <-t.done:
			t.over, said = true, "woken"
			return true, wrap("the thread that slept", err)
		default:
		}
		// A thread that the kernel has woken no longer counts as asleep.
		sleeps, err := sleepsOn(t.id, fd)
		said = "asleep"
		return sleeps, err
	}))
	return said
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
	ids, on := make([]int, threads), make([]int, threads)
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
		t := startThread(func() error {
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
		defer t.end()
		ids[i] = t.id
		// One after another: the order in which they first wait tells.
		l.must(l.until(handshakeTimeout, "the thread sleeps", func() (bool, error) { return sleepsOn(ids[i], on[i]) }))
	}
	counts := make([]int, threads)
	for range clients {
		for i, id := range ids {
			l.must(l.until(handshakeTimeout, "the thread sleeps", func() (bool, error) { return sleepsOn(id, on[i]) }))
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
		l.obs.Accepted[len(l.obs.Accepted)-1].Talk = l.chat(client, g.child)
		l.must(l.part(client))
		l.must(l.part(g.child))
	}
	return counts
}

// thread is one that sleeps in a system call while the cell goes on.
type thread struct {
	id        int
	interrupt atomic.Bool
	done      chan error
	over      bool          // what it has to say has been heard
	release   chan struct{} // it stays until all is known of it
}

// startThread has a thread of its own call a function, and again whenever that is interrupted.
func startThread(call func() error) *thread {
	t := &thread{done: make(chan error, 1), release: make(chan struct{})}
	id := make(chan int, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		err := blockSignals()
		id <- unix.Gettid()
		if err == nil {
			for err = call(); errors.Is(err, unix.EINTR) && !t.interrupt.Load(); err = call() {
			}
		}
		t.done <- err
		<-t.release
	}()
	t.id = <-id
	return t
}

// end interrupts the thread until it is done.
func (t *thread) end() {
	t.interrupt.Store(true)
	for !t.over {
		_ = unix.Tgkill(os.Getpid(), t.id, wakes)
		select {
		case <-t.done: //nolint:errcheck // EINTR, unless the kernel has woken it since
			t.over = true
		case <-time.After(tick):
		}
	}
	close(t.release)
}

// wakes is the signal that interrupts a thread that sleeps. It has a handler, as almost all have, and means nothing to Go.
const wakes = unix.SIGIO

// blockSignals keeps all others from the calling thread. The Go runtime sends some of its own.
func blockSignals() error {
	var all unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	const bits = 32 << (^uint(0) >> 63) // of each word
	all.Val[(wakes-1)/bits] &^= 1 << ((wakes - 1) % bits)
	return wrap("block signals", unix.PthreadSigmask(unix.SIG_SETMASK, &all, nil))
}

// sleepsOn tells whether a thread of this process sleeps in a system call whose first argument is the descriptor.
func sleepsOn(thread, fd int) (bool, error) {
	// The state comes first: a thread that has been woken and waits for its CPU is not in S any more, but has its system
	// call in the other file for a while (TASK_WAKING, see lib/syscall.c:task_current_syscall).
	stat, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/stat", thread))
	if err != nil || !bytes.Contains(stat, []byte(") S ")) {
		return false, err
	}
	// "running", or the call's number and its arguments (proc_pid_syscall(5)).
	call, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/syscall", thread))
	f := strings.Fields(string(call))
	return len(f) > 1 && f[1] == fmt.Sprintf("%#x", fd), err
}
