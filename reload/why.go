package reload

import (
	"fmt"
	"strings"
	"time"

	"github.com/rpmig/rpmig/kernel/trace"
	"github.com/rpmig/rpmig/reload/load"
	"github.com/rpmig/rpmig/result"
)

// OpenTracer opens a trace of what Play needs of it: the resets that are sent, and from where. All else would tell several
// events of each connection, and nothing of why it was lost.
func OpenTracer() (*trace.Tracer, error) {
	return trace.OpenWith(trace.Options{Stacks: true, Without: []string{
		"tcp:tcp_receive_reset", "tcp:tcp_retransmit_skb", "tcp:tcp_retransmit_synack", "sock:inet_sock_set_state", "skb:kfree_skb",
	}})
}

// kind is why a connection was lost, and whose doing it was.
type kind struct {
	name  string
	whose result.Whose
}

// The kinds. Which of them a loss is follows from the kernel's trace and from what the client saw.
var (
	inQueue     = kind{"in the accept queue of a listener that closed", result.OfKernel}
	inHandshake = kind{"in the handshake, for a listener that had closed", result.OfKernel}
	nobody      = kind{"refused: nobody listened", result.OfApplication}
	// tcp_check_req, where net.ipv4.tcp_abort_on_overflow is 1: no listener need have closed for that.
	overflow = kind{"in the handshake: the accept queue was full, and tcp_abort_on_overflow is set", result.OfApplication}
	// The listener that was picked for it closed before it was there (inet_csk_complete_hashdance). Counted as a failed migration.
	raceA = kind{"race A: the listener that was picked closed as well", result.OfRace}
	// The last ACK was being handled, with its own listener, when that closed (inet_csk_reqsk_queue_add, inet_child_forget): nobody
	// asks the program then, and nothing is counted.
	raceB    = kind{"race B: the last ACK of the handshake met the close of its listener", result.OfRace}
	aborted  = kind{"accepted, and reset by the server", result.OfApplication}
	closed   = kind{"accepted, and closed by the server without a reply", result.OfApplication}
	wrong    = kind{"a reply that is not the expected one", result.OfApplication}
	silent   = kind{"no reply in time", result.OfNobody}
	untold   = kind{"a reset of which the kernel's trace tells nothing", result.OfNobody}
	untraced = kind{"a reset, and there is no trace to tell why", result.OfNobody}
	unlisted = kind{fmt.Sprintf("not looked into: more than %d ended alike", load.MaxListed), result.OfNobody}
)

// loss is a connection that was lost, and why.
type loss struct {
	load.Lost
	kind
	cycle  int // index in Outcome.Cycles
	by     string
	reason string // the kernel's word for the reset
	state  string // of the socket that sent it
	stack  []string
}

// losses explains each connection that was lost in a cycle. Those that were lost in the warm-up are in none.
func (o *Outcome) losses(traced bool) []loss {
	var all []loss
	failures := map[int]int64{} // of migrations, in a cycle, that no loss has accounted for yet
	for i, c := range o.Cycles {
		failures[i] = c.Counters[result.MigrateFailure]
	}
	for _, l := range o.Load.Lost {
		cycle := o.cycleOf(l.Interval)
		if cycle < 0 {
			continue
		}
		one := loss{Lost: l, cycle: cycle}
		one.explain(o, traced)
		// A migration that fails is counted where another listener of the group was to have the connection, and had closed as well,
		// or where there was no other.
		if (one.kind == raceA || one.kind == inQueue) && failures[cycle] > 0 {
			failures[cycle]--
		}
		all = append(all, one)
	}
	for i := range all { // what is left was counted in the handshake (inet_csk_complete_hashdance)
		if one := &all[i]; one.kind == raceB && failures[one.cycle] > 0 {
			failures[one.cycle]--
			one.kind = raceA
		}
	}
	return all
}

// cycleOf is the cycle that an interval of the load is of; -1: none.
func (o *Outcome) cycleOf(interval int) int {
	for i, c := range o.Cycles {
		if interval >= c.First && interval <= c.Last {
			return i
		}
	}
	return -1
}

// stepAt is the step that was the last to begin by a time; -1: none had.
func (c *Cycle) stepAt(at time.Duration) int {
	step := -1
	for i, s := range c.Steps {
		if s.At <= at {
			step = i
		}
	}
	return step
}

// unlisted is what each cycle has lost that is not listed.
func (o *Outcome) unlisted(listed []loss) []load.Counts {
	all := make([]load.Counts, len(o.Cycles))
	for i, c := range o.Cycles {
		for at := c.First; at <= c.Last && at < len(o.Load.Intervals); at++ {
			for e, n := range o.Load.Intervals[at].Counts {
				if load.End(e).Lost() && o.Load.Counts[e] > load.MaxListed { // of others all are
					all[i][e] += n
				}
			}
		}
	}
	for _, l := range listed {
		all[l.cycle][l.End] = max(all[l.cycle][l.End]-1, 0)
	}
	return all
}

// kindOfEnd is why a connection was lost, where what the client saw tells. Of a reset it does not.
func kindOfEnd(e load.End) kind {
	switch e {
	case load.EOF, load.ClosedEarly:
		return closed
	case load.WrongReply:
		return wrong
	case load.Timeout:
		return silent
	case load.Refused:
		return nobody
	default:
		return kind{}
	}
}

// explain finds out why, by what the client saw and by the event of the reset, if there is one.
func (l *loss) explain(o *Outcome, traced bool) {
	if l.kind = kindOfEnd(l.End); l.kind != (kind{}) {
		return
	}
	e := o.Cycles[l.cycle].reset(l.Lost, o.Offset)
	switch {
	case e != nil:
		l.kind, l.reason, l.state = kindOf(e), e.Reason, e.State
		if e.Stack != nil {
			l.stack = *e.Stack
		}
		if !e.Softirq && e.PID != 0 {
			l.by = o.nameOf(e.PID)
		}
	case l.Received > 0:
		l.kind = aborted
	case !traced:
		l.kind = untraced
	default:
		l.kind = untold
	}
}

// reset is the event of the server's reset that ended a connection: between the same two ends, in its time. Of several it is the one
// that answers no segment, and then the first: what the client had in flight when its connection was aborted may have been answered
// by nobody's socket or a listener's, microseconds before the kernel tells of the abort.
func (c *Cycle) reset(l load.Lost, offset time.Duration) *trace.Event {
	const (
		apart = 2 * time.Second       // the client may have been kept from looking
		off   = 10 * time.Millisecond // by which the clocks may differ
	)
	var first *trace.Event
	began, ended := time.Unix(0, int64(l.Began+offset)), time.Unix(0, int64(l.Ended+offset))
	for i := range c.Resets {
		e := &c.Resets[i]
		if e.Src != l.Remote || e.Dst != l.Local || ended.Sub(e.Time).Abs() >= apart || began.Sub(e.Time) > off {
			continue
		}
		if first == nil || first.Answer && !e.Answer || first.Answer == e.Answer && e.Time.Before(first.Time) {
			first = e
		}
	}
	return first
}

// kindOf tells why the kernel sent a reset. The reasons are those of include/net/rstreason.h.
func kindOf(e *trace.Event) kind {
	switch {
	case e.State == "LISTEN" && e.Reason == "INVALID_SYN":
		return overflow
	case e.State == "" || e.State == "LISTEN":
		return inHandshake // it answers a segment that no connection was left for
	case e.Answer:
		return aborted // data for a socket that the server had closed
	case strings.HasPrefix(e.Reason, "TCP_ABORT") || !e.Orphan:
		return aborted
	case e.Stack.Has("inet_csk_listen_stop") && e.Stack.Has("inet_csk_reqsk_queue_add"):
		return raceA
	case e.Stack.Has("inet_csk_listen_stop"):
		return inQueue
	case e.Stack.Has("inet_csk_complete_hashdance"):
		return raceB // or race A, if it was counted
	case e.Softirq && e.Stack != nil:
		return untold
	case e.Softirq:
		return raceB // nothing was accepted, no process closed it
	default:
		return inQueue
	}
}

// nameOf is a process in words.
func (o *Outcome) nameOf(pid int) string {
	if name := o.Names[pid]; name != "" {
		return fmt.Sprintf("%s (process %d)", name, pid)
	}
	return fmt.Sprintf("process %d", pid)
}
