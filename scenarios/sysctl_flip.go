package scenarios

import (
	"time"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/result"
)

var sysctlFlipOn = harness.Scenario{
	Name:    "sysctl-flip-on",
	Section: harness.SectionBeyond,
	Doc: `tcp_migrate_req is set between the close and the ACK

Whether a listener is fit for migration is settled when it closes
(reuseport_stop_listen_sock): with the sysctl 0 and no migrate program A
leaves the group for good. That the sysctl is 1 by the time the ACK comes is
too late, and not even a failure is counted. Nothing changes in the modes in
which it was 1 already or does not matter.`,
	Path:        "reuseport_stop_listen_sock; tcp_v[46]_rcv → reuseport_migrate_sock",
	Timers:      "the client's retransmission timer (200 ms)",
	Cost:        200 * time.Millisecond,
	Connections: 25,
	Play:        func(l *harness.Lab) { flip(l, "1") },
	Expect:      migrates(result.BareRST, 1),
}

var sysctlFlipOff = harness.Scenario{
	Name:    "sysctl-flip-off",
	Section: harness.SectionBeyond,
	Doc: `tcp_migrate_req is cleared between the close and the ACK

A closes while the sysctl is 1, and stays in its group as a closed member.
The ACK asks again (reuseport_migrate_sock), and by then the sysctl is 0: the
connection is lost, and a failure is counted. A migrate program needs no
sysctl, and nothing changes for it.`,
	Path:        "reuseport_stop_listen_sock; tcp_v[46]_rcv → reuseport_migrate_sock",
	Timers:      "the client's retransmission timer (200 ms)",
	Cost:        200 * time.Millisecond,
	Connections: 25,
	Play:        func(l *harness.Lab) { flip(l, "0") },
	Expect: func(m harness.Mode) harness.Expectation {
		m.Migrates = m.Migrates && m.HasProgram()
		return migrates(result.BareRST, 1)(m)
	},
}

// flip is quiz2 with another value of the sysctl from A's close on.
func flip(l *harness.Lab, value string) {
	a := l.Listen("A")
	l.DropACKs()
	l.Connect()
	b := l.Listen("B")
	l.AssertRequests(a)
	l.Close(a)
	l.Set("net.ipv4.tcp_migrate_req", value)
	l.StopDropping()
	l.AwaitFates(b)
	l.AcceptAll(b)
}
