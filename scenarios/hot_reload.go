package scenarios

import (
	"time"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/verdict"
)

// perMillion returns bounds of the loss under a stream of clients.
func perMillion(low, high float64) verdict.Range {
	return verdict.Range{Min: low, Max: high, Unit: "per million"}
}

// The bounds of the loss are measured: twice 100 repeats in each mode, and 40 beside two busy loops, on two CPUs of Linux 6.18
// that other work kept busy too. A cell is judged by its interval, and all of its repeats together by theirs, so that they need
// no room for chance, but for machines that are unlike this one.
var (
	// gap is what may be lost with migration on: 0 to 2284 per million were, with 4707 as the highest end of a 95 % interval.
	// Two windows of the kernel's are left, each well under a microsecond. A final ACK finds its listener in LISTEN, the
	// listener closes, and inet_csk_reqsk_queue_add resets the child (inet_child_forget). Or it finds it in __tcp_close, with
	// sk_shutdown set and still in LISTEN: the child inherits that (sk_clone_lock), so that tcp_rcv_state_process sends a FIN as soon
	// as its handshake is done, and it migrates as if it lived. Neither counts as a failure.
	gap = perMillion(0, 10000)
	// closed is what is lost without, where each reload has at least one connection at stake and all four at most, for some
	// that are served: 301237 to 359467.
	closed = perMillion(100000, 600000)
	// drained is what is lost without where the listener is drained first: 1124 to 6090, and 10117 once. A
	// reload that loses any loses up to four, if the server does not get to run between the last accept and the close.
	drained = perMillion(0, 50000)
)

// reloads is how often a server reloads in a cell, and servedBetween how many clients it serves between two reloads.
const (
	reloads       = 30
	servedBetween = 5
)

// hotReload is the talk's case from practice: a server that reloads while clients connect.
func hotReload(how, title, story string, modes []string, times int, reload lab.Reload, loss func(lab.Mode) verdict.Range) lab.Scenario {
	return lab.Scenario{
		Name:    "hot-reload-" + how,
		Section: lab.SectionWorkround,
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
		Play: func(l *lab.Lab) {
			l.HotReload(times, servedBetween, reload)
		},
		Expect: func(m lab.Mode) verdict.Expectation {
			return verdict.Expectation{Lives: true, Loss: loss(m)}
		},
	}
}

var hotReloadPlain = hotReload("plain", "a server reloads under a stream of clients, and just closes the old listener",
	`Without migration, what the old
listener holds at that moment is lost. With migration it moves to the new one,
but two gaps are left. A handshake that is completed for a listener which has
just left LISTEN may be reset by inet_csk_reqsk_queue_add. One that is
completed just before may inherit its sk_shutdown: it migrates, and the client
reads the end of a stream that has not begun.`, nil, reloads, lab.ReloadByClosing,
	func(m lab.Mode) verdict.Range {
		if m.Migrates {
			return gap
		}
		return closed
	})

var hotReloadDrain = func() lab.Scenario {
	s := hotReload("drain", "a server reloads under a stream of clients, and drains the old listener",
		`It accepts on the old listener until
its accept queue is empty. A connection that comes after that and before the
close can still be lost: the gap is small, and draining does not close it.`, nil, reloads, lab.ReloadByDraining,
		func(m lab.Mode) verdict.Range {
			if m.Migrates {
				return gap
			}
			return drained
		})
	play, expect := s.Play, s.Expect
	s.Play = func(l *lab.Lab) {
		play(l)
		l.Fact(drainedFact, l.Drained())
	}
	s.Expect = func(m lab.Mode) verdict.Expectation {
		e := expect(m)
		e.Facts = map[string]any{drainedFact: "all"}
		return e
	}
	return s
}()

const drainedFact = "drained, of those in the old queues when the new listeners came"

var hotReloadFDPass = hotReload("fd-pass", "a server reloads under a stream of clients, and passes its listener on",
	`No listener is removed, only the old
descriptor of it: nothing is lost.`, nil, reloads, lab.ReloadByPassing,
	func(lab.Mode) verdict.Range { return perMillion(0, 0) })

var hotReloadBPFDrain = func() lab.Scenario {
	s := hotReload("bpf-drain", "a server reloads under a stream of clients, with BPF draining",
		`The program sends what arrives to the
new listener. The server serves the old one until its last request socket
must be gone (here after 1 s, with tcp_synack_retries=0), drains it and closes
it. Nothing is lost, but each old listener stays for that second.`,
		lab.ModesIn(lab.Mode.HasProgram), 2, lab.ReloadByBPFDraining(1100*time.Millisecond),
		func(lab.Mode) verdict.Range { return perMillion(0, 0) })
	s.Sysctls = []lab.Sysctl{{Name: "net.ipv4.tcp_synack_retries", Value: "0"}}
	s.Timers, s.Cost = []lab.Timer{{Name: "the SYN+ACK timer (1 s), for each of two reloads", SYNACK: true}}, 2200*time.Millisecond
	s.Busy = false // it waits most of the time
	return s
}()
