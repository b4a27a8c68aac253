package scenarios

import (
	"fmt"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/verdict"
)

const (
	spreadClients = 2025
	spreadOver    = 9 // listeners; see chiSquare
)

// few are the source ports of spread-few-ports, and how often each of them comes.
const (
	fewPorts = 4
	fewTimes = 30
)

// spreadFewPorts is for those who test a server from few ports, or have few clients that keep theirs.
var spreadFewPorts = lab.Scenario{
	Name:    "spread-few-ports",
	Section: lab.SectionWhat,
	Doc: `few source ports reach few listeners, however many connections they make

Nine listeners, and 120 connections of one client from four source ports, 30
of each. The kernel hashes addresses and ports and nothing else: whoever
connects again from the same port reaches the same listener again. So no more
than four of the nine listeners have any connection, and five or more have
none, on a kernel that is fair to many ports (spread). With a program it is
the same, because its rule goes by the port too.`,
	Path:      spread.Path,
	Modes:     []string{"off", "bpf-select"},
	Families:  []string{"ipv4", "ipv6"},
	Listeners: spreadOver + 2,
	Frames:    fewPorts * fewTimes * lab.FramesServed,
	Play: func(l *lab.Lab) {
		listeners := l.ListenMany("L", spreadOver)
		bySourcePort(l, listeners)
		reached, astray := map[*lab.Listener]bool{}, 0
		for port := range fewPorts {
			all := l.ServeFrom(uint16(20001+2*port), fewTimes, listeners)
			for _, c := range all {
				if c.By != all[0].By {
					astray++
				}
			}
			reached[all[0].By] = true
		}
		l.Fact("at another listener than the first connection of their port", portion(astray, fewPorts*fewTimes))
		l.Fact("listeners that have any", len(reached))
	},
	Expect: func(m lab.Mode) verdict.Expectation {
		e := lives(m)
		e.Facts = map[string]any{
			"at another listener than the first connection of their port": "none",
			"listeners that have any":                                     verdict.Range{Min: 1, Max: fewPorts},
		}
		return e
	},
}

// bySourcePort has the mode's program, if there is one, send a client to the listener that its port names.
func bySourcePort(l *lab.Lab, listeners []*lab.Listener) {
	for slot := 1; slot < len(listeners); slot++ {
		l.Program().Put(slot, listeners[slot])
	}
	l.Program().Set(lab.Policy{Answer: l.Mode().Answer, Spread: uint32(len(listeners))})
}

var spread = lab.Scenario{
	Name:    "spread",
	Busy:    true,
	Section: lab.SectionWhat,
	Doc: `how connections are spread over the listeners of a port

2025 clients connect, one after another, to nine listeners. Without a program
the kernel hashes addresses and ports and scales the hash to the number of
listeners: "almost evenly (randomly)", says the talk. A chi-square test with 8
degrees of freedom checks for even odds: it fails at a significance below
1e-6, so a fair kernel fails once in a million runs. That catches a listener
that gets half or twice its share. With a program nothing is random: the
client's port modulo nine names the listener, and each connection must be
there.`,
	Path:  "inet[6]_lookup_reuseport → reuseport_select_sock; bpf_sk_select_reuseport",
	Modes: []string{"off", "bpf-select"},
	// What reaches an IPv6 listener over IPv4 is hashed as IPv4 is, and each family costs a second of CPU time.
	Families:  []string{"ipv4", "ipv6"},
	Listeners: spreadOver + 2,
	Frames:    spreadClients * lab.FramesServed,
	Play: func(l *lab.Lab) {
		listeners := l.ListenMany("L", spreadOver)
		bySourcePort(l, listeners)
		counts, obeyed := make([]int, spreadOver), 0
		for _, c := range l.Serve(spreadClients, listeners) {
			for i, s := range listeners {
				if c.By == s {
					counts[i]++
					if int(c.Port)%spreadOver == i {
						obeyed++
					}
				}
			}
		}
		x, p := chiSquare(counts)
		l.FactNumber(unevenness, p, fmt.Sprintf("chi-square %.1f, %v", x, counts))
		l.Fact("at the listener that the client's port names", portion(obeyed, spreadClients))
	},
	Expect: func(m lab.Mode) verdict.Expectation {
		e := lives(m)
		if m.HasProgram() {
			e.Facts = map[string]any{"at the listener that the client's port names": "all"}
		} else {
			e.Facts = map[string]any{unevenness: fair}
		}
		return e
	},
}
