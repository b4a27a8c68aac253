package harness

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
	clients, err := l.startStream()
	l.must(err)
	// They are waited for whatever happens, since they use the namespace. A step that fails has an error of its own.
	ended := false
	defer func() {
		if !ended {
			_ = clients.end(now, s)
		}
	}()
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
	ended = true
	l.must(clients.end(now, s))
}

// stream is clients that connect again and again, each on a thread of its own.
type stream struct {
	stop    atomic.Bool
	running sync.WaitGroup
	tally   [streamClients]struct{ connections, refused, lost int }
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
	at := netip.AddrPortFrom(l.cfg.family.Dial, l.cfg.Port)
	for i := range streamClients {
		s.running.Go(func() {
			runtime.LockOSThread() // not unlocked: the thread is left in the namespace, and ends
			s.errs[i] = errors.Join(kernel.SetNice(0), wrap("enter the namespace", unix.Setns(ns, unix.CLONE_NEWNET)))
			if s.errs[i] != nil {
				return
			}
			for !s.stop.Load() {
				s.tally[i].connections++
				connected, err := askOnce(at, l.scale(outcomeTimeout), l.cfg.cancelled)
				switch {
				case err == nil:
				case errors.Is(err, errCancelled):
					s.errs[i] = err
					return
				case connected:
					s.tally[i].lost++
				default:
					s.tally[i].refused++
				}
			}
		})
	}
	return s, nil
}

// end stops the clients, serves those that are still to be served, and sums up what they met.
func (s *stream) end(listener *Listener, sum *result.Stream) error {
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
				err = listener.serve(1, tick)
			} else { // cancelled, and so are they; or a server that does not answer, which they find out
				<-ended
			}
		}
	}
	for _, t := range s.tally {
		sum.Connections += t.connections
		sum.Refused += t.refused
		sum.Lost += t.lost
	}
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
	l := s.lab
	for range count {
		if err := l.wait(patience, s.fd, unix.POLLIN, "a client of the stream connects"); err != nil {
			if errors.Is(err, errTimeout) && patience == tick {
				return nil
			}
			return err
		}
		if err := s.answerOne(); err != nil {
			return err
		}
	}
	return nil
}

// answerOne accepts a connection and answers its byte with another.
func (s *Listener) answerOne() error {
	l := s.lab
	fd, _, err := unix.Accept4(s.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if errors.Is(err, unix.EAGAIN) {
		return nil
	} else if err != nil {
		return wrap("accept", err)
	}
	defer func() { _ = tcp.Finish(fd); _ = unix.Close(fd) }() // it may have been reset
	if err := l.wait(outcomeTimeout, fd, unix.POLLIN, "the byte is there"); err != nil {
		return err
	}
	var b [1]byte
	if _, err := unix.Read(fd, b[:]); err != nil {
		return nil // reset: the client will say so
	}
	_, err = unix.SendmsgN(fd, b[:], nil, nil, unix.MSG_NOSIGNAL)
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		return nil
	}
	return wrap("answer", err)
}

// askOnce connects, sends a byte and waits for one, no longer than the limit, and until cancelled becomes readable.
func askOnce(at netip.AddrPort, limit time.Duration, cancelled int) (connected bool, err error) {
	fd, err := unix.Socket(tcp.Domain(at.Addr()), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer func() { _ = tcp.Finish(fd); _ = unix.Close(fd) }()
	// Non-blocking, since a connect(2) with a time limit is cut short by each signal that the runtime sends a thread.
	wait := func(event int16) error {
		for {
			fds := []unix.PollFd{{Fd: int32(fd), Events: event}, {Fd: int32(cancelled), Events: unix.POLLIN}}
			n, err := unix.Poll(fds, int(limit.Milliseconds()))
			switch {
			case errors.Is(err, unix.EINTR):
			case err != nil:
				return err
			case n == 0:
				return fmt.Errorf("nothing in %v", limit)
			case fds[1].Revents != 0:
				return errCancelled
			default:
				return nil
			}
		}
	}
	if err := unix.Connect(fd, tcp.Sockaddr(at)); err != nil {
		if !errors.Is(err, unix.EINPROGRESS) {
			return false, err
		}
		if err := errors.Join(wait(unix.POLLOUT), tcp.Error(fd)); err != nil {
			return false, err
		}
	}
	b := []byte{'?'}
	if _, err := unix.SendmsgN(fd, b, nil, nil, unix.MSG_NOSIGNAL); err != nil {
		return true, err
	}
	if err := wait(unix.POLLIN); err != nil {
		return true, err
	}
	n, err := unix.Read(fd, b)
	if err == nil && n == 0 {
		err = errors.New("EOF without an answer")
	}
	return true, err
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
		l.must(l.program.Set(Policy{Answer: l.cfg.mode.Answer, Arrive: 1, Migrate: 1}))
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
