package scenarios

import (
	"time"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// retransmissionAfterTimer is the client's first after the SYN+ACK timer: it sends again after 0.2, 0.4, 0.8 and 1.7 s, a
// loss probe first, and then by a timer of some 210 ms that doubles.
var retransmissionAfterTimer = lab.Timer{Name: "the client's next retransmission (1.7 s in)"}

var synackTimer = lab.Scenario{
	Name:    "synack-timer",
	Section: lab.SectionWhere,
	Doc: `the SYN+ACK timer finds the listener of a handshake gone

As quiz2, but the rule stays until the timer that would send the SYN+ACK again
has fired. Without migration the timer drops the request socket and sends
nothing; the client's next segment is answered with a reset. With migration
the timer clones the request socket for B and sends the SYN+ACK again, and
the handshake completes there. A migrate program that refuses is asked by the
timer, and not again.`,
	Path:        "reqsk_timer_handler → reuseport_migrate_sock",
	Timers:      []lab.Timer{lab.SYNACKTimer, retransmissionAfterTimer},
	Cost:        1700 * time.Millisecond,
	Connections: 5,
	Play: func(l *lab.Lab) {
		a := l.Listen("A")
		l.DropACKs()
		l.Connect()
		b := l.Listen("B")
		l.AssertRequests(a)
		a.Close()
		l.AwaitSYNACKTimers()
		// The timer sends the SYN+ACK, counts it, and then counts the migration.
		l.Fact("request sockets once the timer has fired", l.Requests())
		l.Fact("SYN+ACKs that the timer has sent", l.Counter("TCPSynRetrans"))
		l.Fact("the timer has asked a program about", l.Share(int(l.Program().Asked().NewSYNRecv)))
		l.StopDropping()
		l.AwaitOutcomes(b)
		b.AcceptAll()
	},
	Expect: func(m lab.Mode) verdict.Expectation {
		e := migrates(result.BareRST, 1)(m)
		left := verdict.Each(0)
		if e.Lives {
			left = 1
		}
		e.Facts = map[string]any{
			"request sockets once the timer has fired": left,
			"SYN+ACKs that the timer has sent":         left,
			"the timer has asked a program about":      allIf(e.Asked > 0),
		}
		return e
	},
}
