package reports

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/rpmig/rpmig/result"
)

const (
	migrated = "TCPMigrateReqSuccess"
	refused  = "TCPMigrateReqFailure"
)

// remedies are the modes that can save a connection, in words that a person can act on.
var remedies = map[string]string{
	"sysctl":   "the sysctl net.ipv4.tcp_migrate_req=1",
	"bpf":      "a BPF program that selects the new listener",
	"bpf-pass": "a BPF program that leaves the choice to the kernel",
}

// Outcome says in two sentences what happened to the connection of a cell and why, and what would have saved it. Peers
// are cells of the same run; those of the same scenario and family show what the other modes did, so that the second
// sentence leans on what was seen. Without them it says what can be said.
func Outcome(c *result.Cell, peers ...*result.Cell) (happened, remedy string) {
	peers = slices.DeleteFunc(slices.Clone(peers), func(p *result.Cell) bool {
		return p.Scenario != c.Scenario || p.Family != c.Family || p.Connections.Staged == 0
	})
	switch {
	case c.Connections.Staged == 0:
		return printable("Nothing is known of a connection: " + c.Reason), "Nothing was there to save."
	case c.Connections.Lost == 0:
		return survival(c), saviour(c, peers)
	default:
		return printable(loss(c)), printable(rescue(c, peers))
	}
}

func survival(c *result.Cell) string {
	who := "The connection lived"
	if n := c.Connections.Staged; n > 1 {
		who = fmt.Sprintf("All %d connections lived", n)
	}
	if n := c.Counters[migrated]; n > 0 {
		return fmt.Sprintf("%s: the kernel moved what the closing listener held to another listener (%s %+d), whose accept() returned it.",
			who, migrated, n)
	}
	return who + ", and no migration was needed or counted."
}

func saviour(c *result.Cell, peers []*result.Cell) string {
	if c.Counters[migrated] == 0 {
		return "Nothing had to save it."
	}
	how := remedies[c.Mode]
	if how == "" {
		how = "--migrate=" + printable(c.Mode)
	}
	if slices.ContainsFunc(peers, func(p *result.Cell) bool { return p.Mode == "off" && p.Connections.Lost > 0 }) {
		return "It was saved by " + how + "; with --migrate=off it was lost."
	}
	return "It was saved by " + how + "."
}

func loss(c *result.Cell) string {
	who, it := "The connection was lost", "it"
	if n := c.Connections; n.Staged > 1 {
		who, it = fmt.Sprintf("%d of %d connections were lost", n.Lost, n.Staged), "the one shown"
	}
	r, ok := ending(c)
	if !ok {
		return who + ", and no reset was seen on the wire."
	}
	article := "an"
	if r.Flavour == result.BareRST {
		article = "a"
	}
	with := fmt.Sprintf("%s %s (frame %d", article, r.Flavour, r.Frame)
	if r.Step != "" {
		with += fmt.Sprintf(", during %q", r.Step)
	}
	with += ")"
	var why string
	switch r.Owner {
	case result.ClosingListener:
		why = fmt.Sprintf("the closing listener reset %s with %s. It waited in that listener's accept queue, and closing aborts what is in there.", it, with)
	case result.SurvivingListener:
		why = fmt.Sprintf("the surviving listener reset %s with %s. Its handshake was tied to the listener that had closed, so the client's next segment found one that knew nothing of it.", it, with)
	case result.NoSocket:
		why = fmt.Sprintf("the kernel answered the client's next segment with %s, as no socket was left to take it.", with)
	case result.OwnSocket:
		why = fmt.Sprintf("its own socket on the server reset %s with %s.", it, with)
	case result.Harness:
		why = fmt.Sprintf("rpmig's own client reset %s with %s; the kernel is not to blame.", it, with)
	default:
		if r.Flavour == result.BareRST {
			why = fmt.Sprintf("the server answered the client's segment with %s, as it does where no socket knows the connection.", with)
		} else {
			why = fmt.Sprintf("the server reset %s with %s, as a socket does that is closed with a connection still in it.", it, with)
		}
	}
	switch {
	case r.Reason != "" && r.State != "":
		why += fmt.Sprintf(" The kernel's reason: %s, by a socket in %s.", r.Reason, r.State)
	case r.Reason != "":
		why += fmt.Sprintf(" The kernel's reason: %s.", r.Reason)
	}
	return who + ": " + why
}

func rescue(c *result.Cell, peers []*result.Cell) string {
	var saved, tried []string
	for _, p := range peers {
		if remedies[p.Mode] == "" || p.Mode == c.Mode || slices.Contains(tried, p.Mode) {
			continue
		}
		tried = append(tried, p.Mode)
		if p.Connections.Lost == 0 {
			saved = append(saved, p.Mode)
		}
	}
	slices.SortFunc(saved, compareModes)
	const needs = "Migration needs another listener of the same reuseport group in LISTEN when the old one closes"
	switch {
	case len(saved) > 0:
		// A mode may be lost in one repeat and live in the next: that is a FAIL beside this sentence, not against it.
		s := "Migration would have saved it: in this run it lived with " + remedies[saved[0]]
		if len(saved) > 1 {
			s += ", and with --migrate=" + strings.Join(saved[1:], " and --migrate=")
		}
		return s + "."
	case len(tried) > 0:
		return fmt.Sprintf("Migration does not save it: it was lost with --migrate=%s too. %s.", strings.Join(tried, " and --migrate="), needs)
	case c.Mode == "bpf-drop":
		return "The program refused (SK_DROP). One that returns SK_PASS would have let the connection migrate."
	case c.Mode == "bpf-select":
		return "The program is attached as plain SELECT, which takes no part in migration: attach it as SELECT_OR_MIGRATE."
	case c.Mode == "off" && c.Counters[refused] == 0:
		return "What may save it is migration: " + remedies["sysctl"] + " (Linux 5.14), or a BPF program. " + needs + "."
	default:
		return needs + "."
	}
}

// ending returns the reset that ended the connection whose segments are in Flow, or else the first of the cell.
func ending(c *result.Cell) (result.Reset, bool) {
	for _, r := range c.Resets {
		if slices.ContainsFunc(c.Flow, func(s result.Segment) bool { return s.Frame == r.Frame }) {
			return r, true
		}
	}
	if len(c.Resets) == 0 {
		return result.Reset{}, false
	}
	return c.Resets[0], true
}

// flowClient returns the client's end of the connection that is in Flow, if there is one.
func flowClient(c *result.Cell) (netip.AddrPort, bool) { return c.Client, c.Client.IsValid() }

// clientEnd is the client's address of a socket that is no listener.
func clientEnd(s result.Socket) (netip.AddrPort, bool) {
	switch {
	case s.State == "LISTEN":
		return netip.AddrPort{}, false
	case s.Name == "client":
		return s.Local, s.Local.IsValid()
	default:
		return s.Remote, s.Remote.IsValid()
	}
}
