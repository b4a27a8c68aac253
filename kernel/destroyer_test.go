package kernel

import (
	"errors"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// inNamespace calls f on a thread that has a network namespace of its own.
func inNamespace(f func() error) error {
	said := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with this goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			said <- err
			return
		}
		said <- f()
	}()
	return <-said
}

// TestDestroyByBPF: of two listeners the one with the cookie is destroyed, and only in the thread's own namespace.
func TestDestroyByBPF(t *testing.T) {
	if err := ProbeDestroyByBPF(); errors.Is(err, ErrNotSupported) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	var fds [2]int
	state := func(i int) State {
		info, err := unix.GetsockoptTCPInfo(fds[i], unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			t.Fatal(err)
		}
		return State(info.State)
	}
	err := inNamespace(func() error {
		for i := range fds {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			if err := unix.Listen(fd, 8); err != nil {
				return err
			}
			fds[i] = fd
		}
		cookie, err := unix.GetsockoptUint64(fds[0], unix.SOL_SOCKET, unix.SO_COOKIE)
		if err != nil {
			return err
		}
		if err := inNamespace(func() error { return DestroyByBPF(cookie) }); err == nil {
			t.Error("it was destroyed from another namespace")
		}
		if err := DestroyByBPF(cookie); err != nil {
			return err
		}
		if a, b := state(0), state(1); a == Listen || b != Listen {
			t.Errorf("the one is %s, the other %s", a, b)
		}
		if err := DestroyByBPF(cookie); err == nil {
			t.Error("it was destroyed twice")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
