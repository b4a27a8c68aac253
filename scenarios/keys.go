package scenarios

import (
	"errors"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/tcp"
	"github.com/rpmig/rpmig/verdict"
)

// keyOfA is the key of listener A and of its clients.
const keyOfA = "the key of A"

// key is what B has for a key; empty: none.
type key struct {
	name, what string // in the scenario's name, and in its title
	key        string
}

var keys = []key{
	{"same", "B has the same", keyOfA},
	{"none", "B has none", ""},
	{"other", "B has another", "another key"},
}

// fits tells whether B's key is that of the clients.
func (k key) fits() bool { return k.key == keyOfA }

// keyDrops count the segments that were dropped for their signature: there was none and there is a key, there was one and there is
// no key, it was made with another key.
var keyDrops = []string{"TCPMD5NotFound", "TCPMD5Unexpected", "TCPMD5Failure"}

// signing is a way to sign segments with a key.
type signing struct {
	long, config string
	algorithm    string // that the kernel has to have besides, since config selects none; empty: config does
	needs        string // what the algorithm takes
	set          func(fd int, peer netip.Addr, key string) error
}

var (
	md5Signing = signing{long: "TCP MD5 signatures", config: "CONFIG_TCP_MD5SIG", set: tcp.MD5Key}
	aoSigning  = signing{"TCP-AO", "CONFIG_TCP_AO (Linux 6.7)", "hmac(sha1)", "CONFIG_CRYPTO_HMAC and CONFIG_CRYPTO_SHA1", tcp.AOKey}
)

// probe tells whether sockets can have keys.
func (s signing) probe() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return s.lacking(s.set(fd, netip.AddrFrom4([4]byte{127, 0, 0, 1}), keyOfA))
}

// lacking tells an error that says what the kernel lacks from others: an option that it does not know, or an algorithm, which is
// ENOENT (crypto_alloc_ahash in tcp_sigpool_alloc_ahash).
func (s signing) lacking(err error) error {
	const boot = "boot a kernel that has "
	switch {
	case errors.Is(err, unix.ENOPROTOOPT):
		return &kernel.NotSupportedError{Reason: "this kernel has no " + s.long, Next: boot + s.config}
	case errors.Is(err, unix.ENOENT) && s.algorithm != "":
		return &kernel.NotSupportedError{Reason: "this kernel has no " + s.algorithm + " for " + s.long, Next: boot + s.needs}
	default:
		return err
	}
}

// clientsUse gives the clients that connect from now on a key; empty: none.
func (s signing) clientsUse(l *lab.Lab, key string) {
	if key == "" {
		l.SetClients(nil)
		return
	}
	l.SetClients(func(fd int, to netip.Addr) error { return s.set(fd, to, key) })
}

// withKey has a listener use a key with clients at the address that they connect to: here it is theirs, too.
func (s signing) withKey(l *lab.Lab, key string) lab.ListenOption {
	return lab.Setting(func(fd int) error {
		if key == "" {
			return nil
		}
		return s.set(fd, l.DialAddress(), key)
	})
}

// keyScenarios returns a scenario for each point at which a connection migrates, and each key that B may have.
func keyScenarios() []lab.Scenario {
	var all []lab.Scenario
	for _, k := range keys {
		all = append(all, k.queue())
	}
	for _, k := range keys {
		all = append(all, k.ack())
	}
	for _, k := range keys {
		all = append(all, k.timer())
	}
	return append(all, aoNone, aoSame)
}

// aoNone and aoSame are what is different, and what is not, with the successor of TCP MD5.
var (
	aoNone = lab.Scenario{
		Name:    "ao-none-quiz1",
		Section: lab.SectionHow,
		Modes:   mainModes,
		Doc: `keys of TCP-AO, out of the accept queue: B has none

A and its client have a key and sign what they send (RFC 5925). B has none.
A closes while it has the connection in its accept queue. Without migration
the client is reset, by a reset that is signed. With migration the connection
lives, and both sides go on signing: its socket has had A's key since the
handshake was complete.`,
		Path:   "inet_csk_listen_stop → reuseport_migrate_sock",
		Probe:  aoSigning.probe,
		Play:   aoSigning.quiz1(keys[1]),
		Expect: migrates(result.RSTACK, 2),
	}
	aoSame = lab.Scenario{
		Name:    "ao-same-quiz2",
		Section: lab.SectionHow,
		// Without migration nobody resets a client that the other would believe: there is no end to wait for.
		Modes:  []string{"sysctl", "bpf"},
		Timers: []lab.Timer{lab.SYNACKTimer, retransmissionAfterTimer},
		Cost:   1700 * time.Millisecond,
		Doc: `keys of TCP-AO, in the handshake: B has the same

A, its client and B have the same key, and A closes while it has a request
socket, as in quiz2. The final ACK is held against A's key first, and that of
a closed socket signs nothing (tcp_inbound_ao_hash): it is dropped, however
often the client sends it again. So only the SYN+ACK timer migrates the
request. It sends the SYN+ACK again for B, signed, and the handshake completes
there, a second late.`,
		Path:  "tcp_inbound_ao_hash; reqsk_timer_handler → reuseport_migrate_sock",
		Probe: aoSigning.probe,
		Play: func(l *lab.Lab) {
			b := aoSigning.halfOpen(l, keyOfA)
			l.StopDropping()
			l.AwaitOutcomes(b)
			l.Fact(resent, l.Counter("TCPSynRetrans"))
			b.AcceptAll()
		},
		Expect: func(m lab.Mode) verdict.Expectation {
			e := migrates(result.BareRST, 1)(m)
			e.Facts = map[string]any{resent: verdict.Each(1)}
			return e
		},
	}
)

func (k key) scenario(at, title, story, path string) lab.Scenario {
	return lab.Scenario{
		Name:    "md5-" + k.name + "-" + at,
		Section: lab.SectionHow,
		Modes:   mainModes,
		Doc:     title + ": " + k.what + "\n\n" + story,
		Path:    path,
		Probe:   md5Signing.probe,
	}
}

// queue is the case of quiz1. It ends in the same way whatever key B has.
func (k key) queue() lab.Scenario {
	s := k.scenario("quiz1", "keys of TCP MD5 signatures, out of the accept queue", map[string]string{
		"same": `A, its client and B have the same key, and A closes while it has the
connection in its accept queue. Without migration the client is reset. With
migration the connection lives on, signed as before.`,
		"none": `A and its client have a key and sign what they send (RFC 2385). B has none.
A closes while it has the connection in its accept queue. Without migration
the client is reset. With migration the connection lives, and both sides go
on signing: its socket has had A's key since the handshake was complete
(tcp_v[46]_syn_recv_sock), and no listener's key matters to it any more.`,
		"other": `A and its client have one key, and B has another. A closes while it has the
connection in its accept queue. Without migration the client is reset. With
migration the connection lives on with A's key, which its socket has had since
the handshake was complete.`,
	}[k.name], "inet_csk_listen_stop → reuseport_migrate_sock")
	s.Play = md5Signing.quiz1(k)
	s.Expect = func(m lab.Mode) verdict.Expectation {
		e := migrates(result.RSTACK, 2)(m)
		for _, name := range keyDrops {
			e.Counted[name] = 0
		}
		return e
	}
	return s
}

// lostKeys is the bug that a closed listener has no keys any more: the final ACK of its requests, which is held against its keys,
// is dropped until the SYN+ACK timer has moved the request, and the handshake completes there. The fix has tcp_md5_destruct_sock,
// which no source of Debian's of 6.1.192 or 6.12.117 has, and the changelogs of its packages, which list what these series took
// from Linux, do not name it. Of 5.15 and 6.6 nobody has looked.
func lostKeys(check string) result.Bug {
	return result.Bug{
		ID:    "9e472d9e84b1",
		Doc:   "a listener that closes loses its TCP MD5 keys, and drops the signed ACKs of its requests",
		Link:  "https://git.kernel.org/torvalds/c/9e472d9e84b11e9f3c429eba97c2a9e74461a884",
		Since: "5.14",
		Fixed: []string{"6.18"},
		Still: []string{"6.1.192", "6.12.117"},
		Modes: migrating,
		Check: check,
	}
}

// survivorsTalk is the judge's check of what comes of each survivor's talk.
const survivorsTalk = "survivors talk"

// resent is how many SYN+ACKs were sent again before the final ACK was taken.
const resent = "SYN+ACKs that were sent again"

// quiz1 stages the case of that name with keys.
func (s signing) quiz1(k key) func(*lab.Lab) {
	return func(l *lab.Lab) {
		a := l.Listen("A", s.withKey(l, keyOfA))
		s.clientsUse(l, keyOfA)
		l.Connect()
		l.AwaitArrival() // B would count what comes late
		b := l.Listen("B", s.withKey(l, k.key))
		l.AssertAcceptQueue(a)
		a.Close()
		b.AcceptAll()
		s.clientsUse(l, k.key)
	}
}

// halfOpen is quiz2 with keys until A has closed. The rule is still in.
func (s signing) halfOpen(l *lab.Lab, keyOfB string) (b *lab.Listener) {
	a := l.Listen("A", s.withKey(l, keyOfA))
	s.clientsUse(l, keyOfA)
	l.DropACKs()
	l.Connect()
	b = l.Listen("B", s.withKey(l, keyOfB))
	l.AssertRequests(a)
	a.Close()
	return b
}

// unanswered is how many clients have had an answer to what they sent before B was given their key, or would need it.
const unanswered = "clients that are answered while B lacks their key"

// ack is the case of quiz2.
func (k key) ack() lab.Scenario {
	const path = "tcp_v[46]_rcv → tcp_inbound_hash; tcp_v[46]_syn_recv_sock"
	s := k.scenario("quiz2", "keys of TCP MD5 signatures, in the handshake", map[string]string{
		"same": `A, its client and B have the same key, and A closes while it has a request
socket, as in quiz2. Without migration B resets the client. With migration the
connection's socket is made from B and has B's key, which is the same: it
lives.`,
		"none": `A and its client have a key and sign what they send (RFC 2385). B has none.
A closes while it has a request socket, as in quiz2. The final ACK is held
against A's key, though A is closed, and nothing asks for B's. With migration
B accepts the connection and reads what has come with the ACK. But its socket
was made from B and has no key: it drops what is signed, and the client drops
what is not. Nothing more gets through either way, and nothing is reset.
Without migration the client is not even reset at first: B drops what is
signed. It resets the client once it has been given the key.`,
		"other": `A and its client have one key, and B has another. A closes while it has a
request socket, as in quiz2. The final ACK is held against A's key, though A
is closed, and nothing asks for B's. With migration B accepts the connection
and reads what has come with the ACK. But its socket was made from B and has
B's key, and each side drops what the other signs: nothing more gets through
either way, and nothing is reset. Without migration B drops what the client
sends, and resets it only once it has been given the client's key.`,
	}[k.name], path)
	s.Timers, s.Cost = []lab.Timer{lab.RetransmissionTimer}, 200*time.Millisecond
	if !k.fits() {
		s.Timers = append(s.Timers, lab.Timer{Name: "four more of the client's (3.4 s in)"})
		s.Cost = 3400 * time.Millisecond
	}
	s.Play = func(l *lab.Lab) {
		b := md5Signing.halfOpen(l, k.key)
		l.StopDropping()
		md5Signing.clientsUse(l, k.key)
		if !k.fits() {
			l.Fact(unanswered, l.Share(l.AwaitCountedOrHeard(l.Connections(), keyDrops...)))
			if b.Queued() == 0 {
				learn(l, b)
			}
		}
		l.AwaitOutcomes(b)
		l.Fact(resent, l.Counter("TCPSynRetrans"))
		b.AcceptAll()
	}
	s.Bugs = []result.Bug{lostKeys(resent)}
	if !k.fits() { // by the bug B is given the key before the timer fires
		s.Bugs = append(s.Bugs, lostKeys(survivorsTalk))
	}
	s.Expect = func(m lab.Mode) verdict.Expectation {
		e := migrates(result.BareRST, 1)(m)
		e.Facts = map[string]any{resent: 0}
		if !k.fits() {
			e.Facts[unanswered] = "none"
			if e.Lives {
				e.Talk = verdict.Deaf
			}
		}
		return e
	}
	return s
}

// learn gives B the key of A.
func learn(l *lab.Lab, b *lab.Listener) {
	b.Use("it is given the key of A", func(fd int) error { return md5Signing.set(fd, l.DialAddress(), keyOfA) })
	md5Signing.clientsUse(l, keyOfA)
}

// timer is the case of synack-timer.
func (k key) timer() lab.Scenario {
	const left = "request sockets while B lacks their key"
	s := k.scenario("timer", "keys of TCP MD5 signatures, by the SYN+ACK timer", map[string]string{
		"same": `A, its client and B have the same key, A closes while it has a request socket,
and the SYN+ACK timer fires. Without migration the request is dropped, and B
resets the client. With migration B sends the SYN+ACK again, signed, and the
handshake completes there.`,
		"none": `A and its client have a key and sign what they send (RFC 2385). B has none.
A closes while it has a request socket, and the SYN+ACK timer fires. Without
migration the request is dropped. With migration it is B's, and B sends the
SYN+ACK again without a signature, so that the client drops it. In both cases
B drops what the client sends, and for the client nothing happens: it is
neither accepted nor reset. Once B is given the key, it resets the client
without migration, and with migration the handshake completes.`,
		"other": `A and its client have one key, and B has another. A closes while it has a
request socket, and the SYN+ACK timer fires. Without migration the request is
dropped. With migration it is B's, and B sends the SYN+ACK again, signed with
its own key, so that the client drops it. In both cases B drops what the
client sends, and for the client nothing happens: it is neither accepted nor
reset. Once B is given the client's key, it resets the client without
migration, and with migration the handshake completes.`,
	}[k.name], "reqsk_timer_handler → reuseport_migrate_sock; tcp_inbound_hash")
	s.Timers, s.Cost = []lab.Timer{lab.SYNACKTimer, retransmissionAfterTimer}, 1700*time.Millisecond
	if !k.fits() {
		s.Timers = append(s.Timers, lab.Timer{Name: "the one after that (3.4 s in)"})
		s.Cost = 3400 * time.Millisecond
	}
	s.Play = func(l *lab.Lab) {
		b := md5Signing.halfOpen(l, k.key)
		l.AwaitTimer(l.Mode().Migrates, l.Connections())
		l.StopDropping()
		if !k.fits() {
			// What B sends again is dropped too.
			dropped := l.Connections() + l.Requests()
			l.Fact(unanswered, l.Share(l.AwaitCountedOrHeard(dropped, keyDrops...)))
			l.Fact(left, l.Requests())
			learn(l, b)
			l.AwaitHeard()
		}
		l.AwaitOutcomes(b)
		b.AcceptAll()
		md5Signing.clientsUse(l, keyOfA)
	}
	s.Expect = func(m lab.Mode) verdict.Expectation {
		e := migrates(result.BareRST, 1)(m)
		if !k.fits() {
			e.Facts = map[string]any{unanswered: "none", left: verdict.Each(0)}
			if e.Lives {
				e.Facts[left] = verdict.Each(1)
			}
		}
		return e
	}
	return s
}
