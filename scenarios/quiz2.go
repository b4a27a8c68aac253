package scenarios

import (
	"time"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/result"
)

var quiz2 = lab.Scenario{
	Name:    "quiz2",
	Section: lab.SectionMisbehave,
	Timers:  []lab.Timer{lab.RetransmissionTimer},
	Cost:    200 * time.Millisecond,
	Doc: `connections still in the handshake when the listener closes

A rule drops the final ACK of the handshake. The client is connected, while
the server still has a request socket, tied to listener A. Listener B comes
up, A closes, the rule is removed, and the client retransmits "Hello World".
Without migration the request socket is dropped because A is closed, and B,
which knows nothing of it, resets the client. With migration the request
socket is cloned for B, and B's accept returns the connection.`,
	Path: "tcp_v[46]_rcv → reuseport_migrate_sock → inet_csk_complete_hashdance",
	Play: func(l *lab.Lab) {
		a := l.Listen("A")
		l.DropACKs()
		l.Connect()
		b := l.Listen("B")
		l.AssertRequests(a)
		a.Close()
		l.StopDropping()
		l.AwaitOutcomes(b)
		b.AcceptAll()
	},
	// A bare RST from tcp_v[46]_send_reset, B being in LISTEN; only the client leaves ESTABLISHED.
	Expect: migrates(result.BareRST, 1),
}
