package scenarios

import (
	"time"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// migrateReq is the sysctl that these cases set amid the case.
const migrateReq = "net.ipv4.tcp_migrate_req"

var sysctlFlipInTimeQuiz1 = lab.Scenario{
	Name:    "sysctl-flip-in-time-quiz1",
	Section: lab.SectionBeyond,
	Modes:   []string{"off", "sysctl"},
	Doc: `tcp_migrate_req is set under a server that runs: the accept queue

The sysctl is 0 when A listens and when the clients connect, and B listens
with it 0, too. In mode sysctl it is set to 1 just before A closes. That is in
time: what is in A's accept queue migrates, as in quiz1, and no server has to
be started again. In mode off it stays 0.`,
	Path:        "inet_csk_listen_stop → reuseport_migrate_sock",
	Connections: 25,
	Play: func(l *lab.Lab) {
		l.SetSysctl(migrateReq, "0")
		a := l.Listen("A")
		l.Connect()
		b := l.Listen("B")
		l.AssertAcceptQueue(a)
		l.SetSysctl(migrateReq, l.Mode().Sysctl)
		a.Close()
		b.AcceptAll()
	},
	Expect: migrates(result.RSTACK, 2),
}

var sysctlFlipInTimeQuiz2 = lab.Scenario{
	Name:    "sysctl-flip-in-time-quiz2",
	Section: lab.SectionBeyond,
	Modes:   []string{"off", "sysctl"},
	Doc: `tcp_migrate_req is set under a server that runs: handshakes

As sysctl-flip-in-time-quiz1, with the connections still in the handshake. In
mode sysctl they migrate, as in quiz2.`,
	Path:        "reuseport_stop_listen_sock; tcp_v[46]_rcv → reuseport_migrate_sock",
	Timers:      []lab.Timer{lab.RetransmissionTimer},
	Cost:        200 * time.Millisecond,
	Connections: 25,
	Play: func(l *lab.Lab) {
		l.SetSysctl(migrateReq, "0")
		a := l.Listen("A")
		l.DropACKs()
		l.Connect()
		b := l.Listen("B")
		l.AssertRequests(a)
		l.SetSysctl(migrateReq, l.Mode().Sysctl)
		a.Close()
		l.StopDropping()
		l.AwaitOutcomes(b)
		b.AcceptAll()
	},
	Expect: migrates(result.BareRST, 1),
}

var sysctlFlipOn = lab.Scenario{
	Name:    "sysctl-flip-on",
	Section: lab.SectionBeyond,
	Doc: `tcp_migrate_req is set between the close and the ACK

Whether a listener is migration-capable is decided when it closes
(reuseport_stop_listen_sock). With the sysctl 0 and no migrate program A
leaves the group for good. Setting the sysctl to 1 before the ACK comes is
too late, and not even a failure is counted. The other modes, in which the
sysctl is 1 already or does not matter, end as in quiz2.`,
	Path:        "reuseport_stop_listen_sock; tcp_v[46]_rcv → reuseport_migrate_sock",
	Timers:      []lab.Timer{lab.RetransmissionTimer},
	Cost:        200 * time.Millisecond,
	Connections: 25,
	Play:        func(l *lab.Lab) { flip(l, "1") },
	Expect:      migrates(result.BareRST, 1),
}

var sysctlFlipOff = lab.Scenario{
	Name:    "sysctl-flip-off",
	Section: lab.SectionBeyond,
	Doc: `tcp_migrate_req is cleared between the close and the ACK

In mode sysctl A closes while it is 1, and stays in its group as a closed
member. When the ACK comes, the kernel reads the sysctl again
(reuseport_migrate_sock), and it is 0: the connection is lost, and a failure
is counted. The other modes, in which it is 0 all along, end as in quiz2.`,
	Path:        "reuseport_stop_listen_sock; tcp_v[46]_rcv → reuseport_migrate_sock",
	Timers:      []lab.Timer{lab.RetransmissionTimer},
	Cost:        200 * time.Millisecond,
	Connections: 25,
	Play:        func(l *lab.Lab) { flip(l, "0") },
	Expect: func(m lab.Mode) verdict.Expectation {
		m.Migrates = m.Migrates && m.HasProgram()
		return migrates(result.BareRST, 1)(m)
	},
}

// flip is quiz2, with another value of the sysctl once A has closed.
func flip(l *lab.Lab, value string) {
	a := l.Listen("A")
	l.DropACKs()
	l.Connect()
	b := l.Listen("B")
	l.AssertRequests(a)
	a.Close()
	l.SetSysctl(migrateReq, value)
	l.StopDropping()
	l.AwaitOutcomes(b)
	b.AcceptAll()
}
