package scenarios

import (
	"time"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// slotFact is what has become of A's place in the sk_lookup program's sockmap.
const slotFact = "clients are still steered"

// steered opens A aside, and steers clients to it.
func steered(l *harness.Lab) *harness.Listener {
	l.Steer(harness.WholeGroup)
	a := l.Listen("A", l.Aside()...)
	// A socket may be in a sockmap or in a program's sockarray, and not in both (sk_user_data). While A is alone, the
	// program that finds no listener in its slot leaves the choice to the kernel, which has none.
	l.Program().Empty(0)
	l.SteerTo(a)
	return a
}

// handOver steers clients to B.
func handOver(l *harness.Lab, b *harness.Listener) {
	l.Program().Empty(1)
	l.SteerTo(b)
}

var skLookupQuiz1 = harness.Scenario{
	Name:    "sk-lookup-quiz1",
	Section: harness.SectionBeyond,
	Doc: `quiz1, with clients that reach the listener by sk_lookup

A and B are bound to an address to which no client connects. A BPF program of
the type sk_lookup (Linux 5.9) steers the clients of another address to A, by
bpf_sk_assign. So what is in A's accept queue has an address that neither
listener has. Which listener it migrates to is a matter of A's reuseport group
alone: reuseport_migrate_sock finds B there, and what migrates is as in quiz1.
When A closes, the kernel takes it out of the program's sockmap, and nothing
is steered any more until the server puts B there. B gets fresh clients then.`,
	Path:  "sock_map_close → inet_csk_listen_stop → reuseport_migrate_sock",
	Probe: harness.ProbeSteer,
	Play: func(l *harness.Lab) {
		a := steered(l)
		l.Connect()
		b := l.Listen("B", l.Aside()...)
		l.AssertAcceptQueue(a)
		a.Close()
		l.Fact(slotFact, l.Steers())
		b.AcceptAll()
		handOver(l, b)
	},
	Expect: finding(map[string]any{slotFact: false}, migrates(result.RSTACK, 2)),
}

var skLookupQuiz2 = harness.Scenario{
	Name:    "sk-lookup-quiz2",
	Section: harness.SectionBeyond,
	Timers:  []harness.Timer{harness.RetransmissionTimer},
	Cost:    200 * time.Millisecond,
	Doc: `quiz2, with clients that reach the listener by sk_lookup

As sk-lookup-quiz1, with the connections still in the handshake. The segment
that completes it is for the address to which the client has connected, and
the kernel finds the request socket by that before it looks for a listener: no
sk_lookup program is needed for it. With migration the request is cloned for
B, as in quiz2. Without, the request is dropped, and the kernel looks for a
listener. A is gone from the program's sockmap, so nothing steers the segment
to B, and it meets no socket: the reset is sent without one, although B
listens.`,
	Path:  "tcp_v[46]_rcv → reuseport_migrate_sock; inet_lookup_run_sk_lookup",
	Probe: harness.ProbeSteer,
	Play: func(l *harness.Lab) {
		a := steered(l)
		l.DropACKs()
		l.Connect()
		b := l.Listen("B", l.Aside()...)
		l.AssertRequests(a)
		a.Close()
		l.Fact(slotFact, l.Steers())
		l.StopDropping()
		l.AwaitOutcomes(b)
		b.AcceptAll()
		handOver(l, b)
	},
	Expect: func(m harness.Mode) verdict.Expectation {
		e := finding(map[string]any{slotFact: false}, migrates(result.BareRST, 1))(m)
		if !e.Lives {
			e.Owner, e.Reason, e.Strays = result.NoSocket, "NO_SOCKET", 0
		}
		return e
	},
}

var skLookupMoved = harness.Scenario{
	Name:    "sk-lookup-moved-quiz2",
	Section: harness.SectionBeyond,
	// Not those whose program names B: it could not be in the sockmap.
	Modes:  []string{"off", "sysctl", "bpf-pass", "bpf-drop"},
	Timers: []harness.Timer{harness.RetransmissionTimer},
	Cost:   200 * time.Millisecond,
	Doc: `quiz2, with clients that are steered to the new listener in time

As sk-lookup-quiz2, but the server puts B into the program's sockmap before A
closes. That saves nothing: the request socket is A's. Without migration it is
dropped, the segment that completes the handshake is steered to B, and B,
which knows nothing of it, resets the client, as in quiz2.`,
	Path:  "tcp_v[46]_rcv → reuseport_migrate_sock; inet_lookup_run_sk_lookup",
	Probe: harness.ProbeSteer,
	Play: func(l *harness.Lab) {
		a := steered(l)
		l.DropACKs()
		l.Connect()
		b := l.Listen("B", l.Aside()...)
		l.AssertRequests(a)
		handOver(l, b)
		a.Close()
		l.Fact(slotFact, l.Steers())
		l.StopDropping()
		l.AwaitOutcomes(b)
		b.AcceptAll()
	},
	Expect: finding(map[string]any{slotFact: true}, migrates(result.BareRST, 1)),
}

// newClients are how many come when clients are steered to B and A still listens: none of them at A has odds of one in 2^25
// where it is left to the hash.
const newClients = 25

// gotFact is what A gets of them.
const gotFact = "of the new clients A gets"

// skLookupDrain is connection draining by a sk_lookup program.
func skLookupDrain(name, title, story, gets string, alone bool) harness.Scenario {
	return harness.Scenario{
		Name:    "sk-lookup-drain-" + name,
		Section: harness.SectionBeyond,
		Doc: `connection draining by sk_lookup: ` + title + `

A and B are of one reuseport group, and no client connects to their address,
as in sk-lookup-quiz1. While A still listens, the server has the sk_lookup
program steer clients to B, and accepts what is in A's accept queue.
` + story,
		Path:   "inet_lookup_run_sk_lookup → inet_lookup_reuseport; inet_csk_listen_stop",
		Modes:  []string{"off", "sysctl"}, // a program of the group would choose where the hash does
		Frames: newClients * harness.FramesServed,
		Probe:  harness.ProbeSteer,
		Play: func(l *harness.Lab) {
			reach := harness.WholeGroup
			if alone {
				reach = harness.ThatAlone
			}
			l.Steer(reach)
			a := l.Listen("A", l.Aside()...)
			l.SteerTo(a)
			l.Connect()
			b := l.Listen("B", l.Aside()...)
			l.AssertAcceptQueue(a)
			l.SteerTo(b)
			a.AcceptAll()
			got := 0
			for _, c := range l.Serve(newClients, []*harness.Listener{a, b}) {
				if c.By == a {
					got++
				}
			}
			a.Close()
			l.Fact(gotFact, map[bool]string{true: "some", false: "none"}[got > 0])
		},
		Expect: finding(map[string]any{gotFact: gets}, lives),
	}
}

var (
	skLookupDrainAlone = skLookupDrain("alone", "to the new listener alone",
		`The program assigns B with BPF_SK_LOOKUP_F_NO_REUSEPORT: every new client
reaches B and none A, and when A closes nothing is lost, in either mode.`, "none", true)
	skLookupDrainGroup = skLookupDrain("group", "to the new listener's group",
		`The program assigns B and gives no flag. The kernel takes B for the entry to
its reuseport group, and lets the hash select one of that: some of the new
clients reach A, as if nothing had been steered. They live because A accepts
them before it closes.`, "some", false)
)
