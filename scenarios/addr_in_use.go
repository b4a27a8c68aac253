package scenarios

import (
	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/verdict"
)

var addrInUse = lab.Scenario{
	Name:    "addr-in-use",
	Section: lab.SectionWhat,
	Doc: `two listeners on one port

Without SO_REUSEPORT only one socket may listen on a port: the second gets
EADDRINUSE. So it does when only the first or only the second of them sets
SO_REUSEPORT, because both must (inet_csk_bind_conflict). With the option on
both, both listen, and a client reaches one of them. Migration changes nothing
here.`,
	Path:  "inet_csk_get_port → inet_csk_bind_conflict; reuseport_add_sock",
	Modes: []string{"off", "sysctl"},
	Play: func(l *lab.Lab) {
		alone := l.Listen("first", lab.WithoutReuseport())
		_, said := l.TryListen("second", lab.WithoutReuseport())
		l.Fact("neither has SO_REUSEPORT", said)
		_, said = l.TryListen("second")
		l.Fact("only the second has SO_REUSEPORT", said)
		alone.Close()
		a := l.Listen("A")
		_, said = l.TryListen("second", lab.WithoutReuseport())
		l.Fact("only the first has SO_REUSEPORT", said)
		b, said := l.TryListen("B")
		l.Fact("both have SO_REUSEPORT", said)
		if b == nil {
			return
		}
		l.Connect()
		l.AwaitOutcomes(a, b)
		a.AcceptAll()
		b.AcceptAll()
	},
	Expect: func(m lab.Mode) verdict.Expectation {
		e := lives(m)
		e.Facts = map[string]any{
			"neither has SO_REUSEPORT":         "EADDRINUSE",
			"only the second has SO_REUSEPORT": "EADDRINUSE",
			"only the first has SO_REUSEPORT":  "EADDRINUSE",
			"both have SO_REUSEPORT":           "ok",
		}
		return e
	},
}
