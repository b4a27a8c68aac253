package scenarios

import (
	"fmt"
	"math"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// renumberedNewcomers is how many come to see where the numbers point; 60 show the hash's three listeners to be even.
const renumberedNewcomers = 60

var classicBPFRenumbered = lab.Scenario{
	Name:        "classic-bpf-renumbered",
	Section:     lab.SectionHow,
	Modes:       []string{"off", "sysctl"},
	Connections: 25,
	Frames:      2 * renumberedNewcomers * lab.FramesServed,
	Doc: `a classic BPF program names listeners by number, and a close renumbers them

A program of SO_ATTACH_REUSEPORT_CBPF answers with a number: that of a
listener in its group, from 0, in the order in which they listened. Of four
listeners, L1 to L4, number 1 is L2, and all clients wait in its accept queue.
L2 closes. The kernel does not ask such a program about a migration: with the
sysctl they migrate to the other three by hash, and without migration they are
reset.
The last of the group takes the place of the one that has closed
(__reuseport_detach_sock): number 1 is L4 from now on, which the program has
not been told, and gets all new clients. A number that no listener has, here
3, is none: the kernel picks by hash (run_bpf_filter). Both times the test
that the hash is fair to the three fails at a significance below 1e-6.`,
	Path: "inet_csk_listen_stop; reuseport_select_sock → run_bpf_filter or hash",
	Play: func(l *lab.Lab) {
		all := l.ListenMany("L", 4)
		rest := []*lab.Listener{all[0], all[2], all[3]}
		all[0].RouteToNumber(1)
		l.Connect()
		l.AssertAcceptQueue(all[1])
		all[1].Close()
		var migrated []int
		for _, s := range rest {
			migrated = append(migrated, s.AcceptAll())
		}
		evenness(l, "significance of the unevenness of what migrated", migrated)
		by := func() []int {
			counts := make([]int, len(rest))
			for _, c := range l.Newcomers(renumberedNewcomers, rest...) {
				for i, s := range rest {
					if c.By == s {
						counts[i]++
					}
				}
			}
			return counts
		}
		l.Fact("new clients at L4", portion(by()[2], renumberedNewcomers))
		all[0].RouteToNumber(3)
		evenness(l, "significance of the unevenness without such a number", by())
	},
	Expect: func(m lab.Mode) verdict.Expectation {
		e := migrates(result.RSTACK, 2)(m)
		e.Facts = map[string]any{
			"new clients at L4": "all", "significance of the unevenness without such a number": fair,
		}
		if m.Migrates {
			e.Facts["significance of the unevenness of what migrated"] = fair
		}
		return e
	},
}

// evenness notes how likely it is that a fair hash spreads connections like this, if there are any.
func evenness(l *lab.Lab, name string, counts []int) {
	if x, p := chiSquare(counts); !math.IsNaN(p) {
		l.FactNumber(name, p, fmt.Sprintf("chi-square %.1f, %v", x, counts))
	}
}
