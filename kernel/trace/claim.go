package trace

import "net/netip"

// By is how an event was attributed to the watched namespace.
type By uint8

// The ways, the surest first. ByAddress and ByThread are only probable, and decide no verdict.
const (
	// ByNamespace: the kernel gave the namespace of the socket or the segment.
	ByNamespace By = iota
	// BySocket: a thread of the cell did it in a system call, or it was a socket that such a call had changed before.
	BySocket
	// ByAddress: the cell's capture has segments between the same two ends. Another namespace may use the same addresses.
	ByAddress
	// ByThread: it happened in a softirq that interrupted a thread of the cell, and nothing else is known. On loopback the
	// thread's own segments are handled like that. But a softirq for a timer, or for a segment from another CPU or device,
	// interrupts whichever thread is running.
	ByThread
)

// String returns how an event was attributed if that leaves a doubt, and "" otherwise.
func (b By) String() string {
	switch b {
	case ByAddress:
		return "address"
	case ByThread:
		return "thread"
	}
	return ""
}

// Sure tells whether the event is certainly of the namespace.
func (e Event) Sure() bool { return e.By == ByNamespace || e.By == BySocket }

// Own is what is known about the cell that is played in a namespace.
type Own struct {
	Thread    int   // that plays the cell, and no other one meanwhile
	Processes []int // that take part, and have no other namespace
	// Seen tells whether a segment between two ends, in either direction, was captured in the namespace.
	Seen func(a, b netip.AddrPort) bool
}

// Claim fills Events with what is surely or probably of the watched namespace, and sets By. It changes only a recording
// that is HostWide, whose events do not have their namespace. An event that cannot be attributed is left out: a missing
// event is better than another namespace's. Only events with ByAddress and ByThread can be another namespace's, because:
//
//   - the thread's own system calls work on the sockets of its namespace, and events in a softirq do not count as theirs;
//   - a socket's address in the kernel is known from such a call until tcp:tcp_destroy_sock. Then the kernel may use the
//     address for another socket. Without that tracepoint no socket is known.
func (r *Recording) Claim(own Own) {
	if !r.HostWide {
		return
	}
	r.Events = nil
	destroyed := true // is recorded
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
