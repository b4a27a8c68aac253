package lab

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

// Reload is how a server replaces its listener.
type Reload func(l *Lab, old *Listener) (next *Listener)

// streamClients is how many clients connect at the same time, each again as soon as it is served. As many may be in the
// accept queue when a listener is retired.
const streamClients = 4

// HotReload plays the talk's steps 0, 1 and 2 under a stream of clients: it serves some, adds a listener, retires the
// old one, and so on. What the clients met becomes the cell's Stream.
func (l *Lab) HotReload(reloads, servedBetween int, reload Reload) {
	l.step("%d clients connect in a stream, and the server reloads %d times", streamClients, reloads)
	s := &result.Stream{Reloads: reloads}
	l.obs.Stream = s
	now := l.Listen("L0")
	l.stream(func() []*Listener { return []*Listener{now} }, func() {
		var lingered time.Duration
		for range reloads {
			l.must(now.serve(servedBetween, handshakeTimeout))
			// So that each reload puts some connection at stake.
			l.must(l.wait(handshakeTimeout, now.fd, unix.POLLIN, "a client waits in the old accept queue"))
			from := time.Now()
			now = reload(l, now)
			lingered += time.Since(from)
		}
		s.Lingered = lingered.Seconds() / float64(max(reloads, 1))
	})
}

// stream has clients connect for as long as something is played, and tells what they met. In the end, what is left of them is
// served by the listeners that there are then.
func (l *Lab) stream(listeners func() []*Listener, play func()) {
	clients, err := l.startStream()
	l.must(err)
	// They are waited for whatever happens, since they use the namespace. A step that fails has an error of its own.
	ended := false
	defer func() {
		if !ended {
			_ = clients.end(l, listeners(), l.obs.Stream)
		}
	}()
	play()
	ended = true
	l.must(clients.end(l, listeners(), l.obs.Stream))
}

// stream is clients that connect again and again, each on a thread of its own.
type stream struct {
	stop    atomic.Bool
	running sync.WaitGroup
	tally   [streamClients]result.Stream
	errs    [streamClients]error
}

// startStream starts the clients in the namespace of the calling thread.
func (l *Lab) startStream() (*stream, error) {
	ns, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, wrap("open the namespace", err)
	}
	l.hold(ns)
	s := &stream{}
	at := netip.AddrPortFrom(l.cfg.Family.Dial, l.cfg.Port)
	for i := range streamClients {
		s.running.Go(func() {
			runtime.LockOSThread() // not unlocked: the thread is left in the namespace, and ends
			s.errs[i] = errors.Join(kernel.SetNice(0), wrap("enter the namespace", unix.Setns(ns, unix.CLONE_NEWNET)))
			if s.errs[i] != nil {
				return
			}
			t := &s.tally[i]
			for !s.stop.Load() && s.errs[i] == nil {
				t.Connections++
				token := uint64(i)<<32 | uint64(t.Connections)
				connected, err := tcp.Ask(at, token, l.scale(outcomeTimeout), l.cfg.Cancelled)
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
	return s, nil
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

// end stops the clients, serves those that are still to be served, and sums up what they met.
func (s *stream) end(l *Lab, listeners []*Listener, sum *result.Stream) error {
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
				err = l.serveAny(listeners, 1, tick)
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

// successor opens the next listener, and notes what is at stake in the queue of the old one.
func (l *Lab) successor(old *Listener) *Listener {
	next, err := l.open(fmt.Sprintf("L%d", len(l.listeners)), nil)
	l.must(err)
	n, err := tcp.AcceptQueue(old.fd)
	l.must(err)
	l.obs.Stream.AtStake += n
	return next
}

// serve answers clients of a listener until it has answered as many as it should, or no more come for so long.
func (s *Listener) serve(count int, patience time.Duration) error {
	return s.lab.serveAny([]*Listener{s}, count, patience)
}

// serveAny is serve for several listeners.
func (l *Lab) serveAny(listeners []*Listener, count int, patience time.Duration) error {
	for count > 0 {
		ready, err := l.waitAny(listeners, patience, "a client of the stream connects")
		if err != nil {
			if errors.Is(err, errTimeout) && patience == tick {
				return nil
			}
			return err
		}
		for _, s := range ready[:min(count, len(ready))] {
			if err := s.answerOne(); err != nil {
				return err
			}
			count--
		}
	}
	return nil
}

// waitAny blocks until clients wait in the accept queues of some listeners, and returns these.
func (l *Lab) waitAny(listeners []*Listener, patience time.Duration, condition string) (ready []*Listener, err error) {
	fds := make([]unix.PollFd, 0, len(listeners)+1)
	for _, s := range listeners {
		fds = append(fds, unix.PollFd{Fd: int32(s.fd), Events: unix.POLLIN})
	}
	fds = append(fds, unix.PollFd{Fd: int32(l.cfg.Cancelled), Events: unix.POLLIN})
	err = l.poll(patience, condition, func(left time.Duration) (bool, error) {
		_, err := l.nap(left, func(ms int) (int, error) { return unix.Poll(fds, ms) })
		for i, s := range listeners {
			if fds[i].Revents != 0 {
				ready = append(ready, s)
			}
		}
		if fds[len(listeners)].Revents != 0 {
			err = errCancelled
		}
		return len(ready) > 0, err
	})
	return ready, err
}

// answerOne accepts a connection and sends back what it has sent.
func (s *Listener) answerOne() error {
	l := s.lab
	fd, _, err := unix.Accept4(s.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if errors.Is(err, unix.EAGAIN) {
		return nil
	} else if err != nil {
		return wrap("accept", err)
	}
	defer func() { _ = tcp.Finish(fd); _ = unix.Close(fd) }() // it may have been reset
	if err := l.wait(outcomeTimeout, fd, unix.POLLIN, "the request is there"); err != nil {
		return err
	}
	var b [tcp.TokenBytes]byte
	n, err := unix.Read(fd, b[:])
	if errors.Is(err, unix.ECONNRESET) {
		return nil // the client will say so
	} else if err != nil {
		return wrap("read the request", err)
	}
	_, err = unix.SendmsgN(fd, b[:n], nil, nil, unix.MSG_NOSIGNAL)
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		return nil
	}
	return wrap("answer", err)
}

// ReloadByClosing closes the old listener as soon as the new one is there.
func ReloadByClosing(l *Lab, old *Listener) *Listener {
	next := l.successor(old)
	old.closeQuietly()
	return next
}

// ReloadByDraining accepts on the old listener until there is nothing left, or much more than there was, and closes it.
func ReloadByDraining(l *Lab, old *Listener) *Listener {
	next := l.successor(old)
	old.drainAndClose()
	return next
}

// drainMost is how many connections that come while a listener is drained are served too. Half of what a client does next
// goes to the other listener, so that the queue is soon empty; but a program may send all of it to this one, for ever.
const drainMost = 16 * streamClients

// drainAndClose serves what is in the listener's accept queue, and what comes meanwhile until it is empty, but not for ever,
// and closes it.
func (old *Listener) drainAndClose() {
	l := old.lab
	waiting, err := tcp.AcceptQueue(old.fd)
	l.must(err)
	for range waiting + drainMost {
		n, err := tcp.AcceptQueue(old.fd)
		l.must(err)
		if n == 0 {
			break
		}
		l.must(old.answerOne())
		l.obs.Stream.Drained++
	}
	old.closeQuietly()
}

// ReloadByPassing goes on with another descriptor of the same socket, as the new process gets it over SCM_RIGHTS, and
// closes the old one.
func ReloadByPassing(l *Lab, old *Listener) *Listener {
	n, err := tcp.AcceptQueue(old.fd)
	l.must(err)
	l.obs.Stream.AtStake += n
	fd, err := unix.FcntlInt(uintptr(old.fd), unix.F_DUPFD_CLOEXEC, 0)
	l.must(wrap("duplicate the listener", err))
	l.hold(fd)
	next := &Listener{lab: l, name: fmt.Sprintf("L%d", len(l.listeners)), fd: fd, inode: old.inode, local: old.local}
	l.listeners = append(l.listeners, next)
	old.closeQuietly()
	return next
}

// ReloadByBPFDraining has the program send what arrives to the new listener, serves both until the last request socket
// of the old one must be gone, drains that and closes it. wait is how long it takes: 1 s for the first SYN+ACK, and
// twice as long for each that follows.
func ReloadByBPFDraining(wait time.Duration) Reload {
	return func(l *Lab, old *Listener) *Listener {
		// The latest listener is in slot 1 as soon as it is there.
		l.must(l.program.Set(Policy{Answer: l.cfg.Mode.Answer, Arrive: 1, Migrate: 1}))
		next := l.successor(old)
		l.yield()
		for deadline := time.Now().Add(wait); time.Now().Before(deadline); {
			l.must(next.serve(1, tick))
			if n, err := tcp.AcceptQueue(old.fd); err == nil && n > 0 {
				l.must(old.answerOne())
			}
			l.must(l.pause(streamPace)) // one client and another: the wait is what matters here, not the stream
		}
		old.drainAndClose()
		return next
	}
}

// streamPace is the time between two clients while an old listener lingers.
const streamPace = 10 * time.Millisecond

// closeQuietly closes a listener without a step of its own.
func (s *Listener) closeQuietly() {
	l := s.lab
	l.must(wrap("close", l.closeFD(s.fd)))
	s.fd = -1
}

// Drained tells whether all that were at stake in old accept queues were drained from them.
func (l *Lab) Drained() string {
	if s := l.obs.Stream; s.Drained < s.AtStake {
		return fmt.Sprintf("%d of %d", s.Drained, s.AtStake)
	}
	return "all"
}
