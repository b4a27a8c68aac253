package reports

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

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
	Changes   []change // against the step before
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
// the listeners of that time is said.
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

// byStep gives each step the last table that was made of it.
func byStep(c *result.Cell) []*result.Table {
	tables := make([]*result.Table, len(c.Steps))
	for i := range c.Tables {
		if n := c.Tables[i].Step; n >= 1 && n <= len(tables) {
			tables[n-1] = &c.Tables[i]
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
func (v *view) changes(prev *view) []change {
	var all changes
	all.ofListeners(v, prev)
	all.ofRequests(v, prev)
	all.ofConnections(v, prev)
	all.ofGone(v, prev)
	all.ofClients(v, prev)
	for i := range all {
		all[i].least = v.More > 0 || prev.More > 0
	}
	return all
}

// change is the same fate of one socket or several.
type change struct {
	fate  string // "new"; of a listener the whole sentence
	noun  string // "request socket"; empty of a listener
	in    string // " in the accept queue of A"
	of    string // " made for A"
	moves bool   // it is how a migration shows: a clone, a connection made of a request, or another accept queue
	ports []uint16
	least bool // not all sockets fit the tables: there may be more of the same fate
}

func (c change) String() string {
	switch {
	case c.noun == "":
		return c.fate
	case c.least:
		return fmt.Sprintf("%s: %d or more %ss%s%s", c.fate, len(c.ports), c.noun, c.in, c.of)
	case len(c.ports) == 1:
		return fmt.Sprintf("%s: %s%s of port %d%s", c.fate, c.noun, c.in, c.ports[0], c.of)
	default:
		return fmt.Sprintf("%s: %d %ss%s%s", c.fate, len(c.ports), c.noun, c.in, c.of)
	}
}

type changes []change

// add notes what became of a socket.
func (cs *changes) add(s socketView, c change) {
	i := slices.IndexFunc(*cs, func(o change) bool { return o.fate == c.fate && o.noun == c.noun && o.in == c.in && o.of == c.of })
	if i < 0 {
		i = len(*cs)
		*cs = append(*cs, c)
	}
	(*cs)[i].ports = append((*cs)[i].ports, s.Port())
}

func (cs *changes) ofListeners(v, prev *view) {
	line := func(format string, args ...any) { *cs = append(*cs, change{fate: fmt.Sprintf(format, args...)}) }
	for i, l := range v.Listeners {
		was := listenerView{State: "not yet"}
		if i < len(prev.Listeners) {
			was = prev.Listeners[i]
		}
		switch {
		case l.State == "LISTEN" && was.State != "LISTEN":
			line("new: listener %s", l.Name)
		case l.State == "closed" && was.State == "LISTEN" && was.Queue > 0:
			line("closed: listener %s, with %d in its accept queue", l.Name, was.Queue)
		case l.State == "closed" && was.State == "LISTEN":
			line("closed: listener %s", l.Name)
		}
		if l.State == "LISTEN" && l.Queue != was.Queue {
			line("accept queue of %s: %d → %d", l.Name, was.Queue, l.Queue)
		}
	}
}

const (
	requestNoun    = "request socket"
	connectionNoun = "connection"
	clientNoun     = "client's socket"
)

func (cs *changes) ofRequests(v, prev *view) {
	for _, s := range v.Requests {
		was, ok := find(prev.Requests, s.End)
		switch {
		case !ok && prev.More > 0: // it may have been there
		case !ok:
			cs.add(s, change{fate: "new", noun: requestNoun, of: madeFor(s.Of)})
		case cloned(was, s) != "":
			fate := "cloned for " + cmp.Or(s.Of, "another listener") + " (" + s.Cloned + ")"
			cs.add(s, change{fate: fate, noun: requestNoun, moves: true})
		case s.Retries > was.Retries:
			cs.add(s, change{fate: "SYN+ACK sent again", noun: requestNoun})
		case s.OfGone && !was.OfGone:
			cs.add(s, change{fate: "left without its listener " + s.Of, noun: requestNoun})
		}
	}
}

// ofConnections is of full sockets of the server.
func (cs *changes) ofConnections(v, prev *view) {
	before := prev.server()
	for _, s := range v.server() {
		was, ok := find(before, s.End)
		request, half := find(prev.Requests, s.End)
		in := ""
		if s.Of != "" {
			in = " in the accept queue of " + s.Of
		}
		switch {
		case !ok && half:
			cs.add(s, change{fate: "now a " + connectionNoun + in, noun: requestNoun, of: madeFor(request.Of), moves: true})
		case !ok && prev.More > 0: // it may have been there
		case !ok:
			cs.add(s, change{fate: "new", noun: connectionNoun, in: in})
		case s.Owned && !was.Owned:
			cs.add(s, change{fate: "accepted", noun: connectionNoun})
		case s.Of != was.Of && s.Of != "" && was.Of != "":
			cs.add(s, change{fate: "moved from the accept queue of " + was.Of + " to that of " + s.Of, noun: connectionNoun, moves: true})
		case s.State != was.State:
			cs.add(s, change{fate: was.State + " → " + s.State, noun: connectionNoun})
		}
	}
}

func (cs *changes) ofGone(v, prev *view) {
	if v.More > 0 {
		return // what does not fit a table may still be there
	}
	server := v.server()
	gone := func(before, now []socketView, what func(was socketView) change) {
		for _, was := range before {
			if _, still := find(now, was.End); !still {
				cs.add(was, what(was))
			}
		}
	}
	gone(prev.Requests, slices.Concat(v.Requests, server), func(was socketView) change {
		return change{fate: "gone", noun: requestNoun, of: madeFor(was.Of)}
	})
	gone(prev.server(), server, func(socketView) change { return change{fate: "gone", noun: connectionNoun} })
	gone(prev.Clients, v.Clients, func(socketView) change { return change{fate: "gone", noun: clientNoun} })
}

func (cs *changes) ofClients(v, prev *view) {
	for _, s := range v.Clients {
		if was, ok := find(prev.Clients, s.End); ok && was.State != s.State {
			cs.add(s, change{fate: was.State + " → " + s.State, noun: clientNoun})
		}
	}
}

func madeFor(listener string) string {
	if listener == "" {
		return ""
	}
	return " made for " + listener
}
