package thread

import (
	"cmp"
	"errors"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestThread: a thread that sleeps is seen to, one that is woken is over, and one that is not can be ended all the same.
func TestThread(t *testing.T) {
	for _, wake := range []bool{true, false} {
		var pipe [2]int
		if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, pipe[0], &unix.EpollEvent{Events: unix.EPOLLIN}); err != nil {
			t.Fatal(err)
		}
		woken := errors.New("woken")
		slept := Start(func() error {
			_, err := unix.EpollWait(ep, make([]unix.EpollEvent, 1), -1) // not begun again after a signal (signal(7))
			return cmp.Or(err, woken)
		})
		until(t, "it sleeps", func() (bool, error) { return slept.SleepsOn(ep) })
		if sleeps, err := slept.SleepsOn(pipe[0]); sleeps || err != nil {
			t.Errorf("it sleeps on another descriptor: %t, %v", sleeps, err)
		}
		if over, err := slept.Over(); over {
			t.Errorf("it is over before it is woken: %v", err)
		}
		if wake {
			if _, err := unix.Write(pipe[1], []byte{'!'}); err != nil {
				t.Fatal(err)
			}
			until(t, "it is over", func() (bool, error) {
				over, err := slept.Over()
				if over && err != woken {
					t.Errorf("it says %v", err)
				}
				return over, nil
			})
		}
		slept.End()
		for _, fd := range []int{pipe[0], pipe[1], ep} {
			unix.Close(fd)
		}
	}
}

func until(t *testing.T, what string, holds func() (bool, error)) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if ok, err := holds(); err != nil {
			t.Fatal(err)
		} else if ok {
			return
		}
	}
	t.Fatalf("it did not happen that %s", what)
}

// TestStoppedThread: a thread whose sleep was broken off, as a stop does, sleeps again, and that is known; to end it is no such thing.
func TestStoppedThread(t *testing.T) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(ep)
	var calls atomic.Int32
	slept := Start(func() error {
		calls.Add(1)
		_, err := unix.EpollWait(ep, make([]unix.EpollEvent, 1), -1)
		return err
	})
	until(t, "it sleeps", func() (bool, error) { return slept.SleepsOn(ep) })
	if slept.Stopped() {
		t.Error("it was stopped before anything happened")
	}
	if err := unix.Tgkill(os.Getpid(), slept.id, wakes); err != nil {
		t.Fatal(err)
	}
	until(t, "it sleeps again", func() (bool, error) {
		sleeps, err := slept.SleepsOn(ep)
		return sleeps && calls.Load() == 2, err
	})
	if !slept.Stopped() {
		t.Error("nobody knows that it was stopped")
	}
	slept.End()
	if n := calls.Load(); n != 2 {
		t.Errorf("called %d times", n)
	}
}
