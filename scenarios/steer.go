package scenarios

import (
	"time"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// steeredFact is whether the program that steers clients has a listener for them, once A has closed.
const steeredFact = "clients are steered to a listener"

// steered opens A aside, and steers clients to it.
func steered(l *harness.Lab, way harness.Way) *harness.Listener {
	l.Steer(way)
	a := l.Listen("A", l.Aside()...)
	// A socket may be in a sockmap or in a program's sockarray, and not in both (sk_user_data). A program that finds no
	// listener in its slot leaves the choice to the kernel, and while A is alone there is none.
	l.Program().Empty(0)
	l.SteerTo(a)
	return a
}

// handOver steers clients to B.
func handOver(l *harness.Lab, b *harness.Listener) {
	l.Program().Empty(1)
	l.SteerTo(b)
}

// steeredQuiz1 is quiz1 with clients that reach A by a program.
func steeredQuiz1(name, by, story, path string, way harness.Way) harness.Scenario {
	return harness.Scenario{
		Name:       name + "-quiz1",
		Section:    harness.SectionBeyond,
		OnlyItsOwn: true,
		Doc: "quiz1, with clients that reach the listener by " + by + "\n\n" + story + `
So what is in A's accept queue has an address that neither listener has. Which
listener it migrates to is a matter of A's reuseport group alone:
with migration B gets it, and without migration it is reset, as in quiz1. When
A closes, the kernel takes it out of the program's sockmap, and nothing is
steered any more until the server puts B there. Fresh clients reach B then.`,
		Path:  path + "; inet_csk_listen_stop → reuseport_migrate_sock",
		Probe: way.Probe,
		Play: func(l *harness.Lab) {
			a := steered(l, way)
			l.Connect()
			b := l.Listen("B", l.Aside()...)
			l.AssertAcceptQueue(a)
			a.Close()
			l.Fact(steeredFact, l.Steers())
			b.AcceptAll()
			handOver(l, b)
		},
		Expect: finding(map[string]any{steeredFact: false}, migrates(result.RSTACK, 2)),
	}
}

// steeredQuiz2 is quiz2 with clients that reach A by a program.
func steeredQuiz2(name, by, story, path string, way harness.Way) harness.Scenario {
	return harness.Scenario{
		Name:       name + "-quiz2",
		Section:    harness.SectionBeyond,
		OnlyItsOwn: true,
		Timers:     []harness.Timer{harness.RetransmissionTimer},
		Cost:       200 * time.Millisecond,
		Doc: "quiz2, with clients that reach the listener by " + by + `

As ` + name + `-quiz1, with the connections still in the handshake. The kernel
finds the request socket by the address to which the client has connected, and
needs no program for that. With migration the request is cloned for B, as in
quiz2. Without, it is dropped, and the kernel looks for a listener.
` + story + `
So it meets no socket, and the reset is sent without one, although B listens.`,
		Path:  "tcp_v[46]_rcv → reuseport_migrate_sock; " + path,
		Probe: way.Probe,
		Play: func(l *harness.Lab) {
			a := steered(l, way)
			l.DropACKs()
			l.Connect()
			b := l.Listen("B", l.Aside()...)
			l.AssertRequests(a)
			a.Close()
			l.Fact(steeredFact, l.Steers())
			l.StopDropping()
			l.AwaitOutcomes(b)
			b.AcceptAll()
			handOver(l, b)
		},
		Expect: func(m harness.Mode) verdict.Expectation {
			e := finding(map[string]any{steeredFact: false}, migrates(result.BareRST, 1))(m)
			if !e.Lives {
				e.Owner, e.Reason, e.Strays = result.NoSocket, "NO_SOCKET", 0
			}
			return e
		},
	}
}

const (
	lookupPath = "inet_lookup_run_sk_lookup"
	assignPath = "inet_steal_sock"
)

var (
	skLookupQuiz1 = steeredQuiz1("sk-lookup", "sk_lookup",
		`A and B are bound to an address to which no client connects. A BPF program of
the type sk_lookup (Linux 5.9) steers the clients of another address to A, by
bpf_sk_assign.`, lookupPath, harness.Lookup)
	skLookupQuiz2 = steeredQuiz2("sk-lookup", "sk_lookup",
		"A is gone from the program's sockmap, and nothing steers the segment to B.", lookupPath, harness.Lookup)
	tcAssignQuiz1 = steeredQuiz1("tc-assign", "tc",
		`A and B are bound to an address to which no client connects. A BPF program at
the ingress of lo (tc) assigns A to each SYN for another address, by
bpf_sk_assign (Linux 6.6, for listeners with SO_REUSEPORT).`, assignPath, harness.TC)
	tcAssignQuiz2 = steeredQuiz2("tc-assign", "tc",
		"The segment is no SYN, and only to a SYN the program assigns a listener.", assignPath, harness.TC)
)

var skLookupMoved = harness.Scenario{
	Name:       "sk-lookup-moved-quiz2",
	Section:    harness.SectionBeyond,
	OnlyItsOwn: true,
	// Not those whose program names B: it could not be in the sockmap.
	Modes:  []string{"off", "sysctl", "bpf-pass", "bpf-drop"},
	Timers: []harness.Timer{harness.RetransmissionTimer},
	Cost:   200 * time.Millisecond,
	Doc: `quiz2, with clients that are steered to the new listener in time

As sk-lookup-quiz2, but the server puts B into the program's sockmap before A
closes. That saves nothing: the request socket is A's. Without migration it is
dropped, the segment that completes the handshake is steered to B, and B,
which knows nothing of it, resets the client, as in quiz2.`,
	Path:  "tcp_v[46]_rcv → reuseport_migrate_sock; " + lookupPath,
	Probe: harness.Lookup.Probe,
	Play: func(l *harness.Lab) {
		a := steered(l, harness.Lookup)
		l.DropACKs()
		l.Connect()
		b := l.Listen("B", l.Aside()...)
		l.AssertRequests(a)
		handOver(l, b)
		a.Close()
		l.Fact(steeredFact, l.Steers())
		l.StopDropping()
		l.AwaitOutcomes(b)
		b.AcceptAll()
	},
	Expect: finding(map[string]any{steeredFact: true}, migrates(result.BareRST, 1)),
}

// newClients are how many come when they are steered to B and A still listens. Where the hash chooses between the two, the
// odds are one in 2^25 that A gets none.
const newClients = 25

// gotFact is what A gets of them.
const gotFact = "of the new clients A gets"

// skLookupDrain is connection draining by a sk_lookup program.
func skLookupDrain(name, title, story, gets string, way harness.Way) harness.Scenario {
	return harness.Scenario{
		Name:       "sk-lookup-drain-" + name,
		Section:    harness.SectionBeyond,
		OnlyItsOwn: true,
		Doc: `connection draining by sk_lookup: ` + title + `

A and B are of one reuseport group, and no client connects to their address,
as in sk-lookup-quiz1. While A still listens, the server has the sk_lookup
program steer clients to B, and accepts what is in A's accept queue.
` + story,
		Path:   lookupPath + " → inet_lookup_reuseport; inet_csk_listen_stop",
		Modes:  []string{"off", "sysctl"}, // a program of the group would choose where the hash does
		Frames: newClients * harness.FramesServed,
		Probe:  way.Probe,
		Play: func(l *harness.Lab) {
			a := steered(l, way)
			l.Connect()
			b := l.Listen("B", l.Aside()...)
			l.AssertAcceptQueue(a)
			l.SteerTo(b)
			a.AcceptAll()
			got := "none"
			for _, c := range l.Serve(newClients, []*harness.Listener{a, b}) {
				if c.By == a {
					got = "some"
				}
			}
			a.Close()
			l.Fact(gotFact, got)
		},
		Expect: finding(map[string]any{gotFact: gets}, lives),
	}
}

var (
	skLookupDrainAlone = skLookupDrain("alone", "to the new listener alone",
		`The program assigns B with BPF_SK_LOOKUP_F_NO_REUSEPORT: every new client
reaches B and none A, and when A closes nothing is lost, in either mode.`, "none", harness.LookupAlone)
	skLookupDrainGroup = skLookupDrain("group", "to the new listener's group",
		`The program assigns B and gives no flag. The kernel takes B for the entry to
its reuseport group, and lets the hash select one of that: some of the new
clients reach A, as if nothing had been steered. They live because A accepts
them before it closes.`, "some", harness.Lookup)
)
