// Package thread has threads sleep in system calls, and tells whether they do.
package thread

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
)

// Thread is one that sleeps in a system call while others go on.
type Thread struct {
	id        int
	interrupt atomic.Bool
	stopped   atomic.Bool
	done      chan error
	over      bool          // what it has to say has been heard
	release   chan struct{} // it stays until all is known of it
}

// Start has a thread of its own call a function, and again whenever that is interrupted.
func Start(call func() error) *Thread {
	t := &Thread{done: make(chan error, 1), release: make(chan struct{})}
	id := make(chan int, 1)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		err := blockSignals()
		id <- unix.Gettid()
		if err == nil {
			for err = call(); errors.Is(err, unix.EINTR) && !t.interrupt.Load(); err = call() {
				t.stopped.Store(true)
			}
		}
		t.done <- err
		<-t.release
	}()
	t.id = <-id
	return t
}

// Over tells whether the thread is done, and then what the function has returned, once.
func (t *Thread) Over() (bool, error) {
	select {
	case err := <-t.done:
		t.over = true
		return true, err
	default:
		return false, nil
	}
}

// Stopped tells whether the call was interrupted by somebody else than End: the thread was stopped and went on (signal(7), of
// SIGSTOP and SIGCONT), and sleeps behind others that had begun after it.
func (t *Thread) Stopped() bool { return t.stopped.Load() }

// End interrupts the thread until it is done.
func (t *Thread) End() {
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

// tick is how often a thread is interrupted that was not yet asleep when it was.
const tick = 2 * time.Millisecond

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
	if err := unix.PthreadSigmask(unix.SIG_SETMASK, &all, nil); err != nil {
		return fmt.Errorf("block signals: %w", err)
	}
	return nil
}

// SleepsOn tells whether the thread sleeps in a system call whose first argument is the descriptor.
func (t *Thread) SleepsOn(fd int) (bool, error) {
	// The state comes first: a thread that has been woken and waits for its CPU is not in S any more, but has its system
	// call in the other file for a while (TASK_WAKING, see lib/syscall.c:task_current_syscall).
	stat, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/stat", t.id))
	if err != nil || !bytes.Contains(stat, []byte(") S ")) {
		return false, err
	}
	// "running", or the call's number and its arguments (proc_pid_syscall(5)).
	call, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/syscall", t.id))
	f := strings.Fields(string(call))
	return len(f) > 1 && f[1] == fmt.Sprintf("%#x", fd), err
}
