package scenarios

import (
	"time"

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

As quiz1, but B has called listen(1): two connections, and its accept queue is
full. All the same it gets whatever A had. inet_csk_reqsk_queue_add does not
look at the backlog, and inet_csk_listen_stop does not ask sk_acceptq_is_full
either, as tcp_v4_syn_recv_sock does. Nothing is counted as an overflow.`,
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

// patientClients keep retransmissions and tail loss probes out of the way: the scenarios send again by themselves. Before
// Linux 6.11, which brought the first of these, there are the usual 200 ms for that.
var patientClients = []harness.Sysctl{
	{Name: "net.ipv4.tcp_rto_min_us", Value: "5000000"},
	{Name: "net.ipv4.tcp_early_retrans", Value: "0"},
}

// backlogFullConnections is how many find B's accept queue full; one more has filled it.
const backlogFullConnections = 5

var backlogFullHashdance = harness.Scenario{
	Name:        "backlog-full-hashdance",
	Section:     harness.SectionBeyond,
	Connections: backlogFullConnections,
	Frames:      2 * backlogFullConnections * harness.FramesServed,
	Weather:     patientClients,
	Doc: `no room for a handshake that would migrate

As quiz2, but when the ACK comes, other clients have filled B's accept queue.
tcp_v4_syn_recv_sock creates no socket then, and the request socket stays what
it was, A's: nothing is sent, and nobody is reset. Each segment of the client
tries anew, asks the migrate program anew, and counts as ListenOverflows,
ListenDrops and TCPMigrateReqFailure (tcp_check_req, listen_overflow). Once B
has accepted what it has, the next segment gets through.`,
	Path: "tcp_v[46]_rcv → tcp_check_req → tcp_v[46]_syn_recv_sock",
	Play: func(l *harness.Lab) {
		a := l.Listen("A")
		l.DropACKs()
		l.ConnectSilently()
		b := l.Listen("B", harness.Backlog(l.Connections()))
		l.AssertRequests(a)
		l.Close(a)
		l.StopDropping()
		l.Bystanders(l.Connections() + 1)
		l.Send()
		l.AwaitRefusals(1)
		l.SendAgain()
		l.AwaitRefusals(2)
		l.AcceptAll(b)
		l.SendAgain()
		l.AwaitFates(b)
		l.AcceptAll(b)
	},
	Expect: func(m harness.Mode) harness.Expectation {
		return overfull(migrates(result.BareRST, 1)(m), 2, 2)
	},
}

var backlogFullTimer = harness.Scenario{
	Name:        "backlog-full-timer",
	Section:     harness.SectionBeyond,
	Timers:      "the SYN+ACK timer (1 s)",
	Cost:        time.Second,
	Connections: backlogFullConnections,
	Frames:      2 * backlogFullConnections * harness.FramesServed,
	Weather:     patientClients,
	Doc: `no room for a handshake that the SYN+ACK timer has migrated

As synack-timer, but other clients have filled B's accept queue before. The
timer does not mind: request sockets are not in the accept queue, so they
migrate, and count as migrated. From then on they are B's own, and B's being
full is no matter of migration: each segment of the client counts as
ListenOverflows and ListenDrops, and unlike on the way by the ACK not as
TCPMigrateReqFailure (tcp_check_req: sk is req->rsk_listener). Once B has
accepted what it has, the next segment gets through.`,
	Path: "reqsk_timer_handler; tcp_check_req → tcp_v[46]_syn_recv_sock",
	Play: func(l *harness.Lab) {
		a := l.Listen("A")
		l.DropACKs()
		l.ConnectSilently()
		b := l.Listen("B", harness.Backlog(l.Connections()))
		l.AssertRequests(a)
		l.Close(a)
		l.StopDropping()
		l.Bystanders(l.Connections() + 1)
		l.DropACKs()
		l.AwaitSYNACKTimers()
		l.StopDropping()
		l.Send()
		l.AwaitRefusals(1)
		l.SendAgain()
		l.AwaitRefusals(2)
		l.AcceptAll(b)
		l.SendAgain()
		l.AwaitFates(b)
		l.AcceptAll(b)
	},
	Expect: func(m harness.Mode) harness.Expectation {
		return overfull(migrates(result.BareRST, 1)(m), 2, 0)
	},
}
