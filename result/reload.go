package result

import (
	"fmt"
	"net/netip"
)

// Reload is what a server of the user's own lost over its reloads, in one mode.
type Reload struct {
	Server  []string `json:"server"`  // its command
	Reloads []string `json:"reloads"` // the steps of a cycle
	Seed    uint64   `json:"seed"`    // of the order of modes
	Load    string   `json:"load"`    // in words: how many clients, or how fast they come

	Cycles []ReloadCycle `json:"cycles"` // in the order in which they were played
	// Connections are those that say something: answered, or lost.
	Connections int64            `json:"connections"`
	Lost        int64            `json:"lost"`
	Void        int64            `json:"void,omitempty"` // the load generator's own: they say nothing
	Ends        map[string]int64 `json:"ends"`           // how connections ended, by name, without what did not occur
	Causes      []LossCause      `json:"causes,omitempty"`

	// Of a cycle: what is lost together is one observation.
	PerCycle float64 `json:"per_cycle"`
	Low      float64 `json:"low"` // 95 % bootstrap interval
	High     float64 `json:"high"`
	// Bound is how likely a cycle loses something at most (95 %), where none has; 1 where some have.
	Bound      float64  `json:"bound"`
	PerMillion float64  `json:"per_million"` // connections, at
	Rate       float64  `json:"rate"`        // so many a second, and a reload each
	Every      float64  `json:"every"`       // so many seconds a reload
	P          *float64 `json:"p,omitempty"` // permutation test against off; absent where there is none

	// Latencies in and out of reloads, in seconds.
	Reloading ReloadLatency `json:"reloading"`
	Between   ReloadLatency `json:"between"`
	Pause     float64       `json:"pause"` // the longest time without a right reply, in seconds, in reloads

	Untraced string     `json:"untraced,omitempty"` // why there is no trace
	Missed   int        `json:"missed,omitempty"`   // events of the trace that are not there
	Examples []LostFlow `json:"examples,omitempty"` // the first connections that were lost
	Output   []string   `json:"output,omitempty"`   // the last lines of the server's, where nothing could be concluded
	Verdict  string     `json:"verdict"`            // what migration is worth to this server, in a sentence
	More     int        `json:"more,omitempty"`     // where that cannot be told: after how many more cycles of each mode it could
}

// ReloadCycle is each step of a reload played once.
type ReloadCycle struct {
	Number      int          `json:"number"` // among the cycles of all modes, from 1
	At          float64      `json:"at"`     // seconds since the load began
	To          float64      `json:"to"`     // its end
	Connections int64        `json:"connections"`
	Lost        int64        `json:"lost"`
	Steps       []ReloadStep `json:"steps"`
	// Course is how the load went, in short parts of time.
	Course []ReloadPart `json:"course,omitempty"`
}

// ReloadPart is a part of a cycle.
type ReloadPart struct {
	At      float64 `json:"at"` // seconds since the load began
	Replies int64   `json:"replies"`
	Lost    int64   `json:"lost,omitempty"`
	P99     float64 `json:"p99"` // seconds to the whole reply
}

// ReloadStep is a reload. Times are seconds since it began.
type ReloadStep struct {
	At        float64 `json:"at"` // since the load began
	Lost      int64   `json:"lost"`
	Changed   bool    `json:"changed"`            // who holds the listeners
	First     float64 `json:"first,omitempty"`    // the first change
	Last      float64 `json:"last,omitempty"`     // the last one: then it was done
	Returned  float64 `json:"returned,omitempty"` // its command
	Closed    int     `json:"closed,omitempty"`   // listeners that were there before and are gone
	Holders   int     `json:"holders"`            // processes that held a listener then
	Listeners int     `json:"listeners"`
}

// ReloadLatency is how long connections took, in seconds.
type ReloadLatency struct {
	Count       int64   `json:"count"`
	P50         float64 `json:"p50"` // to the whole reply
	P99         float64 `json:"p99"`
	Max         float64 `json:"max"`
	Connect99   float64 `json:"connect_p99"` // to the end of the handshake
	ConnectMost float64 `json:"connect_max"`
}

// Whose doing a loss was.
type Whose string

const (
	OfKernel      Whose = "kernel"      // what migration is there for
	OfRace        Whose = "race"        // the kernel's, which migration cannot keep from happening
	OfApplication Whose = "application" // the server had accepted it, or was in no position to
	OfNobody      Whose = "unknown"
)

// LossCause is why connections were lost.
type LossCause struct {
	Why   string `json:"why"`
	Whose Whose  `json:"whose"`
	By    string `json:"by,omitempty"` // the program whose process did it, as far as the trace tells
	Count int64  `json:"count"`
}

// LostFlow is a connection that was lost.
type LostFlow struct {
	At     float64        `json:"at"` // seconds since the load began
	Cycle  int            `json:"cycle"`
	Client netip.AddrPort `json:"client"`
	Server netip.AddrPort `json:"server"`
	End    string         `json:"end"`
	Phase  string         `json:"phase"`
	Why    string         `json:"why"`
	By     string         `json:"by,omitempty"`
	Reason string         `json:"reason,omitempty"` // enum sk_rst_reason, without its prefix
	State  string         `json:"state,omitempty"`  // of the socket that sent the reset
	Stack  []string       `json:"stack,omitempty"`  // the kernel's functions that reset it, the innermost first, where no process had it
}

// Of is how many were lost by whose doing.
func (r *Reload) Of(who Whose) (n int64) {
	for _, c := range r.Causes {
		if c.Whose == who {
			n += c.Count
		}
	}
	return n
}

// Rating is the loss in a line: of a cycle with its interval, and of a million beside what that depends on.
func (r *Reload) Rating() string {
	said := fmt.Sprintf("%d of %d lost in %s", r.Lost, r.Connections, Plural(len(r.Cycles), "cycle", "cycles"))
	if r.Lost == 0 {
		return fmt.Sprintf("%s; a cycle loses one with a chance of %.1f %% at most (95 %%)", said, r.Bound*100)
	}
	return fmt.Sprintf("%s: %.1f a cycle (%.1f to %.1f), %.0f per million at %.0f/s and a reload each %.1f s",
		said, r.PerCycle, r.Low, r.High, r.PerMillion, r.Rate, r.Every)
}
