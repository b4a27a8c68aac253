package scenarios

import (
	"fmt"
	"time"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// lives is the expectation of a case in which every connection lives in every mode, and none migrates.
func lives(lab.Mode) verdict.Expectation {
	return verdict.Expectation{Lives: true, Counted: map[string]int{
		result.MigrateSuccess: 0, result.MigrateFailure: 0, result.OutRsts: 0, result.EstabResets: 0,
	}}
}

var drainQuiz1 = lab.Scenario{
	Name:    "drain-quiz1",
	Section: lab.SectionWorkround,
	Doc: `connection draining, with the connections in the accept queue

The first workaround: before A closes, it accepts until its accept queue is
empty. All that was in the queue is served, in every mode, and nothing is
left to migrate.`,
	Path:        "inet_csk_accept; inet_csk_listen_stop finds the queue empty",
	Connections: 25,
	Play: func(l *lab.Lab) {
		a := l.Listen("A")
		l.Connect()
		b := l.Listen("B")
		l.AssertAcceptQueue(a)
		l.Fact("accepted on A", a.AcceptAll())
		a.Close()
		l.Fact("accepted on B", b.AcceptAll())
	},
	Expect: func(m lab.Mode) verdict.Expectation {
		e := lives(m)
		e.Facts = map[string]any{"accepted on A": verdict.Each(1), "accepted on B": 0}
		return e
	},
}

var drainQuiz2 = lab.Scenario{
	Name:    "drain-quiz2",
	Section: lab.SectionWorkround,
	Doc: `connection draining, with the connections still in the handshake

Draining does nothing for a handshake that is not complete: accept on A
returns EAGAIN, A closes, and the request sockets end as in quiz2. Here only
migration saves them.`,
	Path:        "tcp_v[46]_rcv → reuseport_migrate_sock → inet_csk_complete_hashdance",
	Timers:      []lab.Timer{lab.RetransmissionTimer},
	Cost:        200 * time.Millisecond,
	Connections: 25,
	Play: func(l *lab.Lab) {
		a := l.Listen("A")
		l.DropACKs()
		l.Connect()
		b := l.Listen("B")
		l.AssertRequests(a)
		l.Fact("accepted on A", a.AcceptAll())
		a.Close()
		l.StopDropping()
		l.AwaitOutcomes(b)
		b.AcceptAll()
	},
	Expect: func(m lab.Mode) verdict.Expectation {
		e := migrates(result.BareRST, 1)(m)
		e.Facts = map[string]any{"accepted on A": 0}
		return e
	},
}

// drainFresh is how many clients come while A waits, and drainFreshFact where they get to.
const (
	drainFresh     = 10
	drainFreshFact = "fresh clients in B's accept queue"
)

var bpfDrain = lab.Scenario{
	Name:    "bpf-drain",
	Section: lab.SectionWorkround,
	Doc: `connection draining with BPF: handshakes are saved by waiting for them

The second workaround: a program that chooses the listener from a socket array
sends new handshakes to B alone, and A waits for its request sockets. Then A
accepts what it has and closes. Nothing is lost and nothing migrates, but the
old process has to stay as long as a SYN+ACK may be sent again: after 1 s, and
each time after twice as long, tcp_synack_retries times. Here that is 2, and
the rule drops the ACKs until the timer has fired once. With --real-timers it
is 5, as in the talk, and the rule stays until the last SYN+ACK, after
1+2+4+8+16 = 31 s. In the modes without a program A waits all the same.`,
	Path:        "reqsk_timer_handler; inet_csk_listen_stop finds the queue empty",
	Timers:      []lab.Timer{lab.SYNACKTimer, retransmissionAfterTimer},
	Cost:        1700 * time.Millisecond,
	Connections: 25,
	Ends:        3,
	Frames:      drainFresh * lab.FramesServed,
	Play: func(l *lab.Lab) {
		retries, fired := 2, 1
		if l.RealTimers() {
			retries, fired = 5, 5
		}
		l.SetSysctl("net.ipv4.tcp_synack_retries", fmt.Sprint(retries))
		// If the queue is more than half full, the timer gives up requests sooner (reqsk_timer_handler).
		a := l.Listen("A", lab.Backlog(4*l.Connections()))
		l.DropACKs()
		from := l.Now()
		l.Connect()
		b := l.Listen("B")
		l.AssertRequests(a)
		// From now on what arrives goes to B. Off and sysctl have no program, but nothing arrives meanwhile.
		l.Program().Empty(0)
		l.Program().AllToLatest()
		l.AwaitCounterByTimer("TCPSynRetrans", fired*l.Connections())
		l.StopDropping()
		l.AwaitOutcomes(a)
		// Each wait for the timer is twice as long as the one before: 1 s, 1+2 s, 1+2+4 s …
		l.Fact("the old process lingered", within(l.Now()-from, fired, retries+1, l.SlowMachine()))
		if l.Mode().HasProgram() { // else some of them may go to A
			l.Fact(drainFreshFact, portion(b.Reach(drainFresh), drainFresh))
		}
		a.AcceptAll()
		l.Fact("accepted on A", l.Accepted("A"))
		a.Close()
		b.AcceptAll()
		l.Fact("accepted on B", l.Accepted("B"))
	},
	Expect: func(m lab.Mode) verdict.Expectation {
		e := lives(m)
		e.Facts = map[string]any{
			"accepted on A": verdict.Each(1), "accepted on B": 0,
			"the old process lingered": "as the SYN+ACK timer says",
		}
		if m.HasProgram() {
			e.Facts[drainFreshFact] = "all"
		}
		return e
	},
}

// within tells whether a wait lasted until the SYN+ACK timer had fired that often, and ended before the timer gives up a
// request; on a slow machine, whether it lasted.
func within(wait time.Duration, fired, gaveUp int, slow bool) string {
	if sum := func(n int) time.Duration { return (1<<n - 1) * time.Second }; wait < sum(fired) || wait > sum(gaveUp) && !slow {
		return fmt.Sprintf("%.3f s, and not %v to %v", wait.Seconds(), sum(fired), sum(gaveUp))
	}
	return "as the SYN+ACK timer says"
}
