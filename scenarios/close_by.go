package scenarios

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/result"
)

// ending is a way for a listener to end, or to look as if it did.
type ending struct {
	name, title string
	story       string
	path        string // how it gets to inet_csk_listen_stop
	probe       func() error
	end         func(*harness.Lab, *harness.Listener)
	stays       bool // it still listens
}

var endings = []ending{
	{
		name: "close", title: "close()",
		story: `The plain case, beside which the others are held.`,
		path:  "tcp_close",
		end:   (*harness.Lab).Close,
	},
	{
		name: "exit", title: "the exit of its process",
		story: `Only another process has A any more, and that process exits: the kernel
closes its descriptors for it (exit_files).`,
		path: "do_exit → exit_files → tcp_close",
		end: func(l *harness.Lab, a *harness.Listener) {
			w := l.Worker("old")
			l.Pass(a, w)
			l.LetGo(a)
			l.Exit(w)
		},
	},
	{
		name: "sigkill", title: "the death of its process",
		story: `Only another process has A any more, and that process is killed with SIGKILL,
as by the OOM killer: the kernel closes its descriptors for it (exit_files).`,
		path: "do_exit → exit_files → tcp_close",
		end: func(l *harness.Lab, a *harness.Listener) {
			w := l.Worker("old")
			l.Pass(a, w)
			l.LetGo(a)
			l.Kill(w)
		},
	},
	{
		name: "shut-rd", title: "shutdown(SHUT_RD)",
		story: `The socket lives on, but inet_shutdown takes it out of LISTEN just as close()
does (tcp_disconnect).`,
		path: "inet_shutdown → tcp_disconnect",
		end:  func(l *harness.Lab, a *harness.Listener) { l.Shutdown(a, unix.SHUT_RD) },
	},
	{
		name: "shut-rdwr", title: "shutdown(SHUT_RDWR)",
		story: `The socket lives on, but inet_shutdown takes it out of LISTEN just as close()
does (tcp_disconnect). The kernel's own selftest ends its listeners like this.`,
		path: "inet_shutdown → tcp_disconnect",
		end:  func(l *harness.Lab, a *harness.Listener) { l.Shutdown(a, unix.SHUT_RDWR) },
	},
	{
		name: "shut-wr", title: "shutdown(SHUT_WR)",
		story: `A listener sends nothing, and so inet_shutdown leaves it alone unless it is to
stop receiving (RCV_SHUTDOWN): A goes on listening, keeps what it has, and in
every mode nothing is lost and nothing migrates.`,
		path:  "inet_shutdown; inet_csk_listen_stop is not called",
		end:   func(l *harness.Lab, a *harness.Listener) { l.Shutdown(a, unix.SHUT_WR) },
		stays: true,
	},
	{
		name: "sock-destroy", title: "SOCK_DESTROY",
		story: `Somebody destroys it over sock_diag, as "ss -K" does: tcp_abort takes it out
of LISTEN and empties its accept queue as close() does, although the process
still holds the socket.`,
		path:  "inet_diag_handler_cmd → tcp_abort",
		probe: harness.ProbeDestroy,
		end:   (*harness.Lab).Destroy,
	},
	{
		name: "disconnect", title: "connect(AF_UNSPEC)",
		story: `connect(2) to an address of family AF_UNSPEC dissolves what a socket is
associated with. For a listener that is its being one: __inet_stream_connect
calls tcp_disconnect, as shutdown() does.`,
		path: "__inet_stream_connect → tcp_disconnect",
		end:  (*harness.Lab).Disconnect,
	},
}

// closeBy is quiz1 and quiz2 with every ending.
func closeBy() []harness.Scenario {
	var all []harness.Scenario
	for _, e := range endings {
		expect1, expect2 := migrates(result.RSTACK, 2), migrates(result.BareRST, 1)
		if e.stays {
			expect1, expect2 = staysWithA, staysWithA
		}
		all = append(all, harness.Scenario{
			Name:    "close-by-" + e.name + "-quiz1",
			Section: harness.SectionBeyond,
			Modes:   mainModes,
			Doc: "quiz1, with the listener ended by " + e.title + "\n\n" + e.story + `
The connections are in the accept queue by then, as in quiz1.`,
			Path:  e.path + " → inet_csk_listen_stop",
			Probe: e.probe,
			Play: func(l *harness.Lab) {
				a := l.Listen("A")
				l.Connect()
				b := l.Listen("B")
				l.AssertAcceptQueue(a)
				e.end(l, a)
				if e.stays {
					l.AcceptAll(a)
				}
				l.AcceptAll(b)
				l.Fact("accepted by A", l.Share(l.Accepted("A")))
			},
			Expect: expect1,
		}, harness.Scenario{
			Name:    "close-by-" + e.name + "-quiz2",
			Section: harness.SectionBeyond,
			Modes:   mainModes,
			Timers:  "the client's retransmission timer (200 ms)",
			Cost:    200 * time.Millisecond,
			Doc: "quiz2, with the listener ended by " + e.title + "\n\n" + e.story + `
The connections are still in the handshake by then, as in quiz2.`,
			Path:  e.path + "; tcp_v[46]_rcv",
			Probe: e.probe,
			Play: func(l *harness.Lab) {
				a := l.Listen("A")
				l.DropACKs()
				l.Connect()
				b := l.Listen("B")
				l.AssertRequests(a)
				e.end(l, a)
				l.StopDropping()
				if e.stays {
					l.AwaitFates(a, b)
					l.AcceptAll(a)
				} else {
					l.AwaitFates(b)
				}
				l.AcceptAll(b)
				l.Fact("accepted by A", l.Share(l.Accepted("A")))
			},
			Expect: expect2,
		})
	}
	return all
}

// staysWithA is the expectation of a case in which every connection stays with A in every mode.
func staysWithA(m harness.Mode) harness.Expectation {
	e := lives(m)
	e.Facts = map[string]any{"accepted by A": "all"}
	return e
}

// allIf words in the manner of Lab.Share what is true of every connection or of none.
func allIf(all bool) string {
	if all {
		return "all"
	}
	return "none"
}
