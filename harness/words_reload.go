package harness

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/capture"
)

// Reload is how a server replaces its listener.
type Reload func(l *Lab, old *Listener) (next *Listener)

// Stream is what a server that reloads and its clients saw.
type Stream struct {
	Reloads     int
	Connections int           // by clients, who each sent a byte and waited for one
	Refused     int           // failed while connecting
	Lost        int           // were connected, and then reset or left without an answer
	AtStake     int           // in the old listener's accept queue when it was retired, summed up
	Drained     int           // accepted from an old listener's queue before it was closed, summed up
	Lingered    time.Duration // from the new listener's start to the old one's end, summed up
	InQueue     int           // connections ended by an RST+ACK: they were in an accept queue
	InHandshake int           // connections ended by a bare RST: the handshake was not done for the server
}

// streamClients is how many clients connect at the same time, each again as soon as it is served. As many may be in the
// accept queue when a listener is retired.
const streamClients = 4

// HotReload plays the talk's steps 0, 1 and 2 under a stream of clients: it serves some, adds a listener, retires the
// old one, and so on. What the clients met becomes the cell's Stream.
func (l *Lab) HotReload(reloads, servedBetween int, reload Reload) {
	l.step("%d clients connect in a stream, and the server reloads %d times", streamClients, reloads)
	s := &Stream{Reloads: reloads}
	l.obs.Stream = s
	ns, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	l.must(wrap("open the namespace", err))
	l.hold(ns)

	now := l.Listen("L0")
	var stop atomic.Bool
	var tally [4]struct{ connections, refused, lost int }
	errs := make([]error, streamClients)
	var clients sync.WaitGroup
	for i := range streamClients {
		clients.Go(func() {
			runtime.LockOSThread() // not unlocked: the thread is left in the namespace, and ends
			if errs[i] = unix.Setns(ns, unix.CLONE_NEWNET); errs[i] != nil {
				return
			}
			at := netip.AddrPortFrom(l.cfg.Family.Dial, l.cfg.Port)
			for !stop.Load() {
				tally[i].connections++
				connected, err := askOnce(at, l.scale(fateTimeout))
				switch {
				case err == nil:
				case connected:
					tally[i].lost++
				default:
					tally[i].refused++
				}
			}
		})
	}
	// The clients are waited for whatever happens, since they use the Lab's sockets' namespace.
	defer func() {
		stop.Store(true)
		served := make(chan struct{})
		go func() { clients.Wait(); close(served) }()
		for waiting := true; waiting; {
			select {
			case <-served:
				waiting = false
			default:
				_ = l.serve(now, 1, tick)
			}
		}
		for i := range tally {
			s.Connections += tally[i].connections
			s.Refused += tally[i].refused
			s.Lost += tally[i].lost
		}
		l.must(errors.Join(errs...))
	}()
	for range reloads {
		l.must(l.serve(now, servedBetween, handshakeTimeout))
		// So that each reload puts somebody at stake.
		l.must(l.wait(handshakeTimeout, now.fd, unix.POLLIN, "a client waits in the old accept queue"))
		from := time.Now()
		now = reload(l, now)
		s.Lingered += time.Since(from)
	}
}

// successor opens the next listener, and notes what is at stake in the queue of the old one.
func (l *Lab) successor(old *Listener) *Listener {
	next, err := l.open(fmt.Sprintf("L%d", len(l.listeners)), nil)
	l.must(err)
	n, err := acceptQueue(old.fd)
	l.must(err)
	l.obs.Stream.AtStake += n
	return next
}

// serve answers clients of a listener until it has answered as many as it should, or no more come for so long.
func (l *Lab) serve(s *Listener, count int, patience time.Duration) error {
	for range count {
		if err := l.wait(patience, s.fd, unix.POLLIN, "a client of the stream connects"); err != nil {
			if errors.Is(err, errTimeout) && patience == tick {
				return nil
			}
			return err
		}
		if err := l.answerOne(s); err != nil {
			return err
		}
	}
	return nil
}

// answerOne accepts a connection and answers its byte with another.
func (l *Lab) answerOne(s *Listener) error {
	fd, _, err := unix.Accept4(s.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if errors.Is(err, unix.EAGAIN) {
		return nil
	} else if err != nil {
		return wrap("accept", err)
	}
	defer func() { _ = finish(fd); _ = unix.Close(fd) }() // it may have been reset
	if err := l.wait(fateTimeout, fd, unix.POLLIN, "the byte is there"); err != nil {
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

// askOnce connects, sends a byte and waits for one, on a thread of its own.
func askOnce(at netip.AddrPort, limit time.Duration) (connected bool, err error) {
	fd, err := unix.Socket(domain(at.Addr()), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer func() { _ = finish(fd); _ = unix.Close(fd) }()
	// Non-blocking, since a connect(2) with a time limit is cut short by each signal that the runtime sends a thread.
	wait := func(event int16) error {
		for {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: event}}, int(limit.Milliseconds()))
			if err == nil && n == 0 {
				return fmt.Errorf("nothing in %v", limit)
			}
			if !errors.Is(err, unix.EINTR) {
				return err
			}
		}
	}
	if err := unix.Connect(fd, sockaddr(at)); err != nil {
		if !errors.Is(err, unix.EINPROGRESS) {
			return false, err
		}
		if err := errors.Join(wait(unix.POLLOUT), socketError(fd)); err != nil {
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
	l.closeQuietly(old)
	return next
}

// ReloadByDraining accepts on the old listener until there is nothing left, and closes it.
func ReloadByDraining(l *Lab, old *Listener) *Listener {
	next := l.successor(old)
	l.drainAndClose(old)
	return next
}

func (l *Lab) drainAndClose(old *Listener) {
	for {
		n, err := acceptQueue(old.fd)
		l.must(err)
		if n == 0 {
			break
		}
		l.must(l.answerOne(old))
		l.obs.Stream.Drained++
	}
	l.closeQuietly(old)
}

// ReloadByPassing goes on with another descriptor of the same socket, as the new process gets it over SCM_RIGHTS, and
// closes the old one.
func ReloadByPassing(l *Lab, old *Listener) *Listener {
	n, err := acceptQueue(old.fd)
	l.must(err)
	l.obs.Stream.AtStake += n
	fd, err := unix.FcntlInt(uintptr(old.fd), unix.F_DUPFD_CLOEXEC, 0)
	l.must(wrap("duplicate the listener", err))
	l.hold(fd)
	next := &Listener{name: fmt.Sprintf("L%d", len(l.listeners)), fd: fd, inode: old.inode, local: old.local}
	l.listeners = append(l.listeners, next)
	l.closeQuietly(old)
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
		l.rest()
		for deadline := time.Now().Add(wait); time.Now().Before(deadline); {
			l.must(l.serve(next, 1, tick))
			if n, err := acceptQueue(old.fd); err == nil && n > 0 {
				l.must(l.answerOne(old))
			}
			l.must(l.pause(streamPace)) // one client and another: the wait is what matters here, not the stream
		}
		l.drainAndClose(old)
		return next
	}
}

// streamPace is the time between two clients while an old listener lingers.
const streamPace = 10 * time.Millisecond

// closeQuietly closes a listener without a step of its own.
func (l *Lab) closeQuietly(s *Listener) {
	l.must(wrap("close", l.closeFD(s.fd)))
	s.fd = -1
}

// account adds a connection that the server reset. What the client sent before it heard of the reset may have been
// answered with another, so only the first of a connection counts.
func (s *Stream) account(f capture.Flow) {
	for _, r := range f.Resets() {
		if r.FromClient {
			continue
		}
		if r.Flavour == capture.ResetWithACK {
			s.InQueue++
		} else {
			s.InHandshake++
		}
		return
	}
}

// Drained tells whether all that were at stake in old accept queues were drained from them.
func (l *Lab) Drained() string {
	if s := l.obs.Stream; s.Drained < s.AtStake {
		return fmt.Sprintf("%d of %d", s.Drained, s.AtStake)
	}
	return "all"
}

// PerMillion is the loss per million connections, with its 95 % confidence interval after Wilson.
func (s *Stream) PerMillion() (rate, low, high float64) {
	n, lost := float64(s.Connections), float64(s.Lost+s.Refused)
	if n == 0 {
		return 0, 0, 1e6
	}
	const z = 1.96
	p := lost / n
	mid := (p + z*z/(2*n)) / (1 + z*z/n)
	half := z / (1 + z*z/n) * math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	return p * 1e6, max(mid-half, 0) * 1e6, min(mid+half, 1) * 1e6
}

// String is the stream in a sentence.
func (s *Stream) String() string {
	rate, low, high := s.PerMillion()
	return fmt.Sprintf("%d connections over %d reloads: %d lost in the queue, %d in the handshake, %.0f per million (%.0f to %.0f); the old listener lingered %.4f s each time",
		s.Connections, s.Reloads, s.InQueue, s.InHandshake, rate, low, high, s.Lingered.Seconds()/float64(max(s.Reloads, 1)))
}
