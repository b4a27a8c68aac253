package evidence

import (
	"net/netip"
	"slices"

	"github.com/rpmig/rpmig/capture"
	"github.com/rpmig/rpmig/kernel/trace"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// sentBy tells whether the event of a sent reset may be that of one on the wire. A listener that rejects a segment has no
// peer, and where the event does not describe the segment, its port and the time have to do.
func sentBy(e *trace.Event, r *result.Reset) bool {
	if e.By == trace.BySocket && e.State == "LISTEN" && e.Dst.Port() == 0 {
		return e.Src.Port() == r.From.Port()
	}
	return e.Src == r.From && e.Dst == r.To
}

// alike tells whether the event of a sent reset is of the kind of one on the wire. There are three (RFC 9293, section 3.5.2): a
// segment with ACK is answered with a bare RST; one without, such as a SYN, with RST+ACK and the sequence number 0 (zero); and a
// socket that is aborted sends RST+ACK with its next number. The flags of the answered segment are 0 where they are not known.
func alike(e *trace.Event, r *result.Reset, zero bool) bool {
	bare := r.Flavour == result.BareRST
	if e.Answer && e.Flags != 0 && capture.Flags(e.Flags).Has(capture.ACK) != bare {
		return false
	}
	return e.Answer == (bare || zero)
}

// explainResets joins each reset on the wire to the event that sent it: the kernel tells of it within microseconds, between
// the same two ends. Which is nearest does not tell: an abort is told of once its frame has been sent, and on loopback what the
// client had in flight may have been answered by then. The ends that an event did not tell are the frame's.
func (r *Record) explainResets(o *verdict.Observation) {
	const apart = 0.05      // seconds; on a busy machine others may run between the two
	var free []*trace.Event // of no reset yet
	for i := range r.events {
		if r.events[i].Kind == trace.ResetSent {
			free = append(free, &r.events[i])
		}
	}
	zero := map[int]bool{} // by the frame
	for _, f := range r.flows {
		for _, reset := range f.Resets() {
			zero[reset.Number] = reset.Seq == 0
		}
	}
	for i := range o.Wire.Resets {
		reset, best, gap := &o.Wire.Resets[i], -1, apart
		for k, e := range free {
			if !sentBy(e, reset) || !alike(e, reset, zero[reset.Frame]) {
				continue
			}
			if d := abs(r.at(e.Time) - reset.Time); d <= gap {
				best, gap = k, d
			}
		}
		if best >= 0 {
			e := free[best]
			free = slices.Delete(free, best, best+1)
			e.Src, e.Dst = reset.From, reset.To
			r.sent[reset.Frame] = *e
			reset.Reason, reset.State, reset.Owner = e.Reason, e.State, owner(*e, o)
		}
	}
}

func abs(x float64) float64 { return max(x, -x) }

// owner tells whose reset it is; none that is known where the kernel does not tell what was done in a softirq.
func owner(e trace.Event, o *verdict.Observation) result.Owner {
	for _, c := range o.Clients {
		if c.Local == e.Src {
			return result.Harness
		}
	}
	switch {
	case e.State == "":
		return result.NoSocket
	case e.State == "LISTEN":
		return result.SurvivingListener
	case e.Answer && e.State == "CLOSE" && (e.Reason == "TCP_FLAGS" || e.Reason == ""):
		// With that reason it is a listener that was closed while it answered, which it does without its lock (tcp_v4_rcv): neither
		// one that survives nor a connection. Where the kernel gives no reason, it may also be a connection that the segment ended
		// (tcp_rcv_state_process, tcp_done).
		return ""
	case !e.Answer && e.Orphan && o.Trace.LacksSoftirqs:
		return "" // a closing listener's, or an abandoned connection's timer
	case !e.Answer && o.Trace.HostWide:
		// Nothing tells whether a file refers to the socket. But no process has accepted it, so the only system calls that
		// can have done this are a close or a shutdown of its listener (inet_csk_listen_stop).
		if o.Stream == nil && e.By == trace.BySocket && !e.Softirq && e.State == "CLOSE" && unaccepted(e.Dst, o) {
			return result.ClosingListener
		}
		return ""
	case !e.Answer && !e.Softirq && e.Orphan:
		// inet_csk_listen_stop: aborted in the close of its listener, and no file ever referred to it.
		return result.ClosingListener
	default:
		return result.OwnSocket
	}
}

// unaccepted tells that it is the end of a client whose connection was accepted by no listener.
func unaccepted(client netip.AddrPort, o *verdict.Observation) bool {
	ours := func(c verdict.Client) bool { return c.Local == client && !c.Accepted }
	return slices.ContainsFunc(o.Clients, ours) &&
		!slices.ContainsFunc(o.Accepted, func(a verdict.Accepted) bool { return a.Peer == client })
}
