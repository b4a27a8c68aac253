package harness

import (
	"net/netip"
	"slices"
	"time"

	"github.com/rpmig/rpmig/capture"
	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/result"
)

// Observation is what the witnesses of a cell said: facts, no judgement.
type Observation struct {
	Staged    int // clients that connected and sent
	Bystander int // clients besides, on which nothing is judged
	Staging   []StagingSaid
	Rule      *RuleSaid // nil: the scenario has no rule
	// SYNACKTimer tells that the case sits the SYN+ACK timer out.
	SYNACKTimer bool
	// Sending is the time from when the first client connects until the last has been told to send.
	Sending   time.Duration
	Unsettled string // why the fate of some connection is not known; empty: all are

	Accepted []Accepted // in order
	Clients  []ClientSaid
	Facts    []Fact

	Known    kernel.Counters // every counter that this kernel has
	Counters kernel.Counters // what moved, and by how much
	Program  *result.Program // nil: the mode has none

	Stream *Stream // nil: the connections are staged one by one

	Wire  WireSaid
	Trace *TraceSaid // nil: nothing was traced
	After *AfterSaid // nil: nobody was tried
}

// StagingSaid is what sock_diag showed just before the listener closed, beside what the scenario meant to stage.
type StagingSaid struct {
	Listener               string
	Queued, WantQueued     int // connections in the closing listener's accept queue
	Requests, WantRequests int // request sockets of the port
}

// RuleSaid is what the packet-drop rule counted just before the listener closed.
type RuleSaid struct {
	Backend       string
	Dropped, Want int    // segments
	in            []span // when it surely was in
}

// span is from one time to another, in seconds; until is 0 while it lasts.
type span struct{ from, until float64 }

// dropsAt tells whether the rule was surely in at a time.
func (r *RuleSaid) dropsAt(at float64) bool {
	return r != nil && slices.ContainsFunc(r.in, func(s span) bool {
		return at >= s.from && (s.until == 0 || at < s.until)
	})
}

// Accepted is a connection that accept returned.
type Accepted struct {
	By   string // which listener or process
	Peer netip.AddrPort
	Data string // what recv returned, or its error
	OK   bool   // Data is what the client sent
}

// Fact is what a scenario found out by itself.
type Fact struct{ Name, Got string }

// AfterSaid is what fresh clients met when the case was over.
type AfterSaid struct {
	Open     int    // listeners that should serve
	Unserved int    // those that did not
	Broken   string // why a fresh client was not served at all
	Counters kernel.Counters
}

// ClientSaid is what a client's socket answered in the end.
type ClientSaid struct {
	Local    netip.AddrPort
	Accepted bool   // by a listener
	Says     string // EAGAIN: it lives; ECONNRESET: it was reset
}

// WireSaid is what the capture saw.
type WireSaid struct {
	Packets, Lost int // Lost includes frames that could not be decoded: they too could have been a reset
	Handshakes    int // flows with SYN, SYN+ACK and the client's ACK
	SYNACKsAgain  int // SYN+ACKs that were retransmitted
	Resets        []result.Reset
	flows         []capture.Flow
	recording     *capture.Recording
}

// watch reads the recording. Times become seconds since start.
func (o *Observation) watch(rec *capture.Recording, start time.Time, steps []result.Step) {
	frames, undecodable := capture.Decode(rec.Packets)
	w := WireSaid{
		Packets: len(rec.Packets), Lost: rec.Lost + undecodable,
		flows: capture.Flows(frames), recording: rec,
	}
	for _, f := range w.flows {
		if f.Established() {
			w.Handshakes++
		}
		for _, s := range f.Frames {
			if s.Role == capture.RoleSYNACKRetransmission {
				w.SYNACKsAgain++
			}
		}
		if o.Stream != nil {
			o.Stream.account(f)
		}
		for _, r := range f.Resets() {
			at := r.Time.Sub(start).Seconds()
			w.Resets = append(w.Resets, result.Reset{
				Time: at, Frame: r.Number, From: r.Src, To: r.Dst, Flavour: result.Flavour(r.Flavour), Step: stepAt(steps, at),
			})
		}
	}
	o.Wire = w
}

// stepAt names the step that was running at a time.
func stepAt(steps []result.Step, at float64) string {
	name := ""
	for _, s := range steps {
		if s.At <= at {
			name = s.Name
		}
	}
	return name
}

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
