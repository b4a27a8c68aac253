package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/tcp"
)

// served is a client that came, was served, and went.
type served struct {
	By   *Listener
	Port uint16 // of the client
}

// FramesServed is how many frames a client of Serve and its server send: the handshake, thrice data with an ACK, two FINs with
// an ACK each or one, and one to spare.
const FramesServed = 13

// Serve has that many clients come and go, one after another. Each sends the greeting and is accepted by whichever of
// the listeners it has reached. The scenario has to ask for FramesServed of room in the capture for each.
func (l *Lab) Serve(count int, listeners []*Listener) []served {
	l.step("%d clients come and go", count)
	return l.visits(count, listeners, func(int) { l.obs.Staged++ })
}

// Newcomers is Serve with bystanders.
func (l *Lab) Newcomers(count int, listeners ...*Listener) []served {
	l.step("%d bystanders come and go", count)
	return l.visits(count, listeners, func(fd int) { l.bystander(fd) })
}

func (l *Lab) visits(count int, listeners []*Listener, note func(client int)) []served {
	var all []served
	for range count {
		client, err := l.dial(l.cfg.Family.Dial)
		l.must(err)
		note(client)
		all = append(all, l.visit(client, listeners))
	}
	return all
}

// ServeFrom is Serve with clients that come from one source port. The server closes first, so that TIME_WAIT is its own, and a
// SYN of the same port is welcome there (tcp_timewait_state_process), while of the client nothing is left.
func (l *Lab) ServeFrom(port uint16, count int, listeners []*Listener) []served {
	l.step("%d clients come and go, one after another, from port %d", count, port)
	from := l.cfg.Family.Dial
	var all []served
	for range count {
		client, err := l.socket(tcp.Domain(from))
		l.must(err)
		l.must(l.until(handshakeTimeout, "the client before it has left the port", func() (bool, error) {
			err := unix.Bind(client, tcp.Sockaddr(netip.AddrPortFrom(from, port)))
			if errors.Is(err, unix.EADDRINUSE) {
				return false, nil
			}
			return true, wrap("bind", err)
		}))
		l.must(l.connectTo(client, from))
		l.obs.Staged++
		by, child := l.meet(client, listeners)
		l.must(l.part(child))
		l.must(l.wait(handshakeTimeout, client, unix.POLLIN, "the client has the server's FIN"))
		l.must(l.part(client))
		all = append(all, served{By: by, Port: port})
	}
	return all
}

// visit has a client that is connected be served and go. Both ends have read all that there was, so these send FINs and no
// reset.
func (l *Lab) visit(client int, listeners []*Listener) served {
	by, child := l.meet(client, listeners)
	sa, err := unix.Getsockname(client)
	l.must(wrap("getsockname", err))
	l.must(l.part(client))
	l.must(l.part(child))
	return served{By: by, Port: tcp.AddrPort(sa).Port()}
}

// meet has a client that is connected send the greeting, and whichever of the listeners it has reached accept it, read that and
// talk with it.
func (l *Lab) meet(client int, listeners []*Listener) (by *Listener, child int) {
	l.greet(client)
	fds := []unix.PollFd{{Fd: int32(l.cfg.Cancelled), Events: unix.POLLIN}}
	for _, s := range listeners {
		fds = append(fds, unix.PollFd{Fd: int32(s.fd), Events: unix.POLLIN})
	}
	l.must(l.poll(handshakeTimeout, "some listener has the connection", func(left time.Duration) (bool, error) {
		_, err := l.nap(left, func(ms int) (int, error) { return unix.Poll(fds, ms) })
		if fds[0].Revents != 0 {
			return false, errCancelled
		}
		for i, s := range listeners {
			if fds[i+1].Revents != 0 {
				by = s
			}
		}
		return by != nil, err
	}))
	noted := len(l.obs.Accepted)
	child = by.acceptOne()
	said, err := l.chat(pair(client, child))
	l.must(err)
	if len(l.obs.Accepted) > noted { // otherwise it is a bystander
		l.obs.Accepted[noted].Talk = said[0]
	}
	return by, child
}

// greet sends the greeting where nothing is noted of the client.
func (l *Lab) greet(client int) {
	_, err := unix.SendmsgN(client, l.message(), nil, nil, unix.MSG_NOSIGNAL)
	l.must(wrap("send", err))
}

// acceptOne accepts a connection that is there, and reads what its client has sent.
func (s *Listener) acceptOne() (child int) {
	l := s.lab
	child, sa, err := unix.Accept4(s.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	l.must(wrap("accept", err))
	l.hold(child)
	l.accepted(s.name, tcp.AddrPort(sa), l.read(child), serverEnd{fd: child})
	return child
}

// ConnectUntilQueued has clients connect and send, one after another, until those of the cell wait in the accept queue of a
// listener on which nobody accepts, whoever holds it. Those that reach the other one instead are served there, and are
// bystanders. It returns how many came in all. If the kernel is fair to both, it is twice as many as the cell has: the scenario
// has to ask for FramesServed of room in the capture for some more.
func (l *Lab) ConnectUntilQueued(stuck, other *Listener) int {
	n := l.cfg.Connections
	l.step("clients connect and send until %d are in the accept queue of %s", n, stuck.name)
	came := 0
	for most := 8*n + 64; len(l.clients) < n && came < most; came++ { // a fair coin does not need so many throws
		fd, err := l.dial(l.cfg.Family.Dial)
		l.must(err)
		var at kernel.Socket
		l.must(l.until(handshakeTimeout, "a listener has the connection", func() (bool, error) {
			atOther, err := tcp.AcceptQueue(other.fd)
			if err == nil {
				at, err = stuck.shown()
			}
			return at.Queue+atOther > len(l.clients), err
		}))
		if at.Queue > len(l.clients) {
			l.send(l.client(fd))
		} else {
			l.bystander(fd)
			l.visit(fd, []*Listener{other})
		}
	}
	l.staged(stuck, n, 0)
	return came
}

// shown is what sock_diag shows of a listener, whoever holds it; a zero Socket where there is none.
func (s *Listener) shown() (kernel.Socket, error) {
	socks, err := s.lab.sockets(kernel.Listen)
	if i := slices.IndexFunc(socks, s.isListener); i >= 0 {
		return socks[i], nil
	}
	return kernel.Socket{}, err
}

// ShownState is LISTEN, or "gone" where sock_diag shows no such listener, whoever holds it.
func (s *Listener) ShownState() string {
	k, err := s.shown()
	s.lab.must(err)
	if k.State != kernel.Listen {
		return "gone"
	}
	return k.State.String()
}

// synTimeout is after how long a client's SYN is sent again (TCP_TIMEOUT_INIT).
const synTimeout = time.Second

// Knock has bystanders connect to listeners of which one has a full accept queue, so that it drops their SYNs. The others are
// served by the one that is open. It returns the sockets of those whose SYN was dropped, which the kernel counts as
// ListenOverflows. All knock before any is served: after 1 s, SYNs are sent again and dropped anew.
func (l *Lab) Knock(count int, open *Listener) (dropped []int) {
	l.step("%d bystanders connect", count)
	began := time.Now()
	var knocks []unix.PollFd
	for range count {
		fd, err := l.socket(tcp.Domain(l.cfg.Family.Dial))
		l.must(err)
		l.connects()
		err = unix.Connect(fd, tcp.Sockaddr(netip.AddrPortFrom(l.cfg.Family.Dial, l.cfg.Port)))
		if !errors.Is(err, unix.EINPROGRESS) {
			l.must(wrap("connect", err))
		}
		l.bystander(fd)
		knocks = append(knocks, unix.PollFd{Fd: int32(fd), Events: unix.POLLOUT})
	}
	let := 0
	l.must(l.until(handshakeTimeout, "each SYN is answered, or dropped", func() (_ bool, err error) {
		let, err = unix.Poll(knocks, 0)
		return let+l.Counter("ListenOverflows") >= count, err
	}))
	if took := time.Since(began); took >= synTimeout {
		l.must(fmt.Errorf("too slow: it took %v, and SYNs are sent again after %v", took.Round(time.Millisecond), synTimeout))
	}
	var in []int
	for _, k := range knocks {
		if k.Revents != 0 {
			in = append(in, int(k.Fd))
		} else {
			dropped = append(dropped, int(k.Fd))
		}
	}
	var served []survivor
	for _, child := range l.letIn(handshakeTimeout, "the handshakes are done", in, open) {
		sa, err := unix.Getpeername(child)
		l.must(wrap("getpeername", err))
		// They need not be accepted in the order in which they came.
		i := slices.IndexFunc(l.bystanders, func(c *client) bool { return c.local == tcp.AddrPort(sa) })
		served = append(served, pair(l.bystanders[i].fd, child))
	}
	_, err := l.chat(served...)
	l.must(err)
	for _, s := range served {
		l.must(l.part(s.client.fd))
		l.must(l.part(s.fd))
	}
	return dropped
}

// ServeLate serves clients whose SYN was dropped, once they have sent it again. That a FIN may not race another segment, they
// stay.
func (l *Lab) ServeLate(clients []int, open *Listener) {
	l.step("%d bystanders send their SYN again", len(clients))
	l.letIn(outcomeTimeout, "those that were sent again are answered", clients, open)
}

// letIn has clients greet, and the listener accept them, and returns the server's ends. Their timers may fire on any CPU, so they
// send only when the server's side of the handshakes is done: data that races the ACK before it may find neither the request
// socket nor the connection, and be reset (inet_ehash_insert removes the one and inserts the other, while others look without a
// lock).
func (l *Lab) letIn(limit time.Duration, condition string, clients []int, open *Listener) (children []int) {
	l.must(l.until(limit, condition, func() (bool, error) {
		n, err := tcp.AcceptQueue(open.fd)
		return n == len(clients), err
	}))
	for _, fd := range clients {
		l.greet(fd)
	}
	for range clients {
		children = append(children, open.acceptOne())
	}
	return children
}
