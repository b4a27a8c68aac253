package scenarios

import (
	"maps"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// ending is a way to end a listener, or a call that looks like one.
type ending struct {
	name, title string
	story       string
	path        string // how the kernel gets to inet_csk_listen_stop
	probe       func() error
	// end is called before the clients connect, so that processes are up by then, and returns what ends the listener.
	end   func(*lab.Lab) func(*lab.Listener)
	stays bool // it still listens
	// after is A's state when it has ended and is still this process's; empty where it is not.
	after    string
	allModes bool           // not the main ones alone
	facts    map[string]any // that it finds out
}

var endings = []ending{
	{
		name: "close", title: "close()",
		story: `The plain case, with which the others are compared.`,
		path:  "tcp_close",
		end:   always((*lab.Listener).Close),
	},
	{
		name: "exit", title: "the exit of its process",
		story: `Another process is the last that has A, and it exits: the kernel closes its
descriptors (exit_files).`,
		path: "do_exit → exit_files → tcp_close",
		end:  byProcess((*lab.Worker).Exit),
	},
	{
		name: "sigkill", title: "the death of its process",
		story: `Another process is the last that has A, and it is killed with SIGKILL, as by
the OOM killer: the kernel closes its descriptors (exit_files).`,
		path: "do_exit → exit_files → tcp_close",
		end:  byProcess((*lab.Worker).Kill),
	},
	{
		name: "shut-rd", title: "shutdown(SHUT_RD)",
		story: `The socket stays, but inet_shutdown takes it out of LISTEN, as close() does
(tcp_disconnect).`,
		path:  "inet_shutdown → tcp_disconnect",
		end:   always(func(a *lab.Listener) { a.Shutdown(unix.SHUT_RD) }),
		after: "CLOSE",
	},
	{
		name: "shut-rdwr", title: "shutdown(SHUT_RDWR)",
		story: `The socket stays, but inet_shutdown takes it out of LISTEN, as close() does
(tcp_disconnect). The kernel's selftest ends its listeners like this.`,
		path:  "inet_shutdown → tcp_disconnect",
		end:   always(func(a *lab.Listener) { a.Shutdown(unix.SHUT_RDWR) }),
		after: "CLOSE",
	},
	{
		name: "shut-wr", title: "shutdown(SHUT_WR)",
		story: `A listener has no sending side: inet_shutdown does nothing to it unless it
shall stop receiving (RCV_SHUTDOWN). A goes on listening and keeps what it
has, and in every mode nothing is lost and nothing migrates.`,
		path:  "inet_shutdown; inet_csk_listen_stop is not called",
		end:   always(func(a *lab.Listener) { a.Shutdown(unix.SHUT_WR) }),
		stays: true,
		after: "LISTEN",
	},
	{
		name: "sock-destroy", title: "SOCK_DESTROY",
		story: `The listener is destroyed over sock_diag, as by "ss -K": tcp_abort takes it
out of LISTEN and empties its accept queue as close() does, although the
process still has the socket.`,
		path:  "inet_diag_handler_cmd → tcp_abort",
		probe: lab.ProbeDestroy,
		end:   always((*lab.Listener).Destroy),
		after: "CLOSE",
	},
	{
		name: "bpf-destroy", title: "bpf_sock_destroy",
		story: `A BPF program of the type iter/tcp walks through the sockets of the namespace
and calls bpf_sock_destroy (Linux 6.5) on A. So inet_csk_listen_stop runs
inside a program, where it may not sleep (commit eaab8cab451b). A kernel that
looks for such mistakes (CONFIG_DEBUG_ATOMIC_SLEEP) tells of them in its log:
where this user may read that, there has to be nothing of the kind. tcp_abort
takes A out of LISTEN and empties its accept queue as close() does, although
the process still has the socket.`,
		path:     "bpf_iter_tcp_seq_show → bpf_sock_destroy → tcp_abort",
		probe:    kernel.ProbeDestroyByBPF,
		end:      always((*lab.Listener).DestroyByBPF),
		after:    "CLOSE",
		allModes: true,
		facts:    map[string]any{lab.LogFact: verdict.IfKnown("no splat")},
	},
	{
		name: "disconnect", title: "connect(AF_UNSPEC)",
		story: `connect(2) to an address of family AF_UNSPEC disconnects a socket. A listener
stops listening: __inet_stream_connect calls tcp_disconnect, as shutdown()
does.`,
		path:  "__inet_stream_connect → tcp_disconnect",
		end:   always((*lab.Listener).Disconnect),
		after: "CLOSE",
	},
}

// always returns an ending that needs nothing before the clients connect.
func always(end func(*lab.Listener)) func(*lab.Lab) func(*lab.Listener) {
	return func(*lab.Lab) func(*lab.Listener) { return end }
}

// byProcess returns an ending in which another process is the last that has the listener, and ends.
func byProcess(end func(*lab.Worker)) func(*lab.Lab) func(*lab.Listener) {
	return func(l *lab.Lab) func(*lab.Listener) {
		w := l.Worker("old")
		return func(a *lab.Listener) {
			a.PassTo(w)
			a.CloseHere()
			end(w)
		}
	}
}

// stateFact is A's state once it has ended.
const stateFact = "A's socket is in"

// look notes it.
func (e *ending) look(l *lab.Lab, a *lab.Listener) {
	if e.after != "" {
		l.Fact(stateFact, a.State())
	}
}

// expect adds it to an expectation.
func (e *ending) expect(expect func(lab.Mode) verdict.Expectation) func(lab.Mode) verdict.Expectation {
	return func(m lab.Mode) verdict.Expectation {
		x := expect(m)
		if x.Facts == nil {
			x.Facts = map[string]any{}
		}
		if e.after != "" {
			x.Facts[stateFact] = e.after
		}
		return x
	}
}

// closeBy returns quiz1 and quiz2 with every ending.
func closeBy() []lab.Scenario {
	var all []lab.Scenario
	for _, e := range endings {
		expect1, expect2 := migrates(result.RSTACK, 2), migrates(result.BareRST, 1)
		what, end, path1 := "with the listener ended by ", ", and end as in ", e.path+" → inet_csk_listen_stop"
		if e.stays {
			expect1, expect2 = staysWithA, staysWithA
			what, end, path1 = "with the listener not ended by ", ", as in ", e.path
		}
		modes := mainModes
		if e.allModes {
			modes = nil
		}
		all = append(all, lab.Scenario{
			Name:    "close-by-" + e.name + "-quiz1",
			Section: lab.SectionBeyond,
			Modes:   modes,
			Doc:     "quiz1, " + what + e.title + "\n\n" + e.story + "\nThe connections are in its accept queue" + end + "quiz1.",
			Path:    path1,
			Probe:   e.probe,
			Play: func(l *lab.Lab) {
				a := l.Listen("A")
				stop := e.end(l)
				l.Connect()
				b := l.Listen("B")
				l.AssertAcceptQueue(a)
				stop(a)
				e.look(l, a)
				if e.stays {
					a.AcceptAll()
				}
				b.AcceptAll()
				l.Fact("accepted by A", l.Share(l.Accepted("A")))
			},
			Expect: finding(e.facts, e.expect(expect1)),
		}, lab.Scenario{
			Name:    "close-by-" + e.name + "-quiz2",
			Section: lab.SectionBeyond,
			Modes:   modes,
			Timers:  []lab.Timer{lab.RetransmissionTimer},
			Cost:    200 * time.Millisecond,
			Doc:     "quiz2, " + what + e.title + "\n\n" + e.story + "\nThe connections are still in the handshake" + end + "quiz2.",
			Path:    e.path + "; tcp_v[46]_rcv",
			Probe:   e.probe,
			Play: func(l *lab.Lab) {
				a := l.Listen("A")
				stop := e.end(l)
				l.DropACKs()
				l.Connect()
				b := l.Listen("B")
				l.AssertRequests(a)
				stop(a)
				e.look(l, a)
				l.StopDropping()
				if e.stays {
					l.AwaitOutcomes(a, b)
					a.AcceptAll()
				} else {
					l.AwaitOutcomes(b)
				}
				b.AcceptAll()
				l.Fact("accepted by A", l.Share(l.Accepted("A")))
			},
			Expect: finding(e.facts, e.expect(expect2)),
		})
	}
	return all
}

// finding adds facts to an expectation.
func finding(facts map[string]any, expect func(lab.Mode) verdict.Expectation) func(lab.Mode) verdict.Expectation {
	if facts == nil {
		return expect
	}
	return func(m lab.Mode) verdict.Expectation {
		e := expect(m)
		if e.Facts == nil {
			e.Facts = map[string]any{}
		}
		maps.Copy(e.Facts, facts)
		return e
	}
}

// staysWithA is the expectation of a case in which every connection stays with A in every mode.
func staysWithA(m lab.Mode) verdict.Expectation {
	e := lives(m)
	e.Facts = map[string]any{"accepted by A": "all"}
	return e
}

// allIf returns what Lab.Share says of every connection, or of none.
func allIf(all bool) string {
	if all {
		return "all"
	}
	return "none"
}
