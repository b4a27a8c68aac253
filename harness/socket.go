package harness

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"unsafe"

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
	all, err := l.diag.Sockets(l.cfg.Port, l.cfg.family.socketFamilies(), states...)
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

// acceptQueue is how many connections wait for accept: tcp_get_info puts sk_ack_backlog there for a listener.
func acceptQueue(fd int) (int, error) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, wrap("getsockopt TCP_INFO", err)
	}
	return int(info.Unacked), nil
}

// say is what a client's socket answers when it is asked for data: EAGAIN while it lives, ECONNRESET once reset.
func say(fd int) string {
	var buf [1]byte
	n, _, err := unix.Recvfrom(fd, buf[:], unix.MSG_DONTWAIT)
	switch {
	case err != nil:
		return errno(err)
	case n == 0:
		return "EOF"
	default:
		return "data"
	}
}

func socketError(fd int) error {
	e, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return wrap("getsockopt SO_ERROR", err)
	}
	if e != 0 {
		return unix.Errno(e)
	}
	return nil
}

// errno names an error as errno(3) does.
func errno(err error) string {
	var e unix.Errno
	if errors.As(err, &e) {
		if name := unix.ErrnoName(e); name != "" {
			return name
		}
	}
	return err.Error()
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// addrPort unmaps IPv4 addresses, so that an IPv6 listener and its IPv4 client call each other by the same name.
func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	default:
		return netip.AddrPort{}
	}
}

// disconnect is connect(2) with an address of family AF_UNSPEC, for which x/sys has no Sockaddr.
func disconnect(fd int) error {
	sa := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	if _, _, e := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa)); e != 0 {
		return e
	}
	return nil
}
