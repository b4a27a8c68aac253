package scenarios

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// deferred makes a listener wait for data before it completes a handshake. The kernel turns the 7 s into three
// SYN+ACKs (secs_to_retrans).
var deferred = lab.SockOpt(unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 7)

// deferDrop counts final ACKs that were ignored because of TCP_DEFER_ACCEPT.
const deferDrop = "TCPDeferAcceptDrop"

// deferAccept are cases with half-open connections that no rule holds up.
var deferAccept = []lab.Scenario{
	{
		Name:    "defer-accept",
		Section: lab.SectionBeyond,
		Modes:   mainModes,
		Doc: `connections that TCP_DEFER_ACCEPT keeps half-open

A waits for data before it completes a handshake (TCP_DEFER_ACCEPT), and the
clients connect and send nothing: tcp_check_req ignores their final ACKs, and
the request sockets stay. A closes, and only then do the clients send. This
is quiz2 without a rule and without a timer: with migration B gets the
connections, and without it the clients are reset.`,
		Path:        "tcp_v[46]_rcv → reuseport_migrate_sock → inet_csk_complete_hashdance",
		Connections: 25,
		Play: func(l *lab.Lab) {
			a := l.Listen("A", deferred)
			l.ConnectSilently()
			b := l.Listen("B")
			l.AwaitCounter(deferDrop, l.Connections())
			l.AssertHalfOpen(a)
			a.Close()
			l.Send()
			l.AwaitOutcomes(b)
			b.AcceptAll()
		},
		Expect: func(m lab.Mode) verdict.Expectation {
			e := migrates(result.BareRST, 1)(m)
			e.Counted[deferDrop] = 1
			return e
		},
	},
	deferAcceptTarget("plain", "B has not set it",
		`A has TCP_DEFER_ACCEPT and B has not. The clients connect and send nothing,
A closes, and the SYN+ACK timer fires. With migration it moves the request to
B and goes by B's setting (reqsk_timer_handler → syn_ack_recalc): the SYN+ACK
is sent again, the client answers it, and the handshake is complete without
any data. Without migration it drops the request and sends nothing.`, "all", 0),
	deferAcceptTarget("deferred", "B has set it too",
		`A and B both have TCP_DEFER_ACCEPT. The clients connect and send nothing, A
closes, and the SYN+ACK timer fires. With migration it moves the request to B,
which has the same setting: the ACK was seen, so no SYN+ACK is sent again
(syn_ack_recalc), and B waits for the data. Without migration it drops the
request and sends nothing.`, "none", 1, deferred),
}

func deferAcceptTarget(name, title, story, without string, left int, target ...lab.ListenOption) lab.Scenario {
	return lab.Scenario{
		Name:        "defer-accept-to-" + name,
		Section:     lab.SectionBeyond,
		Modes:       mainModes,
		Doc:         "the SYN+ACK timer goes by B's TCP_DEFER_ACCEPT: " + title + "\n\n" + story,
		Path:        "reqsk_timer_handler → reuseport_migrate_sock → syn_ack_recalc",
		Timers:      []lab.Timer{lab.SYNACKTimer},
		Cost:        time.Second,
		Connections: 25,
		Play: func(l *lab.Lab) {
			a := l.Listen("A", deferred)
			l.ConnectSilently()
			b := l.Listen("B", target...)
			l.AwaitCounter(deferDrop, l.Connections())
			l.AssertHalfOpen(a)
			a.Close()
			l.AwaitTimer(l.Mode().Migrates, left*l.Connections())
			l.Fact("accepted without data", portion(b.Queued(), l.Connections()))
			l.Send()
			l.AwaitOutcomes(b)
			b.AcceptAll()
		},
		Expect: func(m lab.Mode) verdict.Expectation {
			e := migrates(result.BareRST, 1)(m)
			e.Counted[deferDrop], e.Counted["TCPSynRetrans"] = 1, 0
			e.Facts = map[string]any{"accepted without data": "none"}
			if m.Migrates {
				e.Facts["accepted without data"] = without
				e.Counted["TCPSynRetrans"] = 1 - left
			}
			return e
		},
	}
}
