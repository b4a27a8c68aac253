package scenarios

import (
	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/result"
)

// wokenFact is found out about who sleeps on B in a mode in which something migrates to it.
const wokenFact = "the thread that waits for B"

// wakeup is quiz1 with somebody asleep on B.
func wakeup(name, call string, asleep func(*harness.Lab, *harness.Listener, func()) string) harness.Scenario {
	expect := migrates(result.RSTACK, 2)
	return harness.Scenario{
		Name:    "wakeup-" + name,
		Section: harness.SectionBeyond,
		Doc: "who sleeps in " + call + ` on the new listener is woken

As quiz1, but before A closes a thread already waits for B in ` + call + `.
To put a connection into B's accept queue is not enough then:
inet_csk_listen_stop has to call B's sk_data_ready too, and did not before
6.18.27, 6.12.86 and 6.1.175. The connection had migrated and was counted,
and its server slept on until some other connection came. The non-blocking
accept of the quizzes does not show it. Where nothing migrates the thread
sleeps on, and should.`,
		Path: "inet_csk_listen_stop → inet_csk_reqsk_queue_add, sk_data_ready",
		Play: func(l *harness.Lab) {
			a := l.Listen("A")
			l.Connect()
			b := l.Listen("B")
			l.AssertAcceptQueue(a)
			// Under a name of its own where it cannot show the bug.
			fact := wokenFact
			if !l.Mode().Migrates {
				fact += " in vain"
			}
			l.Fact(fact, asleep(l, b, func() { l.Close(a) }))
			l.AcceptAll(b)
		},
		Expect: func(m harness.Mode) harness.Expectation {
			e := expect(m)
			if m.Migrates {
				e.Facts = map[string]any{wokenFact: "woken"}
			} else {
				e.Facts = map[string]any{wokenFact + " in vain": "asleep"}
			}
			return e
		},
		Bugs: []result.Bug{{
			ID:    "CVE-2026-46015",
			Doc:   "who sleeps on the new listener is not woken by what migrates from an accept queue",
			Link:  "https://nvd.nist.gov/vuln/detail/CVE-2026-46015",
			Fixed: []string{"6.1.175", "6.12.86", "6.18.27"},
			Check: wokenFact,
		}},
	}
}

var (
	wakeupEpoll  = wakeup("epoll", "epoll_wait", (*harness.Lab).AsleepInEpoll)
	wakeupAccept = wakeup("accept", "accept", (*harness.Lab).AsleepInAccept)
)
