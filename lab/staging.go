package lab

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/verdict"
)

// AssertAcceptQueue waits until the handshakes are done for the server too, and notes what sock_diag says: every
// connection in the accept queue of the listener, or of one of several.
func (l *Lab) AssertAcceptQueue(all ...*Listener) {
	l.step("all in the accept queue of %s", names(all))
	l.must(l.awaitDecided(handshakeTimeout, all...))
	l.stagedIn(all, l.cfg.Connections, 0)
}

// AssertRequests notes what sock_diag and the rule say: every connection a request socket, none in an accept queue, and
// what each client sent dropped: the final ACK and, unless it is silent, the greeting.
func (l *Lab) AssertRequests(all ...*Listener) {
	l.step("all request sockets, none accepted by %s", names(all))
	segments := 0
	for _, c := range l.clients {
		if segments++; c.sent {
			segments++
		}
	}
	l.awaitDropped(segments)
	l.stagedIn(all, 0, l.cfg.Connections)
}

// AssertChildren is AssertAcceptQueue for TCP Fast Open behind the rule: every connection is in the accept queue while
// still in SYN_RECV, and its final ACK was dropped.
func (l *Lab) AssertChildren(all ...*Listener) {
	l.step("all in the accept queue of %s, in SYN_RECV", names(all))
	l.must(l.awaitDecided(handshakeTimeout, all...))
	l.awaitDropped(l.cfg.Connections)
	l.stagedIn(all, l.cfg.Connections, l.cfg.Connections)
}

// AssertHalfOpen is AssertRequests where no rule holds the handshake up, nor those of bystanders.
func (l *Lab) AssertHalfOpen(s *Listener) {
	l.step("all request sockets, none accepted by %s", s.name)
	l.staged(s, 0, l.cfg.Connections+l.obs.Bystanders)
}

// AssertNoTrace notes what sock_diag and the rule say where a handshake has left nothing on the server: no request
// socket, none in the accept queue, and two segments of each client dropped.
func (l *Lab) AssertNoTrace(s *Listener) {
	l.step("no request socket, none accepted by %s", s.name)
	l.awaitDropped(2 * l.cfg.Connections)
	l.staged(s, 0, 0)
}

// AssertClientsGone is AssertAcceptQueue for clients that have sent their FIN: the server knows of each, and has said so. An
// ACK that it delays (TCP_DELACK_MIN, 40 ms) might otherwise meet a client that its own reset has ended just before.
func (l *Lab) AssertClientsGone(s *Listener) {
	l.step("all in the accept queue of %s, in CLOSE_WAIT", s.name)
	l.must(l.until(handshakeTimeout, "all are in CLOSE_WAIT, and every FIN is acknowledged", func() (bool, error) {
		socks, err := l.diag.Sockets(l.cfg.Port, l.cfg.Family.socketFamilies(), kernel.CloseWait, kernel.FinWait1)
		return count(socks, kernel.CloseWait) == l.cfg.Connections && count(socks, kernel.FinWait1) == 0, err
	}))
	l.staged(s, l.cfg.Connections, 0)
}

// AssertRequestsGone is AssertRequests for clients that have sent their FIN, which was dropped too.
func (l *Lab) AssertRequestsGone(s *Listener) {
	l.step("all request sockets, none accepted by %s", s.name)
	l.awaitDropped(3 * l.cfg.Connections)
	l.staged(s, 0, l.cfg.Connections)
}

func (l *Lab) staged(s *Listener, queued, requests int) {
	l.stagedIn([]*Listener{s}, queued, requests)
}

func (l *Lab) stagedIn(all []*Listener, queued, requests int) {
	socks, err := l.sockets(kernel.Listen, kernel.SynRecv)
	l.must(err)
	if l.obs.StagedAt == 0 {
		l.obs.StagedAt = l.now()
	}
	said := verdict.Staging{Listener: names(all), WantQueued: queued, Requests: count(socks, kernel.SynRecv), WantRequests: requests}
	for _, s := range all {
		i := slices.IndexFunc(socks, s.isListener)
		if i < 0 {
			l.must(fmt.Errorf("sock_diag shows no listener %s (inode %d)", s.name, s.inode))
		}
		said.Queued += socks[i].Queue
	}
	l.obs.Staging = append(l.obs.Staging, said)
}

func names(all []*Listener) string {
	var names []string
	for _, s := range all {
		names = append(names, s.name)
	}
	return strings.Join(names, ", ")
}
