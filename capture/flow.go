package capture

import (
	"fmt"
	"net/netip"
	"strings"
)

// Role is what a frame does in its flow. A frame that does several things has the first of: reset, SYN+ACK, SYN, FIN,
// data, ACK.
type Role int

const (
	RoleOther Role = iota // none of the below: no payload, and none of their flags
	RoleSYN
	RoleSYNRetransmission
	RoleSYNACK
	RoleSYNACKRetransmission
	RoleHandshakeACK // the client's first ACK, of the SYN+ACK, without data
	RoleData
	RoleDataRetransmission // all of its bytes were sent before
	RoleACK
	RoleFIN
	RoleReset
)

var roleNames = [...]string{
	RoleOther:                "other",
	RoleSYN:                  "syn",
	RoleSYNRetransmission:    "syn retransmission",
	RoleSYNACK:               "syn+ack",
	RoleSYNACKRetransmission: "syn+ack retransmission",
	RoleHandshakeACK:         "handshake ack",
	RoleData:                 "data",
	RoleDataRetransmission:   "data retransmission",
	RoleACK:                  "ack",
	RoleFIN:                  "fin",
	RoleReset:                "reset",
}

func (r Role) String() string { return roleNames[r] }

// A Segment is a frame with its place in a flow.
type Segment struct {
	Frame
	Role       Role
	FromClient bool

	// RelSeq and RelAck count from the initial sequence number of the side that they belong to, as tshark and tcpdump
	// show them. If that number was not seen, the first byte seen of that side is 1. RelAck is 0 without ACK.
	RelSeq uint32
	RelAck uint32
}

// String returns the segment as a line of `tcpdump -t -nn`, as far as it matters here:
//
//	127.0.0.1.39258 > 127.0.0.1.80: Flags [P.], seq 1:12, ack 1, length 11
//
// Unlike tcpdump, it numbers the SYN relatively too, so that the lines of two runs are the same.
func (s Segment) String() string {
	return fmt.Sprintf("%s.%d > %s.%d: Flags [%s]%s, length %d",
		s.Src.Addr(), s.Src.Port(), s.Dst.Addr(), s.Dst.Port(), s.Flags, s.numbers(), s.Payload)
}

// Short returns the segment without its addresses: "P. seq 1:12, ack 1".
func (s Segment) Short() string {
	return s.Flags.String() + strings.Replace(s.numbers(), ",", "", 1)
}

// numbers returns the segment's sequence numbers, as far as they matter, each after a comma.
func (s Segment) numbers() string {
	var b strings.Builder
	if s.Payload > 0 {
		fmt.Fprintf(&b, ", seq %d:%d", s.RelSeq, s.RelSeq+uint32(s.Payload))
	} else if s.Flags&(SYN|FIN|RST) != 0 {
		fmt.Fprintf(&b, ", seq %d", s.RelSeq)
	}
	if s.Flags.Has(ACK) {
		fmt.Fprintf(&b, ", ack %d", s.RelAck)
	}
	return b.String()
}

// A Flow is one TCP connection, or an attempt at one.
type Flow struct {
	Client   netip.AddrPort // the end that sent the SYN
	Server   netip.AddrPort
	Complete bool      // the SYN was seen; otherwise the first frame is guessed to be the client's
	Frames   []Segment // in the order they were sent, at least one
}

// Established reports whether the wire shows a full handshake: SYN, SYN+ACK and the client's ACK of it. A rule of the
// INPUT hook may still have dropped that ACK.
func (f Flow) Established() bool {
	synAck := false
	for _, s := range f.Frames {
		switch {
		case s.Role == RoleSYNACK:
			synAck = true
		case synAck && s.FromClient && s.Flags.Has(ACK) && !s.Flags.Has(RST) && !before(s.RelAck, 1):
			return f.Complete
		}
	}
	return false
}

// Flavour tells two kinds of reset apart.
type Flavour string

const (
	// ResetWithACK is sent by a socket that is aborted (tcp_send_active_reset), and in answer to a segment without ACK,
	// such as a SYN to a closed port.
	ResetWithACK Flavour = "RST+ACK"
	// BareReset is sent in answer to a segment with ACK that belongs to no connection (tcp_v4_send_reset).
	BareReset Flavour = "bare"
)

// A Reset is a segment that ended its flow.
type Reset struct {
	Segment
	Flavour  Flavour
	Trigger  int  // number of the frame that it answers; 0: none, the sender aborted the connection
	AfterEnd bool // both sides had sent their FIN
}

// Resets returns the resets of the flow, in order.
func (f Flow) Resets() []Reset {
	var resets []Reset
	ended := map[bool]bool{} // the sides that have sent their FIN
	for i, s := range f.Frames {
		if s.Role != RoleReset {
			if s.Flags.Has(FIN) {
				ended[s.FromClient] = true
			}
			continue
		}
		resets = append(resets, newReset(s, f.Frames[:i], len(ended) == 2))
	}
	return resets
}

// newReset is a segment with RST, after what came earlier in its flow.
func newReset(s Segment, earlier []Segment, afterEnd bool) Reset {
	flavour := BareReset
	if s.Flags.Has(ACK) {
		flavour = ResetWithACK
	}
	return Reset{Segment: s, Flavour: flavour, Trigger: trigger(s, earlier), AfterEnd: afterEnd}
}

// trigger returns the number of the last frame that reset can answer by RFC 9293, section 3.5.2: a bare RST takes its
// sequence number from the ACK of that frame. If the frame has none, the number is 0, and the RST acknowledges all that
// was sent.
func trigger(reset Segment, earlier []Segment) int {
	for i := len(earlier) - 1; i >= 0; i-- {
		s := earlier[i]
		if s.FromClient == reset.FromClient || s.Role == RoleReset || s.Flags.Has(ACK) == reset.Flags.Has(ACK) {
			continue
		}
		if s.Flags.Has(ACK) && s.Ack == reset.Seq || !s.Flags.Has(ACK) && reset.Seq == 0 && s.end() == reset.Ack {
			return s.Number
		}
	}
	return 0
}

// Flows sorts frames into flows. The frames are in the order in which they were sent, the flows in that of their first
// frames, and each frame is in one flow. A SYN that is no retransmission starts a new flow, even between the same ports.
func Flows(frames []Frame) []Flow {
	var all []*tracker
	latest := make(map[[2]netip.AddrPort]*tracker)
	for _, f := range frames {
		ends := endsOf(f)
		t := latest[ends]
		if t == nil || t.startsAnew(f) {
			t = newTracker(f)
			latest[ends] = t
			all = append(all, t)
		}
		t.add(f)
	}
	flows := make([]Flow, len(all))
	for i, t := range all {
		flows[i] = t.flow
	}
	return flows
}

// endsOf returns the two ends of a frame's flow, the lower first.
func endsOf(f Frame) [2]netip.AddrPort {
	if f.Dst.Compare(f.Src) < 0 {
		return [2]netip.AddrPort{f.Dst, f.Src}
	}
	return [2]netip.AddrPort{f.Src, f.Dst}
}

// tracker builds one flow.
type tracker struct {
	flow           Flow
	client, server direction
	answered       bool // the client has answered the SYN+ACK
}

// direction is what is known about the bytes that one side sends.
type direction struct {
	known  bool   // isn and next are set
	synced bool   // the side's SYN was seen: isn is not guessed
	isn    uint32 // initial sequence number
	next   uint32 // after the last byte that was sent
}

func newTracker(first Frame) *tracker {
	const usual = 16 // frames of a connection that says little
	t := &tracker{flow: Flow{Client: first.Src, Server: first.Dst, Complete: isSYN(first), Frames: make([]Segment, 0, usual)}}
	if first.Flags.Has(SYN | ACK) {
		t.flow.Client, t.flow.Server = first.Dst, first.Src
	}
	return t
}

// isSYN reports whether f asks for a connection.
func isSYN(f Frame) bool { return f.Flags&(SYN|ACK|RST) == SYN }

// startsAnew reports whether f is the first frame of another flow between the same ends.
func (t *tracker) startsAnew(f Frame) bool {
	// The SYN+ACK tells that number too, and may be in a capture before the SYN.
	again := f.Src == t.flow.Client && t.client.known && f.Seq == t.client.isn
	return isSYN(f) && !again
}

func (t *tracker) add(f Frame) {
	fromClient := f.Src == t.flow.Client
	from, to := &t.client, &t.server
	if !fromClient {
		from, to = to, from
	}
	t.flow.Complete = t.flow.Complete || isSYN(f)
	s := Segment{Frame: f, Role: t.role(f, fromClient, from, to), FromClient: fromClient}
	from.sent(f, s.Role)
	s.RelSeq = f.Seq - from.isn
	if f.Flags.Has(ACK) {
		to.acked(f.Ack)
		s.RelAck = f.Ack - to.isn
		t.answered = t.answered || fromClient && to.synced
	}
	t.flow.Frames = append(t.flow.Frames, s)
}

// role returns the role of f, which depends on what both sides sent before.
func (t *tracker) role(f Frame, fromClient bool, from, to *direction) Role {
	again := from.synced && f.Seq == from.isn
	switch {
	case f.Flags.Has(RST):
		return RoleReset
	case f.Flags.Has(SYN | ACK):
		if again {
			return RoleSYNACKRetransmission
		}
		return RoleSYNACK
	case f.Flags.Has(SYN):
		if again {
			return RoleSYNRetransmission
		}
		return RoleSYN
	case f.Flags.Has(FIN):
		return RoleFIN
	case f.Payload > 0:
		if from.known && !before(from.next, f.end()) {
			return RoleDataRetransmission
		}
		return RoleData
	case f.Flags.Has(ACK):
		if fromClient && to.synced && !t.answered && f.Ack == to.isn+1 {
			return RoleHandshakeACK
		}
		return RoleACK
	}
	return RoleOther
}

// sent records a frame from this side.
func (d *direction) sent(f Frame, r Role) {
	switch {
	case r == RoleSYN || r == RoleSYNACK:
		// A second SYN+ACK with another number is from another listener, and replaces the first.
		*d = direction{known: true, synced: true, isn: f.Seq, next: f.end()}
	case !d.known:
		*d = direction{known: true, isn: f.Seq - 1, next: f.end()}
	case r != RoleReset && before(d.next, f.end()):
		d.next = f.end()
	}
}

// acked records that the other side acknowledges what this side sent.
func (d *direction) acked(ack uint32) {
	if !d.known {
		*d = direction{known: true, isn: ack - 1, next: ack}
	}
}

// before reports whether sequence number a comes before b, at most half the number space apart.
func before(a, b uint32) bool { return int32(a-b) < 0 }
