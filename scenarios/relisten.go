package scenarios

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/harness"
)

var relisten = harness.Scenario{
	Name:        "relisten",
	Section:     harness.SectionBeyond,
	Timers:      "the client's retransmission timer (200 ms)",
	Cost:        200 * time.Millisecond,
	Connections: 25,
	Doc: `a listener that was shut down listens again before the ACK comes

As quiz2, but A is shut down and not closed, and listens again while the
request sockets still wait for their ACK. Nobody has told them that A was
gone: a request socket is looked after when its ACK or its timer comes, and
tcp_v4_rcv then asks no more than whether its listener is in LISTEN, not
whether it always was. So in every mode all of them stay with A, although B
listens too, and nothing is counted.`,
	Path: "tcp_v[46]_rcv → inet_csk_complete_hashdance, not migrating",
	Play: func(l *harness.Lab) {
		a := l.Listen("A")
		l.DropACKs()
		l.Connect()
		b := l.Listen("B")
		l.AssertRequests(a)
		l.Shutdown(a, unix.SHUT_RDWR)
		l.Relisten(a)
		l.StopDropping()
		l.AwaitFates(a, b)
		l.AcceptAll(a)
		l.AcceptAll(b)
		l.Fact("accepted by A", l.Share(l.Accepted("A")))
	},
	Expect: staysWithA,
}
