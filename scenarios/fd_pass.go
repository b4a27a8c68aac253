package scenarios

import (
	"time"

	"github.com/rpmig/rpmig/lab"
)

var fdPassQuiz1 = lab.Scenario{
	Name:    "fd-pass-quiz1",
	Section: lab.SectionWorkround,
	Doc: `the listener itself is passed on, with the connections in its accept queue

The old process sends its listening socket to the new one over SCM_RIGHTS and
closes its own descriptor. That is not the last close of the socket, so its
accept queue stays as it is, in every mode, and nothing migrates: the new
process accepts all of them.`,
	Path:        "unix_attach_fds; inet_csk_listen_stop is not called",
	Connections: 25,
	Play: func(l *lab.Lab) {
		a := l.Listen("A")
		next := l.Worker("the new server")
		l.Connect()
		l.AssertAcceptQueue(a)
		a.PassTo(next)
		a.CloseHere()
		next.Accept(l.Connections())
	},
	Expect: lives,
}

var fdPassQuiz2 = lab.Scenario{
	Name:    "fd-pass-quiz2",
	Section: lab.SectionWorkround,
	Doc: `the listener itself is passed on, with the connections still in the handshake

As fd-pass-quiz1, but a rule drops the final ACK of each handshake until the
old process has closed its descriptor. The listener itself never closes, so
the request sockets stay with it, and the new process accepts the
connections, in every mode.`,
	Path:        "tcp_check_req; reuseport_migrate_sock is not called",
	Timers:      []lab.Timer{lab.RetransmissionTimer},
	Cost:        200 * time.Millisecond,
	Connections: 25,
	Play: func(l *lab.Lab) {
		a := l.Listen("A")
		next := l.Worker("the new server")
		l.DropACKs()
		l.Connect()
		l.AssertRequests(a)
		a.PassTo(next)
		a.CloseHere()
		l.StopDropping()
		next.Accept(l.Connections())
	},
	Expect: lives,
}
