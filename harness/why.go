package harness

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/kernel/trace"
	"github.com/rpmig/rpmig/result"
)

// TraceSaid is what the kernel's trace told of a cell.
type TraceSaid struct {
	Lost    int      // events that did not fit, and resets and retransmissions that were counted and not told of
	Missing []string // tracepoints that this kernel lacks
	events  []trace.Event
	sent    map[int]trace.Event // the event that sent each reset, by the reset's frame
}

// The tracepoints of which nothing here can be said without.
var (
	ofResets   = []string{trace.ResetSent.String()}
	ofSoftirqs = []string{"irq:softirq_entry", "irq:softirq_exit"}
)

// lacks tells whether the kernel has not all of these tracepoints.
func (t *TraceSaid) lacks(tracepoints []string) bool {
	return t != nil && slices.ContainsFunc(tracepoints, func(name string) bool { return slices.Contains(t.Missing, name) })
}

// most is how many rows of a table, and events of a trace, a cell keeps for the reader.
const (
	mostRows   = 16
	mostEvents = 200
)

// snapshot notes the socket tables as the last step has left them.
func (l *Lab) snapshot() error {
	if l.watch == nil && !l.cfg.Tables || len(l.steps) == 0 {
		return nil
	}
	rows, err := l.listening()
	if err != nil {
		return err
	}
	others, err := l.diag.Sockets(l.cfg.Port, l.cfg.Family.socketFamilies(), kernel.Connected...)
	if err != nil {
		return err
	}
	rows = append(rows, others...)
	t := result.Table{Step: l.steps[len(l.steps)-1].Name, At: l.now(), More: max(len(rows)-mostRows, 0)}
	for _, r := range rows[:min(len(rows), mostRows)] {
		t.Sockets = append(t.Sockets, result.Socket{
			State: r.State.String(), Name: l.nameOf(r), Local: r.Local, Remote: r.Remote, Queue: r.Queue, Backlog: r.Backlog,
			Inode: r.Inode, Cookie: r.Cookie, Retries: r.Retries, Timer: r.Timer,
		})
	}
	l.tables = append(l.tables, t)
	return nil
}

// listening is the part of the table that lists the listeners. To list them the kernel walks a hash table that all
// namespaces share, which costs thrice what the rest of a snapshot does. So it is asked only when the answer may be another
// than the last time; otherwise what has changed is how many connections wait, which each listener's own descriptor tells.
func (l *Lab) listening() ([]kernel.Socket, error) {
	open := map[uint32]*unix.TCPInfo{}
	for _, s := range l.listeners {
		if s.fd < 0 {
			continue
		}
		info, err := unix.GetsockoptTCPInfo(s.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return nil, wrap("getsockopt TCP_INFO", err)
		}
		if kernel.State(info.State) == kernel.Listen {
			open[s.inode] = info
		}
	}
	known := len(open) == len(l.listed)
	for i := range l.listed {
		s := &l.listed[i]
		info := open[s.Inode]
		if info == nil {
			known = false
			break
		}
		s.Queue, s.Backlog = int(info.Unacked), int(info.Sacked) // as sock_diag has them (net/ipv4/tcp.c:tcp_get_info)
	}
	if known {
		return slices.Clone(l.listed), nil
	}
	var err error
	l.listed, err = l.diag.Sockets(l.cfg.Port, l.cfg.Family.socketFamilies(), kernel.Listen)
	return slices.Clone(l.listed), err
}

// nameOf says what a socket is in the story.
func (l *Lab) nameOf(r kernel.Socket) string {
	switch {
	case r.State == kernel.Listen:
		for _, s := range l.listeners {
			if s.isListener(r) {
				return s.name
			}
		}
		return "listener"
	case r.Local.Port() != l.cfg.Port:
		return "client"
	case r.State == kernel.SynRecv:
		return "request"
	default:
		return "child"
	}
}

// explain joins each reset on the wire to the event that sent it: the kernel tells of it within microseconds, between the
// same two ends.
func (o *Observation) explain(events []trace.Event, start time.Time) {
	const apart = 0.05 // seconds; on a busy machine others may run between the two
	used := make([]bool, len(events))
	o.Trace.sent = map[int]trace.Event{}
	for i := range o.Wire.Resets {
		r, best, gap := &o.Wire.Resets[i], -1, apart
		for k, e := range events {
			if used[k] || e.Kind != trace.ResetSent || e.Src != r.From || e.Dst != r.To {
				continue
			}
			if d := abs(e.Time.Sub(start).Seconds() - r.Time); d <= gap {
				best, gap = k, d
			}
		}
		if best >= 0 {
			used[best] = true
			o.Trace.sent[r.Frame] = events[best]
			r.Reason, r.State, r.Owner = events[best].Reason, events[best].State, o.owner(events[best])
		}
	}
}

func abs(x float64) float64 { return max(x, -x) }

// owner tells whose reset it is; nobody's that is known where the kernel does not tell what was done in a softirq.
func (o *Observation) owner(e trace.Event) result.Owner {
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
	case !e.Answer && e.Orphan && o.Trace.lacks(ofSoftirqs):
		return "" // a closing listener's, or an abandoned connection's timer
	case !e.Answer && !e.Softirq && e.Orphan:
		// inet_csk_listen_stop: aborted in the close of its listener, and no file ever referred to it.
		return result.ClosingListener
	default:
		return result.OwnSocket
	}
}

// told puts events into the ledger's words: the first of those that tell of a connection's fate.
func told(events []trace.Event, start time.Time) []result.Event {
	var out []result.Event
	for _, e := range events {
		if e.Kind == trace.Destroy || len(out) == mostEvents {
			continue
		}
		r := result.Event{
			Time: e.Time.Sub(start).Seconds(), Kind: e.Kind.String(), Reason: e.Reason, State: e.State, From: e.Src, To: e.Dst,
		}
		if e.Kind == trace.StateChange {
			r.State = e.OldState + " → " + e.State
		}
		out = append(out, r)
	}
	return out
}
