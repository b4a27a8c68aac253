package scenarios

import (
	"time"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// clientState is what the clients may have done before A closes.
type clientState struct {
	name, title, story string
	leave              func(*lab.Lab)
	talk               string // what comes of a survivor's
}

var clientStates = []clientState{
	{
		"closed", "clients that have closed", `The clients send "Hello World" and close before A does. `,
		(*lab.Lab).HangUp, verdict.Gone,
	},
	{
		"half-closed", "clients that have shut their sending side down",
		`The clients send "Hello World" and shut their sending side down before A
closes. `, (*lab.Lab).HalfClose, verdict.OneWay,
	},
}

// clientStateScenarios returns a scenario for each client state and each quiz.
func clientStateScenarios() []lab.Scenario {
	var all []lab.Scenario
	for _, c := range clientStates {
		all = append(all, c.quiz1(), c.quiz2())
	}
	return all
}

func (c clientState) quiz1() lab.Scenario {
	return lab.Scenario{
		Name:    "client-state-" + c.name + "-quiz1",
		Section: lab.SectionBeyond,
		Modes:   mainModes,
		Doc: c.title + ", and the accept queue\n\n" + c.story + `Their
connections wait in A's accept queue in CLOSE_WAIT. With migration they move
like any other: B reads the data, and then EOF. Without it they are reset.
EstabResets counts the server's sockets alone then, because the clients' have
left ESTABLISHED already.`,
		Path:        "inet_csk_listen_stop → reuseport_migrate_sock",
		Timers:      []lab.Timer{lab.DelayedACKTimer},
		Cost:        40 * time.Millisecond,
		Connections: 25,
		Play: func(l *lab.Lab) {
			a := l.Listen("A")
			l.Connect()
			c.leave(l)
			b := l.Listen("B")
			l.AssertClientsGone(a)
			a.Close()
			l.Fact("EOF after the data", portion(b.AcceptToEOF(), l.Connections()))
		},
		Expect: c.toEOF(migrates(result.RSTACK, 1)),
	}
}

func (c clientState) quiz2() lab.Scenario {
	return lab.Scenario{
		Name:    "client-state-" + c.name + "-quiz2",
		Section: lab.SectionBeyond,
		Modes:   mainModes,
		Doc: c.title + ", and handshakes\n\n" + c.story + `The
final ACK, the data and the FIN are all dropped. With migration what the
clients send again completes the handshake: B reads the data, and then EOF.
Without it the clients are reset. They have left ESTABLISHED already, so
EstabResets does not count that.`,
		Path:        "tcp_v[46]_rcv → reuseport_migrate_sock → inet_csk_complete_hashdance",
		Timers:      []lab.Timer{lab.RetransmissionTimer},
		Cost:        200 * time.Millisecond,
		Connections: 25,
		Play: func(l *lab.Lab) {
			a := l.Listen("A")
			l.DropACKs()
			l.Connect()
			c.leave(l)
			b := l.Listen("B")
			l.AssertRequestsGone(a)
			a.Close()
			l.StopDropping()
			l.AwaitQueuedOrReset(b)
			l.Fact("EOF after the data", portion(b.AcceptToEOF(), l.Connections()))
		},
		Expect: c.toEOF(migrates(result.BareRST, 0)),
	}
}

// toEOF is an expectation in which the server also reads EOF from each connection that lives.
func (c clientState) toEOF(expect func(lab.Mode) verdict.Expectation) func(lab.Mode) verdict.Expectation {
	return func(m lab.Mode) verdict.Expectation {
		e := expect(m)
		e.Talk, e.Facts = c.talk, map[string]any{"EOF after the data": allIf(m.Migrates)}
		return e
	}
}
