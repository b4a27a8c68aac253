package verdict

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/rpmig/rpmig/result"
)

// Expectation is what the kernel should do with each of the staged connections.
type Expectation struct {
	Lives bool // accepted with its data by some listener; else lost
	// Flavour is that of the one reset which the server sends for a lost connection.
	Flavour result.Flavour
	// Owner is whose reset it is, and Reason why it is sent, in the kernel's words. They are looked at where there is a
	// trace, and the reason where the kernel gives one (Linux 6.10). Empty is not looked at.
	Owner  result.Owner
	Reason string
	// Migrations is how often each survivor has migrated: what TCPMigrateReqSuccess counts of it.
	Migrations int
	// Counted is by how much each counter moves for one connection.
	Counted map[string]int
	// Retried are the counters that may move once more for each of Observation.Retries.
	Retried []string
	// Asked is how often a migrate program is asked about migrating one connection.
	Asked int
	// Strays is how many segments of one connection find no socket but a listener, so that a program is asked anew.
	Strays int
	// Talk is what comes of each survivor's talk, once the case is over; empty is BothWays.
	Talk string
	// Loss is how many of a million connections may be lost in a stream.
	Loss Range
	// Facts are what the scenario should find out by itself, by name: what it should say; or a Range; or Each, for what
	// depends on how many connections there are; or IfKnown, for what it cannot find out everywhere.
	Facts map[string]any
}

// talk is what comes of each survivor's talk.
func (e Expectation) talk() string { return cmp.Or(e.Talk, BothWays) }

// Each is an expectation of a Fact: so many for each connection.
type Each int

// IfKnown is an expectation of a Fact that is checked where the scenario has found it out, and nowhere else.
type IfKnown string

// Range is an expectation of a Fact that is a number: from Min to Max, both included.
type Range struct {
	Min, Max float64
	Unit     string
}

func (r Range) String() string {
	return strings.TrimSpace(fmt.Sprintf("%g to %g %s", r.Min, r.Max, r.Unit))
}

// holds tells whether a number is in the range; NaN is in none.
func (r Range) holds(x float64) bool { return r.Min <= x && x <= r.Max }

// String is the expectation in a few words, for help texts.
func (e Expectation) String() string {
	switch {
	case e.Loss.Unit != "":
		return "loses " + e.Loss.String()
	case e.talk() == Deaf:
		return "migrates, is accepted, and is deaf"
	case !e.Lives:
		return "lost: the server sends " + e.Flavour.String()
	case e.Migrations == 0:
		return "lives, without migration"
	case e.Migrations > 1:
		return fmt.Sprintf("lives: migrates %d times", e.Migrations)
	default:
		return "lives: migrates to another listener"
	}
}
