package scenarios

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// otherGroup is a listener of A's port that clients could reach, and that is in another group than A.
type otherGroup struct {
	name, title, story string
	a                  []harness.ListenOption                 // of A
	listen             func(l *harness.Lab) *harness.Listener // returns nil if it may not listen
	families           []string
	facts              map[string]any
	probe              func() error
}

var otherGroups = []otherGroup{
	{
		name: "address", title: "no migration to a listener on another address",
		story: `A listens on the address that clients connect to, B on the wildcard (in
family dual A has the IPv6 wildcard, and B that of IPv4). B is in another
group (inet_reuseport_add_sock compares family and address). New clients
reach B once A is closed, but what A holds is lost in every mode.`,
		listen: func(l *harness.Lab) *harness.Listener { return l.Listen("B", harness.At(l.OtherAddress())) },
	},
	{
		name: "device", title: "no migration to a listener bound to a device",
		story: `A listens on all devices, B on lo alone (SO_BINDTOIFINDEX). B is in another
group (inet_reuseport_add_sock compares the device). New clients reach B once
A is closed, but what A holds is lost in every mode.`,
		listen: func(l *harness.Lab) *harness.Listener {
			return l.Listen("B", harness.SockOpt(unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, harness.Loopback))
		},
	},
	{
		name: "v6only", title: "no migration to a listener for IPv6 alone",
		story: `A and B both listen on the IPv6 wildcard: A takes IPv4 too, and B does not
(IPV6_V6ONLY). B is in another group (inet_reuseport_add_sock compares
ipv6_only_sock). New IPv6 clients reach B once A is closed, but what A holds
is lost in every mode.`,
		a: []harness.ListenOption{wildcard6, v6only(0)},
		listen: func(l *harness.Lab) *harness.Listener {
			return l.Listen("B", wildcard6, v6only(1))
		},
		families: []string{"ipv6"},
	},
	{
		name: "not-v6only", title: "no migration from a listener for IPv6 alone",
		story: `A and B both listen on the IPv6 wildcard: B takes IPv4 too, and A does not
(IPV6_V6ONLY). B is in another group (inet_reuseport_add_sock compares
ipv6_only_sock). New clients reach B once A is closed, but what A holds is
lost in every mode.`,
		a: []harness.ListenOption{wildcard6, v6only(1)},
		listen: func(l *harness.Lab) *harness.Listener {
			return l.Listen("B", wildcard6, v6only(0))
		},
		families: []string{"ipv6"},
	},
	{
		name: "uid", title: "another user cannot even listen on the port",
		story: `A is ours, B belongs to another user. Listeners that share a port must belong
to one user, so that nobody can take connections from another user's server:
B gets EADDRINUSE (inet_csk_bind_conflict compares the sockets' users). No
other listener is there when A closes, and what A holds is lost in every mode.`,
		listen: func(l *harness.Lab) *harness.Listener {
			b, said := l.TryListen("B", harness.Owner(harness.OtherUID))
			l.Fact("another user's bind", said)
			return b
		},
		facts: map[string]any{"another user's bind": "EADDRINUSE"},
		probe: harness.ProbeOwner,
	},
}

// wildcard6 makes a listener one of the IPv6 wildcard.
var wildcard6 = harness.At(netip.IPv6Unspecified())

// v6only tells whether a listener is for IPv6 alone (ipv6(7)).
func v6only(on int) harness.ListenOption {
	return harness.SockOpt(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, on)
}

// otherGroupScenarios returns each other group with both quizzes, and the user that changes too late to matter.
func otherGroupScenarios() []harness.Scenario {
	var all []harness.Scenario
	for _, o := range otherGroups {
		all = append(all, o.quiz1(), o.quiz2())
	}
	return append(all, otherGroupUIDLater)
}

func (o otherGroup) quiz1() harness.Scenario {
	return harness.Scenario{
		Name:        "other-group-" + o.name + "-quiz1",
		Section:     harness.SectionBeyond,
		Modes:       mainModes,
		Families:    o.families,
		Doc:         o.title + " (quiz1)\n\n" + o.story,
		Path:        "inet_csk_listen_stop → reuseport_migrate_sock, which finds no listener",
		Connections: 25,
		Probe:       o.probe,
		Play: func(l *harness.Lab) {
			a := l.Listen("A", o.a...)
			l.Connect()
			b := o.listen(l)
			l.AssertAcceptQueue(a)
			a.Close()
			if b != nil {
				b.AcceptAll()
			}
		},
		Expect: o.expect(result.RSTACK, 2),
	}
}

func (o otherGroup) quiz2() harness.Scenario {
	return harness.Scenario{
		Name:        "other-group-" + o.name + "-quiz2",
		Section:     harness.SectionBeyond,
		Modes:       mainModes,
		Families:    o.families,
		Doc:         o.title + " (quiz2)\n\n" + o.story,
		Path:        "tcp_v[46]_rcv → reuseport_migrate_sock, which finds no listener",
		Timers:      []harness.Timer{harness.RetransmissionTimer},
		Cost:        200 * time.Millisecond,
		Connections: 25,
		Probe:       o.probe,
		Play: func(l *harness.Lab) {
			a := l.Listen("A", o.a...)
			l.DropACKs()
			l.Connect()
			b := o.listen(l)
			l.AssertRequests(a)
			a.Close()
			l.StopDropping()
			if b == nil {
				l.AwaitOutcomes()
				return
			}
			l.AwaitOutcomes(b)
			b.AcceptAll()
		},
		Expect: o.expect(result.BareRST, 1),
	}
}

func (o otherGroup) expect(flavour result.Flavour, estabResets int) func(harness.Mode) verdict.Expectation {
	return func(m harness.Mode) verdict.Expectation {
		e := noListenerLeft(flavour, estabResets, "", "")(m)
		e.Facts = o.facts
		return e
	}
}

var otherGroupUIDLater = harness.Scenario{
	Name:    "other-group-uid-later",
	Section: harness.SectionBeyond,
	Modes:   mainModes,
	Doc: `a listener that is given to another user stays in the group

Users are compared when a socket binds and listens, and not again later: B
listens as ours, is then given to another user (fchown), and with migration
the connections still move to it.`,
	Path:        "inet_csk_listen_stop → reuseport_migrate_sock",
	Connections: 25,
	Probe:       harness.ProbeOwner,
	Play: func(l *harness.Lab) {
		a := l.Listen("A")
		l.Connect()
		b := l.Listen("B")
		b.Chown(harness.OtherUID)
		l.AssertAcceptQueue(a)
		a.Close()
		b.AcceptAll()
	},
	Expect: migrates(result.RSTACK, 2),
}
