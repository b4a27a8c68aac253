package scenarios

import (
	"time"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/result"
)

// nobodyLeft is the expectation of a case in which there is no listener to migrate to: every connection is lost in every
// mode, which the talk calls acceptable. A failure is counted where the closed listener was migration-capable.
func nobodyLeft(flavour result.Flavour, estabResets int, owner result.Owner, reason string) func(harness.Mode) harness.Expectation {
	return func(m harness.Mode) harness.Expectation {
		failures := 0
		if m.Asks {
			failures = 1
		}
		return harness.Expectation{Flavour: flavour, Owner: owner, Reason: reason, Counted: map[string]int{
			kernel.MigrateSuccess: 0, kernel.MigrateFailure: failures, kernel.OutRsts: 1, kernel.EstabResets: estabResets,
		}}
	}
}

var lastListenerQuiz1 = harness.Scenario{
	Name:    "last-listener-quiz1",
	Section: harness.SectionMisbehave,
	Doc: `the only listener closes, with connections in its accept queue

With nobody left on the port the connections are reset, migration or not: this
loss is acceptable. reuseport_migrate_sock finds no listener in the group and
counts a failure, but only where migration was asked for; no program is run.`,
	Path:        "inet_csk_listen_stop → reuseport_migrate_sock",
	Connections: 25,
	Play: func(l *harness.Lab) {
		a := l.Listen("A")
		l.Connect()
		l.AssertAcceptQueue(a)
		l.Close(a)
	},
	Expect: nobodyLeft(result.RSTACK, 2, result.ClosingListener, "TCP_STATE"),
}

var lastListenerQuiz2 = harness.Scenario{
	Name:    "last-listener-quiz2",
	Section: harness.SectionMisbehave,
	Doc: `the only listener closes, with connections still in the handshake

The request socket dies when the client's retransmission comes, and the
segment finds no socket at all: the reset is nobody's.`,
	Path:        "tcp_v[46]_rcv → reuseport_migrate_sock → tcp_v[46]_send_reset",
	Timers:      "the client's retransmission timer (200 ms)",
	Cost:        200 * time.Millisecond,
	Connections: 25,
	Play: func(l *harness.Lab) {
		a := l.Listen("A")
		l.DropACKs()
		l.Connect()
		l.AssertRequests(a)
		l.Close(a)
		l.StopDropping()
		l.AwaitFates()
	},
	Expect: nobodyLeft(result.BareRST, 1, result.NoSocket, "NO_SOCKET"),
}

var lateListenerQuiz1 = harness.Scenario{
	Name:    "late-listener-quiz1",
	Section: harness.SectionHow,
	Doc: `close the old listener, then open the new one: the accept queue

"Close old, then listen new" is the wrong order even with migration on: the
accept queue is emptied inside close(), when there is no other listener yet.`,
	Path:        "inet_csk_listen_stop → reuseport_migrate_sock",
	Connections: 25,
	Play: func(l *harness.Lab) {
		a := l.Listen("A")
		l.Connect()
		l.AssertAcceptQueue(a)
		l.Close(a)
		l.AcceptAll(l.Listen("B"))
	},
	Expect: nobodyLeft(result.RSTACK, 2, result.ClosingListener, "TCP_STATE"),
}

var lateListenerQuiz2 = harness.Scenario{
	Name:    "late-listener-quiz2",
	Section: harness.SectionHow,
	Doc: `close the old listener, then open the new one: the handshake

When the client's retransmission comes B is there, and still it is no help: B
started a reuseport group of its own, since the last listener of the old one
had taken the group with it. The request socket looks for a listener in the
group of A, finds none, and B resets the client.`,
	Path:        "tcp_v[46]_rcv → reuseport_migrate_sock → tcp_v[46]_send_reset",
	Timers:      "the client's retransmission timer (200 ms)",
	Cost:        200 * time.Millisecond,
	Connections: 25,
	Play: func(l *harness.Lab) {
		a := l.Listen("A")
		l.DropACKs()
		l.Connect()
		l.AssertRequests(a)
		l.Close(a)
		b := l.Listen("B")
		l.StopDropping()
		l.AwaitFates(b)
		l.AcceptAll(b)
	},
	// The program stays with A's group, so it is not asked about the stray segments.
	Expect: nobodyLeft(result.BareRST, 1, result.SurvivingListener, "TCP_FLAGS"),
}
