package scenarios

import (
	"time"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// noListenerLeft is the expectation of a case in which there is no listener to migrate to: every connection is lost in
// every mode, which the talk calls acceptable. A failure is counted where the closed listener was migration-capable.
func noListenerLeft(flavour result.Flavour, estabResets int, owner result.Owner, reason string) func(lab.Mode) verdict.Expectation {
	return func(m lab.Mode) verdict.Expectation {
		failures := 0
		if m.Asks {
			failures = 1
		}
		return verdict.Expectation{Flavour: flavour, Owner: owner, Reason: reason, Counted: map[string]int{
			result.MigrateSuccess: 0, result.MigrateFailure: failures, result.OutRsts: 1, result.EstabResets: estabResets,
		}}
	}
}

var lastListenerQuiz1 = lab.Scenario{
	Name:    "last-listener-quiz1",
	Section: lab.SectionMisbehave,
	Doc: `the only listener closes, with connections in its accept queue

No listener is left on the port, and the connections are reset with and
without migration: this loss is acceptable. reuseport_migrate_sock finds no
listener in the group and counts a failure, but only where migration was
asked for. No program is asked about it.`,
	Path:        "inet_csk_listen_stop → reuseport_migrate_sock",
	Connections: 25,
	Play: func(l *lab.Lab) {
		a := l.Listen("A")
		l.Connect()
		l.AssertAcceptQueue(a)
		a.Close()
	},
	Expect: noListenerLeft(result.RSTACK, 2, result.ClosingListener, "TCP_STATE"),
}

var lastListenerQuiz2 = lab.Scenario{
	Name:    "last-listener-quiz2",
	Section: lab.SectionMisbehave,
	Doc: `the only listener closes, with connections still in the handshake

The request socket is dropped when the client's retransmission comes. The
segment then finds no socket at all, and the reset is sent without one.`,
	Path:        "tcp_v[46]_rcv → reuseport_migrate_sock → tcp_v[46]_send_reset",
	Timers:      []lab.Timer{lab.RetransmissionTimer},
	Cost:        200 * time.Millisecond,
	Connections: 25,
	Play: func(l *lab.Lab) {
		a := l.Listen("A")
		l.DropACKs()
		l.Connect()
		l.AssertRequests(a)
		a.Close()
		l.StopDropping()
		l.AwaitOutcomes()
	},
	Expect: noListenerLeft(result.BareRST, 1, result.NoSocket, "NO_SOCKET"),
}

var lateListenerQuiz1 = lab.Scenario{
	Name:    "late-listener-quiz1",
	Section: lab.SectionHow,
	Doc: `close the old listener, then open the new one: the accept queue

"Close old, then listen new" is the wrong order even with migration on: the
accept queue is emptied inside close(), when there is no other listener yet,
and in every mode the connections are reset.`,
	Path:        "inet_csk_listen_stop → reuseport_migrate_sock",
	Connections: 25,
	Play: func(l *lab.Lab) {
		a := l.Listen("A")
		l.Connect()
		l.AssertAcceptQueue(a)
		a.Close()
		l.Listen("B").AcceptAll()
	},
	Expect: noListenerLeft(result.RSTACK, 2, result.ClosingListener, "TCP_STATE"),
}

var lateListenerQuiz2 = lab.Scenario{
	Name:    "late-listener-quiz2",
	Section: lab.SectionHow,
	Doc: `close the old listener, then open the new one: the handshake

When the client's retransmission comes, B listens, but in a new reuseport
group: B found no listener whose group it could join. Even with migration the
kernel finds no listener in A's group, and B resets the client.`,
	Path:        "tcp_v[46]_rcv → reuseport_migrate_sock → tcp_v[46]_send_reset",
	Timers:      []lab.Timer{lab.RetransmissionTimer},
	Cost:        200 * time.Millisecond,
	Connections: 25,
	Play: func(l *lab.Lab) {
		a := l.Listen("A")
		l.DropACKs()
		l.Connect()
		l.AssertRequests(a)
		a.Close()
		b := l.Listen("B")
		l.StopDropping()
		l.AwaitOutcomes(b)
		b.AcceptAll()
	},
	// The program stays with A's group, so it is not asked about the stray segments.
	Expect: noListenerLeft(result.BareRST, 1, result.SurvivingListener, "TCP_FLAGS"),
}
