package harness

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/netns"
)

// Way is how clients are steered; see package netns.
type Way = netns.Way

// The ways.
const (
	Lookup      = netns.Lookup
	LookupAlone = netns.LookupAlone
	TC          = netns.TC
)

// Aside binds a listener to an address to which no client connects: none reaches it unless they are steered to it. lo has all
// of 127.0.0.0/8, and of IPv6 ::1 alone.
func (l *Lab) Aside() []ListenOption {
	four := netip.AddrFrom4([4]byte{127, 0, 0, 2})
	switch {
	case l.cfg.family.Listen.Is4():
		return []ListenOption{At(four)}
	case l.v6():
		return []ListenOption{At(netip.AddrFrom16([16]byte{15: 2})), SockOpt(unix.SOL_IPV6, unix.IPV6_FREEBIND, 1)}
	default: // one that is bound to an address of IPv6 proper takes no client of IPv4 (__inet6_bind sets sk_ipv6only)
		return []ListenOption{At(netip.AddrFrom16(four.As16()))}
	}
}

// Steer attaches the program that steers the clients of the port from SteerTo on, whatever the address to which they connect.
func (l *Lab) Steer(way Way) {
	l.step("attach the program that steers clients")
	s, err := netns.Steer(l.cfg.Port, way)
	l.must(err)
	l.steering = s
}

// SteerTo steers clients to the listener. No slot of the mode's program may have it.
func (l *Lab) SteerTo(s *Listener) {
	l.step("clients are steered to %s", s.name)
	l.must(l.steering.To(s.fd))
}

// Steers tells whether clients are steered to a listener.
func (l *Lab) Steers() bool {
	steers, err := l.steering.Steers()
	l.must(wrap("read the sockmap", err))
	return steers
}
