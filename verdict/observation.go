package verdict

import (
	"net/netip"
	"time"

	"github.com/rpmig/rpmig/result"
)

// Observation is what the witnesses of a cell said: facts, no judgement.
type Observation struct {
	Staged     int // clients that connected and sent
	Bystanders int // clients besides, on which nothing is judged
	Steps      result.Steps
	Staging    []Staging
	Rule       *Rule // nil: the scenario has no rule
	// SYNACKTimer tells that the case sits the SYN+ACK timer out.
	SYNACKTimer bool
	// Connected is when the first client began to connect, and StagedAt when the case was first seen to be staged, in
	// seconds; 0 where it has not come to that.
	Connected, StagedAt float64
	// Delays are what was late.
	Delays []Delay
	// SysctlTaken tells that the kernel took tcp_migrate_req=1.
	SysctlTaken bool
	// Sending is the time from when the first client connects until the last has been told to send.
	Sending time.Duration
	// Retries is how many segments the clients' own timers sent again where the case counts on none.
	Retries   int
	Undecided string // why the outcome of some connection is not known; empty: all are

	Accepted []Accepted // in order
	Others   int        // listeners that the mode's program might have chosen, and does not
	Unchosen int        // of the accepted, those that were with one of them
	Clients  []Client
	Facts    []Fact

	Known    map[string]int64 // every counter that this kernel has
	Counters map[string]int64 // what moved, and by how much
	Program  *result.Program  // nil: the mode has none
	Chooses  bool             // the mode's program is to name a listener for what migrates

	Stream *result.Stream // nil: the connections are staged one by one

	Wire      Wire
	Trace     *Trace     // nil: nothing was traced
	PostCheck *PostCheck // nil: no listener was tried
}

// Delay is something that took longer than it does on a machine that keeps up.
type Delay struct {
	What    string  // a clause: "the cell's thread was kept from running"
	At      float64 // when it ended, in seconds
	Seconds float64 // 0: however short it was, it is not the case any more that was meant
}

// Staging is what sock_diag showed just before the listener closed, beside what the scenario meant to stage.
type Staging struct {
	Listener               string
	Queued, WantQueued     int // connections in the closing listener's accept queue
	Requests, WantRequests int // request sockets of the port
}

// Rule is what the packet-drop rule counted just before the listener closed.
type Rule struct {
	Backend       string
	Dropped, Want int     // segments
	At            float64 // when it was asked last, in seconds
	// Sent is how many segments that it could have dropped the wire shows by then: of clients, with ACK and without SYN.
	Sent int
}

// Accepted is a connection that accept returned.
type Accepted struct {
	By      string // which listener or process
	Peer    netip.AddrPort
	OK      bool   // recv returned what the client sent
	Instead string // what it returned, or its error, where that is not what the client sent
	Talk    string // what came of its talk once the case was over: BothWays, another of those words, or what went wrong
}

// Talked tells whether each side that had something to say was heard.
func (a Accepted) Talked() bool { return a.Talk == BothWays || a.Talk == OneWay }

// What comes of a survivor's talk.
const (
	// BothWays is: the server answers, the client reads that and sends again, the server reads that, and either reads the
	// other's FIN.
	BothWays = "both ways"
	// OneWay is the same where the client has sent its FIN before: it has nothing to say.
	OneWay = "to the client, which had sent its FIN"
	// Gone is that there is no client to talk to: it has closed.
	Gone = "to nobody: the client has closed"
	// Deaf is that nothing gets through either way, however often it is sent, and nothing is reset.
	Deaf = "not: nothing gets through either way"
)

// Fact is what a scenario found out by itself.
type Fact struct {
	Name   string
	Got    string
	Number float64 // what a Range is held against; NaN where Got is no number
	Step   int     // the step in which it was found out, counted from 1
}

// Client is what a client's socket answered in the end.
type Client struct {
	Local    netip.AddrPort
	Accepted bool   // by a listener
	Says     string // EAGAIN: it lives; ECONNRESET: it was reset
	// Held tells that a process holds the server's end of it. That is looked at only where it was not accepted, and lives.
	Held bool
}

// Wire is what the capture saw.
type Wire struct {
	Packets, Lost int // Lost includes frames that could not be decoded: they too could have been a reset
	Handshakes    int // flows with SYN, SYN+ACK and the client's ACK
	SYNsAgain     int // SYNs that were retransmitted
	SYNACKsAgain  int // SYN+ACKs that were
	// EarlySYNACKs are those of them that were sent again before the case was staged.
	EarlySYNACKs int
	Resets       []result.Reset
	// Answered are the clients to which the server has sent data, and Replied those that have sent data after that.
	Answered, Replied map[netip.AddrPort]bool
}

// Trace is what the kernel's trace told, besides what it told of each reset, which is in Wire.Resets.
type Trace struct {
	result.Trace
	// LacksResets and LacksSoftirqs tell that this kernel has no tracepoint for resets, or none for the begin and end of
	// softirqs: what depends on them is not known.
	LacksResets, LacksSoftirqs bool
	// Sure holds the frames of the resets that the kernel surely told of; see trace.Event.Sure. Only a HostWide trace has
	// others.
	Sure map[int]bool
}

// PostCheck is what fresh clients met when the case was over.
type PostCheck struct {
	Open     int    // listeners that should serve
	Unserved int    // those that did not
	Broken   string // why a fresh client was not served at all
	Counters map[string]int64
	Unfreed  int // TCP sockets that are closed and the kernel does not free
	// HeldUp says that Unfreed is NotCounted because the machine did not keep up however often it was waited for, and that not all
	// had been freed.
	HeldUp bool
}

// NotCounted is PostCheck.Unfreed where sockets are left that may end by themselves, or HeldUp.
const NotCounted = -1

// lived counts the clients whose connection was accepted with the data that they sent.
func (o *Observation) lived() int {
	n := 0
	for _, a := range o.Accepted {
		if a.OK {
			n++
		}
	}
	return n
}

// readInstead tells what was read of connections that were accepted without what their client sent: behind how many there are.
func (o *Observation) readInstead() string {
	var read []string
	for _, a := range o.Accepted {
		if !a.OK {
			read = append(read, a.Instead)
		}
	}
	if read == nil {
		return ""
	}
	return "; of the others: " + tally(read)
}

// Connections counts the clients by what became of them.
func (o *Observation) Connections() result.Connections {
	if s := o.Stream; s != nil {
		lost := s.Lost + s.Refused
		return result.Connections{Staged: s.Connections, Survived: s.Connections - lost, Lost: lost}
	}
	deaf := 0
	for _, a := range o.Accepted {
		if a.OK && a.Talk == Deaf {
			deaf++
		}
	}
	lived := o.lived() - deaf
	return result.Connections{Staged: o.Staged, Survived: lived, Lost: o.Staged - lived, Deaf: deaf}
}
