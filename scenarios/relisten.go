package scenarios

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/lab"
)

var relisten = lab.Scenario{
	Name:        "relisten",
	Section:     lab.SectionBeyond,
	Timers:      []lab.Timer{lab.RetransmissionTimer},
	Cost:        200 * time.Millisecond,
	Connections: 25,
	Doc: `a listener that was shut down listens again before the ACK comes

As quiz2, but A is shut down instead of closed, and listens again while the
request sockets still wait for their ACK. A shutdown does not touch request
sockets. When the ACK comes, tcp_v[46]_rcv checks only that the listener is in
LISTEN now, not that it always was. So in every mode all of them stay with A,
although B listens too, and no migration is counted.`,
	Path: "tcp_v[46]_rcv → inet_csk_complete_hashdance, not migrating",
	Play: func(l *lab.Lab) {
		a := l.Listen("A")
		l.DropACKs()
		l.Connect()
		b := l.Listen("B")
		l.AssertRequests(a)
		a.Shutdown(unix.SHUT_RDWR)
		a.Relisten()
		l.StopDropping()
		l.AwaitOutcomes(a, b)
		a.AcceptAll()
		b.AcceptAll()
		l.Fact("accepted by A", l.Share(l.Accepted("A")))
	},
	Expect: staysWithA,
}
