package harness

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// AsleepInAccept has a thread sleep in accept(2) on a listener while something happens, and returns "woken" or "asleep":
// what it is once that has happened. A connection that the thread has accepted is noted as AcceptAll does.
func (l *Lab) AsleepInAccept(s *Listener, while func()) string {
	l.step("%s sleeps in accept", s.name)
	l.must(wrap("make blocking", unix.SetNonblock(s.fd, false)))
	// A timeout makes accept give up with EINTR when it is interrupted, whatever SA_RESTART says (signal(7)).
	patience := unix.NsecToTimeval(l.scale(2 * fateTimeout).Nanoseconds())
	l.must(wrap("set SO_RCVTIMEO", unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience)))
	child, from := -1, unix.Sockaddr(nil)
	said := l.asleep(s.fd, func() (err error) {
		child, from, err = unix.Accept4(s.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		return err
	}, while)
	l.must(wrap("make non-blocking", unix.SetNonblock(s.fd, true)))
	if child >= 0 {
		l.fds = append(l.fds, child)
		l.accepted(s.name, addrPort(from), l.read(child))
	}
	return said
}

// AsleepInEpoll is AsleepInAccept in epoll_wait(2), which accepts nothing.
func (l *Lab) AsleepInEpoll(s *Listener, while func()) string {
	l.step("%s sleeps in epoll_wait", s.name)
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	l.must(wrap("epoll_create1", err))
	defer unix.Close(ep)
	l.must(wrap("epoll_ctl", unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, s.fd, &unix.EpollEvent{Events: unix.EPOLLIN})))
	return l.asleep(ep, func() error {
		_, err := unix.EpollWait(ep, make([]unix.EpollEvent, 1), int(l.scale(2*fateTimeout).Milliseconds()))
		return err
	}, while)
}

// asleep has a thread call a function, which sleeps in a system call on the descriptor; then it does what is to be done
// meanwhile, and looks whether the thread still sleeps. It returns when the thread is done with the call.
func (l *Lab) asleep(fd int, call func() error, while func()) string {
	var interrupt atomic.Bool
	tid, done := make(chan int, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		tid <- unix.Gettid()
		for {
			// The Go runtime sends signals of its own.
			if err := call(); !errors.Is(err, unix.EINTR) || interrupt.Load() {
				done <- err
				return
			}
		}
	}()
	thread := <-tid
	wake := func() error {
		interrupt.Store(true)
		for {
			select {
			case err := <-done:
				return err
			case <-time.After(tick):
				// The runtime takes a signal that it uses itself for one that came too late.
				_ = unix.Tgkill(os.Getpid(), thread, unix.SIGURG)
			}
		}
	}
	woken := false
	defer func() {
		if !woken {
			_ = wake() // EINTR; or it did not even sleep
		}
	}()
	l.must(l.until(handshakeTimeout, "the thread sleeps", func() (bool, error) { return sleepsOn(thread, fd) }))
	while()
	// Who is woken is on the run queue by the time the waker goes on (try_to_wake_up).
	sleeps, err := sleepsOn(thread, fd)
	l.must(err)
	if sleeps {
		return "asleep"
	}
	woken = true
	l.must(wrap("the thread that slept", <-done))
	return "woken"
}

// sleepsOn tells whether a thread of this process sleeps in a system call whose first argument is the descriptor.
// The file says "running", or the call's number and its arguments (proc_pid_syscall(5)).
func sleepsOn(thread, fd int) (bool, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/syscall", thread))
	if err != nil {
		return false, err
	}
	f := strings.Fields(string(b))
	return len(f) > 1 && f[1] == fmt.Sprintf("%#x", fd), nil
}
