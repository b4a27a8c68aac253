package reports

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/rpmig/rpmig/result"
)

// view is what is drawn of the socket tables once a step is over.
type view struct {
	Known     bool // there is a table of this step
	Listeners []listenerView
	Requests  []socketView // handshakes that are not done
	Children  []socketView // full sockets of the server that are not known to wait in an accept queue
	Clients   []socketView
	More      int
	Changes   []string // against the step before
}

type listenerView struct {
	Name           string
	State          string // "not yet", "LISTEN" or "closed"
	Queue, Backlog int
	Held           []socketView // what certainly waits in the accept queue
}

type socketView struct {
	End     netip.AddrPort // the client's
	State   string
	Of      string // the listener that it was certainly made for, or in whose queue it certainly waits
	OfGone  bool   // and which has closed
	Cloned  string // how it is known to be a clone of the request that there was before; empty: not known
	Owned   bool   // a process has it
	Retries int
	Timer   float64
	cookie  uint64
}

// Port is the client's port, which tells the connections of a cell apart.
func (s socketView) Port() uint16 { return s.End.Port() }

// walk returns a view for each step of the cell, and nil if the ledger has no tables. sock_diag does not tell which
// listener a request belongs to, nor in which accept queue a connection waits: only what follows with certainty from
// who listened at the time is said.
func walk(c *result.Cell) []view {
	if len(c.Tables) == 0 || len(c.Steps) == 0 {
		return nil
	}
	tables := byStep(c)
	names := listenerNames(c)
	views := make([]view, len(c.Steps))
	prev := view{Listeners: listenerViews(names, nil, nil)}
	for i := range views {
		t := tables[i]
		if t == nil {
			views[i] = prev
			views[i].Known, views[i].Changes = false, nil
			continue
		}
		views[i] = look(t, names, &prev)
		prev = views[i]
	}
	return views
}

// byStep gives each step the last table that was made of it. Steps may share a name.
func byStep(c *result.Cell) []*result.Table {
	tables := make([]*result.Table, len(c.Steps))
	at := 0
	for i := range c.Tables {
		t := &c.Tables[i]
		for s := at; s < len(c.Steps); s++ {
			// Only the last step of a name is left where the name comes again before the table was made.
			if c.Steps[s].Name == t.Step && (s+1 == len(c.Steps) || c.Steps[s+1].Name != t.Step || t.At < c.Steps[s+1].At) {
				tables[s], at = t, s
				break
			}
		}
	}
	return tables
}

func listenerName(s result.Socket) string {
	return cmp.Or(s.Name, fmt.Sprintf("%x", s.Cookie))
}

func listenerNames(c *result.Cell) []string {
	var names []string
	for _, t := range c.Tables {
		for _, s := range t.Sockets {
			if s.State == "LISTEN" && !slices.Contains(names, listenerName(s)) {
				names = append(names, listenerName(s))
			}
		}
	}
	return names
}

func listenerViews(names []string, t *result.Table, prev []listenerView) []listenerView {
	views := make([]listenerView, len(names))
	for i, name := range names {
		l := listenerView{Name: name, State: "not yet"}
		if prev != nil && prev[i].State != "not yet" {
			l.State = "closed"
		}
		if t != nil {
			for _, s := range t.Sockets {
				if s.State == "LISTEN" && listenerName(s) == name {
					l.State, l.Queue, l.Backlog = "LISTEN", s.Queue, s.Backlog
				}
			}
		}
		views[i] = l
	}
	return views
}

// listening names the listeners that are in LISTEN in any of the views, but one.
func listening(but string, views ...[]listenerView) []string {
	var names []string
	for _, v := range views {
		for _, l := range v {
			if l.State == "LISTEN" && l.Name != but && !slices.Contains(names, l.Name) {
				names = append(names, l.Name)
			}
		}
	}
	return names
}

func look(t *result.Table, names []string, prev *view) view {
	v := view{Known: true, More: t.More, Listeners: listenerViews(names, t, prev.Listeners)}
	gone := func(name string) bool {
		return slices.ContainsFunc(v.Listeners, func(l listenerView) bool { return l.Name == name && l.State == "closed" })
	}
	for _, s := range t.Sockets {
		end, ok := clientEnd(s)
		if !ok {
			continue
		}
		sk := socketView{End: end, State: s.State, Owned: s.Inode != 0, Retries: s.Retries, Timer: s.Timer, cookie: s.Cookie}
		switch s.Name {
		case "client":
			v.Clients = append(v.Clients, sk)
		case "request":
			before, was := find(prev.Requests, end)
			clone := ""
			if was {
				clone = cloned(before, sk)
			}
			if was && clone == "" {
				sk.Of, sk.Cloned = before.Of, before.Cloned
			} else {
				// It was made for a listener that listened since the table before, unless that one had no room for it; a
				// clone, for another one.
				but := ""
				if was && gone(before.Of) {
					but = before.Of
				}
				if who := listening(but, prev.Listeners, v.Listeners); len(who) == 1 && (was || prev.More == 0) {
					sk.Of = who[0]
				}
				sk.Cloned = clone
			}
			sk.OfGone = gone(sk.Of)
			v.Requests = append(v.Requests, sk)
		default:
			v.Children = append(v.Children, sk)
		}
	}
	v.fillQueue()
	v.Changes = v.changes(prev)
	return v
}

// cloned tells how one sees that a request is a clone of the one before it, for the same client. Linux 6.18 copies the
// cookie too (inet_reqsk_clone); but the timer of a request whose listener has closed drops it unless it clones it
// (reqsk_timer_handler), so that one which was armed anew after that is a clone.
func cloned(before, now socketView) string {
	switch {
	case now.cookie != before.cookie:
		return "its cookie changed"
	case before.OfGone && (now.Retries > before.Retries || before.Timer > 0 && now.Timer > before.Timer):
		return "its timer ran on without " + before.Of
	}
	return ""
}

// fillQueue puts the connections that no process has into the accept queue that must hold them: the only one that holds
// any.
func (v *view) fillQueue() {
	var queue *listenerView
	for i := range v.Listeners {
		if l := &v.Listeners[i]; l.Queue > 0 && queue != nil {
			return
		} else if l.Queue > 0 {
			queue = l
		}
	}
	if queue == nil {
		return
	}
	waits := func(s socketView) bool {
		return !s.Owned && slices.Contains([]string{"ESTABLISHED", "CLOSE_WAIT", "SYN_RECV"}, s.State)
	}
	var held, rest []socketView
	for _, s := range v.Children {
		if waits(s) {
			s.Of = queue.Name
			held = append(held, s)
		} else {
			rest = append(rest, s)
		}
	}
	if len(held) <= queue.Queue {
		queue.Held, v.Children = held, rest
	}
}

// server returns all full sockets of the server.
func (v *view) server() []socketView {
	all := slices.Clone(v.Children)
	for _, l := range v.Listeners {
		all = append(all, l.Held...)
	}
	return all
}

func find(sockets []socketView, end netip.AddrPort) (socketView, bool) {
	i := slices.IndexFunc(sockets, func(s socketView) bool { return s.End == end })
	if i < 0 {
		return socketView{}, false
	}
	return sockets[i], true
}

// changes says what became of each socket since the view before, those with the same fate together.
func (v *view) changes(prev *view) []string {
	var said changes
	for i, l := range v.Listeners {
		was := listenerView{State: "not yet"}
		if i < len(prev.Listeners) {
			was = prev.Listeners[i]
		}
		switch {
		case l.State == "LISTEN" && was.State != "LISTEN":
			said.line(fmt.Sprintf("new: listener %s", l.Name))
		case l.State == "closed" && was.State == "LISTEN" && was.Queue > 0:
			said.line(fmt.Sprintf("closed: listener %s, with %d in its accept queue", l.Name, was.Queue))
		case l.State == "closed" && was.State == "LISTEN":
			said.line(fmt.Sprintf("closed: listener %s", l.Name))
		}
		if l.State == "LISTEN" && l.Queue != was.Queue {
			said.line(fmt.Sprintf("accept queue of %s: %d → %d", l.Name, was.Queue, l.Queue))
		}
	}
	server, wasServer := v.server(), prev.server()
	for _, s := range v.Requests {
		was, ok := find(prev.Requests, s.End)
		switch {
		case !ok && prev.More > 0: // it may have been there
		case !ok:
			said.add("new", "request socket", madeFor(s.Of), s)
		case cloned(was, s) != "":
			said.add("cloned for "+cmp.Or(s.Of, "another listener")+" ("+s.Cloned+")", "request socket", "", s)
		case s.Retries > was.Retries:
			said.add("SYN+ACK sent again", "request socket", "", s)
		case s.OfGone && !was.OfGone:
			said.add("left without its listener "+s.Of, "request socket", "", s)
		}
	}
	for _, s := range server {
		was, ok := find(wasServer, s.End)
		request, half := find(prev.Requests, s.End)
		where := "connection"
		if s.Of != "" {
			where = "connection in the accept queue of " + s.Of
		}
		switch {
		case !ok && half:
			said.add("now a "+where, "request socket", madeFor(request.Of), s)
		case !ok && prev.More > 0:
		case !ok:
			said.add("new", where, "", s)
		case s.Owned && !was.Owned:
			said.add("accepted", "connection", "", s)
		case s.Of != was.Of && s.Of != "" && was.Of != "":
			said.add("moved from the accept queue of "+was.Of+" to that of "+s.Of, "connection", "", s)
		case s.State != was.State:
			said.add(was.State+" → "+s.State, "connection", "", s)
		}
	}
	// What does not fit a table may still be there.
	if v.More == 0 {
		for _, was := range prev.Requests {
			_, still := find(v.Requests, was.End)
			if _, grown := find(server, was.End); !still && !grown {
				said.add("gone", "request socket", madeFor(was.Of), was)
			}
		}
		for _, was := range wasServer {
			if _, still := find(server, was.End); !still {
				said.add("gone", "connection", "", was)
			}
		}
		for _, was := range prev.Clients {
			if _, still := find(v.Clients, was.End); !still {
				said.add("gone", "client's socket", "", was)
			}
		}
	}
	for _, s := range v.Clients {
		if was, ok := find(prev.Clients, s.End); ok && was.State != s.State {
			said.add(was.State+" → "+s.State, "client's socket", "", s)
		}
	}
	return said.lines()
}

func madeFor(listener string) string {
	if listener == "" {
		return ""
	}
	return " made for " + listener
}

// changes collects sentences, of which equal ones about several sockets become one.
type changes struct{ list []*change }

type change struct {
	fate, noun, of string
	ports          []uint16
}

func (cs *changes) line(s string) { cs.list = append(cs.list, &change{fate: s}) }

func (cs *changes) add(fate, noun, of string, s socketView) {
	i := slices.IndexFunc(cs.list, func(c *change) bool { return c.fate == fate && c.noun == noun && c.of == of })
	if i < 0 {
		i = len(cs.list)
		cs.list = append(cs.list, &change{fate: fate, noun: noun, of: of})
	}
	cs.list[i].ports = append(cs.list[i].ports, s.Port())
}

func (cs *changes) lines() []string {
	var lines []string
	for _, c := range cs.list {
		switch {
		case c.noun == "":
			lines = append(lines, c.fate)
		case len(c.ports) == 1:
			lines = append(lines, fmt.Sprintf("%s: %s of port %d%s", c.fate, c.noun, c.ports[0], c.of))
		default:
			noun, rest, _ := strings.Cut(c.noun, " in ")
			if rest != "" {
				rest = " in " + rest
			}
			lines = append(lines, fmt.Sprintf("%s: %d %ss%s%s", c.fate, len(c.ports), noun, rest, c.of))
		}
	}
	return lines
}
