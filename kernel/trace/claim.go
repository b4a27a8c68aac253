package trace

import "net/netip"

// By is what makes an event one of the watched namespace.
type By uint8

// The ways, from the surest. ByAddress and ByThread tell what most probably happened, and decide nothing.
const (
	// ByNamespace: the kernel told the namespace of the socket or the segment.
	ByNamespace By = iota
	// BySocket: a thread of the cell did it in a system call, or a socket did it that such a call was seen to change.
	BySocket
	// ByAddress: both ends are those of segments that the cell's capture has seen. Another namespace may use the same.
	ByAddress
	// ByThread: it happened while a softirq held up a thread of the cell, and there is no more to tell it by. On loopback
	// that is what becomes of the thread's own segments; but a timer, or what another CPU or device sent here, is handled
	// by whichever thread runs, whosever it is.
	ByThread
)

// String is a word for how sure an event is; none where there is no doubt.
func (b By) String() string {
	switch b {
	case ByAddress:
		return "address"
	case ByThread:
		return "thread"
	}
	return ""
}

// Sure tells whether the event can only be of the namespace.
func (e Event) Sure() bool { return e.By == ByNamespace || e.By == BySocket }

// Own is what is known of the one who plays in a namespace.
type Own struct {
	Thread    int   // that plays, and serves nobody else meanwhile
	Processes []int // that play with it, and have no other namespace
	// Seen tells whether a segment between two ends, in either direction, was captured in the namespace.
	Seen func(a, b netip.AddrPort) bool
}

// Claim takes for Events what is surely or probably of the watched namespace, each with the reason why (By). It matters to
// a recording that is HostWide, since its events do not tell. What is nobody's for certain is left out, so that an event is
// rather not told than told of the wrong one. What may slip in are ByAddress and ByThread as they say, and nothing else:
//
//   - the thread's own system calls work on the sockets of its namespace, and events in a softirq are not of a call;
//   - a socket's address is known from such a call until tcp:tcp_destroy_sock, after which the kernel may give it to
//     another. Without that tracepoint, no socket is known.
func (r *Recording) Claim(own Own) {
	if !r.HostWide {
		return
	}
	r.Events = nil
	destroyed := true // is told
	for _, name := range r.Missing {
		destroyed = destroyed && name != Destroy.String()
	}
	sockets := map[uint64]bool{}
	for _, e := range r.host {
		if e.foreign || e.Kind == Drop && !e.ip {
			continue
		}
		thread := e.TID == own.Thread
		for _, pid := range own.Processes {
			thread = thread || e.PID == pid
		}
		switch {
		case thread && !e.Softirq:
			e.By = BySocket
			if e.sock != 0 && destroyed {
				sockets[e.sock] = true
			}
		case sockets[e.sock]:
			e.By = BySocket
		case e.Src.Port() != 0 && e.Dst.Port() != 0 && own.Seen != nil && own.Seen(e.Src, e.Dst):
			e.By = ByAddress
		case e.Kind == Drop && thread:
			e.By = ByThread
		default:
			continue
		}
		if e.Kind == Destroy {
			delete(sockets, e.sock)
			continue
		}
		r.Events = append(r.Events, e.Event)
	}
	r.host = nil
}
