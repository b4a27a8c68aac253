package lab

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
)

func (l *Lab) socket(domain int) (int, error) {
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, wrap("socket", err)
	}
	l.hold(fd)
	return fd, nil
}

// hold keeps a descriptor until the end, unless it is closed before.
func (l *Lab) hold(fd int) {
	l.fds = append(l.fds, fd)
	l.held = max(l.held, len(l.fds))
}

func (l *Lab) closeFD(fd int) error {
	l.fds = slices.DeleteFunc(l.fds, func(f int) bool { return f == fd })
	return unix.Close(fd)
}

// sockets lists the server's sockets that are in one of the states; none given means all.
func (l *Lab) sockets(states ...kernel.State) ([]kernel.Socket, error) {
	all, err := l.diag.Sockets(l.cfg.Port, l.cfg.Family.socketFamilies(), states...)
	return slices.DeleteFunc(all, func(s kernel.Socket) bool { return s.Local.Port() != l.cfg.Port }), err
}

// count is how many of the sockets are in one of the states.
func count(all []kernel.Socket, states ...kernel.State) int {
	n := 0
	for _, s := range all {
		if slices.Contains(states, s.State) {
			n++
		}
	}
	return n
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
