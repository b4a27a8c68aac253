package scenarios

import (
	"time"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/result"
)

var quiz2 = harness.Scenario{
	Name:    "quiz2",
	Section: harness.SectionMisbehave,
	Timers:  "the client's retransmission timer (200 ms)",
	Cost:    200 * time.Millisecond,
	Doc: `connections still in the handshake when the listener closes

A packet-drop rule takes the final ACK of the handshake away, so that the
client believes to be connected while the server holds a request socket,
tied to listener A. Listener B comes up, A closes, the rule goes, and the
client retransmits "Hello World". Without migration the request socket dies
with A's name on it, and B, which knows nothing of it, resets the client.
With migration the request socket is cloned for B, whose accept returns the
connection.`,
	Path: "tcp_v[46]_rcv → reuseport_migrate_sock → inet_csk_complete_hashdance",
	Play: func(l *harness.Lab) {
		a := l.Listen("A")
		l.DropACKs()
		l.Connect()
		b := l.Listen("B")
		l.AssertRequests(a)
		l.Close(a)
		l.StopDropping()
		l.AwaitFates(b)
		l.AcceptAll(b)
	},
	// A bare RST from tcp_v4_send_reset, B being in LISTEN; only the client leaves ESTABLISHED.
	Expect: migrates(result.BareRST, 1),
}
