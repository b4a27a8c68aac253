package scenarios

import (
	"time"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/verdict"
)

// perMillion returns bounds of the loss under a stream of clients.
func perMillion(low, high float64) verdict.Range {
	return verdict.Range{Min: low, Max: high, Unit: "per million"}
}

// gap is what may be lost with migration on: a few of 200 connections. Without migration each reload loses one or more.
// The kernel leaves a window of some microseconds: a final ACK finds its listener in LISTEN, the listener closes, and
// inet_csk_reqsk_queue_add then resets the child (inet_child_forget). Neither a success nor a failure is counted.
var gap = perMillion(0, 20000)

// reloads is how often a server reloads in a cell, and servedBetween how many clients it serves between two reloads.
const (
	reloads       = 30
	servedBetween = 5
)

// hotReload is the talk's case from practice: a server that reloads while clients connect.
func hotReload(how, title, story string, modes []string, times int, reload harness.Reload, loss func(harness.Mode) verdict.Range) harness.Scenario {
	return harness.Scenario{
		Name:    "hot-reload-" + how,
		Section: harness.SectionWorkround,
		Doc: title + `

Four clients connect, are served and connect again, as fast as they can. The
server serves a few, opens a new listener (step 1), removes the old one
(step 2) and goes on. ` + story,
		Path:  "inet_csk_listen_stop, tcp_v[46]_rcv → reuseport_migrate_sock",
		Modes: modes,
		Busy:  true,
		// Old and new, and both ends of each client's connection.
		Listeners: 12,
		// Other scenarios compare the families; this one counts.
		Families: []string{"ipv4"},
		// Ten frames a connection, and those that are served while the old listener stays.
		Frames: 16 * (reloads*servedBetween + 1000),
		Play: func(l *harness.Lab) {
			l.HotReload(times, servedBetween, reload)
		},
		Expect: func(m harness.Mode) verdict.Expectation {
			return verdict.Expectation{Lives: true, Loss: loss(m)}
		},
	}
}

var hotReloadPlain = hotReload("plain", "a server reloads under a stream of clients, and just closes the old listener",
	`Without migration, what the old
listener holds at that moment is lost. With migration it moves to the new one,
but a gap of microseconds is left: if a handshake is completed for a listener
that has just left LISTEN, inet_csk_reqsk_queue_add resets it.`, nil, reloads, harness.ReloadByClosing,
	func(m harness.Mode) verdict.Range {
		if m.Migrates {
			return gap
		}
		return perMillion(10000, 900000)
	})

var hotReloadDrain = func() harness.Scenario {
	s := hotReload("drain", "a server reloads under a stream of clients, and drains the old listener",
		`It accepts on the old listener until
its accept queue is empty. A connection that comes after that and before the
close can still be lost: the gap is small, and draining does not close it.`, nil, reloads, harness.ReloadByDraining,
		func(m harness.Mode) verdict.Range {
			if m.Migrates {
				return gap
			}
			// Usually a reload loses no client. It can lose all four if the server does not get to run between the last
			// accept and the close.
			return perMillion(0, 400000)
		})
	play, expect := s.Play, s.Expect
	s.Play = func(l *harness.Lab) {
		play(l)
		l.Fact(drainedFact, l.Drained())
	}
	s.Expect = func(m harness.Mode) verdict.Expectation {
		e := expect(m)
		e.Facts = map[string]any{drainedFact: "all"}
		return e
	}
	return s
}()

const drainedFact = "drained, of those in the old queues when the new listeners came"

var hotReloadFDPass = hotReload("fd-pass", "a server reloads under a stream of clients, and passes its listener on",
	`No listener is removed, only the old
descriptor of it: nothing is lost.`, nil, reloads, harness.ReloadByPassing,
	func(harness.Mode) verdict.Range { return perMillion(0, 0) })

var hotReloadBPFDrain = func() harness.Scenario {
	s := hotReload("bpf-drain", "a server reloads under a stream of clients, with BPF draining",
		`The program sends what arrives to the
new listener. The server serves the old one until its last request socket
must be gone (here after 1 s, with tcp_synack_retries=0), drains it and closes
it. Nothing is lost, but each old listener stays for that second.`,
		harness.ModesIn(harness.Mode.HasProgram), 2, harness.ReloadByBPFDraining(1100*time.Millisecond),
		func(harness.Mode) verdict.Range { return perMillion(0, 0) })
	s.Sysctls = []harness.Sysctl{{Name: "net.ipv4.tcp_synack_retries", Value: "0"}}
	s.Timers, s.Cost = []harness.Timer{{Name: "the SYN+ACK timer (1 s), for each of two reloads", SYNACK: true}}, 2200*time.Millisecond
	s.Busy = false // it waits most of the time
	return s
}()
