package scenarios

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/result"
)

// otherGroups are listeners of the same port that clients would reach, and that are of another group than A.
var otherGroups = []struct {
	name, title, story string
	listen             func(l *harness.Lab) *harness.Listener // nil: it may not listen
	facts              map[string]any
	probe              func() error
}{
	{
		name: "address", title: "a listener on another address is no target",
		story: `A listens on the address that clients connect to, B on the wildcard (in
family dual, where A has the IPv6 wildcard, B has that of IPv4). B is of
another group (inet_reuseport_add_sock compares family and address), which is
no matter to new clients: they reach B once A is gone. What A holds is lost
in every mode.`,
		listen: func(l *harness.Lab) *harness.Listener { return l.Listen("B", harness.At(l.OtherAddress())) },
	},
	{
		name: "device", title: "a listener bound to a device is no target",
		story: `A listens on all devices, B on lo alone (SO_BINDTOIFINDEX). New clients reach
B even while A is there, for it scores higher (compute_score), and yet B is
of another group (inet_reuseport_add_sock compares the device). What A holds
is lost in every mode.`,
		listen: func(l *harness.Lab) *harness.Listener {
			return l.Listen("B", harness.SockOpt(unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, harness.Loopback))
		},
	},
	{
		name: "uid", title: "another user's listener is no target, and cannot even be",
		story: `A is ours, B belongs to another user. Whoever shares a port has to be the
same user, lest somebody steal the connections of another's server: bind says
EADDRINUSE to B (inet_csk_bind_conflict compares sk_uid). Nobody else listens
when A closes, and what it holds is lost in every mode.`,
		listen: func(l *harness.Lab) *harness.Listener {
			b, said := l.TryListen("B", harness.Owner(harness.OtherUID))
			l.Fact("another user's bind", said)
			return b
		},
		facts: map[string]any{"another user's bind": "EADDRINUSE"},
		probe: harness.ProbeOwner,
	},
}

// otherGroupScenarios are all of them, for both quizzes, and the user who changes when it is too late to matter.
func otherGroupScenarios() []harness.Scenario {
	var all []harness.Scenario
	for _, o := range otherGroups {
		expect := func(flavour result.Flavour, estabResets int) func(harness.Mode) harness.Expectation {
			return func(m harness.Mode) harness.Expectation {
				e := nobodyLeft(flavour, estabResets, "", "")(m)
				e.Facts = o.facts
				return e
			}
		}
		accept := func(l *harness.Lab, b *harness.Listener) {
			if b != nil {
				l.AcceptAll(b)
			}
		}
		all = append(all, harness.Scenario{
			Name:        "other-group-" + o.name + "-quiz1",
			Section:     harness.SectionBeyond,
			Modes:       mainModes,
			Doc:         o.title + " (quiz1)\n\n" + o.story,
			Path:        "inet_csk_listen_stop → reuseport_migrate_sock, which finds the group empty",
			Connections: 25,
			Probe:       o.probe,
			Play: func(l *harness.Lab) {
				a := l.Listen("A")
				l.Connect()
				b := o.listen(l)
				l.AssertAcceptQueue(a)
				l.Close(a)
				accept(l, b)
			},
			Expect: expect(result.RSTACK, 2),
		}, harness.Scenario{
			Name:        "other-group-" + o.name + "-quiz2",
			Section:     harness.SectionBeyond,
			Modes:       mainModes,
			Doc:         o.title + " (quiz2)\n\n" + o.story,
			Path:        "tcp_v[46]_rcv → reuseport_migrate_sock, which finds the group empty",
			Timers:      "the client's retransmission timer (200 ms)",
			Cost:        200 * time.Millisecond,
			Connections: 25,
			Probe:       o.probe,
			Play: func(l *harness.Lab) {
				a := l.Listen("A")
				l.DropACKs()
				l.Connect()
				b := o.listen(l)
				l.AssertRequests(a)
				l.Close(a)
				l.StopDropping()
				if b != nil {
					l.AwaitFates(b)
				} else {
					l.AwaitFates()
				}
				accept(l, b)
			},
			Expect: expect(result.BareRST, 1),
		})
	}
	return append(all, harness.Scenario{
		Name:    "other-group-uid-later",
		Section: harness.SectionBeyond,
		Modes:   mainModes,
		Doc: `a listener that is given to another user stays in the group

Users are compared when a socket binds and listens, and never again: B
listens as ours, is then given to another user (fchown), and is a target all
the same.`,
		Path:        "inet_csk_listen_stop → reuseport_migrate_sock",
		Connections: 25,
		Probe:       harness.ProbeOwner,
		Play: func(l *harness.Lab) {
			a := l.Listen("A")
			l.Connect()
			b := l.Listen("B")
			l.Chown(b, harness.OtherUID)
			l.AssertAcceptQueue(a)
			l.Close(a)
			l.AcceptAll(b)
		},
		Expect: migrates(result.RSTACK, 2),
	})
}
