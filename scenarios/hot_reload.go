package scenarios

import (
	"time"

	"github.com/rpmig/rpmig/harness"
)

// perMillion are bounds of the loss under a stream of clients.
func perMillion(low, high float64) harness.Range {
	return harness.Range{Min: low, Max: high, Unit: "per million"}
}

// gap is what may be lost with migration on: some of 200 connections, where without it each reload loses one or more.
// The kernel leaves a window of some microseconds. A final ACK finds its listener in LISTEN, the listener closes, and
// inet_csk_reqsk_queue_add then resets the child (inet_child_forget): neither a success nor a failure is counted.
var gap = perMillion(0, 20000)

// reloads is how often a server reloads in a cell, and servedBetween how many clients it serves before the next time.
const (
	reloads       = 30
	servedBetween = 5
)

// hotReload is the talk's real world: a server that reloads while clients connect.
func hotReload(how, title, story string, modes []string, times int, reload harness.Reload, loss func(harness.Mode) harness.Range) harness.Scenario {
	return harness.Scenario{
		Name:    "hot-reload-" + how,
		Section: harness.SectionWorkround,
		Doc: title + `

Four clients connect, are served and connect again, as fast as they can. The
server serves a few, brings a new listener up (step 1), removes the old one
(step 2) and goes on. ` + story,
		Path:  "inet_csk_listen_stop, tcp_v[46]_rcv → reuseport_migrate_sock",
		Modes: modes,
		Busy:  true,
		// Old and new, and both ends of each client's.
		Listeners: 12,
		// What differs between the families is looked at elsewhere; this is about numbers.
		Families: []string{"ipv4"},
		// Ten frames a connection, and what is served while the old listener lingers.
		Frames: 16 * (reloads*servedBetween + 1000),
		Play: func(l *harness.Lab) {
			l.HotReload(times, servedBetween, reload)
		},
		Expect: func(m harness.Mode) harness.Expectation {
			return harness.Expectation{Lives: true, Loss: loss(m)}
		},
	}
}

var hotReloadPlain = hotReload("plain", "a server reloads under a stream of clients, and just closes the old listener",
	`Whoever waits in the old accept queue at
that moment is reset, and so is whoever is in the handshake. With migration
both move on, but for a gap of microseconds: a handshake that is completed for
a listener which has just left LISTEN is reset by inet_csk_reqsk_queue_add,
and not counted.`, nil, reloads, harness.ReloadByClosing,
	func(m harness.Mode) harness.Range {
		if m.Migrates {
			return gap
		}
		return perMillion(10000, 900000)
	})

var hotReloadDrain = func() harness.Scenario {
	s := hotReload("drain", "a server reloads under a stream of clients, and drains the old listener",
		`It accepts on the old listener until
there is nothing left. What comes in after that, and before the close, is
lost: the gap is small, and draining does not close it.`, nil, reloads, harness.ReloadByDraining,
		func(m harness.Mode) harness.Range {
			if m.Migrates {
				return gap
			}
			// Each reload loses up to all of the four clients, should the server be kept from running in the gap; usually it
			// loses none.
			return perMillion(0, 400000)
		})
	play, expect := s.Play, s.Expect
	s.Play = func(l *harness.Lab) {
		play(l)
		l.Fact(drainedFact, l.Drained())
	}
	s.Expect = func(m harness.Mode) harness.Expectation {
		e := expect(m)
		e.Facts = map[string]any{drainedFact: "all"}
		return e
	}
	return s
}()

const drainedFact = "drained, of those in the old queues when the new listeners came"

var hotReloadFDPass = hotReload("fd-pass", "a server reloads under a stream of clients, and passes its listener on",
	`There is no old listener to remove,
only a descriptor of it: nothing is ever lost.`, nil, reloads, harness.ReloadByPassing,
	func(harness.Mode) harness.Range { return perMillion(0, 0) })

var hotReloadBPFDrain = func() harness.Scenario {
	s := hotReload("bpf-drain", "a server reloads under a stream of clients, with BPF draining",
		`The program sends what arrives to the
new listener. The old one is served until its last request socket must be
gone (here after 1 s, with tcp_synack_retries=0), drained and closed. Nothing
is lost, and each old listener lingers for that second.`,
		[]string{"bpf", "bpf-pass", "bpf-drop", "bpf-select"}, 2, harness.ReloadByBPFDraining(1100*time.Millisecond),
		func(harness.Mode) harness.Range { return perMillion(0, 0) })
	s.Weather = []harness.Sysctl{{Name: "net.ipv4.tcp_synack_retries", Value: "0"}}
	s.Timers, s.Cost = "the SYN+ACK timer (1 s), for each of two reloads", 2200*time.Millisecond
	s.Busy = false // it waits, most of the time
	return s
}()
