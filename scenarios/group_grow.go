package scenarios

import (
	"time"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/result"
)

// groupSize is how many sockets fit into a reuseport group before it has to grow (INIT_SOCKS).
const groupSize = 128

// groupGrow closes A when its group has that many other listeners. The group always becomes larger than groupSize.
func groupGrow(when, story string, before int) lab.Scenario {
	return lab.Scenario{
		Name:    "group-grow-" + when,
		Section: lab.SectionHow,
		Doc: "a reuseport group outgrows its array; A closes " + when + `

A group has an array for 128 sockets, which is copied to a larger one when
there are more. With migration the request sockets of a closed listener find
their group through it, so it stays in the array, behind the open ones, and is
copied with them. Without migration it leaves the group, and the clients are
reset. ` + story,
		Path:        "reuseport_stop_listen_sock, reuseport_grow → reuseport_migrate_sock",
		Timers:      []lab.Timer{lab.RetransmissionTimer},
		Cost:        200 * time.Millisecond,
		Connections: 5,
		Listeners:   groupSize + 4, // with A, and the ends that the check of the listeners needs
		Play: func(l *lab.Lab) {
			a := l.Listen("A")
			l.DropACKs()
			l.Connect()
			others := l.ListenMany("B", before)
			l.AssertRequests(a)
			a.Close()
			if before <= groupSize {
				others = append(others, l.ListenMany("C", groupSize)...)
			}
			l.StopDropping()
			l.AwaitOutcomes(others...)
			for _, b := range others {
				b.AcceptQueued()
			}
		},
		Expect: migrates(result.BareRST, 1),
	}
}

var (
	groupGrowBefore = groupGrow("before", "Here A closes while the group is still small.", 1)
	groupGrowAfter  = groupGrow("after", "Here A closes after the group has grown.", groupSize+1)
)
