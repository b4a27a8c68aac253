package scenarios

import (
	"fmt"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

var synPolicy = lab.Scenario{
	Name:    "syn-policy",
	Section: lab.SectionHow,
	Doc: `a program that routes SYNs, and migration that ignores its rule

There are two kinds of listener, for even and for odd client ports, and a
program that routes SYNs by that rule. 100 clients from odd ports wait in the
accept queue of the old odd listener, a new one comes up, and the old one
closes. With the sysctl the kernel knows nothing of the rule: it picks by
hash, and about half of the connections go to the even listener. A migrate
program that selects follows the rule for each of them; one that answers
SK_PASS leaves the pick to the hash again. In the modes without a BPF program
a classic one routes the SYNs (SO_ATTACH_REUSEPORT_CBPF); the kernel does not
ask it about migrations, nor a plain SELECT program (reuseport_migrate_sock),
and where nothing migrates the connections are reset. The test that the hash
is fair to both kinds fails at a significance below 1e-6.`,
	Path:        "inet_csk_listen_stop → reuseport_migrate_sock → bpf_run_sk_reuseport or hash",
	Connections: 100,
	Play: func(l *lab.Lab) {
		even := l.Listen("even")
		odd := l.Listen("odd, old")
		even.RouteByParity()
		l.ConnectFromOddPorts()
		next := l.Listen("odd, new") // in the old one's slot
		l.AssertAcceptQueue(odd)
		odd.Close()
		astray, kept := even.AcceptAll(), next.AcceptAll()
		l.Fact("with the wrong kind", portion(astray, astray+kept))
		l.FactNumber(unevenness, coin(astray, astray+kept),
			fmt.Sprintf("%d went to the even kind, %d to the odd", astray, kept))
	},
	Expect: func(m lab.Mode) verdict.Expectation {
		e := migrates(result.RSTACK, 2)(m)
		if m.HasProgram() && m.Answer == lab.Choose {
			e.Facts = map[string]any{"with the wrong kind": "none"}
		} else {
			e.Facts = map[string]any{unevenness: fair}
		}
		return e
	},
}
