package scenarios

import (
	"time"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/result"
)

// clientStates are what clients may have done by the time that A closes.
var clientStates = []struct {
	name, title, story string
	leave              func(*harness.Lab)
}{
	{
		"closed", "clients that have closed", `The clients send "Hello World" and close before A does. `,
		(*harness.Lab).HangUp,
	},
	{
		"half-closed", "clients that have shut their sending side down",
		`The clients send "Hello World" and shut their sending side down before A
closes. `, (*harness.Lab).HalfClose,
	},
}

// clientStateScenarios are all of them, for both quizzes.
func clientStateScenarios() []harness.Scenario {
	expect := func(flavour result.Flavour, estabResets int) func(harness.Mode) harness.Expectation {
		return func(m harness.Mode) harness.Expectation {
			e := migrates(flavour, estabResets)(m)
			e.Facts = map[string]any{"EOF after the data": "none"}
			if m.Migrates {
				e.Facts["EOF after the data"] = "all"
			}
			return e
		}
	}
	var all []harness.Scenario
	for _, c := range clientStates {
		all = append(all, harness.Scenario{
			Name:    "client-state-" + c.name + "-quiz1",
			Section: harness.SectionBeyond,
			Modes:   mainModes,
			Doc: c.title + ", and the accept queue\n\n" + c.story + `Their
connections wait in A's accept queue in CLOSE_WAIT, and migrate like any
other: B reads the data, and then EOF. Without migration they are reset; that
EstabResets counts for the server alone: the clients have left ESTABLISHED.`,
			Path:        "inet_csk_listen_stop → reuseport_migrate_sock",
			Connections: 25,
			Play: func(l *harness.Lab) {
				a := l.Listen("A")
				l.Connect()
				c.leave(l)
				b := l.Listen("B")
				l.AssertClientsGone(a)
				l.Close(a)
				l.Fact("EOF after the data", portion(l.AcceptToEOF(b), l.Connections()))
			},
			Expect: expect(result.RSTACK, 1),
		}, harness.Scenario{
			Name:    "client-state-" + c.name + "-quiz2",
			Section: harness.SectionBeyond,
			Modes:   mainModes,
			Doc: c.title + ", and handshakes\n\n" + c.story + `The
final ACK, the data and the FIN are all dropped; the clients retransmit the
data or, should their loss probe be first (tcp_send_loss_probe), the FIN, and
either completes the handshake. B reads the data, and then EOF. Without
migration the clients are reset, which EstabResets does not count, for they
are in FIN_WAIT1.`,
			Path:        "tcp_v[46]_rcv → reuseport_migrate_sock → inet_csk_complete_hashdance",
			Timers:      "the client's retransmission timer (200 ms)",
			Cost:        200 * time.Millisecond,
			Connections: 25,
			Play: func(l *harness.Lab) {
				a := l.Listen("A")
				l.DropACKs()
				l.Connect()
				c.leave(l)
				b := l.Listen("B")
				l.AssertRequestsGone(a)
				l.Close(a)
				l.StopDropping()
				l.AwaitQueuedOrReset(b)
				l.Fact("EOF after the data", portion(l.AcceptToEOF(b), l.Connections()))
			},
			Expect: expect(result.BareRST, 0),
		})
	}
	return all
}
