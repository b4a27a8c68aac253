package scenarios

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// wrongProgram is something that may be wrong with the migrate program of mode bpf.
type wrongProgram struct {
	name, title, story string
	spoil              func(l *lab.Lab, choice *lab.Listener) // before A closes
	late               func(l *lab.Lab, choice *lab.Listener) // after; if set, the case is played for quiz2 alone
	lost               bool
	failures           int // counted for each connection that is lost
	asked              int // by the kernel, for each connection
}

var wrongPrograms = []wrongProgram{
	{
		name: "refuses", title: "a migrate program that refuses",
		story: `Before A closes the program is changed so that it answers SK_DROP.
reuseport_migrate_sock then does not fall back on the hash: the connection is
lost, and a failure is counted.`,
		spoil: func(l *lab.Lab, _ *lab.Listener) {
			l.Program().Set(lab.Policy{Answer: lab.Refuse, Migrate: 1})
		},
		lost: true, failures: 1, asked: 1,
	},
	{
		name: "silent", title: "a migrate program that selects nothing",
		story: `The program answers SK_PASS without calling bpf_sk_select_reuseport. The
kernel then picks by hash, as it does with the sysctl, although that is 0.`,
		spoil: func(l *lab.Lab, _ *lab.Listener) {
			l.Program().Set(lab.Policy{Answer: lab.Pass, Migrate: 1})
		},
		asked: 1,
	},
	{
		name: "index", title: "a migrate program with an index out of range",
		story: `The program selects an entry that the socket array does not have.
bpf_sk_select_reuseport selects nothing. The program still answers SK_PASS,
and the kernel picks by hash.`,
		spoil: func(l *lab.Lab, _ *lab.Listener) {
			l.Program().Set(lab.Policy{Answer: lab.Choose, Migrate: 1 << 20})
		},
		asked: 1,
	},
	{
		name: "closed", title: "a migrate program that selects the listener that closes",
		story: `The program selects A's own entry, which is empty by then: A leaves the
socket array in reuseport_stop_listen_sock (bpf_sk_reuseport_detach), before
close() gets to what A holds. The kernel picks by hash.`,
		spoil: func(l *lab.Lab, _ *lab.Listener) {
			l.Program().Set(lab.Policy{Answer: lab.Choose, Migrate: 0})
		},
		asked: 1,
	},
	{
		name: "gone", title: "a migrate program whose choice was shut down",
		story: `C is shut down, which takes it out of the socket array. Then it listens again,
which does not put it back. The program selects an empty entry, and the
kernel picks by hash.`,
		spoil: func(l *lab.Lab, choice *lab.Listener) {
			choice.Shutdown(unix.SHUT_RD)
			choice.Relisten()
		},
		asked: 1,
	},
	{
		name: "detached", title: "a migrate program that is detached before the close",
		story: `Without a program, and with the sysctl 0, A is not migration-capable when it
closes: it leaves the group for good (reuseport_detach_sock), and no failure
is counted.`,
		spoil: func(l *lab.Lab, choice *lab.Listener) { l.Program().Detach(choice) },
		lost:  true,
	},
	{
		name: "detached-late", title: "a migrate program that is detached before the ACK",
		story: `A was migration-capable when it closed, and is still in the group. But when
the ACK comes there is neither a program nor the sysctl:
reuseport_migrate_sock fails, and counts a failure.`,
		spoil: func(*lab.Lab, *lab.Listener) {},
		late:  func(l *lab.Lab, choice *lab.Listener) { l.Program().Detach(choice) },
		lost:  true, failures: 1,
	},
}

// wrongProgramOff is said of each.
const wrongProgramOff = "\nMode off has no program, and nothing migrates."

// wrongProgramScenarios returns a scenario for each wrong program and each quiz in which it makes sense.
func wrongProgramScenarios() []lab.Scenario {
	var all []lab.Scenario
	for _, w := range wrongPrograms {
		if w.late == nil {
			all = append(all, w.quiz1())
		}
		all = append(all, w.quiz2())
	}
	return all
}

func (w wrongProgram) quiz1() lab.Scenario {
	return lab.Scenario{
		Name:        "wrong-program-" + w.name + "-quiz1",
		Section:     lab.SectionBeyond,
		Doc:         w.title + ", and the accept queue\n\n" + w.story + wrongProgramOff,
		Path:        "inet_csk_listen_stop → reuseport_migrate_sock",
		Modes:       []string{"off", "bpf"},
		OnlyItsOwn:  true,
		Connections: 25,
		Play: func(l *lab.Lab) {
			a := l.Listen("A")
			l.Connect()
			b, c := l.Listen("B"), l.Listen("C") // the program's choice is C
			l.AssertAcceptQueue(a)
			w.spoil(l, c)
			a.Close()
			acceptByHash(l, b, c)
		},
		Expect: w.expect(result.RSTACK, 2),
	}
}

func (w wrongProgram) quiz2() lab.Scenario {
	path := "tcp_v[46]_rcv → reuseport_migrate_sock"
	if !w.lost {
		path += " → inet_csk_complete_hashdance"
	}
	return lab.Scenario{
		Name:        "wrong-program-" + w.name + "-quiz2",
		Section:     lab.SectionBeyond,
		Doc:         w.title + ", and handshakes\n\n" + w.story + wrongProgramOff,
		Path:        path,
		Timers:      []lab.Timer{lab.RetransmissionTimer},
		Cost:        200 * time.Millisecond,
		Modes:       []string{"off", "bpf"},
		OnlyItsOwn:  true,
		Connections: 25,
		Play: func(l *lab.Lab) {
			a := l.Listen("A")
			l.DropACKs()
			l.Connect()
			b, c := l.Listen("B"), l.Listen("C")
			l.AssertRequests(a)
			w.spoil(l, c)
			a.Close()
			if w.late != nil {
				w.late(l, c)
			}
			l.StopDropping()
			l.AwaitOutcomes(b, c)
			acceptByHash(l, b, c)
		},
		Expect: w.expect(result.BareRST, 1),
	}
}

func (w wrongProgram) expect(flavour result.Flavour, estabResets int) func(lab.Mode) verdict.Expectation {
	return func(m lab.Mode) verdict.Expectation {
		if !m.HasProgram() {
			return migrates(flavour, estabResets)(m)
		}
		m.Migrates, m.Asks = !w.lost, w.failures > 0 || !w.lost
		e := migrates(flavour, estabResets)(m)
		if !w.lost {
			e.Facts = map[string]any{unevenness: fair}
		}
		e.Counted[result.MigrateFailure] = w.failures
		if e.Asked = w.asked; e.Asked == 0 {
			e.Strays = 0 // a detached program does not run at all
		}
		return e
	}
}

// acceptByHash accepts on both, and notes how likely it is that a fair hash spreads the connections like this. With 25
// connections it gives all of them to one listener once in 16 million cases. So a program that selects after all shows.
func acceptByHash(l *lab.Lab, b, c *lab.Listener) {
	atB, atC := b.AcceptAll(), c.AcceptAll()
	l.FactNumber(unevenness, coin(atB, atB+atC), fmt.Sprintf("%d at B, %d at C", atB, atC))
}
