package scenarios

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/result"
)

// wrongPrograms are what may be wrong with the migrate program of mode bpf.
var wrongPrograms = []struct {
	name, title, story string
	spoil              func(l *harness.Lab, choice *harness.Listener) // before A closes
	late               func(l *harness.Lab, choice *harness.Listener) // after; a case for quiz2 alone
	lost               bool
	failures           int // counted for each connection that is lost
	asked              int // by the kernel, for each connection
}{
	{
		name: "refuses", title: "a migrate program that refuses",
		story: `The program has a change of mind before A closes, and answers SK_DROP.
reuseport_migrate_sock takes that for the last word and does not fall back on
the hash: the connection is lost, and a failure is counted.`,
		spoil: func(l *harness.Lab, _ *harness.Listener) {
			l.Program(harness.Policy{Answer: harness.Refuse, Migrate: 1})
		},
		lost: true, failures: 1, asked: 1,
	},
	{
		name: "silent", title: "a migrate program that selects nothing",
		story: `The program answers SK_PASS and has not called bpf_sk_select_reuseport. The
kernel then picks by hash, as with the sysctl, though that is 0.`,
		spoil: func(l *harness.Lab, _ *harness.Listener) {
			l.Program(harness.Policy{Answer: harness.Pass, Migrate: 1})
		},
		asked: 1,
	},
	{
		name: "index", title: "a migrate program with an index out of range",
		story: `The program selects an entry that the socket array does not have.
bpf_sk_select_reuseport says -ENOENT and selects nothing; the program answers
SK_PASS all the same, and the kernel picks by hash.`,
		spoil: func(l *harness.Lab, _ *harness.Listener) {
			l.Program(harness.Policy{Answer: harness.Choose, Migrate: 1 << 20})
		},
		asked: 1,
	},
	{
		name: "closed", title: "a migrate program that selects the listener that closes",
		story: `The program selects A's own entry. It is empty by then: A leaves the socket
array in reuseport_stop_listen_sock (bpf_sk_reuseport_detach), before close()
looks at what A holds. The kernel picks by hash.`,
		spoil: func(l *harness.Lab, _ *harness.Listener) {
			l.Program(harness.Policy{Answer: harness.Choose, Migrate: 0})
		},
		asked: 1,
	},
	{
		name: "gone", title: "a migrate program whose choice was shut down",
		story: `C is shut down, which takes it out of the socket array, and listens again,
which does not put it back. The program selects an empty entry, and the
kernel picks by hash.`,
		spoil: func(l *harness.Lab, choice *harness.Listener) {
			l.Shutdown(choice, unix.SHUT_RD)
			l.Relisten(choice)
		},
		asked: 1,
	},
	{
		name: "detached", title: "a migrate program that is detached before the close",
		story: `Without a program, and with the sysctl 0, A is not fit for migration when it
closes: it leaves the group for good (reuseport_detach_sock), and nothing is
counted.`,
		spoil: func(l *harness.Lab, choice *harness.Listener) { l.DetachProgram(choice) },
		lost:  true,
	},
	{
		name: "detached-late", title: "a migrate program that is detached before the ACK",
		story: `A was fit for migration when it closed and is still of the group, but when
the ACK comes there is neither a program nor the sysctl:
reuseport_migrate_sock fails, and counts it.`,
		spoil: func(*harness.Lab, *harness.Listener) {},
		late:  func(l *harness.Lab, choice *harness.Listener) { l.DetachProgram(choice) },
		lost:  true, failures: 1,
	},
}

// wrongProgramScenarios are all of them, for both quizzes where that makes sense.
func wrongProgramScenarios() []harness.Scenario {
	var all []harness.Scenario
	for _, w := range wrongPrograms {
		expect := func(flavour result.Flavour, estabResets int) func(harness.Mode) harness.Expectation {
			return func(m harness.Mode) harness.Expectation {
				if !m.HasProgram() {
					return migrates(flavour, estabResets)(m)
				}
				m.Migrates, m.Asks = !w.lost, w.failures > 0 || !w.lost
				e := migrates(flavour, estabResets)(m)
				if !w.lost {
					e.Facts = map[string]any{"significance of the unevenness": harness.Range{Min: falseAlarm, Max: 1}}
				}
				e.Counted[kernel.MigrateFailure] = w.failures
				if e.Asked = w.asked; e.Asked == 0 {
					e.Strays = 0 // a program that is detached is asked nothing at all
				}
				return e
			}
		}
		if w.late == nil {
			all = append(all, harness.Scenario{
				Name:        "wrong-program-" + w.name + "-quiz1",
				Section:     harness.SectionBeyond,
				Doc:         w.title + ", and the accept queue\n\n" + w.story,
				Path:        "inet_csk_listen_stop → reuseport_migrate_sock",
				Modes:       []string{"off", "bpf"},
				Connections: 25,
				Play: func(l *harness.Lab) {
					a := l.Listen("A")
					l.Connect()
					b, c := l.Listen("B"), l.Listen("C") // the program's choice is the last
					l.AssertAcceptQueue(a)
					w.spoil(l, c)
					l.Close(a)
					acceptByHash(l, b, c)
				},
				Expect: expect(result.RSTACK, 2),
			})
		}
		all = append(all, harness.Scenario{
			Name:        "wrong-program-" + w.name + "-quiz2",
			Section:     harness.SectionBeyond,
			Doc:         w.title + ", and handshakes\n\n" + w.story,
			Path:        "tcp_v[46]_rcv → reuseport_migrate_sock → inet_csk_complete_hashdance",
			Timers:      "the client's retransmission timer (200 ms)",
			Cost:        200 * time.Millisecond,
			Modes:       []string{"off", "bpf"},
			Connections: 25,
			Play: func(l *harness.Lab) {
				a := l.Listen("A")
				l.DropACKs()
				l.Connect()
				b, c := l.Listen("B"), l.Listen("C")
				l.AssertRequests(a)
				w.spoil(l, c)
				l.Close(a)
				if w.late != nil {
					w.late(l, c)
				}
				l.StopDropping()
				l.AwaitFates(b, c)
				acceptByHash(l, b, c)
			},
			Expect: expect(result.BareRST, 1),
		})
	}
	return all
}

// acceptByHash accepts on both, and notes how likely it is that a fair hash has spread the connections so. Of 25, all
// with one of them would be one case in 16 million: a program that has chosen all the same shows.
func acceptByHash(l *harness.Lab, b, c *harness.Listener) {
	atB, atC := l.AcceptAll(b), l.AcceptAll(c)
	l.Fact("significance of the unevenness", fmt.Sprintf("%.3g (%d at B, %d at C)", coin(atB, atB+atC), atB, atC))
}
