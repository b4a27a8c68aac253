package scenarios

import (
	"time"

	"github.com/rpmig/rpmig/harness"
)

var syncookies = harness.Scenario{
	Name:    "syncookies",
	Section: harness.SectionBeyond,
	Doc: `handshakes with SYN cookies when the listener closes

As quiz2, with tcp_syncookies=2: the server answers every SYN with a cookie
and keeps nothing, so no request socket bears A's name. The client's
retransmission brings the cookie back, and B takes it for its own
(cookie_v4_check, cookie_v6_check): the connection lives with migration off,
and nothing migrates in any mode. B takes it only because the time of the
last cookie is kept for the whole group (tcp_synq_no_recent_overflow; since
Linux 4.18, commit 40a1227ea845); a listener that has sent none refuses them.`,
	Path:        "tcp_v[46]_rcv → __inet_lookup_listener → cookie_v[46]_check",
	Timers:      "the client's retransmission timer (200 ms)",
	Cost:        200 * time.Millisecond,
	Connections: 25,
	Weather:     []harness.Sysctl{{Name: "net.ipv4.tcp_syncookies", Value: "2"}},
	Play: func(l *harness.Lab) {
		a := l.Listen("A")
		l.DropACKs()
		l.Connect()
		b := l.Listen("B")
		l.AssertNoTrace(a)
		l.Close(a)
		l.StopDropping()
		l.AwaitFates(b)
		l.AcceptAll(b)
	},
	Expect: func(m harness.Mode) harness.Expectation {
		e := lives(m)
		e.Strays = 1 // the segment with the cookie belongs to no connection yet
		e.Counted["SyncookiesSent"], e.Counted["SyncookiesRecv"], e.Counted["SyncookiesFailed"] = 1, 1, 0
		return e
	},
}
