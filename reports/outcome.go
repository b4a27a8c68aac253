package reports

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/rpmig/rpmig/result"
)

// Stories tells what happened in the cells of a run, and why.
type Stories struct {
	header *result.Header
	peers  map[[2]string][]*result.Cell // by scenario and family: see NewStories
	seen   map[[3]string]bool           // the modes of each that are among them
}

// NewStories returns the stories of a run. What would have saved a connection leans on what the other modes of the same
// scenario and family did: the first cell that was played of each mode that may save one, and an off cell that lost some.
// All others, of a run with many repeats, would be gone through for each cell in vain. A run that has a header and no
// cells gives stories in which each cell stands alone.
func NewStories(run *result.Run) *Stories {
	s := newStories(&run.Header)
	for _, c := range sorted(run) {
		s.add(c)
	}
	return s
}

// StoriesOf returns those of one scenario and family. Of a run whose cells are stored it reads no more than these take.
func StoriesOf(run *result.Run, scenario, family string) (*Stories, error) {
	s := newStories(&run.Header)
	all := cellsOf(run)
	for _, c := range all.held {
		if c.Scenario == scenario && c.Family == family {
			s.add(c)
		}
	}
	for _, i := range all.order {
		k := run.Stored.Kind(int(i))
		if k.Scenario != scenario || k.Family != family || s.seen[[3]string{scenario, family, k.Mode}] {
			continue
		}
		c, err := run.Stored.Cell(int(i))
		if err != nil {
			return nil, err
		}
		s.add(c)
	}
	return s, nil
}

func newStories(h *result.Header) *Stories {
	return &Stories{h, map[[2]string][]*result.Cell{}, map[[3]string]bool{}}
}

// add adds the next cell, in the order of reports. It is not kept whole.
func (s *Stories) add(c *result.Cell) {
	useful := s.saves(c.Mode) != "" && c.Connections.Staged > 0 || c.Control == result.IsControl && c.Connections.Lost > 0
	if k := [3]string{c.Scenario, c.Family, c.Mode}; useful && !s.seen[k] {
		s.seen[k] = true
		group, brief := [2]string(k[:2]), c.Brief()
		s.peers[group] = append(s.peers[group], &brief)
	}
}

// of returns the cells that a cell is compared with, in brief, by mode; it may be among them.
func (s *Stories) of(c *result.Cell) []*result.Cell { return s.peers[[2]string{c.Scenario, c.Family}] }

// saves is what saves a connection in a mode; empty where nothing does.
func (s *Stories) saves(mode string) string { return s.header.Mode(mode).Saves }

// Outcome says in two sentences what happened to the connection of a cell and why, and what would have saved it.
func (s *Stories) Outcome(c *result.Cell) (happened, remedy string) {
	switch {
	case c.Reload != nil:
		if happened, remedy = reloaded(c); remedy == "" && c.Connections.Lost > 0 {
			remedy = s.header.Mode(c.Mode).Advice
		}
	case c.Connections.Staged == 0:
		happened, remedy = "Nothing is known of a connection: "+c.Reason, "Nothing was there to save."
	case c.Connections.Deaf > 0:
		happened, remedy = deafness(c), "Migration has not saved it: the new listener has set something in another way than the one that closed."
	case c.Connections.Lost == 0:
		happened, remedy = survival(c), s.saviour(c)
	default:
		happened, remedy = loss(c), s.rescue(c)
	}
	return printable(happened), printable(remedy)
}

// measuredAgain says that a cell was measured again, and why; empty: it was not.
func measuredAgain(c *result.Cell) string {
	if c.Void == nil {
		return ""
	}
	return printable("measured again, alone: the first time " + c.Void.Reason)
}

func deafness(c *result.Cell) string {
	who := "The connection was accepted, and is deaf"
	if n := c.Connections; n.Staged > 1 {
		who = fmt.Sprintf("%d of %d connections were accepted, and are deaf", n.Deaf, n.Staged)
	}
	return who + ": what was sent in the handshake has arrived, nothing gets through either way since, and nobody is reset."
}

func survival(c *result.Cell) string {
	who := "The connection lived"
	if n := c.Connections.Staged; n > 1 {
		who = fmt.Sprintf("All %d connections lived", n)
	}
	if n := c.Counters[result.MigrateSuccess]; n > 0 {
		return fmt.Sprintf("%s: the kernel moved what the closing listener held to another listener (%s %+d), whose accept() returned it.",
			who, result.MigrateSuccess, n)
	}
	return who + ", and no migration was needed or counted."
}

func (s *Stories) saviour(c *result.Cell) string {
	if c.Counters[result.MigrateSuccess] == 0 {
		return "Nothing had to save it."
	}
	how := cmp.Or(s.saves(c.Mode), "--migrate="+c.Mode)
	for _, p := range s.of(c) {
		if p.Control == result.IsControl && p.Connections.Lost > 0 {
			return "It was saved by " + how + "; with --migrate=" + p.Mode + " it was lost."
		}
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
	if step := c.StepName(r.Step); step != "" {
		with += fmt.Sprintf(", during %q", step)
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

func (s *Stories) rescue(c *result.Cell) string {
	var saved, tried, deaf []string
	for _, p := range s.of(c) {
		if s.saves(p.Mode) == "" || p.Mode == c.Mode {
			continue
		}
		tried = append(tried, p.Mode)
		if p.Connections.Deaf > 0 {
			deaf = append(deaf, p.Mode)
		}
		if p.Connections.Lost == 0 {
			saved = append(saved, p.Mode)
		}
	}
	const needs = "Migration needs another listener of the same reuseport group in LISTEN when the old one closes"
	advice := s.header.Mode(c.Mode).Advice
	switch {
	case len(saved) > 0:
		// A mode may be lost in one repeat and live in the next: that is a FAIL beside this sentence, not against it.
		said := "Migration would have saved it: in this run it lived with " + s.saves(saved[0])
		if len(saved) > 1 {
			said += ", and with --migrate=" + strings.Join(saved[1:], " and --migrate=")
		}
		return said + "."
	case len(deaf) > 0:
		return fmt.Sprintf("Migration alone does not save it: with --migrate=%s it was accepted, and is deaf.", strings.Join(deaf, " and --migrate="))
	case len(tried) > 0:
		return fmt.Sprintf("Migration does not save it: it was lost with --migrate=%s too. %s.", strings.Join(tried, " and --migrate="), needs)
	case advice != "" && (c.Control != result.IsControl || c.Counters[result.MigrateFailure] == 0):
		return advice
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
