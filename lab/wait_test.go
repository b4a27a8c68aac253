package lab

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
)

// lab is a Lab that waits for nothing but what a test makes it wait for; cancelled tells that its run is to end.
func lab(t *testing.T, cancelled bool) *Lab {
	t.Helper()
	value := uint(0)
	if cancelled {
		value = 1
	}
	fd, err := unix.Eventfd(value, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return newLab(Config{Settings: Settings{TimeoutMul: 2}, Cancelled: fd}, testHost{})
}

// TestPoll: a wait ends with its limit, as --timeout-mul stretches it, and not before.
func TestPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries, began := 0, time.Now()
		err := lab(t, false).poll(3*time.Second, "it is so", func(left time.Duration) (bool, error) {
			if tries++; tries > 100 {
				return false, errors.New("it goes on")
			}
			time.Sleep(max(min(left, time.Second), time.Millisecond))
			return false, unix.EINTR
		})
		if took := time.Since(began); !errors.Is(err, errTimeout) || took != 6001*time.Millisecond {
			t.Errorf("%v, after %v and %d tries", err, took, tries)
		}
	})
}

// TestWaitIsCancelled: a wait for the kernel ends with the run.
func TestWaitIsCancelled(t *testing.T) {
	never, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(never)
	for name, wait := range map[string]func(l *Lab) error{
		"wait": func(l *Lab) error { return l.wait(10*time.Millisecond, never, unix.POLLIN, "it is so") },
		"until": func(l *Lab) error {
			return l.until(10*time.Millisecond, "it is so", func() (bool, error) { return false, nil })
		},
		"awaitDecided": func(l *Lab) error {
			l.clients = []*client{{fd: -1}}
			return l.awaitDecided(10 * time.Millisecond)
		},
	} {
		if err := wait(lab(t, true)); !errors.Is(err, errCancelled) {
			t.Errorf("%s, in a run that is to end: %v", name, err)
		}
		if err := wait(lab(t, false)); !errors.Is(err, errTimeout) {
			t.Errorf("%s, in a run that goes on: %v", name, err)
		}
	}
}
