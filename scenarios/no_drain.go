package scenarios

import (
	"fmt"
	"time"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// knocking is how many new clients come to a listener that should be drained, and to its successor.
const knocking = 40

var listenZeroDrain = lab.Scenario{
	Name:        "listen-zero-drain",
	Section:     lab.SectionBeyond,
	Timers:      []lab.Timer{{Name: "the client's SYN timer (1 s)"}},
	Cost:        time.Second,
	Connections: 25,
	Frames:      knocking * lab.FramesServed,
	Listeners:   2 + 2*knocking, // with both ends of those that come late
	Doc: `listen(A, 0) does not drain a listener

A has clients in its accept queue and calls listen again, with a backlog of 0.
That takes it out of nothing: the group still has it. Of 40 new clients the
kernel sends half to A by hash, and a program that names A sends all. A's
accept queue is full, so their SYNs are dropped, and each counts as
ListenOverflows and ListenDrops. They are not tried on B, and no reset tells
the clients: they wait. Only when A has closed, and their SYN timer has fired
after 1 s, do they reach B. What is in A's accept queue is lost without
migration, and migrates with it, as in quiz1.`,
	Path: "tcp_conn_request → sk_acceptq_is_full; inet_csk_listen_stop",
	Play: func(l *lab.Lab) {
		a := l.Listen("A")
		l.Connect()
		b := l.Listen("B", lab.Backlog(2*max(knocking, l.Connections())))
		a.SetBacklog(0)
		waiting := l.Knock(knocking, b)
		l.AssertAcceptQueue(a)
		l.Fact("new clients whose SYN is dropped", portion(len(waiting), knocking))
		l.FactNumber(unevenness, coin(len(waiting), knocking), fmt.Sprintf("%d of %d clients", len(waiting), knocking))
		l.Fact("ListenOverflows for each dropped SYN", portion(l.Counter("ListenOverflows"), len(waiting)))
		l.Fact("ListenDrops for each dropped SYN", portion(l.Counter("ListenDrops"), len(waiting)))
		l.Fact(resetsBefore, l.Counter(result.OutRsts))
		// Once A has left it, a program's array has B alone; it is told of B, and not left to the hash.
		l.Program().AllToLatest()
		a.Close()
		b.AcceptAll()
		l.ServeLate(waiting, b)
	},
	Expect: func(m lab.Mode) verdict.Expectation {
		e := migrates(result.RSTACK, 2)(m)
		e.Facts = map[string]any{
			"ListenOverflows for each dropped SYN": "all", "ListenDrops for each dropped SYN": "all", resetsBefore: 0, unevenness: fair,
		}
		if m.HasProgram() {
			delete(e.Facts, unevenness)
			e.Facts["new clients whose SYN is dropped"] = "all"
		}
		return e
	},
}

var reuseportOffDrain = lab.Scenario{
	Name:        "reuseport-off-drain",
	Section:     lab.SectionBeyond,
	Families:    []string{"ipv4"},
	Connections: 25,
	Frames:      throws,
	Doc: `SO_REUSEPORT=0 does not drain a listener

SO_REUSEPORT is set to 0 on A while it listens, next to B. That takes it out
of nothing: the group still has it. Of listeners on one address the kernel
looks at the latest first, which is B, and asks its group: half of the new
clients reach A by hash, and all of them where a program names A. When A
closes, what is in its accept queue is lost without migration and migrates
with it, as in quiz1.`,
	Path:   "inet_lookup_reuseport; inet_csk_listen_stop → reuseport_migrate_sock",
	Play:   reuseportOff,
	Expect: halfOf(migrates(result.RSTACK, 2)),
}

var reuseportOffDrainIPv6 = lab.Scenario{
	Name:        "reuseport-off-drain-ipv6",
	Section:     lab.SectionBeyond,
	Families:    []string{"ipv6", "dual"},
	Modes:       []string{"off", "sysctl"},
	Connections: 25,
	Doc: `SO_REUSEPORT=0 gives an IPv6 listener all new clients

As reuseport-off-drain, but of IPv6 listeners the kernel looks at the eldest
first (__inet_hash adds the others behind it), which is A. As SO_REUSEPORT is
0 there, it does not ask the group (inet_lookup_reuseport): all new clients
reach A, and none reaches B. When A closes, what is in its accept queue is
lost without migration and migrates with it.`,
	Path: "inet_lookup_reuseport; inet_csk_listen_stop → reuseport_migrate_sock",
	Play: reuseportOff,
	Expect: func(m lab.Mode) verdict.Expectation {
		e := migrates(result.RSTACK, 2)(m)
		e.Facts = map[string]any{"new clients that nobody accepts": "all"}
		return e
	},
}

func reuseportOff(l *lab.Lab) {
	a, b := l.Listen("A"), l.Listen("B")
	a.LeaveReuseport()
	arrivals(l, l.Connections(), l.ConnectUntilQueued(a, b))
	a.Close()
	b.AcceptAll()
}
