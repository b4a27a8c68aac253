package scenarios

import (
	"fmt"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/verdict"
)

// sharedListeners are the ways to serve one port with several processes before there was SO_REUSEPORT.
var sharedListeners = []lab.Scenario{
	{
		Name:    "shared-listener-workers",
		Section: lab.SectionWhat,
		Doc: `the traditional way: workers that accept on one shared listener

A master opens the one listener of the port, without SO_REUSEPORT, and passes
it to two workers. Worker 1 exits while clients wait in the accept queue. The
queue belongs to the socket and not to the process, and the socket stays open
as long as a process has it: close_files drops one reference, and tcp_close
is not called. Worker 2 accepts all clients. Nothing is lost and nothing has
to migrate, but all workers share one queue.`,
		Path:        "do_exit → close_files → fput; the last reference is elsewhere",
		Connections: 25,
		Play: func(l *lab.Lab) {
			a := l.Listen("the listener", lab.WithoutReuseport())
			worker1, worker2 := l.Worker("worker 1"), l.Worker("worker 2")
			a.PassTo(worker1)
			a.PassTo(worker2)
			l.Connect()
			l.AssertAcceptQueue(a)
			worker1.Exit()
			worker2.Accept(l.Connections())
			l.Fact("accepted by worker 2", portion(l.Accepted("worker 2"), l.Connections()))
		},
		Expect: sharedListener,
		Modes:  []string{"off", "sysctl"},
	},
	{
		Name:    "shared-listener-leader",
		Section: lab.SectionWhat,
		Doc: `the traditional way: a leader that accepts and hands over

The leader alone has the listener, without SO_REUSEPORT; it accepts, and
passes each connection to a worker over SCM_RIGHTS. Worker 1 exits while
clients wait in the accept queue, which is the leader's: the leader hands all
of them to worker 2. Nothing is lost and nothing has to migrate, but every
connection goes through one process.`,
		Path:        "inet_csk_accept; unix_stream_sendmsg → scm_fp_copy",
		Connections: 25,
		Play: func(l *lab.Lab) {
			a := l.Listen("the leader", lab.WithoutReuseport())
			worker1, worker2 := l.Worker("worker 1"), l.Worker("worker 2")
			l.Connect()
			l.AssertAcceptQueue(a)
			worker1.Exit()
			for range l.Connections() {
				a.HandOverTo(worker2)
			}
			l.Fact("accepted by worker 2", portion(l.Accepted("worker 2"), l.Connections()))
		},
		Expect: sharedListener,
		Modes:  []string{"off", "sysctl"},
	},
	shares("accept", "workers that sleep in accept() on one shared listener take turns",
		`Four workers, threads here, sleep in accept on the one listener of the port,
and 100 clients come, one after another. accept waits exclusively, so that a
connection wakes one worker, and each worker goes to the end of the line when
it waits again (inet_csk_wait_for_connect). So all four get the same, as long
as all of them wait when a client comes.`,
		"inet_csk_wait_for_connect → prepare_to_wait_exclusive", false, [sharesWorkers]int{25, 25, 25, 25}),
	shares("epoll", "workers that sleep in epoll_wait() on one shared listener do not",
		`Four workers, threads here, sleep in epoll_wait, each on an epoll of its own
that has the one listener of the port with EPOLLEXCLUSIVE, and 100 clients
come, one after another. A connection wakes one worker, but the worker does
not go to the end of the line: EPOLL_CTL_ADD has given it its place
(ep_ptable_queue_proc), once and for all. So the first one gets all, as long
as it waits when a client comes, and the others get nothing.`,
		"ep_ptable_queue_proc → add_wait_queue_exclusive; ep_poll_callback", true, [sharesWorkers]int{100, 0, 0, 0}),
}

const (
	sharesWorkers = 4
	sharesClients = 100
)

// shares is one listener on which several workers wait.
func shares(name, title, story, path string, byEpoll bool, want [sharesWorkers]int) lab.Scenario {
	return lab.Scenario{
		Name:    "shared-listener-" + name,
		Section: lab.SectionWhat,
		Modes:   []string{"off", "sysctl"},
		Doc:     title + "\n\n" + story,
		Path:    path,
		Frames:  sharesClients * lab.FramesServed,
		Play: func(l *lab.Lab) {
			a := l.Listen("the listener", lab.WithoutReuseport())
			l.Fact("accepted by each worker", fmt.Sprint(a.Shares(sharesWorkers, sharesClients, byEpoll)))
		},
		Expect: func(m lab.Mode) verdict.Expectation {
			e := lives(m)
			e.Facts = map[string]any{"accepted by each worker": want}
			return e
		},
	}
}

func sharedListener(m lab.Mode) verdict.Expectation {
	e := lives(m)
	e.Facts = map[string]any{"accepted by worker 2": "all"}
	return e
}
