package scenarios

import (
	"time"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/verdict"
)

// cookieFrames is how many frames more than others a connection needs that a cookie has made: that has at most 1460 bytes for a
// segment (msstab in net/ipv4/syncookies.c), of which before Linux 5.18 no more than two go in a frame at a time
// (tcp_tso_autosize; since commit 65466904b015 more where the round trip is short).
const cookieFrames = 72

var syncookies = lab.Scenario{
	Name:    "syncookies",
	Section: lab.SectionBeyond,
	Doc: `handshakes with SYN cookies when the listener closes

As quiz2, with tcp_syncookies=2: the server answers every SYN with a cookie
and keeps nothing, so no request socket is tied to A. The client's
retransmission brings the cookie back, and B accepts it (cookie_v4_check,
cookie_v6_check): the connection lives with migration off, and nothing
migrates in any mode. B can check A's cookies because the time of the last
one is kept for the whole group (tcp_synq_no_recent_overflow; since Linux
4.18, commit 40a1227ea845).`,
	Path:        "tcp_v[46]_rcv → tcp_v[46]_do_rcv → cookie_v[46]_check",
	Timers:      []lab.Timer{lab.RetransmissionTimer},
	Cost:        200 * time.Millisecond,
	Connections: 25,
	Frames:      25 * cookieFrames,
	OnlyItsOwn:  true, // nothing migrates
	Sysctls:     []lab.Sysctl{{Name: "net.ipv4.tcp_syncookies", Value: "2"}},
	Play: func(l *lab.Lab) {
		a := l.Listen("A")
		l.DropACKs()
		l.Connect()
		b := l.Listen("B")
		l.AssertNoTrace(a)
		a.Close()
		l.StopDropping()
		l.AwaitOutcomes(b)
		b.AcceptAll()
	},
	Expect: func(m lab.Mode) verdict.Expectation {
		e := lives(m)
		e.Strays = 1 // the segment with the cookie belongs to no connection yet
		e.Counted["SyncookiesSent"], e.Counted["SyncookiesRecv"], e.Counted["SyncookiesFailed"] = 1, 1, 0
		return e
	},
}
