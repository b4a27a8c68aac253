package scenarios

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/tcp"
	"github.com/rpmig/rpmig/verdict"
)

// Whose value of an option an accepted socket has.
const (
	listenerA = "A's"
	listenerB = "B's"
	neither   = "neither's"
	zero      = neither + ": 0"
)

// option is a socket option that A and B set to different values, and whose value a connection has when B's accept returns it.
type option struct {
	name   string
	values [2]int // what A sets, and B; not both 0
	// set is what a listener calls before it listens. get reads the option, of a connection with an IPv6 client or an IPv4 one;
	// a listener is asked too.
	set func(fd, value int) error
	get func(fd int, v6 bool) (int, error)
	// seen are A's value and B's as a connection shows them; nil: as the listeners do.
	seen *[2]int
	// queue, ack and timer are whose value holds when a connection migrates out of the accept queue, with the final ACK, and by
	// the SYN+ACK timer.
	queue, ack, timer string
	by                string // the kernel function that decides it for a request
}

// copied is an option that a child has from the listener that made it: the whole socket is copied (inet_csk_clone_lock). In
// the accept queue the child is there already.
func copied(name string, level, opt, a, b int) option {
	return option{
		name: name, values: [2]int{a, b}, by: "inet_csk_clone_lock", queue: listenerA, ack: listenerB, timer: listenerB,
		set: func(fd, value int) error { return unix.SetsockoptInt(fd, level, opt, value) },
		get: func(fd int, _ bool) (int, error) { return unix.GetsockoptInt(fd, level, opt) },
	}
}

// copiedIP is an option that has one name for IPv4 packets and another for IPv6. An IPv6 socket has both.
func copiedIP(name string, opt int, name6 string, opt6, a, b int) option {
	o := copied(name+" or "+name6, unix.IPPROTO_IP, opt, a, b)
	v4, v6 := o, copied("", unix.IPPROTO_IPV6, opt6, a, b)
	o.set = func(fd, value int) error {
		if err := v4.set(fd, value); err != nil {
			return err
		}
		if is6, err := tcp.IsIPv6(fd); err != nil || !is6 {
			return err
		}
		return v6.set(fd, value)
	}
	o.get = func(fd int, is6 bool) (int, error) {
		if is6 {
			return v6.get(fd, is6)
		}
		return v4.get(fd, is6)
	}
	return o
}

// fixed makes an option one that the request already holds, from A, to which the SYN came.
func (o option) fixed(by string) option {
	o.ack, o.timer, o.by = listenerA, listenerA, by
	return o
}

// showing gives an option what connections show where that is not what the listeners do.
func (o option) showing(a, b int) option {
	o.seen = &[2]int{a, b}
	return o
}

// lost makes an option one that no connection has from its listener: it is 0.
func (o option) lost(by string) option {
	o.queue, o.ack, o.timer, o.by = zero, zero, zero, by
	return o
}

// lingerOption is SO_LINGER, in seconds.
func lingerOption(a, b int) option {
	o := copied("SO_LINGER", 0, 0, a, b)
	o.set = func(fd, value int) error {
		return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: int32(value)})
	}
	o.get = func(fd int, _ bool) (int, error) {
		linger, err := unix.GetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER)
		if err != nil {
			return 0, err
		}
		return int(linger.Onoff * linger.Linger), nil
	}
	return o
}

// congestionOption is TCP_CONGESTION: A takes one algorithm, and B another. The values say which of congestionControls.
func congestionOption() option {
	o := copied("TCP_CONGESTION", 0, 0, 0, 1)
	o.by = "inet_csk_clone_lock, tcp_ca_openreq_child"
	o.set = func(fd, value int) error {
		names, err := congestionControls()
		if err != nil {
			return err
		}
		return unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, names[value])
	}
	o.get = func(fd int, _ bool) (int, error) {
		names, err := congestionControls()
		if err != nil {
			return 0, err
		}
		name, err := unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION)
		return slices.Index(names, name), err
	}
	return o
}

// congestionControls are two algorithms or more that this kernel has.
func congestionControls() ([]string, error) {
	const file = "/proc/sys/net/ipv4/tcp_available_congestion_control"
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	names := strings.Fields(string(b))
	if len(names) < 2 {
		return nil, &kernel.NotSupportedError{
			Reason: "this kernel has one congestion control alone: " + strings.Join(names, " "),
			Next:   "load another: modprobe tcp_cubic",
		}
	}
	return names, nil
}

// windowScale is no option of its own: it follows from those of the receive buffer, and the SYN+ACK tells the client of it.
func windowScale() option {
	return option{
		name: "the window scale, from SO_RCVBUF and TCP_WINDOW_CLAMP", queue: listenerA, ack: listenerA, timer: listenerA,
		by: "tcp_openreq_init_rwin, at the SYN", set: func(int, int) error { return nil },
		get: func(fd int, _ bool) (int, error) { return tcp.WindowScale(fd) },
	}
}

// timestamps is how much shorter the segments of a connection are that has TCP timestamps (TCPOLEN_TSTAMP_ALIGNED).
const timestamps = 12

// clampA and clampB bound receive windows. The scale goes by the bound: none below 64 KiB, 1 from there to 128 KiB
// (tcp_select_initial_window).
const clampA, clampB = 50000, 100000

// maxSegA and maxSegB leave a connection few segments, so that the capture needs no more room than in other cases.
const maxSegA, maxSegB = 32000, 31000

// options are those that servers set on their listeners, and that an ordinary user may.
var options = []option{
	copied("TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1, 0),
	copied("SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1, 0),
	copied("TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 600, 700),
	copied("TCP_KEEPINTVL", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 60, 70),
	copied("TCP_KEEPCNT", unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 6, 7),
	copied("TCP_USER_TIMEOUT", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 60000, 70000),
	copied("TCP_LINGER2", unix.IPPROTO_TCP, unix.TCP_LINGER2, 20, 30),
	copied("TCP_SYNCNT", unix.IPPROTO_TCP, unix.TCP_SYNCNT, 4, 5),
	copied("TCP_THIN_LINEAR_TIMEOUTS", unix.IPPROTO_TCP, unix.TCP_THIN_LINEAR_TIMEOUTS, 1, 0),
	copied("TCP_NOTSENT_LOWAT", unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, 16384, 32768),
	congestionOption(),
	lingerOption(1, 2),
	copied("SO_OOBINLINE", unix.SOL_SOCKET, unix.SO_OOBINLINE, 1, 0),
	copied("SO_SNDBUF", unix.SOL_SOCKET, unix.SO_SNDBUF, 40000, 60000),
	copied("SO_RCVBUF", unix.SOL_SOCKET, unix.SO_RCVBUF, 70000, 150000),
	windowScale().showing(0, 1),
	copied("TCP_WINDOW_CLAMP", unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP, clampA, clampB).fixed("tcp_openreq_init_rwin, at the SYN"),
	copied("TCP_MAXSEG", unix.IPPROTO_TCP, unix.TCP_MAXSEG, maxSegA, maxSegB).fixed("tcp_conn_request, tcp_parse_options, at the SYN").
		showing(maxSegA-timestamps, maxSegB-timestamps),
	copied("SO_RCVLOWAT", unix.SOL_SOCKET, unix.SO_RCVLOWAT, 2, 3),
	copiedIP("IP_TTL", unix.IP_TTL, "IPV6_UNICAST_HOPS", unix.IPV6_UNICAST_HOPS, 61, 62),
	copiedIP("IP_TOS", unix.IP_TOS, "IPV6_TCLASS", unix.IPV6_TCLASS, 0x10, 0x20),
	copiedIP("IP_FREEBIND", unix.IP_FREEBIND, "IPV6_FREEBIND", unix.IPV6_FREEBIND, 1, 0),
	copiedIP("IP_TRANSPARENT", unix.IP_TRANSPARENT, "IPV6_TRANSPARENT", unix.IPV6_TRANSPARENT, 1, 0),
	copied("SO_MARK", unix.SOL_SOCKET, unix.SO_MARK, 0x11, 0x22).fixed("inet_request_mark, at the SYN"),
	copied("SO_PRIORITY", unix.SOL_SOCKET, unix.SO_PRIORITY, 3, 5).lost("sk_clone_lock sets it to 0"), // after IP_TOS, which sets it too
}

// settings are those of A, 0, or of B, 1.
func settings(side int) lab.ListenOption {
	return lab.Setting(func(fd int) error {
		for _, o := range options {
			if err := o.set(fd, o.values[side]); err != nil {
				return fmt.Errorf("set %s: %w", o.name, err)
			}
		}
		return nil
	})
}

// ask reads the options.
func ask(fd int, v6 bool) ([]int, error) {
	got := make([]int, len(options))
	for i, o := range options {
		var err error
		if got[i], err = o.get(fd, v6); err != nil {
			return nil, fmt.Errorf("get %s: %w", o.name, err)
		}
	}
	return got, nil
}

// whose names the listener that has a connection's value of an option.
func (o option) whose(a, b, got int) string {
	if o.seen != nil {
		a, b = o.seen[0], o.seen[1]
	}
	switch got {
	case a:
		return listenerA
	case b:
		return listenerB
	default:
		return fmt.Sprintf("%s: %d", neither, got)
	}
}

// asked has a listener tell what its options are. It has those of IPv4 and of IPv6 set to the same values.
func asked(s *lab.Listener) (values []int) {
	s.Use("which options it has", func(fd int) (err error) {
		values, err = ask(fd, false)
		return err
	})
	return values
}

// acceptAsking accepts on B, and notes of each option whose value the connections have.
func acceptAsking(l *lab.Lab, onA []int, b *lab.Listener) {
	onB, found := asked(b), make([][]string, len(options))
	b.AcceptUsing(func(fd int, peer netip.AddrPort) error {
		got, err := ask(fd, peer.Addr().Is6())
		if err != nil {
			return err
		}
		for i, o := range options {
			if onA[i] == onB[i] && o.seen == nil {
				return fmt.Errorf("the listeners have the same %s", o.name)
			}
			found[i] = append(found[i], o.whose(onA[i], onB[i], got[i]))
		}
		return sayAtOnce(fd)
	})
	b.Use("SO_RCVLOWAT is 1 again", sayAtOnce)
	for i, o := range options {
		slices.Sort(found[i])
		if whose := slices.Compact(found[i]); len(whose) > 0 {
			l.Fact(o.name, strings.Join(whose, " and "))
		}
	}
}

// sayAtOnce undoes SO_RCVLOWAT: with that, whoever polls for a last byte, or for a single one, waits in vain.
func sayAtOnce(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVLOWAT, 1) }

// optionsExpect is the expectation of a case in which options are asked for.
func optionsExpect(flavour result.Flavour, estabResets int, whose func(option) string) func(lab.Mode) verdict.Expectation {
	return func(m lab.Mode) verdict.Expectation {
		e := migrates(flavour, estabResets)(m)
		if m.Migrates {
			e.Facts = map[string]any{}
			for _, o := range options {
				e.Facts[o.name] = whose(o)
			}
		}
		return e
	}
}

// optionsProbe tells whether all of the options can be set.
func optionsProbe() error {
	_, err := congestionControls()
	return err
}

var optionsQueue = lab.Scenario{
	Name:    "options-queue",
	Section: lab.SectionHow,
	Doc: `socket options that differ between the listeners: out of the accept queue

A and B set many socket options to different values, and A closes while it has
a connection in its accept queue. Without migration the connection is lost.
With migration it moves as it is: its socket was made from A when the
handshake was complete (inet_csk_clone_lock), and B's accept returns it with
A's options. Only SO_PRIORITY is neither's, since no connection has that from
a listener. docs/OPTIONS.md has the table, and what to do about it.`,
	Path:  "inet_csk_listen_stop → reuseport_migrate_sock",
	Probe: optionsProbe,
	Play: func(l *lab.Lab) {
		a := l.Listen("A", settings(0))
		l.Connect()
		b := l.Listen("B", settings(1))
		l.AssertAcceptQueue(a)
		onA := asked(a)
		a.Close()
		acceptAsking(l, onA, b)
	},
	Expect: optionsExpect(result.RSTACK, 2, func(o option) string { return o.queue }),
}

// halfOpenAsked is quiz2 with settings until A has closed, and returns what A's options were. The rule is still in.
func halfOpenAsked(l *lab.Lab) (onA []int, b *lab.Listener) {
	a := l.Listen("A", settings(0))
	l.DropACKs()
	l.Connect()
	b = l.Listen("B", settings(1))
	l.AssertRequests(a)
	onA = asked(a)
	a.Close()
	return onA, b
}

var optionsACK = lab.Scenario{
	Name:    "options-ack",
	Section: lab.SectionHow,
	Timers:  []lab.Timer{lab.RetransmissionTimer},
	Cost:    200 * time.Millisecond,
	Doc: `socket options that differ between the listeners: in the handshake

A and B set many socket options to different values, and A closes while it has
a request socket, as in quiz2. Without migration the connection is lost. With
migration its socket is made when the final ACK has come, from B, to which the
request has moved, and has B's options. But what the request has held since
the SYN came is A's: SO_MARK, TCP_MAXSEG, TCP_WINDOW_CLAMP, and the window
scale, which the SYN+ACK has told the client. B's larger SO_RCVBUF does not
change that any more.`,
	Path:  "tcp_v[46]_rcv → reuseport_migrate_sock → inet_csk_complete_hashdance",
	Probe: optionsProbe,
	Play: func(l *lab.Lab) {
		onA, b := halfOpenAsked(l)
		l.StopDropping()
		l.AwaitOutcomes(b)
		acceptAsking(l, onA, b)
	},
	Expect: optionsExpect(result.BareRST, 1, func(o option) string { return o.ack }),
}

var optionsTimer = lab.Scenario{
	Name:    "options-timer",
	Section: lab.SectionHow,
	Timers:  []lab.Timer{lab.SYNACKTimer, retransmissionAfterTimer},
	Cost:    1700 * time.Millisecond,
	Doc: `socket options that differ between the listeners: by the SYN+ACK timer

As options-ack, but the rule stays until the SYN+ACK timer has fired. Without
migration that drops the request, and the connection is lost. With migration
it moves the request to B with all that it has held since the SYN came
(inet_reqsk_clone), and the connection's socket is made from B when the final
ACK has come. So what is A's and what is B's is as in options-ack.`,
	Path:  "reqsk_timer_handler → reuseport_migrate_sock",
	Probe: optionsProbe,
	Play: func(l *lab.Lab) {
		onA, b := halfOpenAsked(l)
		l.AwaitSYNACKTimers()
		l.Fact("request sockets once the timer has fired", l.Requests())
		l.StopDropping()
		l.AwaitOutcomes(b)
		acceptAsking(l, onA, b)
	},
	Expect: func(m lab.Mode) verdict.Expectation {
		e := optionsExpect(result.BareRST, 1, func(o option) string { return o.timer })(m)
		left := 0
		if m.Migrates {
			left = 1
		} else {
			e.Facts = map[string]any{}
		}
		e.Facts["request sockets once the timer has fired"] = verdict.Each(left)
		return e
	},
}
