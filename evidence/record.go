// Package evidence turns what a cell's capture and the kernel's trace recorded into facts for the judge, comments for
// the capture, and the files that a cell leaves behind.
package evidence

import (
	"net/netip"
	"slices"
	"time"

	"github.com/rpmig/rpmig/capture"
	"github.com/rpmig/rpmig/kernel/trace"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// Record is what was recorded in a cell, as it came. Facts of it go into the cell's verdict.Observation.
type Record struct {
	Start time.Time // zero of the cell's times
	// Rule is when the packet-drop rule surely was in.
	Rule []Span

	capture *capture.Recording // nil: it did not get so far
	flows   []capture.Flow
	events  []trace.Event
	sent    map[int]trace.Event // the event that sent each reset, by the reset's frame
}

// Span is from one time to another, in seconds; Until is 0 while it lasts.
type Span struct{ From, Until float64 }

// ruleAt tells whether the packet-drop rule was surely in at a time.
func (r *Record) ruleAt(at float64) bool {
	return slices.ContainsFunc(r.Rule, func(s Span) bool { return at >= s.From && (s.Until == 0 || at < s.Until) })
}

// at is a time of the cell, in seconds.
func (r *Record) at(t time.Time) float64 { return t.Sub(r.Start).Seconds() }

// ReadCapture reads the packets into o.Wire, and into o.Stream if there is one.
func (r *Record) ReadCapture(rec *capture.Recording, o *verdict.Observation) {
	frames, undecodable := capture.Decode(rec.Packets)
	r.capture, r.flows = rec, capture.Flows(frames)
	w := verdict.Wire{
		Packets: len(rec.Packets), Lost: rec.Lost + undecodable,
		Answered: map[netip.AddrPort]bool{}, Replied: map[netip.AddrPort]bool{},
	}
	for _, f := range r.flows {
		if f.Established() {
			w.Handshakes++
		}
		for _, s := range f.Frames {
			if o.Rule != nil && s.FromClient && s.Flags&(capture.SYN|capture.ACK) == capture.ACK && r.at(s.Time) <= o.Rule.At {
				o.Rule.Sent++
			}
			if !s.FromClient && s.Payload > 0 {
				w.Answered[f.Client] = true
			} else if s.Payload > 0 && w.Answered[f.Client] {
				w.Replied[f.Client] = true
			}
			if s.Role == capture.RoleSYNRetransmission {
				w.SYNsAgain++
			}
			if s.Role == capture.RoleSYNACKRetransmission {
				w.SYNACKsAgain++
				if r.at(s.Time) < o.StagedAt {
					w.EarlySYNACKs++
				}
			}
		}
		if o.Stream != nil {
			countLoss(o.Stream, f)
		}
		ended := false // by a reset of the server
		for _, reset := range f.Resets() {
			at := r.at(reset.Time)
			// A client that has heard of a reset sends nothing, so what it sent was on its way by then.
			crossed := ended && !reset.FromClient && reset.Trigger > 0
			// And one that has sent and read a FIN is gone, while an ACK may still be on its way to it from another CPU. The other
			// is in TIME_WAIT then; once in some thousand cells an ACK met no such socket, and the reset that a listener sent
			// ended nothing.
			crossed = crossed || reset.AfterEnd && reset.Trigger > 0
			ended = ended || !reset.FromClient
			w.Resets = append(w.Resets, result.Reset{
				Time: at, Frame: reset.Number, From: reset.Src, To: reset.Dst, FromClient: reset.FromClient, Crossed: crossed,
				Flavour: result.Flavour(reset.Flavour), Step: o.Steps.At(at),
			})
		}
	}
	o.Wire = w
}

// countLoss adds a connection that the server reset. What the client sent before it heard of the reset may have been
// answered with another, so only the first of a connection counts.
func countLoss(s *result.Stream, f capture.Flow) {
	for _, r := range f.Resets() {
		if r.FromClient {
			continue
		}
		if r.Flavour == capture.ResetWithACK {
			s.InQueue++
		} else {
			s.InHandshake++
		}
		return
	}
}

// Seen returns what tells whether a segment between two ends, in either direction, was captured.
func (r *Record) Seen() func(a, b netip.AddrPort) bool {
	seen := map[[2]netip.AddrPort]bool{}
	for _, f := range r.flows {
		for _, s := range f.Frames {
			seen[[2]netip.AddrPort{s.Src, s.Dst}], seen[[2]netip.AddrPort{s.Dst, s.Src}] = true, true
		}
	}
	return func(a, b netip.AddrPort) bool { return seen[[2]netip.AddrPort{a, b}] }
}

// ReadTrace reads the kernel's trace, which has been claimed for the cell, into o.Trace, and puts what it tells of the
// resets into o.Wire. It comes after ReadCapture, and after the counters and the clients have been asked.
func (r *Record) ReadTrace(t *trace.Recording, o *verdict.Observation) {
	lacks := func(tracepoints ...string) bool {
		return slices.ContainsFunc(tracepoints, func(name string) bool { return slices.Contains(t.Missing, name) })
	}
	o.Trace = &verdict.Trace{
		Trace:         result.Trace{Lost: t.Lost + t.Untraced(o.Counters), Missing: t.Missing, HostWide: t.HostWide},
		LacksResets:   lacks(trace.ResetSent.String()),
		LacksSoftirqs: lacks("irq:softirq_entry", "irq:softirq_exit"),
		Sure:          map[int]bool{},
	}
	r.events, r.sent = t.Events, map[int]trace.Event{}
	r.explainResets(o)
	for frame, e := range r.sent {
		o.Trace.Sure[frame] = e.Sure()
	}
}

// mostEvents is how many events of a trace a cell keeps for the reader.
const mostEvents = 200

// Events puts the trace into the ledger's words: the first of its events.
func (r *Record) Events() []result.Event {
	var out []result.Event
	for _, e := range r.events[:min(len(r.events), mostEvents)] {
		event := result.Event{
			Time: r.at(e.Time), Kind: e.Kind.String(), Reason: e.Reason, State: e.State, From: e.Src, To: e.Dst, By: e.By.String(),
		}
		if e.Kind == trace.StateChange {
			event.Old = e.OldState
		}
		out = append(out, event)
	}
	return out
}

// mostSegments is how many segments of a connection a cell keeps for the reader: more would be a transfer, and no story.
const mostSegments = 40

// roles are the ledger's words for what a segment does.
var roles = map[capture.Role]struct {
	role  result.Role
	again bool
}{
	capture.RoleOther:                {role: result.RoleOther},
	capture.RoleSYN:                  {role: result.RoleSYN},
	capture.RoleSYNRetransmission:    {role: result.RoleSYN, again: true},
	capture.RoleSYNACK:               {role: result.RoleSYNACK},
	capture.RoleSYNACKRetransmission: {role: result.RoleSYNACK, again: true},
	capture.RoleHandshakeACK:         {role: result.RoleHandshakeACK},
	capture.RoleData:                 {role: result.RoleData},
	capture.RoleDataRetransmission:   {role: result.RoleData, again: true},
	capture.RoleACK:                  {role: result.RoleACK},
	capture.RoleFIN:                  {role: result.RoleFIN},
	capture.RoleReset:                {role: result.RoleReset},
}

// Flow is the connection that tells the cell's story, the first that was reset, or the first; and its client's end.
func (r *Record) Flow(c *Comments) (client netip.AddrPort, segments []result.Segment) {
	if len(r.flows) == 0 {
		return client, nil
	}
	flow := r.flows[0]
	if i := slices.IndexFunc(r.flows, func(f capture.Flow) bool { return len(f.Resets()) > 0 }); i >= 0 {
		flow = r.flows[i]
	}
	for _, s := range flow.Frames[:min(len(flow.Frames), mostSegments)] {
		one := segment(s, r.at(s.Time), c.Lines[s.Number])
		one.Dropped = c.Dropped[s.Number]
		segments = append(segments, one)
	}
	return flow.Client, segments
}

// segment is one as the ledger has it. The first of its comments says why it matters.
func segment(s capture.Segment, at float64, comments []string) result.Segment {
	does := roles[s.Role]
	one := result.Segment{Time: at, Frame: s.Number, FromClient: s.FromClient, Role: does.role, Again: does.again, Text: s.Short()}
	if len(comments) > 0 {
		one.Note = comments[0]
	}
	return one
}
