package scenarios

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// overfull is the expectation of a case in which a full accept queue refuses each connection some times before it
// migrates. failures is how many of those refusals count as failed migrations.
func overfull(e verdict.Expectation, refusals, failures int) verdict.Expectation {
	if !e.Lives {
		refusals, failures = 0, 0
	}
	if e.Asked > 0 {
		e.Asked += failures
	}
	e.Counted["ListenOverflows"], e.Counted["ListenDrops"] = refusals, refusals
	e.Counted[result.MigrateFailure] += failures
	if e.Retried = []string{"ListenOverflows", "ListenDrops"}; failures > 0 {
		e.Retried = append(e.Retried, result.MigrateFailure)
	}
	return e
}

var backlogFullQueue = lab.Scenario{
	Name:        "backlog-full-queue",
	Section:     lab.SectionBeyond,
	Connections: 25,
	Doc: `more connections migrate than the new accept queue may hold

As quiz1, but B has called listen(1). With migration it still gets all that A
had: unlike tcp_v[46]_syn_recv_sock, neither inet_csk_listen_stop nor
inet_csk_reqsk_queue_add looks at the backlog. No overflow is counted.`,
	Path: "inet_csk_listen_stop → inet_csk_reqsk_queue_add",
	Play: func(l *lab.Lab) {
		a := l.Listen("A")
		l.Connect()
		b := l.Listen("B", lab.Backlog(1))
		l.AssertAcceptQueue(a)
		a.Close()
		l.Fact("in B's accept queue", l.Share(b.Queued()))
		b.AcceptAll()
	},
	Expect: func(m lab.Mode) verdict.Expectation {
		e := overfull(migrates(result.RSTACK, 2)(m), 0, 0)
		e.Facts = map[string]any{"in B's accept queue": allIf(e.Lives)}
		return e
	},
}

var overflowAbortQueue = lab.Scenario{
	Name:        "overflow-abort-queue",
	Section:     lab.SectionBeyond,
	Connections: 25,
	Sysctls:     []lab.Sysctl{{Name: "net.ipv4.tcp_abort_on_overflow", Value: "1"}},
	Doc: `tcp_abort_on_overflow aborts nothing that migrates from an accept queue

As backlog-full-queue, with tcp_abort_on_overflow=1. That resets a client
whose handshake is complete and finds the accept queue full (tcp_check_req,
listen_overflow). A connection that migrates from an accept queue does not
come that way: B, whose queue is full with two, gets all that A had, and no
client is reset. Without migration all are reset, as in quiz1.`,
	Path:   backlogFullQueue.Path,
	Play:   backlogFullQueue.Play,
	Expect: backlogFullQueue.Expect,
}

// backlogFullConnections is how many find B's accept queue full; one more has filled it.
const backlogFullConnections = 5

// patientClients delays retransmissions and turns tail loss probes off: the scenarios send again by themselves. Linux
// before 6.11 lacks the first sysctl, and the scenario has the usual 200 ms there. What is sent again all the same may be
// refused once more (Lab.CountRetries).
var patientClients = []lab.Sysctl{
	{Name: "net.ipv4.tcp_rto_min_us", Value: "5000000"},
	{Name: "net.ipv4.tcp_early_retrans", Value: "0"},
}

// untilData makes a listener keep connections in the handshake until their first data (TCP_DEFER_ACCEPT), for some 30 s.
// So no rule has to hold them up, and no ACK comes near the SYN+ACK timer.
var untilData = lab.SockOpt(unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 30)

// backlogFull plays the paths of the request sockets: their listener closes, the accept queue of the new one is filled,
// before runs, and then the clients send.
func backlogFull(before func(*lab.Lab)) func(*lab.Lab) {
	return func(l *lab.Lab) {
		a := l.Listen("A", untilData)
		l.RaisePriority() // once its timer has moved a request socket to B, a full queue counts in another way
		l.ConnectSilently()
		b := l.Listen("B", untilData, lab.Backlog(l.Connections()))
		l.AssertHalfOpen(a)
		a.Close()
		l.Program().AllToLatest()
		l.Bystanders(l.Connections() + 1)
		before(l)
		l.Send()
		l.AwaitRefusals(1)
		l.SendAgain()
		l.AwaitRefusals(2)
		b.AcceptAll()
		l.CountRetries()
		l.SendAgain()
		l.AwaitOutcomes(b)
		b.AcceptAll()
	}
}

var backlogFullHashdance = lab.Scenario{
	Name:        "backlog-full-hashdance",
	Section:     lab.SectionBeyond,
	Connections: backlogFullConnections,
	Ends:        4,
	Frames:      2 * backlogFullConnections * lab.FramesServed,
	Sysctls:     patientClients,
	Doc: `a handshake cannot migrate to a full accept queue

The connections are in the handshake, and A closes. Before the clients send
the data that would complete it, others fill B's accept queue. With migration
tcp_v[46]_syn_recv_sock then creates no socket, and the request socket stays
with A: no client is reset. Each segment of a client tries again, asks a
migrate program again, and counts as ListenOverflows, ListenDrops and
TCPMigrateReqFailure (tcp_check_req, listen_overflow). Once B has accepted the
others, the next segment gets through. Without migration the first segment is
answered with a reset, and B's queue does not come into it.`,
	Path:   "tcp_v[46]_rcv → tcp_check_req → tcp_v[46]_syn_recv_sock",
	Play:   backlogFull(func(*lab.Lab) {}),
	Expect: func(m lab.Mode) verdict.Expectation { return overfull(migrates(result.BareRST, 1)(m), 2, 2) },
}

var backlogFullTimer = lab.Scenario{
	Name:        "backlog-full-timer",
	Section:     lab.SectionBeyond,
	Timers:      []lab.Timer{lab.SYNACKTimer},
	Cost:        time.Second,
	Connections: backlogFullConnections,
	Ends:        4,
	Frames:      2 * backlogFullConnections * lab.FramesServed,
	Sysctls:     patientClients,
	Doc: `a handshake that the SYN+ACK timer has migrated meets a full accept queue

As backlog-full-hashdance, but the SYN+ACK timer fires before the clients
send. With migration it does not look at B's accept queue, because request
sockets are not in it: they migrate, and count as migrated. From then on they
belong to B, and its full queue has nothing to do with migration: each segment
counts as ListenOverflows and ListenDrops, but not as TCPMigrateReqFailure
(tcp_check_req: sk is req->rsk_listener), and no program is asked. Once B has
accepted the others, the next segment gets through. Without migration the
timer drops the request sockets, and the first segment is answered with a
reset.`,
	Path:   "reqsk_timer_handler; tcp_check_req → tcp_v[46]_syn_recv_sock",
	Play:   backlogFull((*lab.Lab).AwaitSYNACKTimers),
	Expect: func(m lab.Mode) verdict.Expectation { return overfull(migrates(result.BareRST, 1)(m), 2, 0) },
}
