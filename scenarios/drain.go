package scenarios

import (
	"time"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/result"
)

// lives is the expectation of a case in which every connection lives in every mode, and none migrates.
func lives(harness.Mode) harness.Expectation {
	return harness.Expectation{Lives: true, Counted: map[string]int{
		kernel.MigrateSuccess: 0, kernel.MigrateFailure: 0, kernel.OutRsts: 0, kernel.EstabResets: 0,
	}}
}

var drainQuiz1 = harness.Scenario{
	Name:    "drain-quiz1",
	Section: harness.SectionWorkround,
	Doc: `connection draining, with the connections in the accept queue

The first workaround: before A closes it accepts until there is nothing left.
What was in its accept queue is served, in every mode, and nothing is left to
migrate.`,
	Path:        "inet_csk_accept; inet_csk_listen_stop finds the queue empty",
	Connections: 25,
	Play: func(l *harness.Lab) {
		a := l.Listen("A")
		l.Connect()
		b := l.Listen("B")
		l.AssertAcceptQueue(a)
		l.Fact("accepted on A", l.AcceptAll(a))
		l.Close(a)
		l.Fact("accepted on B", l.AcceptAll(b))
	},
	Expect: func(m harness.Mode) harness.Expectation {
		e := lives(m)
		e.Facts = map[string]any{"accepted on A": harness.Each(1), "accepted on B": 0}
		return e
	},
}

var drainQuiz2 = harness.Scenario{
	Name:    "drain-quiz2",
	Section: harness.SectionWorkround,
	Doc: `connection draining, with the connections still in the handshake

Draining does nothing for a handshake that is not done: accept on A says
EAGAIN, A closes, and the request sockets share the fate that quiz2 shows.
Only migration saves them.`,
	Path:        "tcp_v[46]_rcv → reuseport_migrate_sock → inet_csk_complete_hashdance",
	Timers:      "the client's retransmission timer (200 ms)",
	Cost:        200 * time.Millisecond,
	Connections: 25,
	Play: func(l *harness.Lab) {
		a := l.Listen("A")
		l.DropACKs()
		l.Connect()
		b := l.Listen("B")
		l.AssertRequests(a)
		l.Fact("accepted on A", l.AcceptAll(a))
		l.Close(a)
		l.StopDropping()
		l.AwaitFates(b)
		l.AcceptAll(b)
	},
	Expect: func(m harness.Mode) harness.Expectation {
		e := migrates(result.BareRST, 1)(m)
		e.Facts = map[string]any{"accepted on A": 0}
		return e
	},
}

// drainRetries is tcp_synack_retries of bpf-drain: the talk's 5 take 31 s.
const drainRetries = "1"

var bpfDrain = harness.Scenario{
	Name:    "bpf-drain",
	Section: harness.SectionWorkround,
	Doc: `connection draining with BPF: both kinds saved, by waiting

The second workaround. A program chooses the listener from a socket array. A
is taken out of the array, so that new handshakes go to B, and A then waits
until its request sockets are all gone: either their ACK gets through, or the
SYN+ACK timer has fired tcp_synack_retries times and once more, after 1, 2, 4,
… seconds. The rule holds the ACKs up until the last SYN+ACK has been sent,
which is the worst that can be saved. Then A accepts what it has and closes.
Nothing is lost and nothing migrates; the price is that the old process, with
its old settings, lives on for that long. Here tcp_synack_retries is 1, so the
last SYN+ACK is sent after 1 s and the request would die after 1+2 s; the
talk's default of 5 takes 1+2+4+8+16 = 31 s to the last SYN+ACK.`,
	Path:        "reqsk_timer_handler; inet_csk_listen_stop finds the queue empty",
	Timers:      "the SYN+ACK timer, once for each of tcp_synack_retries (1 s)",
	Cost:        1200 * time.Millisecond,
	Modes:       []string{"off", "sysctl", "bpf", "bpf-pass", "bpf-drop", "bpf-select"},
	Connections: 25,
	Weather:     []harness.Sysctl{{Name: "net.ipv4.tcp_synack_retries", Value: drainRetries}},
	Play: func(l *harness.Lab) {
		a := l.Listen("A")
		l.DropACKs()
		from := l.Now()
		l.Connect()
		b := l.Listen("B")
		l.AssertRequests(a)
		// From now on what arrives goes to B; off and sysctl have no program, and nothing arrives meanwhile.
		l.EmptySlot(0)
		l.Program(harness.Policy{Answer: l.Mode().Answer, Arrive: 1, Migrate: 1})
		l.AwaitCounter("TCPSynRetrans", l.Connections())
		waited := l.Now() - from
		l.StopDropping()
		l.AwaitFates(a)
		l.Fact("A lingered", waited.Seconds())
		l.Fact("accepted on A", l.AcceptAll(a))
		l.Close(a)
		l.Fact("accepted on B", l.AcceptAll(b))
	},
	Expect: func(m harness.Mode) harness.Expectation {
		e := lives(m)
		e.Counted["TCPSynRetrans"] = 1
		e.Facts = map[string]any{
			"accepted on A": harness.Each(1), "accepted on B": 0,
			// No sooner than the last SYN+ACK; later than 1+2 s there would be nothing left to save.
			"A lingered": harness.Range{Min: 1, Max: 3, Unit: "s"},
		}
		return e
	},
}
