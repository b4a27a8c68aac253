package scenarios

import (
	"time"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/result"
)

// migratesTwice is migrates for a connection that migrates and migrates again.
func migratesTwice(flavour result.Flavour, estabResets int) func(harness.Mode) harness.Expectation {
	once := migrates(flavour, estabResets)
	return func(m harness.Mode) harness.Expectation {
		e := once(m)
		if e.Lives {
			e.Counted[kernel.MigrateSuccess], e.Migrations = 2, 2
			e.Asked *= 2
		}
		return e
	}
}

var chainQuiz1 = harness.Scenario{
	Name:        "chain-quiz1",
	Section:     harness.SectionBeyond,
	Connections: 25,
	Doc: `a connection in the accept queue outlives two listeners

As quiz1, but C comes up, and B, to which the connections have migrated,
closes as well before anybody has called accept on it. What has migrated once
is as good as what came by itself, so C gets it, and each connection counts
twice.`,
	Path: "inet_csk_listen_stop → reuseport_migrate_sock, twice",
	Play: func(l *harness.Lab) {
		a := l.Listen("A")
		l.Connect()
		b := l.Listen("B")
		l.AssertAcceptQueue(a)
		l.Close(a)
		c := l.Listen("C")
		l.Close(b)
		l.AcceptAll(c)
	},
	Expect: migratesTwice(result.RSTACK, 2),
}

var chainQuiz2 = harness.Scenario{
	Name:        "chain-quiz2",
	Section:     harness.SectionBeyond,
	Timers:      "the client's retransmission timer (200 ms)",
	Cost:        200 * time.Millisecond,
	Connections: 25,
	Doc: `a handshake outlives two listeners, and migrates once

As quiz2, but C comes up, and B closes as well before the ACK comes. A request
socket does not move when its listener closes, but when it is looked at, by
tcp_v4_rcv or by its timer. So it has never been B's: it migrates from A to C,
and each connection counts once for two listeners that have gone.`,
	Path: "tcp_v[46]_rcv → reuseport_migrate_sock → inet_csk_complete_hashdance",
	Play: func(l *harness.Lab) {
		a := l.Listen("A")
		l.DropACKs()
		l.Connect()
		b := l.Listen("B")
		l.AssertRequests(a)
		l.Close(a)
		c := l.Listen("C")
		l.Close(b)
		l.StopDropping()
		l.AwaitFates(c)
		l.AcceptAll(c)
	},
	Expect: migrates(result.BareRST, 1),
}

var chainTimer = harness.Scenario{
	Name:        "chain-timer",
	Section:     harness.SectionBeyond,
	Timers:      "the SYN+ACK timer (1 s)",
	Cost:        time.Second,
	Connections: 25,
	Doc: `a handshake migrates twice: by its timer, and by its ACK

As chain-quiz2, but the SYN+ACK timer fires between the two closes and takes
the request sockets from A to B. The ACK then finds B gone, and takes them to
C: two migrations, and each connection counts twice. The clients keep silent
until then, so that nothing has to wait for a retransmission.`,
	Path: "reqsk_timer_handler; tcp_v[46]_rcv → inet_csk_complete_hashdance",
	Play: func(l *harness.Lab) {
		a := l.Listen("A")
		l.DropACKs()
		l.ConnectSilently()
		b := l.Listen("B")
		l.AssertRequests(a)
		l.Close(a)
		l.AwaitSYNACKTimers()
		c := l.Listen("C")
		l.Close(b)
		l.StopDropping()
		l.Send()
		l.AwaitFates(c)
		l.AcceptAll(c)
	},
	Expect: migratesTwice(result.BareRST, 1),
}
