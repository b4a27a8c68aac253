package scenarios

import (
	"time"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

var synackTimer = harness.Scenario{
	Name:    "synack-timer",
	Section: harness.SectionWhere,
	Doc: `the SYN+ACK timer finds the listener of a handshake gone

As quiz2, but the rule stays until the timer that would send the SYN+ACK again
has fired. Without migration the timer drops the request socket and sends
nothing; the client's next segment is answered with a reset. With migration
the timer clones the request socket for B and sends the SYN+ACK again, and
the handshake completes there. A migrate program that refuses is asked by the
timer, and not again.`,
	Path:        "reqsk_timer_handler → reuseport_migrate_sock",
	Timers:      []harness.Timer{harness.SYNACKTimer, {Name: "the client's second retransmission (0.6 s in)"}},
	Cost:        1800 * time.Millisecond,
	Connections: 5,
	Play: func(l *harness.Lab) {
		a := l.Listen("A")
		l.DropACKs()
		l.Connect()
		b := l.Listen("B")
		l.AssertRequests(a)
		a.Close()
		if l.Mode().Migrates {
			// Counted once the request is B's, before the SYN+ACK is sent for it.
			l.AwaitCounterByTimer("TCPSynRetrans", l.Connections())
			l.Fact("request sockets once the timer has fired", l.Requests())
		} else {
			l.AwaitRequestsByTimer(0)
			l.Fact("request sockets once the timer has fired", l.Requests())
		}
		l.StopDropping()
		l.AwaitOutcomes(b)
		b.AcceptAll()
	},
	Expect: func(m harness.Mode) verdict.Expectation {
		e := migrates(result.BareRST, 1)(m)
		left := verdict.Each(0)
		if e.Lives {
			left = 1
		}
		e.Facts = map[string]any{"request sockets once the timer has fired": left}
		return e
	},
}
