package scenarios

import (
	"fmt"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// quotaFact is what B is asked in the end.
const quotaFact = "pending TFO requests that B takes"

// quotaBeyond is how many B takes beyond its limit, unless that is one for each connection that has migrated: the bug.
const quotaBeyond = "pending TFO requests that neither the limit nor the bug accounts for"

// quotaBystanders is how many come for each place of the limit: more than the bug lets in.
const quotaBystanders = 3

// quotaConnections is how many migrate, and the limit of either listener.
const quotaConnections = 5

var fastOpenQuota = lab.Scenario{
	Name:        "fastopen-quota",
	Section:     lab.SectionBeyond,
	Connections: quotaConnections,
	Ends:        2 + 2*quotaBystanders,
	Frames:      2 * quotaBystanders * quotaConnections * lab.FramesServed,
	Sysctls:     fastOpenSysctls,
	Doc: `the limit of pending TCP Fast Open requests, after a migration

TCP_FASTOPEN limits how many connections of a listener may be open while
their handshake is not complete. A has as many as its limit, and closes. With
migration B accepts them, and their handshakes complete; without it they are
lost. B has none pending now, and three times its limit come: B should take as
many as its limit, and the others should need a full handshake first. But a
kernel with the bug does not add what migrates to B's count
(inet_csk_listen_stop, inet_reqsk_clone), and reqsk_fastopen_remove subtracts
it there when its handshake is complete. The count goes below zero, and B
takes too many: one more for each connection that has migrated to it.`,
	Path: "inet_csk_listen_stop; reqsk_fastopen_remove; tcp_fastopen_queue_check",
	Play: func(l *lab.Lab) {
		limit := l.Connections()
		a := l.Listen("A", fastOpen(limit))
		l.DropACKs()
		l.ConnectFast()
		b := l.Listen("B", fastOpen(limit), lab.Backlog(4*limit))
		l.AssertChildren(a)
		a.Close()
		b.AcceptAll()
		l.StopDropping()
		l.SendAgain()
		l.AwaitRequests(0)

		l.DropACKs()
		l.Program().AllToLatest()
		l.FastBystanders(quotaBystanders * limit)
		l.AwaitRequests(quotaBystanders * limit) // of either kind
		n, took := b.Queued(), "as its limit says"
		if n != limit {
			took = fmt.Sprintf("%d, and the limit is %d", n, limit)
		}
		l.Fact(quotaFact, took)
		if n == limit+l.Accepted("B") {
			n = limit
		}
		l.Fact(quotaBeyond, n-limit)
		b.AcceptAll()
	},
	Expect: func(m lab.Mode) verdict.Expectation {
		e := migratesChildren(m)
		e.Facts = map[string]any{quotaFact: "as its limit says", quotaBeyond: 0}
		return e
	},
	// The releases are those of the CVE's record.
	Bugs: []result.Bug{{
		ID:    "CVE-2026-74696",
		Doc:   "TCP Fast Open children that migrate raise the new listener's limit of pending ones",
		Link:  "https://nvd.nist.gov/vuln/detail/CVE-2026-74696",
		Since: "5.14",
		Fixed: []string{"5.15.216", "6.1.183", "6.6.152", "6.12.104", "6.18.45", "7.1.9"},
		Modes: migrating,
		Check: quotaFact,
	}},
}
