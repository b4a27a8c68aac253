package evidence

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/rpmig/rpmig/capture"
	"github.com/rpmig/rpmig/kernel/trace"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// Comments explain the frames of a capture, by their number: what each is in the story, the step in which it was sent, and
// what the kernel's trace told of it. A frame of which there is nothing to say has none, and what cannot be told for sure
// is not said.
type Comments struct {
	Lines   map[int][]string // of which the first says what the frame is
	Dropped map[int]bool     // frames that the scenario's packet-drop rule took
}

// commenter writes Comments.
type commenter struct {
	*Record
	o      *verdict.Observation
	tables []result.Table
	// between are the frames of each direction, in the order in which they were sent.
	between   map[[2]netip.AddrPort][]capture.Segment
	flowOf    map[int]*capture.Flow // by the number of a frame
	resets    map[trace.Event]int   // the frame that an event sent
	listeners map[uint64]string     // names, by cookie
	gone      map[int]bool          // frames that the kernel has thrown away
	filtered  map[int]bool          // of those, the ones that a packet filter has
	arrived   map[int]bool          // frames that a socket was handed
	said      map[int][]string
}

// Comments explains the frames of the cell; tables are its socket tables, step by step.
func (r *Record) Comments(o *verdict.Observation, tables []result.Table) *Comments {
	n := &commenter{
		Record: r, o: o, tables: tables, between: map[[2]netip.AddrPort][]capture.Segment{},
		flowOf: map[int]*capture.Flow{}, listeners: map[uint64]string{}, gone: map[int]bool{},
		filtered: map[int]bool{}, resets: map[trace.Event]int{}, arrived: map[int]bool{}, said: map[int][]string{},
	}
	for i := range r.flows {
		f := &r.flows[i]
		for _, s := range f.Frames {
			ends := [2]netip.AddrPort{s.Src, s.Dst}
			n.between[ends] = append(n.between[ends], s)
			n.flowOf[s.Number] = f
		}
	}
	for _, t := range tables {
		for _, s := range t.Sockets {
			if s.State == "LISTEN" && s.Cookie != 0 {
				n.listeners[s.Cookie] = s.Name
			}
		}
	}
	for frame, e := range r.sent {
		n.resets[e] = frame
	}
	for _, e := range r.events {
		n.event(e)
	}
	all := &Comments{Lines: map[int][]string{}, Dropped: map[int]bool{}}
	for _, f := range r.flows {
		n.flow(f, all)
	}
	return all
}

// flow explains the frames of a connection.
func (n *commenter) flow(f capture.Flow, all *Comments) {
	ended := false
	closed := map[bool]bool{} // the sides that have
	for _, s := range f.Frames {
		lines := n.said[s.Number]
		head := n.headline(s, ended || len(closed) == 2)
		switch s.Role {
		case capture.RoleFIN:
			closed[s.FromClient] = true
		case capture.RoleReset:
			ended = true
			if t := n.o.Trace; t != nil && t.Lost > 0 {
				if _, known := n.sent[s.Number]; !known {
					lines = append(lines, fmt.Sprintf("kernel: not told of; the trace has lost %s", result.Plural(t.Lost, "event", "events")))
				}
			}
		}
		if head == "" && lines == nil {
			continue
		}
		if head == "" {
			head = side(s.FromClient) + " acknowledges"
		}
		if n.droppedByRule(s) {
			all.Dropped[s.Number] = true
		}
		all.Lines[s.Number] = append([]string{head, "step: " + n.step(s.Time)}, lines...)
	}
}

func side(client bool) string {
	if client {
		return "the client"
	}
	return "the server"
}

// headline says what a frame is in the story; ended tells that its connection has been reset already.
func (n *commenter) headline(s capture.Segment, ended bool) string {
	who, head := side(s.FromClient), ""
	switch s.Role {
	case capture.RoleSYN:
		head = who + " connects"
	case capture.RoleSYNRetransmission:
		head = who + " retransmits its SYN"
	case capture.RoleSYNACK:
		head = who + " answers the SYN"
	case capture.RoleSYNACKRetransmission:
		head = who + " retransmits its SYN+ACK"
	case capture.RoleHandshakeACK:
		head = "the final ACK of the handshake"
	case capture.RoleData:
		head = who + " sends"
	case capture.RoleDataRetransmission:
		head = who + " retransmits"
	case capture.RoleFIN:
		head = who + " ends its side"
	case capture.RoleReset:
		return n.reset(s, ended)
	}
	if n.droppedByRule(s) {
		if head == "" {
			head = who + " acknowledges"
		}
		head += "; dropped by the " + n.o.Rule.Backend + " rule in the INPUT hook"
	}
	return head
}

// droppedByRule tells whether the scenario's rule dropped a frame. The trace saw the very frame; without it there is the
// time at which the rule was in.
func (n *commenter) droppedByRule(s capture.Segment) bool {
	if n.o.Rule == nil || s.Role == capture.RoleReset {
		return false
	}
	byTime := s.FromClient && s.Flags&(capture.SYN|capture.ACK) == capture.ACK && n.ruleAt(n.at(s.Time))
	return n.filtered[s.Number] || byTime && !n.arrived[s.Number]
}

// reset says which of the resets of a connection this is, and whose.
func (n *commenter) reset(s capture.Segment, ended bool) string {
	head := "this reset ends the connection"
	if ended {
		head = "a reset of a connection that has ended"
	}
	i := slices.IndexFunc(n.o.Wire.Resets, func(r result.Reset) bool { return r.Frame == s.Number })
	if i < 0 {
		return head
	}
	r := n.o.Wire.Resets[i]
	head += ": " + r.Flavour.String()
	switch r.Owner {
	case "":
	case result.NoSocket:
		head += ", sent for no socket"
	case result.Harness:
		head += " of rpmig's own client"
	case result.SurvivingListener:
		head += " of the " + string(r.Owner)
		if e := n.sent[s.Number]; n.listeners[e.Cookie] != "" {
			head += " " + n.listeners[e.Cookie]
		}
	case result.OwnSocket:
		head += " of the connection's own socket"
	default:
		head += " of the " + string(r.Owner)
	}
	return head
}

// slack is how far the clocks of the trace and of the capture may be apart. It tells no two transmissions of a segment
// apart, which are 200 ms from each other (TCP_RTO_MIN).
const slack = time.Millisecond

// latest returns the last frame of a direction that was there when an event happened and that is what the event is of.
func (n *commenter) latest(e trace.Event, is func(capture.Segment) bool) (capture.Segment, bool) {
	frames := n.between[[2]netip.AddrPort{e.Src, e.Dst}]
	for _, s := range slices.Backward(frames) {
		if !s.Time.After(e.Time.Add(slack)) && is(s) {
			return s, true
		}
	}
	return capture.Segment{}, false
}

// event notes what an event says of frames. Events come in the order of their time.
func (n *commenter) event(e trace.Event) {
	switch e.Kind {
	case trace.ResetSent:
		n.resetSent(e)
	case trace.ResetReceived:
		if s, ok := n.latest(e, func(s capture.Segment) bool { return s.Role == capture.RoleReset }); ok {
			n.say(s, e, ", by "+side(!s.FromClient)+"'s socket in "+e.State)
		}
	case trace.Retransmit:
		if s, ok := n.latest(e, func(s capture.Segment) bool { return s.Seq == e.Seq && s.Role != capture.RoleReset }); ok {
			text := ", by a socket in " + e.State
			if n.timer(s, e) {
				text += ": a timer of its own fired"
			}
			n.say(s, e, text)
		}
	case trace.SynAckRetransmit:
		if s, ok := n.latest(e, func(s capture.Segment) bool { return s.Role == capture.RoleSYNACKRetransmission }); ok {
			n.synACKAgain(s, e)
		}
	case trace.Drop:
		if s, ok := n.latest(e, func(s capture.Segment) bool { return identical(s, e) }); ok {
			n.gone[s.Number] = true
			if e.Reason == "NETFILTER_DROP" {
				n.filtered[s.Number] = true
			} else {
				n.arrived[s.Number] = true
			}
			n.say(s, e, n.by(e))
		}
	case trace.StateChange:
		n.stateChange(e)
	}
}

// say adds a line that begins with the event in the ledger's words, and ends with the step in which it happened if that
// is a later one.
func (n *commenter) say(s capture.Segment, e trace.Event, text string) {
	line := "kernel: " + e.Kind.String()
	if e.Reason != "" {
		line += " " + e.Reason
	}
	line += text
	if !e.Sure() {
		line += " (by its addresses)"
	}
	if step := n.step(e.Time); step != n.step(s.Time) {
		line += fmt.Sprintf(", during %q", step)
	}
	n.said[s.Number] = append(n.said[s.Number], line)
}

// step names the step that was running at a time.
func (n *commenter) step(t time.Time) string { return n.o.Steps.Name(n.o.Steps.At(n.at(t))) }

// identical tells whether an event describes this very segment, or a retransmission of it.
func identical(s capture.Segment, e trace.Event) bool {
	return uint8(s.Flags) == e.Flags && s.Seq == e.Seq && s.Ack == e.Ack
}

// by is the socket at which something happened.
func (n *commenter) by(e trace.Event) string {
	name := n.listeners[e.Cookie]
	switch {
	case e.State == "":
		return ""
	case e.State == "LISTEN" && name != "":
		return ", by listener " + name
	default:
		return ", by a socket in " + e.State
	}
}

// resetSent explains a reset, and the segment that it answers.
func (n *commenter) resetSent(e trace.Event) {
	frame, known := n.resets[e]
	if !known {
		return
	}
	flow := n.flowOf[frame]
	resets := flow.Resets()
	r := resets[slices.IndexFunc(resets, func(r capture.Reset) bool { return r.Number == frame })]
	text := n.by(e)
	if e.State == "" {
		text = ", by no socket"
	} else if n.listeners[e.Cookie] != "" && e.State == "LISTEN" {
		text += " (in LISTEN)"
	}
	switch {
	case n.o.Trace.LacksSoftirqs: // it is not known
	case e.Softirq:
		text += ", in softirq"
	case owner(e, n.o) == result.ClosingListener:
		text += ", inside the close of its listener"
	default:
		text += ", inside a system call"
	}
	for _, s := range flow.Frames {
		if e.Answer && s.Number == r.Trigger && identical(s, e) {
			n.arrived[s.Number] = true
			text += fmt.Sprintf(", in answer to frame %d", s.Number)
			n.said[s.Number] = append(n.said[s.Number], fmt.Sprintf("kernel: answers with the reset of frame %d", frame))
		}
	}
	n.say(r.Segment, e, text)
}

// quiet is how long nothing of a connection was on the wire when it was surely a timer that sent a segment again.
const quiet = 10 * time.Millisecond

// timer tells whether a timer sent a segment again, and not the arrival of another segment.
func (n *commenter) timer(s capture.Segment, e trace.Event) bool {
	for _, before := range n.flowOf[s.Number].Frames {
		if before.Number < s.Number && s.Time.Sub(before.Time) < quiet {
			return false
		}
	}
	return e.Softirq
}

// synACKAgain explains a SYN+ACK that was sent again, by the listener that the request is with now.
func (n *commenter) synACKAgain(s capture.Segment, e trace.Event) {
	var text string
	name := n.listeners[e.Cookie]
	if name != "" {
		text += ", for listener " + name
	}
	if n.timer(s, e) {
		text += ": the request's SYN+ACK timer fired"
	}
	n.say(s, e, text)
	if from := n.listening(n.flowOf[s.Number].Frames[0].Time); name != "" && len(from) == 1 && from[0] != name {
		n.said[s.Number] = append(n.said[s.Number], fmt.Sprintf("moved: the request was made for %s and is now with %s", from[0], name))
	}
}

// stateChange explains the segment whose arrival changed the state of a socket, where there is only one that it can be.
func (n *commenter) stateChange(e trace.Event) {
	var is func(capture.Segment) bool
	switch e.OldState + " → " + e.State {
	case "SYN_SENT → ESTABLISHED":
		is = func(s capture.Segment) bool { return s.Flags.Has(capture.SYN | capture.ACK) }
	case "LISTEN → SYN_RECV", "SYN_RECV → ESTABLISHED":
		is = func(s capture.Segment) bool { return s.Flags&(capture.SYN|capture.RST|capture.ACK) == capture.ACK }
	case "ESTABLISHED → CLOSE_WAIT":
		is = func(s capture.Segment) bool { return s.Role == capture.RoleFIN }
	case "SYN_RECV → CLOSE", "ESTABLISHED → CLOSE", "CLOSE_WAIT → CLOSE":
		if !e.Softirq {
			return // of its owner's own doing
		}
		is = func(s capture.Segment) bool { return s.Role == capture.RoleReset }
	default:
		return
	}
	var by []capture.Segment
	for _, s := range n.between[[2]netip.AddrPort{e.Dst, e.Src}] {
		if !s.Time.After(e.Time) && !n.gone[s.Number] && is(s) {
			by = append(by, s)
		}
	}
	if len(by) != 1 {
		return
	}
	s := by[0]
	n.arrived[s.Number] = true
	n.say(s, e, fmt.Sprintf(" %s → %s, of %s's socket", e.OldState, e.State, side(!s.FromClient)))
	if e.OldState == "SYN_RECV" && e.State == "ESTABLISHED" {
		n.moved(s)
	}
}

// moved tells of a segment that completed a handshake whether it did so on another listener than the one that the request
// was made for: that one has gone, and there is only one left, which was not there when the SYN came.
func (n *commenter) moved(s capture.Segment) {
	from, to := n.listening(n.flowOf[s.Number].Frames[0].Time), n.listening(s.Time)
	if n.o.Counters[result.MigrateSuccess] == 0 || len(from) != 1 || len(to) != 1 || from[0] == to[0] {
		return
	}
	// A SYN cookie needs no request, and so no migration.
	t := n.table(s.Time)
	if slices.ContainsFunc(t.Sockets, func(k result.Socket) bool { return k.State == "SYN_RECV" && k.Remote == s.Src }) {
		n.said[s.Number] = append(n.said[s.Number],
			fmt.Sprintf("moved: the request was made for %s, and the handshake is completed on %s", from[0], to[0]))
	}
}

// table is the last one that was noted before a time.
func (n *commenter) table(at time.Time) result.Table {
	var last result.Table
	for _, t := range n.tables {
		if t.At <= n.at(at) {
			last = t
		}
	}
	return last
}

// listening names the listeners that there were when the last table before a time was noted.
func (n *commenter) listening(at time.Time) []string {
	var names []string
	for _, s := range n.table(at).Sockets {
		if s.State == "LISTEN" {
			names = append(names, s.Name)
		}
	}
	return names
}
