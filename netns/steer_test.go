package netns_test

import (
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/tcp"
)

// TestSteer: clients of one address reach a listener of another while they are steered to it, and it lives.
func TestSteer(t *testing.T) {
	err := netns.Do(func() error {
		if err := netns.ProbeSteer(); err != nil {
			return err
		}
		connects := func() string {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			if err := unix.Connect(fd, tcp.Sockaddr(netip.MustParseAddrPort("127.0.0.1:80"))); err != nil {
				return tcp.Errno(err)
			}
			return "ok"
		}
		wants := func(when, want string) {
			if got := connects(); got != want {
				t.Errorf("%s: connect: %s, want %s", when, got, want)
			}
		}
		a, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		err = errors.Join(unix.Bind(a, tcp.Sockaddr(netip.MustParseAddrPort("127.0.0.2:80"))), unix.Listen(a, 8))
		if err != nil {
			return err
		}
		s, err := netns.Steer(80, netns.ThatAlone)
		if err != nil {
			return err
		}
		wants("nothing is steered", "ECONNREFUSED")
		if err := s.To(a); err != nil {
			return err
		}
		wants("steered", "ok")
		if err := s.Close(); err != nil {
			return err
		}
		wants("the program is gone", "ECONNREFUSED")

		if s, err = netns.Steer(80, netns.WholeGroup); err != nil {
			return err
		}
		defer s.Close()
		if err := s.To(a); err != nil {
			return err
		}
		for _, want := range []bool{true, false} {
			if got, err := s.Steers(); got != want || err != nil {
				t.Errorf("there is a listener: %t, %v; want %t", got, err, want)
			}
			unix.Close(a)
		}
		wants("the listener is closed", "ECONNREFUSED")
		return nil
	})
	if errors.Is(err, kernel.ErrNotSupported) || errors.Is(err, unix.EPERM) {
		t.Skip(err)
	} else if err != nil {
		t.Error(err)
	}
}
