package scenarios

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// otherGroup is a listener of A's port that clients could reach, and that is in another group than A.
type otherGroup struct {
	name, title, story string
	a                  []lab.ListenOption             // of A
	listen             func(l *lab.Lab) *lab.Listener // returns nil if it may not listen
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
		listen: func(l *lab.Lab) *lab.Listener { return l.Listen("B", lab.At(l.OtherAddress())) },
	},
	{
		name: "device", title: "no migration to a listener bound to a device",
		story: `A listens on all devices, B on lo alone (SO_BINDTOIFINDEX). B is in another
group (inet_reuseport_add_sock compares the device). New clients reach B once
A is closed, but what A holds is lost in every mode.`,
		listen: func(l *lab.Lab) *lab.Listener {
			return l.Listen("B", lab.SockOpt(unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, lab.Loopback))
		},
	},
	{
		name: "v6only", title: "no migration to a listener for IPv6 alone",
		story: `A and B both listen on the IPv6 wildcard: A takes IPv4 too, and B does not
(IPV6_V6ONLY). B is in another group (inet_reuseport_add_sock compares
ipv6_only_sock). New IPv6 clients reach B once A is closed, but what A holds
is lost in every mode.`,
		a: []lab.ListenOption{wildcard6, v6only(0)},
		listen: func(l *lab.Lab) *lab.Listener {
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
		a: []lab.ListenOption{wildcard6, v6only(1)},
		listen: func(l *lab.Lab) *lab.Listener {
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
		listen: func(l *lab.Lab) *lab.Listener {
			b, said := l.TryListen("B", lab.Owner(lab.OtherUID))
			l.Fact("another user's bind", said)
			return b
		},
		facts: map[string]any{"another user's bind": "EADDRINUSE"},
		probe: lab.ProbeOwner,
	},
}

// wildcard6 makes a listener one of the IPv6 wildcard.
var wildcard6 = lab.At(netip.IPv6Unspecified())

// v6only tells whether a listener is for IPv6 alone (ipv6(7)).
func v6only(on int) lab.ListenOption {
	return lab.SockOpt(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, on)
}

// otherGroupScenarios returns each other group with both quizzes, and the user that changes too late to matter.
func otherGroupScenarios() []lab.Scenario {
	var all []lab.Scenario
	for _, o := range otherGroups {
		all = append(all, o.quiz1(), o.quiz2())
	}
	return append(all, otherGroupUIDLater)
}

func (o otherGroup) quiz1() lab.Scenario {
	return lab.Scenario{
		Name:        "other-group-" + o.name + "-quiz1",
		Section:     lab.SectionBeyond,
		Modes:       mainModes,
		Families:    o.families,
		Doc:         o.title + " (quiz1)\n\n" + o.story,
		Path:        "inet_csk_listen_stop → reuseport_migrate_sock, which finds no listener",
		Connections: 25,
		Probe:       o.probe,
		Play: func(l *lab.Lab) {
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

func (o otherGroup) quiz2() lab.Scenario {
	return lab.Scenario{
		Name:        "other-group-" + o.name + "-quiz2",
		Section:     lab.SectionBeyond,
		Modes:       mainModes,
		Families:    o.families,
		Doc:         o.title + " (quiz2)\n\n" + o.story,
		Path:        "tcp_v[46]_rcv → reuseport_migrate_sock, which finds no listener",
		Timers:      []lab.Timer{lab.RetransmissionTimer},
		Cost:        200 * time.Millisecond,
		Connections: 25,
		Probe:       o.probe,
		Play: func(l *lab.Lab) {
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

func (o otherGroup) expect(flavour result.Flavour, estabResets int) func(lab.Mode) verdict.Expectation {
	return func(m lab.Mode) verdict.Expectation {
		e := noListenerLeft(flavour, estabResets, "", "")(m)
		e.Facts = o.facts
		return e
	}
}

var otherGroupUIDLater = lab.Scenario{
	Name:    "other-group-uid-later",
	Section: lab.SectionBeyond,
	Modes:   mainModes,
	Doc: `a listener that is given to another user stays in the group

Users are compared when a socket binds and listens, and not again later: B
listens as ours, is then given to another user (fchown), and with migration
the connections still move to it.`,
	Path:        "inet_csk_listen_stop → reuseport_migrate_sock",
	Connections: 25,
	Probe:       lab.ProbeOwner,
	Play: func(l *lab.Lab) {
		a := l.Listen("A")
		l.Connect()
		b := l.Listen("B")
		b.Chown(lab.OtherUID)
		l.AssertAcceptQueue(a)
		a.Close()
		b.AcceptAll()
	},
	Expect: migrates(result.RSTACK, 2),
}
