package scenarios

import (
	"time"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/result"
)

// groupSize is how many listeners fit into a reuseport group before it has to grow (INIT_SOCKS).
const groupSize = 128

// groupGrow closes A when it has that many others beside it; either way the group ends up larger than groupSize.
func groupGrow(when, story string, before int) harness.Scenario {
	return harness.Scenario{
		Name:    "group-grow-" + when,
		Section: harness.SectionHow,
		Doc: "a reuseport group outgrows its array; A closes " + when + `

A group has room for 128 listeners and is copied to a larger one when there
are more. The request sockets of a closed listener find their group through
it, so the closed listener has to stay in the group, behind the living, and to
be copied with them. ` + story,
		Path:        "reuseport_stop_listen_sock, reuseport_grow → reuseport_migrate_sock",
		Timers:      "the client's retransmission timer (200 ms)",
		Cost:        200 * time.Millisecond,
		Connections: 5,
		Listeners:   groupSize + 4, // with A, and the aftercare's ends
		Play: func(l *harness.Lab) {
			a := l.Listen("A")
			l.DropACKs()
			l.Connect()
			others := l.ListenMany("B", before)
			l.AssertRequests(a)
			l.Close(a)
			if before <= groupSize {
				others = append(others, l.ListenMany("C", groupSize)...)
			}
			l.StopDropping()
			l.AwaitFates(others...)
			for _, b := range others {
				l.AcceptQueued(b)
			}
		},
		Expect: migrates(result.BareRST, 1),
	}
}

var (
	groupGrowBefore = groupGrow("before", "Here A is closed while the group is\nstill small.", 1)
	groupGrowAfter  = groupGrow("after", "Here A is closed when the group has\ngrown already.", groupSize+1)
)
