package scenarios

import (
	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/result"
)

var quiz1 = lab.Scenario{
	Name:    "quiz1",
	Section: lab.SectionMisbehave,
	Doc: `connections in the accept queue of a listener that closes

Listener A has a client's connection in its accept queue: the handshake is
complete, the client has sent "Hello World", and the server has not called
accept.
Listener B comes up on the same port, and A closes. The kernel empties A's
accept queue inside close(). Without migration it resets what it finds there,
although B listens. With migration it moves the connection to B, and B's
accept returns it.`,
	Path: "inet_csk_listen_stop → reuseport_migrate_sock",
	Play: func(l *lab.Lab) {
		a := l.Listen("A")
		l.Connect()
		b := l.Listen("B")
		l.AssertAcceptQueue(a)
		a.Close()
		b.AcceptAll()
	},
	// RST+ACK from tcp_send_active_reset; both ends leave ESTABLISHED.
	Expect: migrates(result.RSTACK, 2),
}
