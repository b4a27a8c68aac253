package scenarios

import (
	"fmt"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/result"
)

var synPolicy = harness.Scenario{
	Name:    "syn-policy",
	Section: harness.SectionHow,
	Doc: `migration across a rule that a program keeps for SYNs

There are two kinds of listener, for even and for odd client ports, and a
program that routes SYNs by that rule. 100 clients from odd ports wait in the
accept queue of the old listener of the odd kind, a new one comes up, and the
old one closes. The sysctl knows nothing of the rule: the kernel picks by
hash, and about half of the connections land with the even kind. A migrate
program that selects keeps to the rule for each of them; one that answers
SK_PASS leaves it to the hash again. In the modes without a migrate program
the rule is kept by a classic BPF program (SO_ATTACH_REUSEPORT_CBPF), which
is not asked about migrations, as a plain SELECT program is not
(reuseport_migrate_sock). That the hash is fair to both kinds is rejected at
a significance below 1e-6.`,
	Path:        "inet_csk_listen_stop → reuseport_migrate_sock → run_bpf_filter or hash",
	Connections: 100,
	Play: func(l *harness.Lab) {
		even := l.Listen("even")
		odd := l.Listen("odd, old")
		l.RouteByParity(even)
		l.ConnectFromOddPorts()
		next := l.Listen("odd, new") // in the old one's slot
		l.AssertAcceptQueue(odd)
		l.Close(odd)
		astray, kept := l.AcceptAll(even), l.AcceptAll(next)
		l.Fact("with the wrong kind", portion(astray, astray+kept))
		l.Fact("significance of the unevenness", fmt.Sprintf("%.3g (%d went to the even kind, %d to the odd)",
			coin(astray, astray+kept), astray, kept))
	},
	Expect: func(m harness.Mode) harness.Expectation {
		e := migrates(result.RSTACK, 2)(m)
		if m.HasProgram() && m.Answer == harness.Choose {
			e.Facts = map[string]any{"with the wrong kind": "none"}
		} else {
			e.Facts = map[string]any{"significance of the unevenness": harness.Range{Min: falseAlarm, Max: 1}}
		}
		return e
	},
}
