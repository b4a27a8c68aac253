package scenarios

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// throws is room in the capture for bystanders, on top of what there is for the connections of a cell: until 25 clients have
// come to one of two listeners, the other has had 150 in fewer than one of 10^20 cases.
const throws = 150 * lab.FramesServed

// unevenness is the name of a fact: how likely it is that a fair kernel spreads connections as unevenly as it has.
const unevenness = "significance of the unevenness"

// resetsBefore is the name of another: how many resets were sent by when A closes.
const resetsBefore = "resets while the clients wait"

// fair is the expectation of unevenness.
var fair = verdict.Range{Min: falseAlarm, Max: 1}

// arrivals notes how many of those that came in all have reached the listener on which nobody accepts.
func arrivals(l *lab.Lab, stuck, came int) {
	l.Fact("new clients that nobody accepts", portion(stuck, came))
	l.FactNumber(unevenness, throwsFor(stuck, came), fmt.Sprintf("%d of %d clients", stuck, came))
}

// halfOf is an expectation in which the kernel gives half of the new clients to each of two listeners; where a program says
// where they go, and names the old one, that one has all.
func halfOf(expect func(lab.Mode) verdict.Expectation) func(lab.Mode) verdict.Expectation {
	return func(m lab.Mode) verdict.Expectation {
		e := expect(m)
		e.Facts = map[string]any{unevenness: fair}
		if m.HasProgram() {
			e.Facts = map[string]any{"new clients that nobody accepts": "all"}
		}
		return e
	}
}

var leakedListener = lab.Scenario{
	Name:        "leaked-listener",
	Section:     lab.SectionBeyond,
	Connections: 25,
	Frames:      throws,
	Doc: `another process has inherited the listener, and close() does not close it

A helper that the server has started has A's descriptor too, and never
accepts. Closing it in the server is not the last close of the socket (fput),
so A goes on listening, next to B.
Without a program the kernel picks by hash: half of the new clients reach B
and are served. The other half is in A's accept queue: they are connected,
have sent, and wait, and no reset tells them that nobody will accept. A
program that still names A sends all of them there. When the helper is killed,
that is the last close. Without migration all that wait in A's accept queue
are reset then, and with it they migrate to B.`,
	Path: "filp_close → fput; then do_exit → tcp_close → inet_csk_listen_stop",
	Play: func(l *lab.Lab) {
		a := l.Listen("A")
		holder := l.Worker("the helper")
		a.PassTo(holder)
		b := l.Listen("B")
		a.CloseHere()
		arrivals(l, l.Connections(), l.ConnectUntilQueued(a, b))
		l.Fact(resetsBefore, l.Counter(result.OutRsts))
		holder.Kill()
		b.AcceptAll()
	},
	Expect: func(m lab.Mode) verdict.Expectation {
		e := halfOf(migrates(result.RSTACK, 2))(m)
		e.Facts[resetsBefore] = 0
		return e
	},
}

var shutdownFirst = lab.Scenario{
	Name:        "shutdown-first",
	Section:     lab.SectionBeyond,
	Connections: 25,
	Ends:        4, // with as many new clients
	Frames:      25 * lab.FramesServed,
	Doc: `shutdown() before close() ends a listener that another process has inherited

As leaked-listener, but A is shut down (SHUT_RD) before it is closed here. A
shutdown is done to the socket, and not to a descriptor: A stops listening and
its accept queue is emptied, although the helper still has it. What was in the
queue migrates to B, or is reset without migration. All new clients reach B.`,
	Path: "inet_shutdown → tcp_disconnect → inet_csk_listen_stop",
	Play: func(l *lab.Lab) {
		a := l.Listen("A")
		a.PassTo(l.Worker("the helper"))
		l.Connect()
		b := l.Listen("B")
		l.AssertAcceptQueue(a)
		a.Shutdown(unix.SHUT_RD)
		a.CloseHere()
		b.AcceptAll()
		// A program's array no longer has A; it is told of B, and not left to the hash.
		l.Program().AllToLatest()
		l.Fact("new clients that reach B", portion(b.Reach(l.Connections()), l.Connections()))
		b.AcceptAll()
	},
	Expect: func(m lab.Mode) verdict.Expectation {
		e := migrates(result.RSTACK, 2)(m)
		e.Facts = map[string]any{"new clients that reach B": "all"}
		return e
	},
}

var passClosedUnreadQuiz1 = lab.Scenario{
	Name:        "pass-closed-unread-quiz1",
	Section:     lab.SectionBeyond,
	Connections: 25,
	Doc: `a listener is passed on and closed unread: the accept queue

The old process passes A to a new one, as in fd-pass-quiz1, and closes its own
descriptor. The new one has a listener of its own, B, has no use for A, and
closes it without having accepted anything. That is the last close of the
socket, and ends as in quiz1: A's accept queue is reset without migration,
although B listens, and migrates to B with it.`,
	Path: "unix_detach_fds; then tcp_close → inet_csk_listen_stop",
	Play: func(l *lab.Lab) {
		a := l.Listen("A")
		next := l.Worker("the new server")
		l.Connect()
		b := l.Listen("B")
		l.AssertAcceptQueue(a)
		a.PassTo(next)
		a.CloseHere()
		next.Close()
		b.AcceptAll()
	},
	Expect: migrates(result.RSTACK, 2),
}

var passClosedUnreadQuiz2 = lab.Scenario{
	Name:        "pass-closed-unread-quiz2",
	Section:     lab.SectionBeyond,
	Timers:      []lab.Timer{lab.RetransmissionTimer},
	Cost:        200 * time.Millisecond,
	Connections: 25,
	Doc: `a listener is passed on and closed unread: handshakes

As pass-closed-unread-quiz1, with connections that are still in the handshake,
as in quiz2: they are reset without migration, and complete on B with it.`,
	Path: "unix_detach_fds; tcp_close; then tcp_v[46]_rcv → reuseport_migrate_sock",
	Play: func(l *lab.Lab) {
		a := l.Listen("A")
		next := l.Worker("the new server")
		l.DropACKs()
		l.Connect()
		b := l.Listen("B")
		l.AssertRequests(a)
		a.PassTo(next)
		a.CloseHere()
		next.Close()
		l.StopDropping()
		l.AwaitOutcomes(b)
		b.AcceptAll()
	},
	Expect: migrates(result.BareRST, 1),
}

var closeInAccept = lab.Scenario{
	Name:        "close-in-accept",
	Section:     lab.SectionBeyond,
	Connections: 25,
	Frames:      lab.FramesServed,
	Doc: `a listener is closed while a thread sleeps in accept() on it

The call of the thread holds the listener's file, so close() is not the last
close, and does not wake the thread: A goes on listening, and clients that
connect now reach it as before. TCP_DEFER_ACCEPT keeps their handshakes open
until they send. The first that sends wakes the thread, which accepts and
serves it. When its call returns, A is closed at last, and what the others
send finds it closed. Without migration they are reset, and with it they
migrate to B, which listens by then.`,
	Path: "__sys_accept4 → fput → tcp_close; then tcp_v[46]_rcv",
	Play: func(l *lab.Lab) {
		a := l.Listen("A", untilData)
		var b *lab.Listener
		read := a.CloseInAccept(func() {
			send := l.BystanderLater()
			l.ConnectSilently()
			b = l.Listen("B")
			l.AwaitCounter(deferDrop, l.Connections()+1)
			l.AssertHalfOpen(a)
			l.Fact("A, after close()", a.ShownState())
			send()
		})
		l.Fact("the thread that slept in accept has read", read)
		l.Fact("A, after accept()", a.ShownState())
		l.Send()
		l.AwaitOutcomes(b)
		b.AcceptAll()
	},
	Expect: func(m lab.Mode) verdict.Expectation {
		e := migrates(result.BareRST, 1)(m)
		e.Facts = map[string]any{
			"A, after close()": "LISTEN", "the thread that slept in accept has read": "Hello World", "A, after accept()": "gone",
		}
		return e
	},
}
