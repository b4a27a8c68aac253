package scenarios

import (
	"fmt"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/verdict"
)

const (
	spreadClients = 2025
	spreadOver    = 9 // listeners; see chiSquare
)

var spread = harness.Scenario{
	Name:    "spread",
	Busy:    true,
	Section: harness.SectionWhat,
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
	Frames:    spreadClients * harness.FramesServed,
	Play: func(l *harness.Lab) {
		listeners := l.ListenMany("L", spreadOver)
		for slot := 1; slot < spreadOver; slot++ {
			l.Program().Put(slot, listeners[slot])
		}
		l.Program().Set(harness.Policy{Answer: l.Mode().Answer, Spread: spreadOver})
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
		l.FactNumber("significance of the unevenness", p, fmt.Sprintf("chi-square %.1f, %v", x, counts))
		l.Fact("at the listener that the client's port names", portion(obeyed, spreadClients))
	},
	Expect: func(m harness.Mode) verdict.Expectation {
		e := lives(m)
		if m.HasProgram() {
			e.Facts = map[string]any{"at the listener that the client's port names": "all"}
		} else {
			e.Facts = map[string]any{"significance of the unevenness": verdict.Range{Min: falseAlarm, Max: 1}}
		}
		return e
	},
}
