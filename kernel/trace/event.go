package trace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/cilium/ebpf/btf"
)

// Kind is the tracepoint that an event comes from.
type Kind uint8

// The kinds; the numbers are those of enum kind in trace.bpf.c.
const (
	ResetSent        Kind = iota + 1 // tcp:tcp_send_reset; before Linux 6.10 not for a reset without a socket
	ResetReceived                    // tcp:tcp_receive_reset
	Retransmit                       // tcp:tcp_retransmit_skb
	SynAckRetransmit                 // tcp:tcp_retransmit_synack
	StateChange                      // sock:inet_sock_set_state; request sockets (NEW_SYN_RECV) have no such events
	Drop                             // skb:kfree_skb; before Linux 6.11 some drops of a connection cannot be attributed to it
	Destroy                          // tcp:tcp_destroy_sock, for Claim; never among the events of a recording
	kinds
)

var kindNames = [kinds]string{
	ResetSent:        "tcp:tcp_send_reset",
	ResetReceived:    "tcp:tcp_receive_reset",
	Retransmit:       "tcp:tcp_retransmit_skb",
	SynAckRetransmit: "tcp:tcp_retransmit_synack",
	StateChange:      "sock:inet_sock_set_state",
	Drop:             "skb:kfree_skb",
	Destroy:          "tcp:tcp_destroy_sock",
}

// String returns the tracepoint's name.
func (k Kind) String() string {
	if k < kinds && kindNames[k] != "" {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// stateNames are the names that ss(8) and the kernel use. The numbers are part of the ABI: the enum of BPF_TCP_… in
// linux/bpf.h.
var stateNames = [...]string{
	1: "ESTABLISHED", 2: "SYN_SENT", 3: "SYN_RECV", 4: "FIN_WAIT1", 5: "FIN_WAIT2", 6: "TIME_WAIT", 7: "CLOSE",
	8: "CLOSE_WAIT", 9: "LAST_ACK", 10: "LISTEN", 11: "CLOSING", 12: "NEW_SYN_RECV", 13: "BOUND_INACTIVE",
}

func stateName(n uint8) string {
	if int(n) < len(stateNames) && stateNames[n] != "" {
		return stateNames[n]
	}
	return strconv.Itoa(int(n))
}

// Event is one thing that the kernel did.
type Event struct {
	// Time is by the kernel's wall clock, as that of a captured packet. The event of a reset that answers a segment comes
	// just before the reset is sent, and that of an aborted socket just after. So an event and its frame are not ordered.
	Time time.Time
	Kind Kind

	// Src and Dst are the ends of the segment that was sent, received or dropped, as in its captured frame. For StateChange
	// they are the socket's own end and its peer's; the kernel sets a port late when the socket connects, and clears some
	// when it closes. They are invalid if neither a socket nor a segment has them.
	Src, Dst netip.AddrPort

	// Reason is why a reset was sent or a segment dropped: the kernel's name without its prefix, such as TCP_STATE or
	// NETFILTER_DROP. It is empty for other kinds, and if the kernel gives none (resets before Linux 6.10, drops before
	// 5.17).
	Reason string

	// State is the state of the event's socket after the event: LISTEN if a listener rejects an ACK. It is empty if there
	// was no socket.
	State    string
	OldState string // of a StateChange

	// Cookie is the socket's SO_COOKIE; for a SynAckRetransmit, the listener's. A socket has none, 0, until it is first asked
	// for, and a connection inherits that of its request socket.
	Cookie uint64
	// Orphan tells that no file refers to the socket: it was not accepted yet, or its last descriptor is closed.
	Orphan bool

	// Answer tells that a reset answers a segment, which Flags, Seq and Ack describe. A reset that answers none is from a
	// socket that is aborted.
	Answer bool
	// Flags, Seq and Ack are from the header of the segment that was dropped, or that a reset answers: a bare RST has Ack as
	// its sequence number. A Retransmit has only Seq.
	Flags    uint8
	Seq, Ack uint32

	// Softirq tells that it happened in a softirq: a timer, or the arrival of a segment, which on loopback is at the end of
	// the sender's system call. PID and TID are then the thread that the softirq interrupted. Otherwise they are the thread
	// that did it in a system call, such as close(). Both are 0 for a process that our PID namespace does not show.
	Softirq  bool
	PID, TID int

	// Stack is by which of the kernel's functions an aborted socket that no process has was reset. It is nil without
	// Options.Stacks, and where the kernel does not tell.
	Stack *Stack

	// By is how the event was attributed to the watched namespace. In a recording that is HostWide, Orphan, Flags, Seq and
	// Ack are not set, nor are the ends of a Drop and the peer of a ResetSent by a listener. State is set only for ResetSent,
	// Retransmit and StateChange.
	By By
}

// String returns the event as one line without its time.
func (e Event) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %v > %v", e.Kind, e.Src, e.Dst)
	if e.OldState != "" {
		b.WriteString(" from " + e.OldState)
	}
	if e.State != "" {
		b.WriteString(" state " + e.State)
	}
	if e.Reason != "" {
		b.WriteString(" reason " + e.Reason)
	}
	if e.Kind == Drop || e.Answer {
		fmt.Fprintf(&b, " segment flags %#02x seq %d ack %d", e.Flags, e.Seq, e.Ack)
	}
	if e.Softirq {
		b.WriteString(" in softirq")
	} else {
		fmt.Fprintf(&b, " in thread %d", e.TID)
	}
	return b.String()
}

// names are the names of reasons, by number.
type names struct{ reset, drop map[uint64]string }

// reasons returns the names of a kernel enum without their prefix.
func reasons(spec *btf.Spec, enum string, prefixes ...string) (map[uint64]string, error) {
	var e *btf.Enum
	if err := spec.TypeByName(enum, &e); err != nil {
		return nil, fmt.Errorf("look up enum %s in the kernel's BTF: %w", enum, err)
	}
	all := make(map[uint64]string, len(e.Values))
	for _, v := range e.Values {
		name := v.Name
		for _, p := range prefixes {
			if after, ok := strings.CutPrefix(name, p); ok {
				name = after
				break
			}
		}
		all[v.Value] = name
	}
	return all, nil
}

// reason returns the name of a number. A kernel without names has no numbers either. A number without a name belongs to a
// subsystem, such as a module.
func reason(names map[uint64]string, n uint32) string {
	if name, ok := names[uint64(n)]; ok || names == nil {
		return name
	}
	return fmt.Sprintf("%#x", n)
}

// The bits of a record, as in enum bits in trace.bpf.c.
const (
	hasSocket = 1 << iota
	hasSegment
	orphan
	softirq
)

// recordSize is sizeof(struct event) in trace.bpf.c. A test compares the offsets in parse with the compiler's.
const recordSize = 88

// watchOf returns the watch that a record belongs to.
func watchOf(record []byte) (id uint32, ok bool) {
	if len(record) != recordSize {
		return 0, false
	}
	return binary.LittleEndian.Uint32(record[16:]), true
}

// stackOf returns the number of a record's stack in the map of stacks.
func stackOf(record []byte) (id uint32, ok bool) {
	id = binary.LittleEndian.Uint32(record[84:])
	return id - 1, id > 0
}

// parse reads a record. offset is how far the wall clock is ahead of the record's.
func parse(record []byte, n names, offset time.Duration) (Event, error) {
	if len(record) != recordSize {
		return Event{}, fmt.Errorf("a record of %d bytes, want %d", len(record), recordSize)
	}
	le := binary.LittleEndian
	e := Event{
		Time:   time.Unix(0, int64(le.Uint64(record[0:]))).Add(offset),
		Cookie: le.Uint64(record[8:]),
		PID:    int(le.Uint32(record[20:])),
		TID:    int(le.Uint32(record[24:])),
		Seq:    le.Uint32(record[32:]),
		Ack:    le.Uint32(record[36:]),
		Kind:   Kind(record[78]),
		Flags:  record[81],
	}
	if e.Kind == 0 || e.Kind >= kinds {
		return Event{}, fmt.Errorf("a record of %v", e.Kind)
	}
	var err error
	family := le.Uint16(record[76:])
	if e.Src, err = end(family, record[40:56], le.Uint16(record[72:])); err != nil {
		return Event{}, err
	}
	if e.Dst, err = end(family, record[56:72], le.Uint16(record[74:])); err != nil {
		return Event{}, err
	}
	bits := record[82]
	e.Orphan = bits&orphan != 0
	e.Softirq = bits&softirq != 0
	if bits&hasSocket != 0 {
		e.State = stateName(record[79])
	}
	switch number := le.Uint32(record[28:]); e.Kind {
	case ResetSent:
		e.Answer = bits&hasSegment != 0
		e.Reason = reason(n.reset, number)
	case Drop:
		e.Reason = reason(n.drop, number)
	case StateChange:
		e.OldState = stateName(record[80])
	}
	return e, nil
}

// end returns one end of a segment. An IPv4 address that is mapped into IPv6 is an IPv4 address, as on the wire.
func end(family uint16, addr []byte, port uint16) (netip.AddrPort, error) {
	const none, inet, inet6 = 0, 2, 10
	switch family {
	case none:
		return netip.AddrPort{}, nil
	case inet:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(addr[:4])), port), nil
	case inet6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(addr)).Unmap(), port), nil
	}
	return netip.AddrPort{}, errors.New("a record of address family " + strconv.Itoa(int(family)))
}
