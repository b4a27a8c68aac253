package scenarios

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/result"
)

// deferred is a listener that wants data before it takes the handshake for done. The kernel turns the 7 s into three
// SYN+ACKs (secs_to_retrans).
var deferred = harness.SockOpt(unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 7)

// deferDrop counts final ACKs that TCP_DEFER_ACCEPT has ignored.
const deferDrop = "TCPDeferAcceptDrop"

// deferAccept are half-open connections that no rule holds up.
var deferAccept = []harness.Scenario{
	{
		Name:    "defer-accept",
		Section: harness.SectionBeyond,
		Modes:   mainModes,
		Doc: `connections that TCP_DEFER_ACCEPT keeps half-open

A wants data before it takes a handshake for done (TCP_DEFER_ACCEPT), and the
clients connect and send nothing: tcp_check_req ignores their final ACKs, and
the request sockets stay. A closes, and only then do the clients send. This
is quiz2 without any rule or timer: a server that sets the option has
requests in this state for as long as its clients hesitate.`,
		Path:        "tcp_v[46]_rcv → reuseport_migrate_sock → inet_csk_complete_hashdance",
		Connections: 25,
		Play: func(l *harness.Lab) {
			a := l.Listen("A", deferred)
			l.ConnectSilently()
			b := l.Listen("B")
			l.AwaitCounter(deferDrop, l.Connections())
			l.AssertHalfOpen(a)
			l.Close(a)
			l.Send()
			l.AwaitFates(b)
			l.AcceptAll(b)
		},
		Expect: func(m harness.Mode) harness.Expectation {
			e := migrates(result.BareRST, 1)(m)
			e.Counted[deferDrop] = 1
			return e
		},
	},
	deferAcceptTarget("plain", "its final ACK will do",
		`A has TCP_DEFER_ACCEPT and B has not. The clients connect and send nothing,
A closes, and the SYN+ACK timer fires. It moves the request to B, and goes by
B's setting from then on (reqsk_timer_handler → syn_ack_recalc): the SYN+ACK
is sent again, the client answers it, and B takes the handshake for done
without any data.`, "all", 0),
	deferAcceptTarget("deferred", "it waits for data, too",
		`A and B both have TCP_DEFER_ACCEPT. The clients connect and send nothing, A
closes, and the SYN+ACK timer fires. It moves the request to B, whose setting
says the same: the ACK was seen, so no SYN+ACK is sent again
(syn_ack_recalc), and B waits for the data.`, "none", 1, deferred),
}

func deferAcceptTarget(name, title, story, without string, left int, target ...harness.ListenOption) harness.Scenario {
	return harness.Scenario{
		Name:        "defer-accept-to-" + name,
		Section:     harness.SectionBeyond,
		Modes:       mainModes,
		Doc:         "TCP_DEFER_ACCEPT goes by the new listener's setting: " + title + "\n\n" + story,
		Path:        "reqsk_timer_handler → reuseport_migrate_sock → syn_ack_recalc",
		Timers:      "the SYN+ACK timer (1 s)",
		Cost:        time.Second,
		Connections: 25,
		Play: func(l *harness.Lab) {
			a := l.Listen("A", deferred)
			l.ConnectSilently()
			b := l.Listen("B", target...)
			l.AwaitCounter(deferDrop, l.Connections())
			l.AssertHalfOpen(a)
			l.Close(a)
			l.AwaitTimer(l.Mode().Migrates, left*l.Connections())
			l.Fact("accepted without data", portion(l.Queued(b), l.Connections()))
			l.Send()
			l.AwaitFates(b)
			l.AcceptAll(b)
		},
		Expect: func(m harness.Mode) harness.Expectation {
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
