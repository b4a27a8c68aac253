package lab

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/stream"
	"github.com/rpmig/rpmig/tcp"
)

// Reload is how a server replaces its listener.
type Reload func(l *Lab, old *Listener) (next *Listener)

// HotReload plays the talk's steps 0, 1 and 2 under a stream of clients: it serves some, adds a listener, retires the
// old one, and so on. What the clients met becomes the cell's Stream.
func (l *Lab) HotReload(reloads, servedBetween int, reload Reload) {
	l.step("%d clients connect in a stream, and the server reloads %d times", stream.Clients, reloads)
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
	ns, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	l.must(wrap("open the namespace", err))
	l.hold(ns)
	clients := stream.Start(ns, netip.AddrPortFrom(l.cfg.Family.Dial, l.cfg.Port), l.scale(outcomeTimeout), l.cfg.Cancelled)
	end := func() error {
		return clients.End(l.obs.Stream, func() error { return l.serveAny(listeners(), 1, tick) })
	}
	// They are waited for whatever happens, since they use the namespace. A step that fails has an error of its own.
	ended := false
	defer func() {
		if !ended {
			_ = end()
		}
	}()
	play()
	ended = true
	l.must(end())
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
	return stream.Serve(&l.waiter, fdsOf(listeners), count, patience, outcomeTimeout)
}

func fdsOf(listeners []*Listener) []int {
	var fds []int
	for _, s := range listeners {
		fds = append(fds, s.fd)
	}
	return fds
}

// answerOne accepts a connection and sends back what it has sent.
func (s *Listener) answerOne() error {
	return stream.Answer(&s.lab.waiter, s.fd, outcomeTimeout)
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
const drainMost = 16 * stream.Clients

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
		l.must(l.program.Set(l.toLatest()))
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
