package load

import (
	"encoding/binary"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls of the epoll engine, without telling the scheduler: over loopback the peer's half of the work is done inside
// connect and send, and the scheduler would take the processor away meanwhile. None of them waits, but epollWait.

// sockaddr is an address as the kernel reads it.
type sockaddr struct {
	raw [unix.SizeofSockaddrInet6]byte
	len uintptr
}

func newSockaddr(a netip.AddrPort) *sockaddr {
	s := &sockaddr{len: unix.SizeofSockaddrInet4}
	binary.BigEndian.PutUint16(s.raw[2:], a.Port())
	if a.Addr().Is4() {
		binary.NativeEndian.PutUint16(s.raw[:], unix.AF_INET)
		copy(s.raw[4:], a.Addr().AsSlice())
		return s
	}
	s.len = unix.SizeofSockaddrInet6
	binary.NativeEndian.PutUint16(s.raw[:], unix.AF_INET6)
	copy(s.raw[8:], a.Addr().AsSlice())
	return s
}

func (s *sockaddr) family() uintptr { return uintptr(binary.NativeEndian.Uint16(s.raw[:])) }

func newSocket(family uintptr) (int, unix.Errno) {
	fd, _, e := unix.RawSyscall(unix.SYS_SOCKET, family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	return int(fd), e
}

// bindLate gives a socket an address and no port: connect picks one, which need not differ from those to other peers.
func bindLate(fd int, s *sockaddr) unix.Errno {
	on := int32(1)
	_, _, e := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, uintptr(unsafe.Pointer(&on)), 4, 0)
	if e != 0 {
		return e
	}
	_, _, e = unix.RawSyscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&s.raw)), s.len)
	return e
}

func connect(fd int, s *sockaddr) unix.Errno {
	_, _, e := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&s.raw)), s.len)
	return e
}

func send(fd int, b []byte) (int, unix.Errno) {
	n, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_NOSIGNAL, 0, 0)
	return int(n), e
}

func receive(fd int, b []byte) (int, unix.Errno) {
	n, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
	return int(n), e
}

// socketError takes SO_ERROR, which is 0 for a connection that stands.
func socketError(fd int) unix.Errno {
	var said int32
	size := uint32(4)
	_, _, e := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_ERROR, uintptr(unsafe.Pointer(&said)), uintptr(unsafe.Pointer(&size)), 0)
	if e != 0 {
		return e
	}
	return unix.Errno(said)
}

// closeSocket releases the descriptor, whatever close(2) returns.
func closeSocket(fd int) { _, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) }

func epollAdd(epoll, fd int, events uint32, slot, generation int32) unix.Errno {
	event := unix.EpollEvent{Events: events, Fd: slot, Pad: generation}
	_, _, e := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(epoll), unix.EPOLL_CTL_ADD, uintptr(fd), uintptr(unsafe.Pointer(&event)), 0, 0)
	return e
}

func epollChange(epoll, fd int, events uint32, slot, generation int32) unix.Errno {
	event := unix.EpollEvent{Events: events, Fd: slot, Pad: generation}
	_, _, e := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(epoll), unix.EPOLL_CTL_MOD, uintptr(fd), uintptr(unsafe.Pointer(&event)), 0, 0)
	return e
}

// epollWait first looks, and only then lets others have the processor and waits, for no longer than a limit: epoll_pwait2(2),
// which has no need to round that up to a millisecond, is of Linux 5.11.
func epollWait(epoll int, events []unix.EpollEvent, limit time.Duration) (int, unix.Errno) {
	first, size := unsafe.Pointer(unsafe.SliceData(events)), uintptr(len(events))
	n, _, e := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(first), size, 0, 0, 0)
	if n != 0 || e != 0 || limit <= 0 {
		return int(n), e
	}
	ts := unix.NsecToTimespec(int64(limit))
	n, _, e = unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(epoll), uintptr(first), size, uintptr(unsafe.Pointer(&ts)), 0, 0)
	return int(n), e
}

// tryBind tells whether clients can have an address.
func tryBind(s *sockaddr) error {
	fd, e := newSocket(s.family())
	if e == 0 {
		defer closeSocket(fd)
		e = bindLate(fd, s)
	}
	if e != 0 {
		return e
	}
	return nil
}
