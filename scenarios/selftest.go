package scenarios

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// The kernel's selftest (tools/testing/selftests/bpf/prog_tests/migrate_reuseport.c, commit c9d0bdef89a6) has as many.
const (
	selftestServers = 5
	selftestClients = 5 * selftestServers
)

// selftestCase is one of the selftest's cases, for both families.
type selftestCase struct {
	name, title string
	story       string
	path        string
	timers      []lab.Timer
	cost        time.Duration
	modes       []string
	sysctls     []lab.Sysctl
	options     []lab.ListenOption
	// stage connects the clients once the first four servers listen and before the last one does, and asserts that they are
	// where the case needs them.
	stage func(l *lab.Lab, first []*lab.Listener)
	// migrate makes the connections migrate once the first four servers have been shut down.
	migrate func(l *lab.Lab, servers []*lab.Listener)
	expect  func(lab.Mode) verdict.Expectation
}

// selftestQueue are the modes in which a case of the accept queue has an exact outcome. The servers are shut down one
// after another: where the kernel picks by hash, a connection may migrate to one of them and has to migrate again.
var selftestQueue = []string{"off", "bpf", "bpf-drop", "bpf-select"}

var selftestCases = []selftestCase{
	{
		name: "established", title: "TCP_ESTABLISHED, inet_csk_listen_stop",
		story: `The connections are in the accept queues. They migrate to server 4, which the
program picks; back to server 1, which listens again; and to server 4 again.`,
		path:  "inet_csk_listen_stop → reuseport_migrate_sock, three times",
		modes: selftestQueue,
		stage: func(l *lab.Lab, first []*lab.Listener) {
			l.Connect()
			l.AssertAcceptQueue(first...)
		},
		migrate: func(l *lab.Lab, servers []*lab.Listener) {
			l.Fact(selftestAsked, l.Share(int(l.Program().Asked().Established)))
			selftestDance(servers)
		},
		expect: selftestDanced(migrates(result.RSTACK, 2)),
	},
	{
		name: "syn-recv", title: "TCP_SYN_RECV, inet_csk_listen_stop",
		story: `TCP Fast Open connections are in the accept queues, still in SYN_RECV. They
migrate to server 4, which the program picks; back to server 1, which listens
again; and to server 4 again.`,
		path:    "inet_csk_listen_stop → reuseport_migrate_sock, three times",
		modes:   selftestQueue,
		sysctls: fastOpenSysctls,
		options: []lab.ListenOption{fastOpen(5 * selftestClients)},
		stage: func(l *lab.Lab, first []*lab.Listener) {
			l.DropACKs()
			l.ConnectFast()
			l.AssertChildren(first...)
		},
		migrate: func(l *lab.Lab, servers []*lab.Listener) {
			l.Fact(selftestAsked, l.Share(int(l.Program().Asked().SYNRecv)))
			selftestDance(servers)
		},
		expect: selftestDanced(migratesChildren),
	},
	{
		name: "new-syn-recv-timer", title: "TCP_NEW_SYN_RECV, reqsk_timer_handler",
		story: `Request sockets wait for their ACK. The SYN+ACK timer fires first, and they
migrate to server 4, the one that listens; a migrate program is asked. The
selftest sleeps for a second, and its clients then wait for their
retransmission timer. Here the scenario waits for the SYN+ACK timer, and the
clients send once it has fired.`,
		path:   "reqsk_timer_handler → reuseport_migrate_sock",
		timers: []lab.Timer{lab.SYNACKTimer}, cost: time.Second,
		stage: func(l *lab.Lab, first []*lab.Listener) {
			l.DropACKs()
			l.ConnectSilently()
			l.AssertRequests(first...)
		},
		migrate: func(l *lab.Lab, servers []*lab.Listener) {
			l.AwaitSYNACKTimers()
			l.Fact("migrated by the timer", l.Share(l.Counter(result.MigrateSuccess)))
			l.Fact(selftestAsked, l.Share(int(l.Program().Asked().NewSYNRecv)))
			l.StopDropping()
			l.Send()
			l.AwaitOutcomes(servers[4])
		},
		expect: func(m lab.Mode) verdict.Expectation {
			e := migrates(result.BareRST, 1)(m)
			e.Facts = map[string]any{"migrated by the timer": allIf(e.Lives)}
			return e
		},
	},
	{
		name: "new-syn-recv-hashdance", title: "TCP_NEW_SYN_RECV, inet_csk_complete_hashdance",
		story: `Request sockets wait for their ACK. It comes, and they migrate to server 4,
the one that listens; a migrate program is asked.`,
		path:   "tcp_v[46]_rcv → reuseport_migrate_sock → inet_csk_complete_hashdance",
		timers: []lab.Timer{lab.RetransmissionTimer}, cost: 200 * time.Millisecond,
		stage: func(l *lab.Lab, first []*lab.Listener) {
			l.DropACKs()
			l.Connect()
			l.AssertRequests(first...)
		},
		migrate: func(l *lab.Lab, servers []*lab.Listener) {
			l.StopDropping()
			l.AwaitOutcomes(servers[4])
			l.Fact(selftestAsked, l.Share(int(l.Program().Asked().NewSYNRecv)))
		},
		expect: migrates(result.BareRST, 1),
	},
}

// selftestAsked is what the selftest's program counts: sockets in the state that the case is about. The cases that
// migrate three times read it after the first migration, the only one that the selftest's program counts too.
const selftestAsked = "the program was asked about"

// selftestDance is what the selftest's migrate_dance does after the first four servers have been shut down.
func selftestDance(servers []*lab.Listener) {
	servers[1].Relisten()
	servers[4].Shutdown(unix.SHUT_RDWR)
	servers[4].Relisten()
	servers[1].Shutdown(unix.SHUT_RDWR)
}

// selftestDanced is an expectation of three migrations instead of one.
func selftestDanced(once func(lab.Mode) verdict.Expectation) func(lab.Mode) verdict.Expectation {
	return func(m lab.Mode) verdict.Expectation {
		e := once(m)
		if e.Lives {
			e.Migrations *= 3
			e.Asked *= 3
			e.Counted[result.MigrateSuccess] *= 3
		}
		return e
	}
}

// selftest returns the cases of the kernel's selftest, under its own names.
func selftest() []lab.Scenario {
	var all []lab.Scenario
	for _, family := range []string{"ipv4", "ipv6"} {
		for _, c := range selftestCases {
			all = append(all, lab.Scenario{
				Name:        fmt.Sprintf("selftest/%s-%s", family, c.name),
				Section:     lab.SectionSelftest,
				Families:    []string{family},
				Modes:       c.modes,
				OnlyItsOwn:  true,
				Connections: selftestClients,
				Sysctls:     c.sysctls,
				Timers:      c.timers, Cost: c.cost,
				Path: c.path,
				Doc: c.title + ", " + family + "\n\n" + `Servers 0 to 3 listen, and 25 clients connect; server 4 comes up, and the
others are shut down. What follows is what happens with migration.

` + c.story + `

The selftest counts what server 4 accepts and what its program picked. Here
sock_diag shows beforehand where all connections are; the wire shows no reset,
and the clients' sockets show that all live; the kernel's counters agree with
the program's; all data arrive; server 4 serves new clients afterwards; and
without migration, or when the program refuses, the same steps lose every
connection.`,
				Play: func(l *lab.Lab) {
					var servers []*lab.Listener
					for i := range selftestServers {
						if i == 4 {
							// An empty slot: the program leaves what arrives to the kernel, as the selftest's does.
							l.Program().Empty(0)
							c.stage(l, servers)
						}
						servers = append(servers, l.Listen(fmt.Sprint("server ", i), c.options...))
					}
					for _, s := range servers[:4] {
						s.Shutdown(unix.SHUT_RDWR)
					}
					c.migrate(l, servers)
					servers[4].AcceptAll()
					l.Fact("accepted by server 4", l.Share(l.Accepted("server 4")))
				},
				Expect: func(m lab.Mode) verdict.Expectation {
					e := c.expect(m)
					if e.Facts == nil {
						e.Facts = map[string]any{}
					}
					e.Facts["accepted by server 4"] = allIf(e.Lives)
					e.Facts[selftestAsked] = allIf(e.Asked > 0)
					return e
				},
			})
		}
	}
	return all
}
