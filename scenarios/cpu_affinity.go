package scenarios

import (
	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/result"
)

// incomingCPU is that SO_INCOMING_CPU is ignored in groups.
var incomingCPU = []result.Bug{{
	ID:    "b261eda84ec1",
	Doc:   "SO_INCOMING_CPU does nothing in a reuseport group",
	Link:  "https://git.kernel.org/torvalds/c/b261eda84ec136240a9ca753389853a3a1bccca2",
	Fixed: []string{"6.2"},
	Check: acceptedBy,
}}

const acceptedBy = "accepted by"

// listenPerCPU opens three listeners that each ask for another CPU, and returns them, ours in the middle. That a CPU
// does not exist is no matter.
func listenPerCPU(l *harness.Lab, cpu int) []*harness.Listener {
	var all []*harness.Listener
	for i, name := range []string{"the one before", "ours", "the last"} {
		all = append(all, l.Listen(name, harness.SockOpt(unix.SOL_SOCKET, unix.SO_INCOMING_CPU, cpu+(i+2)%3)))
	}
	return all
}

// acceptPerCPU accepts on all of them, and notes who has got anything.
func acceptPerCPU(l *harness.Lab, all []*harness.Listener, names ...string) {
	got := "nobody"
	for i, name := range names {
		switch n := l.AcceptAll(all[i]); {
		case n > 0 && got == "nobody":
			got = name
		case n > 0:
			got += " and " + name
		}
	}
	l.Fact(acceptedBy, got)
}

var cpuAffinityQuiz1 = harness.Scenario{
	Name:    "cpu-affinity-quiz1",
	Section: harness.SectionBeyond,
	Doc: `SO_INCOMING_CPU names the new listener: the accept queue

Three listeners ask for the connections of three CPUs (SO_INCOMING_CPU), one
of them for that on which A is closed. Where the kernel picks, it starts from
the hash and goes round until it finds the listener of the current CPU
(reuseport_select_sock_by_hash; since Linux 6.2, commit b261eda84ec1): the
CPU of close(), not that on which the connection came in. A migrate program
that selects has the last word, and selects another here.`,
	Path:        "inet_csk_listen_stop → reuseport_migrate_sock → …_select_sock_by_hash",
	Connections: 25,
	Play: func(l *harness.Lab) {
		a := l.Listen("A")
		l.Connect()
		all := listenPerCPU(l, l.PinCPU())
		l.AssertAcceptQueue(a)
		l.Close(a)
		acceptPerCPU(l, all, "the one before", "ours", "the last")
	},
	Expect: perCPU(result.RSTACK, 2, 0),
	Bugs:   incomingCPU,
}

var cpuAffinityQuiz2 = harness.Scenario{
	Name:    "cpu-affinity-quiz2",
	Section: harness.SectionBeyond,
	Doc: `SO_INCOMING_CPU names the new listener: handshakes

As cpu-affinity-quiz1, with connections that TCP_DEFER_ACCEPT keeps
half-open: it is the CPU on which the completing segment is received that
counts. The client sends it on the CPU to which the case is pinned, and lo
delivers it there.`,
	Path:        "tcp_v[46]_rcv → reuseport_migrate_sock → …_select_sock_by_hash",
	Connections: 25,
	Play: func(l *harness.Lab) {
		a := l.Listen("A", deferred)
		l.ConnectSilently()
		all := listenPerCPU(l, l.PinCPU())
		l.AwaitCounter(deferDrop, l.Connections())
		l.AssertHalfOpen(a)
		l.Close(a)
		l.Send()
		l.AwaitFates(all...)
		acceptPerCPU(l, all, "the one before", "ours", "the last")
	},
	Expect: perCPU(result.BareRST, 1, 1),
	Bugs:   incomingCPU,
}

func perCPU(flavour result.Flavour, estabResets, deferDrops int) func(harness.Mode) harness.Expectation {
	return func(m harness.Mode) harness.Expectation {
		e := migrates(flavour, estabResets)(m)
		e.Counted[deferDrop] = deferDrops
		who := "nobody"
		switch {
		case m.Migrates && m.HasProgram() && m.Answer == harness.Choose:
			who = "the last" // the program's choice
		case m.Migrates:
			who = "ours"
		}
		e.Facts = map[string]any{acceptedBy: who}
		return e
	}
}
