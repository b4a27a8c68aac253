package scenarios

import (
	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/result"
)

// payloadSize is more than the receive window of a connection that nobody reads from, and less than a client may have
// left to send (64 KiB and 4 MiB, by the defaults of tcp_rmem and tcp_wmem).
const payloadSize = 192 << 10

var bigPayload = harness.Scenario{
	Name:    "big-payload",
	Section: harness.SectionBeyond,
	Doc: `receive windows full of data migrate with their connections

Each client sends three times as much as the server's receive window holds:
the window is full before A closes, and the rest waits at the client. The
connection migrates with all that it has received, B reads it, which opens
the window, and the rest follows. Each byte has to be the one that was sent,
and the payload repeats itself nowhere near.`,
	Path:        "inet_csk_listen_stop → reuseport_migrate_sock",
	Connections: 4,
	Play: func(l *harness.Lab) {
		l.Payload(sequence(payloadSize))
		a := l.Listen("A")
		l.Connect()
		b := l.Listen("B")
		l.AssertAcceptQueue(a)
		l.Fact("queued for each connection", l.AwaitFullWindows())
		l.Close(a)
		l.AcceptAll(b)
	},
	Expect: func(m harness.Mode) harness.Expectation {
		e := migrates(result.RSTACK, 2)(m)
		e.Facts = map[string]any{"queued for each connection": harness.Range{Min: 32 << 10, Max: payloadSize - 1, Unit: "bytes"}}
		return e
	},
}

// sequence is bytes with a period of some 4 billion: those of the numbers that a linear congruential generator gives.
func sequence(n int) []byte {
	b := make([]byte, n)
	x := uint32(1)
	for i := range b {
		x = 1664525*x + 1013904223 // Knuth's, as in Numerical Recipes
		b[i] = byte(x >> 24)
	}
	return b
}
