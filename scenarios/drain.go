package scenarios

import (
	"fmt"
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

var bpfDrain = harness.Scenario{
	Name:    "bpf-drain",
	Section: harness.SectionWorkround,
	Doc: `connection draining with BPF: both kinds saved, by waiting

The second workaround. A program chooses the listener from a socket array. A
is taken out of the array, so that new handshakes go to B, and A then waits
until none of its request sockets can be left: the SYN+ACK timer fires after
1, 2, 4, … seconds, tcp_synack_retries times, and once more to give up. Then A
accepts what it has and closes. Nothing is lost and nothing migrates; the
price is that the old process, with its old settings, lives on for that long.
Here tcp_synack_retries is 2, and the rule holds the ACKs up until the timer
has fired once. With --real-timers it is the talk's 5, and the rule holds on
to the last SYN+ACK, after 1+2+4+8+16 = 31 s.`,
	Path:        "reqsk_timer_handler; inet_csk_listen_stop finds the queue empty",
	Timers:      "the SYN+ACK timer (1 s), the client's third retransmission (1.4 s in)",
	Cost:        1500 * time.Millisecond,
	Connections: 25,
	Play: func(l *harness.Lab) {
		retries, fired := 2, 1
		if l.RealTimers() {
			retries, fired = 5, 5
		}
		l.Set("net.ipv4.tcp_synack_retries", fmt.Sprint(retries))
		// In a queue that is more than half full the timer gives requests up sooner (reqsk_timer_handler).
		a := l.Listen("A", harness.Backlog(4*l.Connections()))
		l.DropACKs()
		from := l.Now()
		l.Connect()
		b := l.Listen("B")
		l.AssertRequests(a)
		// From now on what arrives goes to B; off and sysctl have no program, and nothing arrives meanwhile.
		l.EmptySlot(0)
		l.Program(harness.Policy{Answer: l.Mode().Answer, Arrive: 1, Migrate: 1})
		l.AwaitCounterByTimer("TCPSynRetrans", fired*l.Connections())
		l.StopDropping()
		l.AwaitFates(a)
		// In times of the first wait, which the timers that follow double: 1 s, 1+2 s, 1+2+4 s …
		l.Fact("the old process lingered", within(l.Now()-from, fired, retries+1))
		l.Fact("accepted on A", l.AcceptAll(a))
		l.Close(a)
		l.Fact("accepted on B", l.AcceptAll(b))
	},
	Expect: func(m harness.Mode) harness.Expectation {
		e := lives(m)
		e.Facts = map[string]any{
			"accepted on A": harness.Each(1), "accepted on B": 0,
			"the old process lingered": "as the SYN+ACK timer says",
		}
		return e
	},
}

// within tells whether a wait lasted until the SYN+ACK timer had fired as often as it says, and less than until it
// gives a request up.
func within(wait time.Duration, fired, gaveUp int) string {
	if sum := func(n int) time.Duration { return (1<<n - 1) * time.Second }; wait < sum(fired) || wait > sum(gaveUp) {
		return fmt.Sprintf("%.3f s, and not %v to %v", wait.Seconds(), sum(fired), sum(gaveUp))
	}
	return "as the SYN+ACK timer says"
}
