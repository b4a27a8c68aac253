// Package stream is clients that connect again and again while a server reloads, what they meet, and how they are served.
package stream

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/tcp"
)

// Clients is how many clients connect at the same time, each again as soon as it is served. As many may be in the
// accept queue when a listener is retired.
const Clients = 4

// Stream is clients that connect again and again, each on a thread of its own.
type Stream struct {
	stop    atomic.Bool
	running sync.WaitGroup
	tally   [Clients]result.Stream
	errs    [Clients]error
}

// Start starts the clients in a namespace, by its descriptor. Each waits for its server no longer than its patience, and for
// nothing once the descriptor cancelled is readable.
func Start(ns int, at netip.AddrPort, patience time.Duration, cancelled int) *Stream {
	s := &Stream{}
	for i := range Clients {
		s.running.Go(func() {
			runtime.LockOSThread() // not unlocked: the thread is left in the namespace, and ends
			s.errs[i] = enter(ns)
			if s.errs[i] != nil {
				return
			}
			t := &s.tally[i]
			for !s.stop.Load() && s.errs[i] == nil {
				t.Connections++
				token := uint64(i)<<32 | uint64(t.Connections)
				connected, err := tcp.Ask(at, token, patience, cancelled)
				if err == nil {
					continue
				}
				class := lossOf(&t.Losses, connected, err)
				switch {
				case class == nil: // it tells nothing of the server
					s.errs[i] = err
					continue
				case connected:
					t.Lost++
				default:
					t.Refused++
				}
				*class++
			}
		})
	}
	return s
}

// enter has the calling thread enter a namespace, with the usual priority.
func enter(ns int) error {
	err := kernel.SetNice(0)
	if e := unix.Setns(ns, unix.CLONE_NEWNET); e != nil {
		err = errors.Join(err, fmt.Errorf("enter the namespace: %w", e))
	}
	return err
}

// lossOf is the class of losses that a client's error belongs to; nil: none.
func lossOf(l *result.Losses, connected bool, err error) *int {
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return &l.ConnectionRefused
	case errors.Is(err, unix.ECONNRESET) && !connected:
		return &l.ResetInConnect
	case errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.EPIPE): // EPIPE: reset after its FIN (tcp_reset)
		return &l.Reset
	case errors.Is(err, tcp.ErrEmptyReply):
		return &l.EmptyReply
	case errors.Is(err, tcp.ErrClosedEarly):
		return &l.ClosedEarly
	case errors.Is(err, tcp.ErrNothingCame):
		return &l.TimedOut
	case errors.Is(err, tcp.ErrWrongReply):
		return &l.WrongReply
	default:
		return nil
	}
}

// End stops the clients, has those served that are still to be served, one at a time, and sums up what they met.
func (s *Stream) End(sum *result.Stream, serve func() error) error {
	s.stop.Store(true)
	ended := make(chan struct{})
	go func() { s.running.Wait(); close(ended) }()
	var err error
	for waiting := true; waiting; {
		select {
		case <-ended:
			waiting = false
		default:
			if err == nil {
				err = serve()
			} else { // cancelled, and so are they; or a server that does not answer, which they find out
				<-ended
			}
		}
	}
	var all result.Pool
	for i := range s.tally {
		all.Add(&s.tally[i])
	}
	sum.Connections, sum.Refused, sum.Lost, sum.Losses = all.Connections, all.Refused, all.Lost, all.Losses
	return errors.Join(append(s.errs[:], err)...)
}
