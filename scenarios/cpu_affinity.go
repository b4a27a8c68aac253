package scenarios

import (
	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// incomingCPU is the bug that SO_INCOMING_CPU is ignored in reuseport groups. Its fix came with 6.2, and to 6.1.y with what was
// queued on 2022-12-28, after 6.1.1; 6.1.180 is known to have it.
var incomingCPU = []result.Bug{{
	ID:    "b261eda84ec1",
	Doc:   "SO_INCOMING_CPU does nothing in a reuseport group",
	Link:  "https://git.kernel.org/torvalds/c/b261eda84ec136240a9ca753389853a3a1bccca2",
	Since: "4.6",
	Fixed: []string{"6.1.2", "6.2"},
	Modes: lab.ModesIn(func(m lab.Mode) bool { return m.Migrates && !choosesLast(m) }),
	Check: acceptedBy,
}}

// choosesLast tells whether the mode's program overrides what the kernel would pick.
func choosesLast(m lab.Mode) bool { return m.HasProgram() && m.Answer == lab.Choose }

const acceptedBy = "accepted by"

// listenPerCPU opens three listeners that ask for one CPU each, and returns them: the one that asks for cpu is in the
// middle. The other CPUs need not exist.
func listenPerCPU(l *lab.Lab, cpu int) []*lab.Listener {
	var all []*lab.Listener
	for i, name := range []string{"the one before", "ours", "the last"} {
		all = append(all, l.Listen(name, lab.SockOpt(unix.SOL_SOCKET, unix.SO_INCOMING_CPU, cpu+(i+2)%3)))
	}
	return all
}

// acceptPerCPU accepts on all of them, and notes which of them got connections.
func acceptPerCPU(l *lab.Lab, all []*lab.Listener, names ...string) {
	got := "none"
	for i, name := range names {
		switch n := all[i].AcceptAll(); {
		case n > 0 && got == "none":
			got = name
		case n > 0:
			got += " and " + name
		}
	}
	l.Fact(acceptedBy, got)
}

var cpuAffinityQuiz1 = lab.Scenario{
	Name:    "cpu-affinity-quiz1",
	Section: lab.SectionBeyond,
	Doc: `SO_INCOMING_CPU names the new listener: the accept queue

Each of three listeners asks for the connections of one CPU (SO_INCOMING_CPU),
and "ours" for those of the CPU on which A is closed. Where the kernel picks
the new listener, it goes round from the hash until it finds that of the
current CPU, the one of close() (reuseport_select_sock_by_hash; since commit
b261eda84ec1, in Linux 6.2 and 6.1.2). A migrate program that selects
overrides this, and selects another listener here. Without migration none of
them gets any.`,
	Path:        "inet_csk_listen_stop → reuseport_migrate_sock → reuseport_select_sock_by_hash",
	Connections: 25,
	Play: func(l *lab.Lab) {
		a := l.Listen("A")
		l.Connect()
		all := listenPerCPU(l, l.PinCPU())
		l.AssertAcceptQueue(a)
		a.Close()
		acceptPerCPU(l, all, "the one before", "ours", "the last")
	},
	Expect: perCPU(result.RSTACK, 2, 0),
	Bugs:   incomingCPU,
}

var cpuAffinityQuiz2 = lab.Scenario{
	Name:    "cpu-affinity-quiz2",
	Section: lab.SectionBeyond,
	Doc: `SO_INCOMING_CPU names the new listener: handshakes

As cpu-affinity-quiz1, with connections that TCP_DEFER_ACCEPT keeps
half-open. The current CPU is now the one that receives the segment which
completes the handshake. The case is pinned to one CPU: the client sends
there, and lo delivers on the same CPU. Without migration that segment is
answered with a reset.`,
	Path:        "tcp_v[46]_rcv → reuseport_migrate_sock → reuseport_select_sock_by_hash",
	Connections: 25,
	Play: func(l *lab.Lab) {
		a := l.Listen("A", deferred)
		l.ConnectSilently()
		all := listenPerCPU(l, l.PinCPU())
		l.AwaitCounter(deferDrop, l.Connections())
		l.AssertHalfOpen(a)
		a.Close()
		l.Send()
		l.AwaitOutcomes(all...)
		acceptPerCPU(l, all, "the one before", "ours", "the last")
	},
	Expect: perCPU(result.BareRST, 1, 1),
	Bugs:   incomingCPU,
}

func perCPU(flavour result.Flavour, estabResets, deferDrops int) func(lab.Mode) verdict.Expectation {
	return func(m lab.Mode) verdict.Expectation {
		e := migrates(flavour, estabResets)(m)
		e.Counted[deferDrop] = deferDrops
		by := "none"
		switch {
		case m.Migrates && choosesLast(m):
			by = "the last" // the program's choice
		case m.Migrates:
			by = "ours"
		}
		e.Facts = map[string]any{acceptedBy: by}
		return e
	}
}
