package netns

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
)

// TestSteer: clients of one address reach a listener of another while they are steered to it, and it lives.
func TestSteer(t *testing.T) {
	at := func(host byte) unix.Sockaddr { return &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, host}, Port: 80} }
	err := Do(func() error {
		if err := LookupAlone.Probe(); err != nil {
			return err
		}
		connects := func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			return unix.Connect(fd, at(1))
		}
		wants := func(when string, want error) {
			if got := connects(); !errors.Is(got, want) {
				t.Errorf("%s: connect: %v, want %v", when, got, want)
			}
		}
		a, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		err = errors.Join(unix.Bind(a, at(2)), unix.Listen(a, 8))
		if err != nil {
			return err
		}
		s, err := Steer(80, LookupAlone)
		if err != nil {
			return err
		}
		wants("nothing is steered", unix.ECONNREFUSED)
		if err := s.To(a); err != nil {
			return err
		}
		wants("steered", nil)
		if err := s.Close(); err != nil {
			return err
		}
		wants("the program is gone", unix.ECONNREFUSED)

		if s, err = Steer(80, TC); err != nil {
			return err
		}
		defer s.Close()
		if err := s.To(a); err != nil {
			return err
		}
		if steers, err := s.Steers(); !steers || err != nil {
			t.Errorf("there is a listener: %t, %v", steers, err)
		}
		unix.Close(a)
		if steers, err := s.Steers(); steers || err != nil {
			t.Errorf("the listener is closed, and there: %t, %v", steers, err)
		}
		wants("the listener is closed", unix.ECONNREFUSED)
		return nil
	})
	if errors.Is(err, kernel.ErrNotSupported) || errors.Is(err, unix.EPERM) {
		t.Skip(err)
	} else if err != nil {
		t.Error(err)
	}
}
