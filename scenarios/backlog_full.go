package scenarios

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/result"
)

// overfull is the expectation of a case in which a connection that migrates finds no room a number of times first.
// failures is how many of those times count as failed migrations.
func overfull(e harness.Expectation, refusals, failures int) harness.Expectation {
	if !e.Lives {
		refusals, failures = 0, 0
	}
	if e.Asked > 0 {
		e.Asked += failures
	}
	e.Counted["ListenOverflows"], e.Counted["ListenDrops"] = refusals, refusals
	e.Counted[kernel.MigrateFailure] += failures
	return e
}

var backlogFullQueue = harness.Scenario{
	Name:        "backlog-full-queue",
	Section:     harness.SectionBeyond,
	Connections: 25,
	Doc: `an accept queue that is too short for what migrates from another

As quiz1, but B has called listen(1): two connections, and its accept queue
is full. All the same it gets whatever A had. inet_csk_reqsk_queue_add does
not look at the backlog, and inet_csk_listen_stop does not ask
sk_acceptq_is_full either, as tcp_v4_syn_recv_sock does. Nothing is counted
as an overflow.`,
	Path: "inet_csk_listen_stop → inet_csk_reqsk_queue_add",
	Play: func(l *harness.Lab) {
		a := l.Listen("A")
		l.Connect()
		b := l.Listen("B", harness.Backlog(1))
		l.AssertAcceptQueue(a)
		l.Close(a)
		l.Fact("in B's accept queue", l.Share(l.Queued(b)))
		l.AcceptAll(b)
	},
	Expect: func(m harness.Mode) harness.Expectation {
		e := overfull(migrates(result.RSTACK, 2)(m), 0, 0)
		e.Facts = map[string]any{"in B's accept queue": allIf(e.Lives)}
		return e
	},
}

// backlogFullConnections is how many find B's accept queue full; one more has filled it.
const backlogFullConnections = 5

// patientClients keep retransmissions and tail loss probes out of the way: the scenarios send again by themselves. Before
// Linux 6.11, which brought the first of these, there are the usual 200 ms for that.
var patientClients = []harness.Sysctl{
	{Name: "net.ipv4.tcp_rto_min_us", Value: "5000000"},
	{Name: "net.ipv4.tcp_early_retrans", Value: "0"},
}

// untilData has a listener keep connections in the handshake until their first data (TCP_DEFER_ACCEPT), for some 30 s.
// It takes no rule then to hold them up, and no ACK comes near the SYN+ACK timer.
var untilData = harness.SockOpt(unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 30)

// backlogFull plays the paths of the request sockets: their listener closes, the accept queue of the next one is full,
// and whatever is to happen before the clients send happens in between.
func backlogFull(before func(*harness.Lab)) func(*harness.Lab) {
	return func(l *harness.Lab) {
		a := l.Listen("A", untilData)
		l.Hurry() // a request socket that its timer has moved to B finds no room there in another way
		l.ConnectSilently()
		b := l.Listen("B", untilData, harness.Backlog(l.Connections()))
		l.AssertHalfOpen(a)
		l.Close(a)
		l.Bystanders(l.Connections() + 1)
		before(l)
		l.Send()
		l.AwaitRefusals(1)
		l.SendAgain()
		l.AwaitRefusals(2)
		l.AcceptAll(b)
		l.SendAgain()
		l.AwaitFates(b)
		l.AcceptAll(b)
	}
}

var backlogFullHashdance = harness.Scenario{
	Name:        "backlog-full-hashdance",
	Section:     harness.SectionBeyond,
	Connections: backlogFullConnections,
	Ends:        4,
	Frames:      2 * backlogFullConnections * harness.FramesServed,
	Weather:     patientClients,
	Doc: `no room for a handshake that would migrate

The connections are in the handshake, and A closes. Before the clients send
what would complete it, others fill B's accept queue. tcp_v4_syn_recv_sock
creates no socket then, and the request socket stays what it was, A's:
nothing is sent, and nobody is reset. Each segment of the client tries anew,
asks the migrate program anew, and counts as ListenOverflows, ListenDrops and
TCPMigrateReqFailure (tcp_check_req, listen_overflow). Once B has accepted
what it has, the next segment gets through.`,
	Path:   "tcp_v[46]_rcv → tcp_check_req → tcp_v[46]_syn_recv_sock",
	Play:   backlogFull(func(*harness.Lab) {}),
	Expect: func(m harness.Mode) harness.Expectation { return overfull(migrates(result.BareRST, 1)(m), 2, 2) },
}

var backlogFullTimer = harness.Scenario{
	Name:        "backlog-full-timer",
	Section:     harness.SectionBeyond,
	Timers:      "the SYN+ACK timer (1 s)",
	Cost:        time.Second,
	Connections: backlogFullConnections,
	Ends:        4,
	Frames:      2 * backlogFullConnections * harness.FramesServed,
	Weather:     patientClients,
	Doc: `no room for a handshake that the SYN+ACK timer has migrated

As backlog-full-hashdance, but the SYN+ACK timer fires before the clients
send. The timer does not mind that B's accept queue is full: request sockets
are not in there, so they migrate, and count as migrated. From then on they
are B's own, and B's being full is no matter of migration: each segment
counts as ListenOverflows and ListenDrops, but not as TCPMigrateReqFailure
(tcp_check_req: sk is req->rsk_listener), and no program is asked. Once B has
accepted what it has, the next segment gets through.`,
	Path:   "reqsk_timer_handler; tcp_check_req → tcp_v[46]_syn_recv_sock",
	Play:   backlogFull((*harness.Lab).AwaitSYNACKTimers),
	Expect: func(m harness.Mode) harness.Expectation { return overfull(migrates(result.BareRST, 1)(m), 2, 0) },
}
