package scenarios

import (
	"time"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

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
	l.SetSysctl("net.ipv4.tcp_migrate_req", value)
	l.StopDropping()
	l.AwaitOutcomes(b)
	b.AcceptAll()
}
