package scenarios

import (
	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// wokenFact is what became of the thread that sleeps on B.
const wokenFact = "the thread that waits for B"

// wakeup is quiz1 with a thread that sleeps on B.
func wakeup(name, call string, asleep func(*lab.Listener, func()) string) lab.Scenario {
	expect := migrates(result.RSTACK, 2)
	return lab.Scenario{
		Name:    "wakeup-" + name,
		Section: lab.SectionBeyond,
		Doc: "a thread that sleeps in " + call + ` on the new listener is woken

As quiz1, but before A closes a thread already waits for B in ` + call + `.
It is not enough to put a connection into B's accept queue then:
inet_csk_listen_stop has to call B's sk_data_ready too, and does not where
the kernel has CVE-2026-46015: the connection is migrated and counted, and
the thread sleeps on. The non-blocking accept of the quizzes does not show
this. Where nothing migrates, the thread has to sleep on.`,
		Path: "inet_csk_listen_stop → inet_csk_reqsk_queue_add, sk_data_ready",
		Play: func(l *lab.Lab) {
			a := l.Listen("A")
			l.Connect()
			b := l.Listen("B")
			l.AssertAcceptQueue(a)
			l.Fact(wokenFact, asleep(b, func() { a.Close() }))
			b.AcceptAll()
		},
		Expect: func(m lab.Mode) verdict.Expectation {
			e := expect(m)
			e.Facts = map[string]any{wokenFact: "asleep"}
			if m.Migrates {
				e.Facts[wokenFact] = "woken"
			}
			return e
		},
		// The releases are those of the CVE's record.
		Bugs: []result.Bug{{
			ID:    "CVE-2026-46015",
			Doc:   "a thread that sleeps on the new listener is not woken when connections migrate from an accept queue",
			Link:  "https://nvd.nist.gov/vuln/detail/CVE-2026-46015",
			Since: "5.14",
			Fixed: []string{"5.15.209", "6.1.175", "6.6.140", "6.12.86", "6.18.27", "7.0.4"},
			Modes: migrating,
			Check: wokenFact,
		}},
	}
}

var (
	wakeupEpoll  = wakeup("epoll", "epoll_wait", (*lab.Listener).AsleepInEpoll)
	wakeupAccept = wakeup("accept", "accept", (*lab.Listener).AsleepInAccept)
)
