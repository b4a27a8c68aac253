package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Socket is a TCP socket as sock_diag(7) shows it.
type Socket struct {
	State         State
	Local, Remote netip.AddrPort
	Queue         int // LISTEN: connections that wait for accept (sk_ack_backlog); others: bytes that were not read
	Backlog       int // LISTEN: how many may wait (sk_max_ack_backlog); others: bytes that are not acknowledged
	Inode         uint32
	Cookie        uint64
	Retries       int     // retransmissions so far; for a request socket, of the SYN+ACK
	Timer         float64 // seconds until it fires; 0: none runs
}

// State is a socket's state, with the kernel's numbers (include/net/tcp_states.h). A request socket (TCP_NEW_SYN_RECV) is
// shown as SynRecv, and so is a TCP Fast Open child before the final ACK.
type State uint8

// The states that have a use here.
const (
	Established State = 1
	SynRecv     State = 3
	FinWait1    State = 4
	TimeWait    State = 6
	CloseWait   State = 8
	Listen      State = 10
)

var stateNames = [...]string{
	1: "ESTABLISHED", 2: "SYN_SENT", 3: "SYN_RECV", 4: "FIN_WAIT1", 5: "FIN_WAIT2", 6: "TIME_WAIT", 7: "CLOSE",
	8: "CLOSE_WAIT", 9: "LAST_ACK", 10: "LISTEN", 11: "CLOSING",
}

func (s State) String() string {
	if int(s) < len(stateNames) && s > 0 {
		return stateNames[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// Connected are all states except Listen.
var Connected = []State{1, 2, 3, 4, 5, 6, 7, 8, 9, 11}

// Diag asks sock_diag(7) about the TCP sockets of the namespace in which it was opened. It uses no library, because a cell
// asks many times: it keeps its socket, asks the kernel only for the states that are needed, and reads into one buffer.
type Diag struct {
	fd  int
	seq uint32
	buf []byte
}

// OpenDiag opens a Diag in the calling thread's namespace.
func OpenDiag() (*Diag, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_INET_DIAG)
	if err != nil {
		return nil, explainDiag(fmt.Errorf("open sock_diag netlink: %w", err))
	}
	// The kernel writes at most 8 KiB at a time, or as much as it has been given room for (net/netlink/af_netlink.c:netlink_dump). More
	// room would save calls only where there are hundreds of sockets, and cost it pages in each.
	return &Diag{fd: fd, buf: make([]byte, 8<<10)}, nil
}

// explainDiag tells a kernel without sock_diag for TCP. Both are modules of many kernels, which load them on demand where they
// can: without inet_diag there is no such netlink family, or no answer, and without tcp_diag none for TCP (inet_diag_lock_handler).
func explainDiag(err error) error {
	if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EPROTONOSUPPORT) {
		return err
	}
	return &NotSupportedError{
		Reason: err.Error() + ": this kernel has no inet_diag and tcp_diag loaded",
		Next:   "sudo modprobe tcp_diag; or boot a kernel that has CONFIG_INET_TCP_DIAG",
	}
}

// ProbeDiag tells whether sock_diag lists the sockets of those families in the calling thread's namespace.
func ProbeDiag(families []uint8) error {
	d, err := OpenDiag()
	if err != nil {
		return err
	}
	_, err = d.Dump(0, families, 0)
	return errors.Join(err, d.Close())
}

// Close frees the socket.
func (d *Diag) Close() error { return unix.Close(d.fd) }

// diagRequest is struct inet_diag_req_v2 of linux/inet_diag.h, after its netlink header.
type diagRequest struct {
	Header                     unix.NlMsghdr
	Family, Protocol, Ext, Pad uint8
	States                     uint32 // one bit each
	SrcPort, DstPort           [2]byte
	Src, Dst                   [16]byte
	Interface                  uint32
	Cookie                     [2]uint32
}

// diagMessage is struct inet_diag_msg of linux/inet_diag.h.
type diagMessage struct {
	Family, State, Timer, Retrans uint8
	SrcPort, DstPort              [2]byte
	Src, Dst                      [16]byte
	Interface                     uint32
	Cookie                        [2]uint32
	Expires                       uint32 // milliseconds
	RQueue, WQueue                uint32
	UID, Inode                    uint32
}

// Dump is a list of sockets that is not converted yet, so that taking it costs little more than the kernel's time.
type Dump struct {
	Count int           // sockets
	first []diagMessage // of them
}

// Sockets converts the list.
func (d Dump) Sockets() []Socket {
	var all []Socket
	for i := range d.first {
		all = append(all, d.first[i].socket())
	}
	return all
}

// Dump lists the sockets of AF_INET, AF_INET6 or both that have the port at either end and are in one of the states. No
// states means all of them. It counts every socket, and keeps at most the given number.
func (d *Diag) Dump(port uint16, families []uint8, most int, states ...State) (Dump, error) {
	var all Dump
	for _, family := range families {
		r := diagRequest{Family: family, Protocol: unix.IPPROTO_TCP}
		for _, s := range states {
			r.States |= 1 << s
		}
		if len(states) == 0 {
			r.States = 1<<len(stateNames) - 1
		}
		err := d.ask(&r, unix.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP, func(m *diagMessage) {
			if binary.BigEndian.Uint16(m.SrcPort[:]) != port && binary.BigEndian.Uint16(m.DstPort[:]) != port {
				return
			}
			if all.Count++; len(all.first) < most {
				all.first = append(all.first, *m)
			}
		})
		if err != nil {
			return Dump{}, explainDiag(fmt.Errorf("sock_diag: %w", err))
		}
	}
	return all, nil
}

// Sockets returns the sockets of a Dump.
func (d *Diag) Sockets(port uint16, families []uint8, states ...State) ([]Socket, error) {
	all, err := d.Dump(port, families, math.MaxInt, states...)
	return all.Sockets(), err
}

func (m *diagMessage) socket() Socket {
	local, remote := binary.BigEndian.Uint16(m.SrcPort[:]), binary.BigEndian.Uint16(m.DstPort[:])
	s := Socket{
		State: State(m.State), Queue: int(m.RQueue), Backlog: int(m.WQueue), Inode: m.Inode, Retries: int(m.Retrans),
		Local: m.end(&m.Src, local), Remote: m.end(&m.Dst, remote),
		Cookie: uint64(m.Cookie[1])<<32 | uint64(m.Cookie[0]),
	}
	if m.Timer != 0 {
		s.Timer = float64(m.Expires) / 1000
	}
	return s
}

// end returns one end of a socket. It unmaps IPv4 addresses of IPv6 sockets.
func (m *diagMessage) end(a *[16]byte, port uint16) netip.AddrPort {
	if m.Family == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(a[:4])), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(*a).Unmap(), port)
}

// ask sends a request, and calls each for every message of the answer, until the kernel says that there are no more.
func (d *Diag) ask(r *diagRequest, kind, flags uint16, each func(*diagMessage)) error {
	d.seq++
	const size = unsafe.Sizeof(*r)
	r.Header = unix.NlMsghdr{Len: uint32(size), Type: kind, Flags: unix.NLM_F_REQUEST | flags, Seq: d.seq}
	msg := unsafe.Slice((*byte)(unsafe.Pointer(r)), size)
	if err := unix.Sendto(d.fd, msg, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	for {
		n, _, err := unix.Recvfrom(d.fd, d.buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		} else if err != nil {
			return err
		}
		if done, err := parseDiag(d.buf[:n], d.seq, each); done || err != nil {
			return err
		}
	}
}

// errBadDiag says that the kernel's answer is malformed (netlink(7)).
var errBadDiag = errors.New("a netlink message that makes no sense")

// parseDiag calls each for every message of a datagram, and tells whether it was the last one of the answer. A dump ends
// with NLMSG_DONE, any other answer with NLMSG_ERROR, which is 0 for success.
func parseDiag(b []byte, seq uint32, each func(*diagMessage)) (done bool, err error) {
	var m diagMessage
	for len(b) >= unix.SizeofNlMsghdr {
		size := int(binary.NativeEndian.Uint32(b))
		kind, of := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint32(b[8:])
		if size < unix.SizeofNlMsghdr || size > len(b) || of != seq {
			return false, errBadDiag
		}
		body := b[unix.SizeofNlMsghdr:size]
		switch kind {
		case unix.NLMSG_DONE:
			return true, nil
		case unix.NLMSG_ERROR:
			if len(body) < 4 {
				return false, errBadDiag
			}
			if e := int32(binary.NativeEndian.Uint32(body)); e != 0 {
				return true, unix.Errno(-e)
			}
			return true, nil
		case unix.SOCK_DIAG_BY_FAMILY:
			if len(body) < int(unsafe.Sizeof(m)) {
				return false, errBadDiag
			}
			copy(unsafe.Slice((*byte)(unsafe.Pointer(&m)), unsafe.Sizeof(m)), body)
			each(&m)
		}
		b = b[min((size+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1), len(b)):]
	}
	return false, nil
}
