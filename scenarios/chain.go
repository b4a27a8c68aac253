package scenarios

import (
	"time"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// migratesTwice is migrates for a connection that migrates two times.
func migratesTwice(flavour result.Flavour, estabResets int) func(lab.Mode) verdict.Expectation {
	once := migrates(flavour, estabResets)
	return func(m lab.Mode) verdict.Expectation {
		e := once(m)
		if e.Lives {
			e.Counted[result.MigrateSuccess], e.Migrations = 2, 2
			e.Asked *= 2
		}
		return e
	}
}

var chainQuiz1 = lab.Scenario{
	Name:        "chain-quiz1",
	Section:     lab.SectionBeyond,
	Connections: 25,
	Doc: `a connection in the accept queue outlives two listeners

As quiz1, but C comes up, and B, to which the connections have migrated,
closes as well before it has accepted them. A connection that has migrated can
migrate again: C gets all of them, and each counts twice. Without migration
they are gone when A has closed.`,
	Path: "inet_csk_listen_stop → reuseport_migrate_sock, twice",
	Play: func(l *lab.Lab) {
		a := l.Listen("A")
		l.Connect()
		b := l.Listen("B")
		l.AssertAcceptQueue(a)
		a.Close()
		c := l.Listen("C")
		b.Close()
		c.AcceptAll()
	},
	Expect: migratesTwice(result.RSTACK, 2),
}

var chainQuiz2 = lab.Scenario{
	Name:        "chain-quiz2",
	Section:     lab.SectionBeyond,
	Timers:      []lab.Timer{lab.RetransmissionTimer},
	Cost:        200 * time.Millisecond,
	Connections: 25,
	Doc: `a handshake outlives two listeners, and migrates once

As quiz2, but C comes up, and B closes as well before the ACK comes. With
migration a request socket does not move when its listener closes, but when
tcp_v[46]_rcv finds the listener closed. So B never gets it: it migrates from
A to C, and each connection counts once, although two listeners have closed.`,
	Path: "tcp_v[46]_rcv → reuseport_migrate_sock → inet_csk_complete_hashdance",
	Play: func(l *lab.Lab) {
		a := l.Listen("A")
		l.DropACKs()
		l.Connect()
		b := l.Listen("B")
		l.AssertRequests(a)
		a.Close()
		c := l.Listen("C")
		b.Close()
		l.StopDropping()
		l.AwaitOutcomes(c)
		c.AcceptAll()
	},
	Expect: migrates(result.BareRST, 1),
}

var chainTimer = lab.Scenario{
	Name:        "chain-timer",
	Section:     lab.SectionBeyond,
	Timers:      []lab.Timer{lab.SYNACKTimer},
	Cost:        time.Second,
	Connections: 25,
	Doc: `a handshake migrates twice: by its timer, and by its ACK

As chain-quiz2, but the SYN+ACK timer fires between the two closes. With
migration it takes the request sockets from A to B; what the clients send then
finds B closed, and takes them to C: each connection migrates twice, and
counts twice. Without migration the timer drops them. The clients send nothing
until both have closed, so that no step has to wait for a retransmission.`,
	Path: "reqsk_timer_handler; tcp_v[46]_rcv → inet_csk_complete_hashdance",
	Play: func(l *lab.Lab) {
		a := l.Listen("A")
		l.DropACKs()
		l.ConnectSilently()
		b := l.Listen("B")
		l.AssertRequests(a)
		a.Close()
		l.AwaitSYNACKTimers()
		c := l.Listen("C")
		b.Close()
		l.StopDropping()
		l.Send()
		l.AwaitOutcomes(c)
		c.AcceptAll()
	},
	Expect: migratesTwice(result.BareRST, 1),
}
