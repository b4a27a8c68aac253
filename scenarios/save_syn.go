package scenarios

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/result"
)

var saveSYNOption = harness.SockOpt(unix.IPPROTO_TCP, unix.TCP_SAVE_SYN, 1)

// saveSYN are who has TCP_SAVE_SYN, the old listener, the new one, or both.
var saveSYN = []struct {
	name, title, story string
	old, new           []harness.ListenOption
	saved              string
}{
	{
		name: "new", title: "the new listener wants the SYN, and nobody has saved it",
		story: `Only B has TCP_SAVE_SYN set. A SYN is saved when it comes, by the listener
that it reaches (tcp_conn_request → tcp_reqsk_record_syn), which was A: B
gets the connection, and TCP_SAVED_SYN is empty. Listeners of one group need
not be alike, and this is why migration has to be asked for.`,
		new: []harness.ListenOption{saveSYNOption}, saved: "none",
	},
	{
		name: "both", title: "both listeners want the SYN, and it migrates",
		story: `A and B have TCP_SAVE_SYN set. The SYN that A saved goes with the connection:
a child in the accept queue has it already (tcp_move_syn), and the clone of a
request takes it over (inet_reqsk_clone, reqsk_migrate_reset). Where all
listeners are set up alike, nothing is missing.`,
		old: []harness.ListenOption{saveSYNOption}, new: []harness.ListenOption{saveSYNOption}, saved: "all",
	},
	{
		name: "old", title: "only the old listener wanted the SYN, and it migrates",
		story: `Only A has TCP_SAVE_SYN set. What it saved goes with the connection, and B
can have it, who never asked for it: the setting is the listener's, the SYN
is the connection's.`,
		old: []harness.ListenOption{saveSYNOption}, saved: "all",
	},
}

// saveSYNScenarios are all of them, for both quizzes.
func saveSYNScenarios() []harness.Scenario {
	var all []harness.Scenario
	for _, c := range saveSYN {
		expect := func(flavour result.Flavour, estabResets int) func(harness.Mode) harness.Expectation {
			return func(m harness.Mode) harness.Expectation {
				e := migrates(flavour, estabResets)(m)
				e.Facts = map[string]any{"connections with their SYN": "none"}
				if m.Migrates {
					e.Facts["connections with their SYN"] = c.saved
				}
				return e
			}
		}
		all = append(all, harness.Scenario{
			Name:        "save-syn-" + c.name + "-quiz1",
			Section:     harness.SectionHow,
			Modes:       mainModes,
			Doc:         c.title + " (quiz1)\n\n" + c.story,
			Path:        "inet_csk_listen_stop → reuseport_migrate_sock",
			Connections: 25,
			Play: func(l *harness.Lab) {
				a := l.Listen("A", c.old...)
				l.Connect()
				b := l.Listen("B", c.new...)
				l.AssertAcceptQueue(a)
				l.Close(a)
				l.Fact("connections with their SYN", portion(l.AcceptSavedSYN(b), l.Connections()))
			},
			Expect: expect(result.RSTACK, 2),
		}, harness.Scenario{
			Name:        "save-syn-" + c.name + "-quiz2",
			Section:     harness.SectionHow,
			Modes:       mainModes,
			Doc:         c.title + " (quiz2)\n\n" + c.story,
			Path:        "tcp_v[46]_rcv → reuseport_migrate_sock → inet_csk_complete_hashdance",
			Timers:      "the client's retransmission timer (200 ms)",
			Cost:        200 * time.Millisecond,
			Connections: 25,
			Play: func(l *harness.Lab) {
				a := l.Listen("A", c.old...)
				l.DropACKs()
				l.Connect()
				b := l.Listen("B", c.new...)
				l.AssertRequests(a)
				l.Close(a)
				l.StopDropping()
				l.AwaitFates(b)
				l.Fact("connections with their SYN", portion(l.AcceptSavedSYN(b), l.Connections()))
			},
			Expect: expect(result.BareRST, 1),
		})
	}
	return all
}
