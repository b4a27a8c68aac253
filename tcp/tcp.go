// Package tcp holds calls on TCP sockets, and names of their answers, that golang.org/x/sys/unix has no function for.
package tcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Domain is AF_INET or AF_INET6, of an address.
func Domain(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// Sockaddr is the address as x/sys takes it.
func Sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// AddrPort is the address that x/sys returned. IPv4 addresses are unmapped, so that an IPv6 listener and its IPv4 client call
// each other by the same name.
func AddrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	default:
		return netip.AddrPort{}
	}
}

// AcceptQueue is how many connections of a listener wait for accept: tcp_get_info puts sk_ack_backlog there.
func AcceptQueue(fd int) (int, error) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, fmt.Errorf("getsockopt TCP_INFO: %w", err)
	}
	return int(info.Unacked), nil
}

// Says is what a client's socket answers when it is asked for data: EAGAIN while it lives, ECONNRESET once reset.
func Says(fd int) string {
	var buf [1]byte
	n, _, err := unix.Recvfrom(fd, buf[:], unix.MSG_DONTWAIT)
	switch {
	case err != nil:
		return Errno(err)
	case n == 0:
		return "EOF"
	default:
		return "data"
	}
}

// ReadUpTo appends to data what a socket has, until there are so many bytes or no more can be read now.
func ReadUpTo(fd int, data []byte, most int) ([]byte, error) {
	data = slices.Grow(data, most-len(data))
	for len(data) < most {
		n, err := unix.Read(fd, data[len(data):most])
		switch {
		case errors.Is(err, unix.EAGAIN):
			return data, nil
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return data, err
		case n == 0:
			return data, fmt.Errorf("EOF after %d bytes", len(data))
		default:
			data = data[:len(data)+n]
		}
	}
	return data, nil
}

// wordBytes is more than a segment of lo holds (its MTU is 64 KiB), and more than the first receive window.
const wordBytes = 70_000

var words = sync.OnceValue(func() []byte { return Sequence(2 * wordBytes) })

// Words are what the two sides of a connection say to each other once its server has accepted it.
func Words() (answer, again []byte) { return words()[:wordBytes], words()[wordBytes:] }

// Sequence returns n bytes of a linear congruential generator, whose period is some 4 billion: a part that is lost or moved shows.
func Sequence(n int) []byte {
	b := make([]byte, n)
	x := uint32(1)
	for i := range b {
		x = 1664525*x + 1013904223 // the constants are Knuth's, as in Numerical Recipes
		b[i] = byte(x >> 24)
	}
	return b
}

// Error is what a socket has to report of a connect(2) that did not wait (SO_ERROR, socket(7)).
func Error(fd int) error {
	e, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return fmt.Errorf("getsockopt SO_ERROR: %w", err)
	}
	if e != 0 {
		return unix.Errno(e)
	}
	return nil
}

// Accept is accept4(2) without the peer's address, which x/sys looks up by a call of its own on the listener's descriptor, when
// that may be closed.
func Accept(fd int) (int, error) {
	child, _, e := unix.Syscall6(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if e != 0 {
		return -1, e
	}
	return int(child), nil
}

// Errno names an error as errno(3) does.
func Errno(err error) string {
	var e unix.Errno
	if errors.As(err, &e) {
		if name := unix.ErrnoName(e); name != "" {
			return name
		}
	}
	return err.Error()
}

// SavedSYN reads TCP_SAVED_SYN (tcp(7)): the IP and TCP headers of the client's SYN; none where it was not saved.
func SavedSYN(fd int) ([]byte, error) {
	b := make([]byte, 256)
	n := uint32(len(b))
	_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_SAVED_SYN,
		uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&n)), 0)
	if e != 0 {
		return nil, e
	}
	return b[:n], nil
}

// IsSYNFrom tells whether IP and TCP headers are those of a SYN from a port; none are not.
func IsSYNFrom(b []byte, port uint16) bool {
	if len(b) == 0 {
		return false
	}
	header := 20 // of IP, without options
	if b[0]>>4 == 6 {
		header = 40
	}
	const flags, syn, ack = 13, 0x02, 0x10
	return len(b) >= header+20 && binary.BigEndian.Uint16(b[header:]) == port && b[header+flags]&(syn|ack) == syn
}

// Disconnect is connect(2) with an address of family AF_UNSPEC, for which x/sys has no Sockaddr.
func Disconnect(fd int) error {
	sa := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	if _, _, e := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa)); e != 0 {
		return e
	}
	return nil
}

// Finish sends a FIN, and does so now. That of a close would be late, and come from another CPU, if a child that is being
// started held a copy of the descriptor (netns.BeginExec).
func Finish(fd int) error {
	if err := unix.Shutdown(fd, unix.SHUT_WR); err != nil {
		return fmt.Errorf("shutdown: %w", err)
	}
	return nil
}

// NoLinger keeps a socket from lingering in TIME_WAIT, where the kernel would have to search for it when the namespace goes
// (net/ipv4/inet_timewait_sock.c:inet_twsk_purge).
func NoLinger(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}
