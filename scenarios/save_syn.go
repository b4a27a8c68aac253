package scenarios

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

var saveSYNOption = lab.SockOpt(unix.IPPROTO_TCP, unix.TCP_SAVE_SYN, 1)

// saveSYN are the cases: the new listener has TCP_SAVE_SYN set, both have, or the old one has.
var saveSYN = []struct {
	name, title, story string
	old, new           []lab.ListenOption
	saved              string
}{
	{
		name: "new", title: "the new listener wants the SYN, which was not saved",
		story: `Only B has TCP_SAVE_SYN set. A SYN is saved when it arrives, by the listener
that it reaches (tcp_conn_request → tcp_reqsk_record_syn), and that was A:
with migration B gets the connection, and TCP_SAVED_SYN is empty.
ip-sysctl.rst warns of that, and of listeners with different settings in
general.`,
		new: []lab.ListenOption{saveSYNOption}, saved: "none",
	},
	{
		name: "both", title: "both listeners want the SYN, and it migrates",
		story: `A and B have TCP_SAVE_SYN set. With migration the SYN that A saved goes with
the connection: the child takes it from its request when it is made
(tcp_move_syn), before it gets into A's accept queue, or into that of B.`,
		old: []lab.ListenOption{saveSYNOption}, new: []lab.ListenOption{saveSYNOption}, saved: "all",
	},
	{
		name: "old", title: "only the old listener wanted the SYN, and it migrates",
		story: `Only A has TCP_SAVE_SYN set. With migration the SYN that A saved goes with the
connection, and B can read it without having asked for it: the setting belongs
to the listener, the SYN to the connection.`,
		old: []lab.ListenOption{saveSYNOption}, saved: "all",
	},
}

// saveSYNScenarios returns a scenario for each case and each quiz.
func saveSYNScenarios() []lab.Scenario {
	var all []lab.Scenario
	for _, c := range saveSYN {
		expect := func(flavour result.Flavour, estabResets int) func(lab.Mode) verdict.Expectation {
			return func(m lab.Mode) verdict.Expectation {
				e := migrates(flavour, estabResets)(m)
				e.Facts = map[string]any{"connections with their SYN": "none"}
				if m.Migrates {
					e.Facts["connections with their SYN"] = c.saved
				}
				return e
			}
		}
		all = append(all, lab.Scenario{
			Name:        "save-syn-" + c.name + "-quiz1",
			Section:     lab.SectionHow,
			Modes:       mainModes,
			Doc:         c.title + " (quiz1)\n\n" + c.story,
			Path:        "inet_csk_listen_stop → reuseport_migrate_sock",
			Connections: 25,
			Play: func(l *lab.Lab) {
				a := l.Listen("A", c.old...)
				l.Connect()
				b := l.Listen("B", c.new...)
				l.AssertAcceptQueue(a)
				a.Close()
				l.Fact("connections with their SYN", portion(b.AcceptSavedSYN(), l.Connections()))
			},
			Expect: expect(result.RSTACK, 2),
		}, lab.Scenario{
			Name:        "save-syn-" + c.name + "-quiz2",
			Section:     lab.SectionHow,
			Modes:       mainModes,
			Doc:         c.title + " (quiz2)\n\n" + c.story,
			Path:        "tcp_v[46]_rcv → reuseport_migrate_sock → inet_csk_complete_hashdance",
			Timers:      []lab.Timer{lab.RetransmissionTimer},
			Cost:        200 * time.Millisecond,
			Connections: 25,
			Play: func(l *lab.Lab) {
				a := l.Listen("A", c.old...)
				l.DropACKs()
				l.Connect()
				b := l.Listen("B", c.new...)
				l.AssertRequests(a)
				a.Close()
				l.StopDropping()
				l.AwaitOutcomes(b)
				l.Fact("connections with their SYN", portion(b.AcceptSavedSYN(), l.Connections()))
			},
			Expect: expect(result.BareRST, 1),
		})
	}
	return append(all, saveSYNTimer)
}

var saveSYNTimer = lab.Scenario{
	Name:    "save-syn-both-timer",
	Section: lab.SectionHow,
	Modes:   mainModes,
	Doc: `both listeners want the SYN, and the SYN+ACK timer migrates the request

A and B have TCP_SAVE_SYN set, and the request migrates before there is a
child to take the SYN. With migration the timer clones the request for B, and
what was saved goes with the clone (inet_reqsk_clone): B can read it once the
handshake is complete.`,
	Path:        "reqsk_timer_handler → reuseport_migrate_sock",
	Timers:      []lab.Timer{lab.SYNACKTimer, retransmissionAfterTimer},
	Cost:        1700 * time.Millisecond,
	Connections: 5,
	Play: func(l *lab.Lab) {
		a := l.Listen("A", saveSYNOption)
		l.DropACKs()
		l.Connect()
		b := l.Listen("B", saveSYNOption)
		l.AssertRequests(a)
		a.Close()
		l.AwaitSYNACKTimers()
		l.StopDropping()
		l.AwaitOutcomes(b)
		l.Fact("connections with their SYN", portion(b.AcceptSavedSYN(), l.Connections()))
	},
	Expect: func(m lab.Mode) verdict.Expectation {
		e := migrates(result.BareRST, 1)(m)
		e.Facts = map[string]any{"connections with their SYN": "none"}
		if m.Migrates {
			e.Facts["connections with their SYN"] = "all"
		}
		return e
	},
}
