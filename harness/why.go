package harness

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/kernel/trace"
	"github.com/rpmig/rpmig/result"
)

// TraceSaid is what the kernel's trace told of a cell.
type TraceSaid struct {
	Lost     int      // events that did not fit, and resets and retransmissions that were counted and not told of
	Missing  []string // tracepoints that this kernel lacks
	HostWide bool     // events do not tell their namespace: what is told is what was claimed for this one
	events   []trace.Event
	sent     map[int]trace.Event // the event that sent each reset, by the reset's frame
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

// noted is a socket table as it was noted while the cell was played; table reads it.
type noted struct {
	step      string
	at        float64
	listeners []kernel.Socket
	others    kernel.Dump
}

// snapshot notes the socket tables as the last step has left them.
func (l *Lab) snapshot() error {
	if l.watch == nil && !l.cfg.Tables || len(l.steps) == 0 {
		return nil
	}
	listeners, err := l.listening()
	if err != nil {
		return err
	}
	others, err := l.diag.Dump(l.cfg.Port, l.cfg.Family.socketFamilies(), mostRows, kernel.Connected...)
	if err != nil {
		return err
	}
	l.noted = append(l.noted, noted{l.steps[len(l.steps)-1].Name, l.now(), listeners, others})
	return nil
}

// table reads what was noted.
func (l *Lab) table(n noted) result.Table {
	rows := append(slices.Clone(n.listeners), n.others.Sockets()...)
	t := result.Table{Step: n.step, At: n.at, More: max(len(n.listeners)+n.others.Count-mostRows, 0)}
	for _, r := range rows[:min(len(rows), mostRows)] {
		t.Sockets = append(t.Sockets, result.Socket{
			State: r.State.String(), Name: l.nameOf(r), Local: r.Local, Remote: r.Remote, Queue: r.Queue, Backlog: r.Backlog,
			Inode: r.Inode, Cookie: r.Cookie, Retries: r.Retries, Timer: r.Timer,
		})
	}
	return t
}

// listening is the part of the table that lists the listeners. To list them the kernel walks a hash table that all
// namespaces share, which costs thrice what the rest of a snapshot does. So it is asked only when another process may hold
// some; otherwise each listener's own descriptor tells the same.
func (l *Lab) listening() ([]kernel.Socket, error) {
	if len(l.workers) > 0 {
		return l.diag.Sockets(l.cfg.Port, l.cfg.Family.socketFamilies(), kernel.Listen)
	}
	var rows []kernel.Socket
	for _, s := range l.listeners {
		if s.fd < 0 {
			continue
		}
		info, err := unix.GetsockoptTCPInfo(s.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return nil, wrap("getsockopt TCP_INFO", err)
		}
		if kernel.State(info.State) != kernel.Listen {
			continue
		}
		if s.cookie == 0 {
			if s.cookie, err = unix.GetsockoptUint64(s.fd, unix.SOL_SOCKET, unix.SO_COOKIE); err != nil {
				return nil, wrap("getsockopt SO_COOKIE", err)
			}
		}
		rows = append(rows, kernel.Socket{
			State: kernel.Listen, Local: s.local, Remote: netip.AddrPortFrom(unspecified(s.local.Addr()), 0),
			Queue: int(info.Unacked), Backlog: int(info.Sacked), // as sock_diag has them (net/ipv4/tcp.c:tcp_get_info)
			Inode: s.inode, Cookie: s.cookie,
		})
	}
	return rows, nil
}

// unspecified is the address of no host, of the family of another.
func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
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

// own is what the trace may claim events by.
func (l *Lab) own() trace.Own {
	own := trace.Own{Thread: unix.Gettid()}
	for _, w := range l.workers {
		own.Processes = append(own.Processes, w.cmd.Process.Pid)
	}
	seen := sync.OnceValue(func() map[[2]netip.AddrPort]bool {
		seen := map[[2]netip.AddrPort]bool{}
		for _, f := range l.obs.Wire.flows {
			for _, s := range f.Frames {
				seen[[2]netip.AddrPort{s.Src, s.Dst}], seen[[2]netip.AddrPort{s.Dst, s.Src}] = true, true
			}
		}
		return seen
	})
	own.Seen = func(a, b netip.AddrPort) bool { return seen()[[2]netip.AddrPort{a, b}] }
	return own
}

// sentBy tells whether the event of a sent reset may be that of one on the wire. A listener that rejects a segment has no
// peer, and where the event does not describe the segment, its port and the time have to do.
func sentBy(e *trace.Event, r *result.Reset) bool {
	if e.By == trace.BySocket && e.State == "LISTEN" && e.Dst.Port() == 0 {
		return e.Src.Port() == r.From.Port()
	}
	return e.Src == r.From && e.Dst == r.To
}

// explain joins each reset on the wire to the event that sent it: the kernel tells of it within microseconds, between the
// same two ends. The ends that an event did not tell are the frame's.
func (o *Observation) explain(events []trace.Event, start time.Time) {
	const apart = 0.05      // seconds; on a busy machine others may run between the two
	var free []*trace.Event // of no reset yet
	for i := range events {
		if events[i].Kind == trace.ResetSent {
			free = append(free, &events[i])
		}
	}
	o.Trace.sent = map[int]trace.Event{}
	for i := range o.Wire.Resets {
		r, best, gap := &o.Wire.Resets[i], -1, apart
		for k, e := range free {
			if !sentBy(e, r) {
				continue
			}
			if d := abs(e.Time.Sub(start).Seconds() - r.Time); d <= gap {
				best, gap = k, d
			}
		}
		if best >= 0 {
			e := free[best]
			free = slices.Delete(free, best, best+1)
			e.Src, e.Dst = r.From, r.To
			o.Trace.sent[r.Frame] = *e
			r.Reason, r.State, r.Owner = e.Reason, e.State, o.owner(*e)
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
	case !e.Answer && o.Trace.HostWide:
		// Nothing tells whether a file refers to the socket. But nobody has accepted it, so nobody could do anything to it
		// in a system call but to close its listener or to shut it down (inet_csk_listen_stop).
		if o.Stream == nil && e.By == trace.BySocket && !e.Softirq && e.State == "CLOSE" && o.unaccepted(e.Dst) {
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

// unaccepted tells that it is the end of a client whose connection nobody has accepted.
func (o *Observation) unaccepted(client netip.AddrPort) bool {
	ours := func(c ClientSaid) bool { return c.Local == client && !c.Accepted }
	return slices.ContainsFunc(o.Clients, ours) && !slices.ContainsFunc(o.Accepted, func(a Accepted) bool { return a.Peer == client })
}

// told puts events into the ledger's words: the first of them.
func told(events []trace.Event, start time.Time) []result.Event {
	var out []result.Event
	for _, e := range events {
		if len(out) == mostEvents {
			break
		}
		r := result.Event{
			Time: e.Time.Sub(start).Seconds(), Kind: e.Kind.String(), Reason: e.Reason, State: e.State, From: e.Src, To: e.Dst,
			By: e.By.String(),
		}
		if e.Kind == trace.StateChange {
			r.State = e.OldState + " → " + e.State
		}
		out = append(out, r)
	}
	return out
}
