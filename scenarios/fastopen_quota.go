package scenarios

import (
	"fmt"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/result"
)

// quotaFact is found out about B in a mode in which something has migrated to it.
const quotaFact = "pending TFO requests that B takes"

// quotaConnections is how many migrate, and the limit of either listener.
const quotaConnections = 5

var fastOpenQuota = harness.Scenario{
	Name:        "fastopen-quota",
	Section:     harness.SectionBeyond,
	Connections: quotaConnections,
	Ends:        6,
	Frames:      2 * 2 * quotaConnections * harness.FramesServed,
	Weather:     fastOpenWeather,
	Doc: `the limit of pending TCP Fast Open requests, after a migration

TCP_FASTOPEN limits how many connections of a listener may be open while
their handshake is not done. A has as many as it may have, and closes; they
migrate to B, which accepts them, and their handshakes get done. B has none
pending now, and twice as many as its limit come: it should take as many as
that, and have the others go through a full handshake first. But what
migrates is not added to B's count (inet_csk_listen_stop, inet_reqsk_clone),
while reqsk_fastopen_remove takes it off there when its handshake is done.
The count goes below zero, and B takes more by as many as have migrated to
it.`,
	Path: "inet_csk_listen_stop; reqsk_fastopen_remove; tcp_fastopen_queue_check",
	Play: func(l *harness.Lab) {
		limit := l.Connections()
		a := l.Listen("A", fastOpen(limit))
		l.DropACKs()
		l.ConnectFast()
		b := l.Listen("B", fastOpen(limit), harness.Backlog(4*limit))
		l.AssertChildren(a)
		l.Close(a)
		l.AcceptAll(b)
		l.StopDropping()
		l.SendAgain()
		l.AwaitRequests(0)

		l.DropACKs()
		l.FastBystanders(2 * limit)
		l.AwaitRequests(2 * limit) // of either kind
		took := "as its limit says"
		if n := l.Queued(b); n != limit {
			took = fmt.Sprintf("%d, and the limit is %d", n, limit)
		}
		// Under a name of its own where it cannot show the bug.
		if l.Mode().Migrates {
			l.Fact(quotaFact, took)
		} else {
			l.Fact(quotaFact+" without a migration", took)
		}
		l.AcceptAll(b)
	},
	Expect: func(m harness.Mode) harness.Expectation {
		e := migratesChildren(m)
		if m.Migrates {
			e.Facts = map[string]any{quotaFact: "as its limit says"}
		} else {
			e.Facts = map[string]any{quotaFact + " without a migration": "as its limit says"}
		}
		return e
	},
	Bugs: []result.Bug{{
		ID:    "CVE-2026-74696",
		Doc:   "TCP Fast Open children that migrate raise the new listener's limit of pending ones",
		Link:  "https://nvd.nist.gov/vuln/detail/CVE-2026-74696",
		Fixed: []string{"6.1.183", "6.12.104", "6.18.45"},
		Check: quotaFact,
	}},
}
