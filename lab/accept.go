package lab

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/tcp"
	"github.com/rpmig/rpmig/verdict"
)

// AcceptAll accepts on the listener, without blocking, until there is nothing more, reads what each client sent, and
// returns how many there were.
func (s *Listener) AcceptAll() int {
	l := s.lab
	l.step("accept on %s", s.name)
	return s.acceptEach(func(int, netip.AddrPort) {})
}

// AcceptUsing is AcceptAll, and has a function do something with each accepted socket and its client's address, once the data
// has been read.
func (s *Listener) AcceptUsing(use func(fd int, peer netip.AddrPort) error) {
	l := s.lab
	l.step("accept on %s, and look at the sockets", s.name)
	s.acceptEach(func(fd int, peer netip.AddrPort) { l.must(use(fd, peer)) })
}

// acceptEach is AcceptAll with a look at each connection once its data has been read.
func (s *Listener) acceptEach(look func(fd int, peer netip.AddrPort)) int {
	l := s.lab
	for n := 0; ; n++ {
		fd, sa, err := unix.Accept4(s.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if errors.Is(err, unix.EAGAIN) {
			return n
		}
		l.must(wrap("accept", err))
		l.hold(fd)
		l.accepted(s.name, tcp.AddrPort(sa), l.read(fd), serverEnd{fd: fd})
		look(fd, tcp.AddrPort(sa))
	}
}

// AcceptQueued is AcceptAll where many listeners are looked at: it is no step unless there is something to accept.
func (s *Listener) AcceptQueued() {
	l := s.lab
	n, err := tcp.AcceptQueue(s.fd)
	l.must(err)
	if n > 0 {
		s.AcceptAll()
	}
}

// AcceptToEOF is AcceptAll, and returns how many of the connections ended with EOF behind the data.
func (s *Listener) AcceptToEOF() int {
	l := s.lab
	l.step("accept on %s, and read to the end", s.name)
	eof := 0
	s.acceptEach(func(fd int, _ netip.AddrPort) {
		l.must(l.wait(handshakeTimeout, fd, unix.POLLIN, "EOF is there"))
		if tcp.Says(fd) == "EOF" {
			eof++
		}
	})
	return eof
}

// AcceptSavedSYN is AcceptAll, and returns how many of the connections gave their client's SYN when asked for
// TCP_SAVED_SYN (tcp(7)).
func (s *Listener) AcceptSavedSYN() int {
	l := s.lab
	l.step("accept on %s, and ask for the SYNs", s.name)
	saved := 0
	s.acceptEach(func(fd int, peer netip.AddrPort) {
		b, err := tcp.SavedSYN(fd)
		l.must(wrap("getsockopt TCP_SAVED_SYN", err))
		if tcp.IsSYNFrom(b, peer.Port()) {
			saved++
		}
	})
	return saved
}

// accepted notes a connection that a listener or a worker has accepted.
func (l *Lab) accepted(by string, peer netip.AddrPort, got received, end serverEnd) {
	if slices.ContainsFunc(l.bystanders, func(c *client) bool { return c.local == peer }) {
		return
	}
	ok := got.why == "" && (got.data == string(l.message()) || l.again && strings.HasPrefix(got.data, string(l.message())))
	instead := ""
	if !ok {
		instead = cmp.Or(got.why, result.Plural(len(got.data), "other byte", "other bytes"))
	}
	for _, c := range l.clients {
		if c.local != peer {
			continue
		}
		if c.accepted = true; ok {
			l.survivors = append(l.survivors, survivor{accepted: len(l.obs.Accepted), client: c, read: len(got.data), serverEnd: end})
		}
	}
	l.obs.Accepted = append(l.obs.Accepted, verdict.Accepted{By: by, Peer: peer, OK: ok, Instead: instead})
}

// received is what a server's end has read of what its client sent.
type received struct {
	data string
	why  string // it is not all; empty: it is
}

func (r received) String() string { return cmp.Or(r.why, r.data) }

// read reads what the client sent.
func (l *Lab) read(fd int) received {
	var data []byte
	buf := make([]byte, min(64<<10, len(l.message())+1)) // one more than there should be
	for len(data) < len(l.message()) {
		// The data segment that completes a handshake is queued just after the child is (tcp_child_process).
		if err := l.wait(handshakeTimeout, fd, unix.POLLIN, "the data is there"); errors.Is(err, errCancelled) {
			l.must(err)
		} else if err != nil {
			return received{why: err.Error()}
		}
		n, err := unix.Read(fd, buf)
		if err != nil {
			return received{why: tcp.Errno(err)}
		}
		if n == 0 {
			return received{why: fmt.Sprintf("EOF after %d bytes", len(data))}
		}
		data = append(data, buf[:n]...)
	}
	return received{data: string(data)}
}

// Accepted is how many connections the listeners of that name have accepted so far.
func (l *Lab) Accepted(by string) int {
	n := 0
	for _, a := range l.obs.Accepted {
		if a.By == by {
			n++
		}
	}
	return n
}

// Queued is how many connections wait in the listener's accept queue.
func (s *Listener) Queued() int {
	l := s.lab
	n, err := tcp.AcceptQueue(s.fd)
	l.must(err)
	return n
}
