package scenarios

import (
	"time"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// payloadSize is more than a server receives on a connection that it does not read from (64 KiB, by the default of
// tcp_rmem), and less than a client's send buffer may hold (4 MiB, by that of tcp_wmem).
const payloadSize = 192 << 10

var bigPayload = lab.Scenario{
	Name:    "big-payload",
	Section: lab.SectionBeyond,
	Doc: `receive windows full of data migrate with their connections

Each client sends more than the server's receive window holds: the window is
full before A closes, and the rest waits at the client. With migration the
connection takes all that it has received along, B reads it, which opens the
window, and the rest follows. Each byte is compared with the one that was
sent. The payload does not repeat itself, so a part that is lost or moved
shows.`,
	Path:        "inet_csk_listen_stop → reuseport_migrate_sock",
	Timers:      []lab.Timer{lab.DelayedACKTimer},
	Cost:        40 * time.Millisecond,
	Connections: 4,
	Play: func(l *lab.Lab) {
		l.Payload(payloadSize)
		a := l.Listen("A")
		l.Connect()
		b := l.Listen("B")
		l.AssertAcceptQueue(a)
		l.Fact("queued for each connection", l.AwaitFullWindows())
		a.Close()
		b.AcceptAll()
	},
	Expect: func(m lab.Mode) verdict.Expectation {
		e := migrates(result.RSTACK, 2)(m)
		e.Facts = map[string]any{"queued for each connection": verdict.Range{Min: 32 << 10, Max: payloadSize - 1, Unit: "bytes"}}
		return e
	},
}
