package reports

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/rpmig/rpmig/result"
)

// textWidth is that of files in a bundle: every terminal has it.
const textWidth = 80

// socketStates are ss(8)'s names of those states that it calls otherwise than the kernel does.
var socketStates = map[string]string{"ESTABLISHED": "ESTAB", "CLOSE": "UNCONN"}

// Sockets are the socket tables of a cell, step by step, in the manner of ss -tanoe.
func Sockets(c *result.Cell) string {
	p := &page{width: textWidth}
	if len(c.Tables) == 0 {
		p.line("No socket tables were noted: --trace=on has them, and so has auto without --repeat.")
	}
	for i := range c.Tables {
		if i > 0 {
			p.line("")
		}
		p.sockets(c, &c.Tables[i], 0)
	}
	return p.String()
}

// sockets writes a table of a cell, indented. A socket's second line has what ss(8) shows with -o and -e.
func (p *page) sockets(c *result.Cell, t *result.Table, indent int) {
	in := strings.Repeat(" ", indent)
	when := "at " + seconds(t.At)
	if step := c.StepName(t.Step); step != "" {
		when = fmt.Sprintf("after %q, %s", step, when)
	}
	p.say(indent, indent+2, plain, "", printable(when+":"))
	p.line(in + "State      Recv-Q Send-Q Local Address:Port  Peer Address:Port")
	for _, s := range t.Sockets {
		state := cmp.Or(socketStates[s.State], strings.ReplaceAll(s.State, "_", "-"))
		send := "-" // of others than listeners it was not noted
		if s.State == "LISTEN" {
			send = fmt.Sprint(s.Backlog)
		}
		p.say(indent, indent+11, plain, "", printable(fmt.Sprintf("%-10s %-6d %-6s %-19s %-19s %s", state, s.Queue, send, socketEnd(s.Local), socketEnd(s.Remote), s.Name)))
		more := ""
		if s.Timer > 0 || s.Retries > 0 {
			more = fmt.Sprintf("timer:(on,%.0fms,%d) ", s.Timer*1000, s.Retries)
		}
		p.say(indent+11, indent+11, plain, "", fmt.Sprintf("%sino:%d sk:%x", more, s.Inode, s.Cookie))
	}
	if t.More > 0 {
		p.line(in + fmt.Sprintf("and %d more", t.More))
	}
}

// socketEnd is an end of a socket; the far one of a listener is none.
func socketEnd(a netip.AddrPort) string {
	switch {
	case !a.IsValid():
		return "*:*"
	case a.Port() == 0:
		return strings.TrimSuffix(a.String(), "0") + "*"
	default:
		return a.String()
	}
}

// turn picks two tables: the last before a listener went, or before the end where none did, and the last of all.
func turn(c *result.Cell) (before, after *result.Table) {
	if len(c.Tables) == 0 {
		return nil, nil
	}
	listening := func(t *result.Table) int {
		n := 0
		for _, s := range t.Sockets {
			if s.State == "LISTEN" {
				n++
			}
		}
		return n
	}
	last := len(c.Tables) - 1
	at := max(last-1, 0)
	for i := 1; i <= last; i++ {
		if listening(&c.Tables[i]) < listening(&c.Tables[i-1]) {
			at = i - 1
			break
		}
	}
	return &c.Tables[at], &c.Tables[last]
}

// Namespace tells what the network namespace of a cell was like: its sysctls, the packet filter's rules, the counters.
func Namespace(c *result.Cell) string {
	p := &page{width: textWidth}
	n := c.Namespace
	if n == nil {
		p.line("Nothing was noted of this cell's namespace; --out and --bundle do that.")
		return p.String()
	}
	p.heading("sysctls, as they were when the scenario was over")
	for _, name := range slices.Sorted(maps.Keys(n.Sysctls)) {
		p.say(0, 2, plain, "", printable(name+" = "+n.Sysctls[name]))
	}
	p.heading("packet filter, before it was taken out")
	if len(n.Rules) == 0 {
		p.line("no rules")
	} else if c.DropBackend != "" {
		p.say(0, 2, plain, "", printable("put in by "+c.DropBackend))
	}
	for _, r := range n.Rules {
		p.say(0, 2, plain, "", printable(r))
	}
	p.heading("counters that moved")
	p.line(fmt.Sprintf("%-40s %12s %12s", "", "before", "after"))
	for _, name := range slices.Sorted(maps.Keys(n.Counters)) {
		v := n.Counters[name]
		p.say(0, 2, plain, "", fmt.Sprintf("%s %12d %12d", pad(printable(name), 40), v[0], v[1]))
	}
	if len(n.Unknown) > 0 {
		p.heading("not known")
		for _, s := range n.Unknown {
			p.say(0, 2, plain, "", printable(s))
		}
	}
	return p.String()
}
