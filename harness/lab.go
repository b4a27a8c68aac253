package harness

import (
	"errors"
	"fmt"

	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/capture"
	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/result"
)

// greeting is what a client sends; the talk's.
const greeting = "Hello World"

// minBacklog is the talk's listen(32).
const minBacklog = 32

// How long the Lab waits for a condition before it gives up, before --timeout-mul. None of them decides a verdict: a
// condition that does not come is an ERROR. The longest that a healthy kernel needs is a client's first retransmission
// (TCP_RTO_MIN, 200 ms) and, should that be lost, the next (400 ms later).
const (
	handshakeTimeout = 3 * time.Second
	fateTimeout      = 5 * time.Second
)

// Lab is where a scenario is played: a namespace, its witnesses, and the words that a scenario is written in. A word
// that cannot be done ends the scenario; the cell is an ERROR then. All words run on the namespace's own thread.
type Lab struct {
	cfg     cellConfig
	start   time.Time // zero of every time in the cell
	ring    *capture.Ring
	program *migrate.Program
	rule    netns.Rule

	listeners []*Listener
	clients   []*client
	fds       []int // every socket, closed at the end unless closed before

	steps []result.Step
	obs   Observation
}

// Listener is a socket in LISTEN, of the reuseport group of the Lab's port.
type Listener struct {
	name  string
	fd    int
	inode uint32
}

type client struct {
	fd       int
	local    netip.AddrPort
	accepted bool
}

// abort carries an error out of Play; only play recovers it.
type abort struct{ err error }

// must ends the scenario when err is not nil.
func (l *Lab) must(err error) {
	if err != nil {
		panic(abort{fmt.Errorf("%s: %w", l.steps[len(l.steps)-1].Name, err)})
	}
}

func (l *Lab) step(format string, args ...any) {
	l.steps = append(l.steps, result.Step{Name: fmt.Sprintf(format, args...), At: l.now()})
}

// now is the time in the cell, in seconds.
func (l *Lab) now() float64 { return time.Since(l.start).Seconds() }

// Listen opens a listener of the port with SO_REUSEPORT. The first gets the mode's program, and the program sends SYNs
// to it; a later one is the program's choice for what is to migrate.
func (l *Lab) Listen(name string) *Listener {
	l.step("%s listens", name)
	fd, err := l.socket()
	l.must(err)
	l.must(wrap("set SO_REUSEPORT", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)))
	at := netip.AddrPortFrom(l.cfg.Family.Addr, l.cfg.Port)
	l.must(wrap("bind "+at.String(), unix.Bind(fd, sockaddr(at))))
	l.must(wrap("listen", unix.Listen(fd, max(minBacklog, l.cfg.Connections))))
	var st unix.Stat_t
	l.must(wrap("fstat", unix.Fstat(fd, &st)))
	s := &Listener{name: name, fd: fd, inode: uint32(st.Ino)}
	if l.program != nil {
		if len(l.listeners) == 0 {
			l.must(l.program.Attach(fd))
		} else {
			l.must(l.program.SetTarget(fd))
		}
	}
	l.listeners = append(l.listeners, s)
	return s
}

// DropACKs puts the rule in that takes the final ACK of every handshake away, and all that clients send after it.
func (l *Lab) DropACKs() {
	l.step("drop ACKs to port %d", l.cfg.Port)
	l.obs.Rule = &RuleSaid{Backend: l.cfg.Dropper.Name()}
	if l.cfg.faults.noRule {
		return
	}
	var err error
	l.rule, err = l.cfg.Dropper.Drop(l.v6(), l.cfg.Port)
	l.must(err)
	l.obs.Rule.from = l.now()
}

// StopDropping takes the rule out again.
func (l *Lab) StopDropping() {
	l.step("stop dropping")
	if l.rule != nil {
		l.obs.Rule.until = l.now()
		l.must(l.rule.Remove())
		l.rule = nil
	}
}

// Connect connects the cell's clients and sends the greeting from each.
func (l *Lab) Connect() {
	n := l.cfg.Connections
	l.step("%s %q", plural(n, "client connects and sends", "clients connect and send"), greeting)
	server := netip.AddrPortFrom(l.cfg.Family.Addr, l.cfg.Port)
	for range n {
		fd, err := l.socket()
		l.must(err)
		err = unix.Connect(fd, sockaddr(server))
		if errors.Is(err, unix.EINPROGRESS) {
			l.must(l.wait(handshakeTimeout, fd, unix.POLLOUT, "the handshake is done for the client"))
			err = socketError(fd)
		}
		l.must(wrap("connect to "+server.String(), err))
		_, err = unix.SendmsgN(fd, []byte(greeting), nil, nil, unix.MSG_NOSIGNAL)
		l.must(wrap("send", err))
		sa, err := unix.Getsockname(fd)
		l.must(wrap("getsockname", err))
		l.clients = append(l.clients, &client{fd: fd, local: addrPort(sa)})
	}
	l.obs.Staged = n
}

// AssertAcceptQueue waits until the handshakes are done for the server too, and notes what sock_diag says: every
// connection in the listener's accept queue.
func (l *Lab) AssertAcceptQueue(s *Listener) {
	l.step("all in the accept queue of %s", s.name)
	l.must(l.awaitSettled(s, handshakeTimeout))
	l.staged(s, l.cfg.Connections, 0)
}

// AssertRequests notes what sock_diag and the rule say: every connection a request socket, none in the accept queue,
// and the two segments of each client (the final ACK, the greeting) dropped.
func (l *Lab) AssertRequests(s *Listener) {
	l.step("all request sockets, none accepted by %s", s.name)
	var dropped uint64
	want := uint64(2 * l.cfg.Connections)
	if l.rule != nil {
		// The clients' segments may still be on their way through the backlog of lo.
		for deadline := time.Now().Add(l.scale(handshakeTimeout)); ; {
			var err error
			dropped, err = l.rule.Packets()
			l.must(err)
			if dropped >= want || time.Now().After(deadline) {
				break
			}
		}
	}
	l.obs.Rule.Dropped = int(dropped)
	l.obs.Rule.Want = int(want)
	l.staged(s, 0, l.cfg.Connections)
}

func (l *Lab) staged(s *Listener, queued, requests int) {
	socks, err := kernel.ReadSockets(l.cfg.Port, uint8(l.cfg.Family.Domain))
	l.must(err)
	found, ok := socks.Listener(s.inode)
	if !ok {
		l.must(fmt.Errorf("sock_diag shows no listener %s (inode %d)", s.name, s.inode))
	}
	l.obs.Staging = &StagingSaid{
		Queued: found.AcceptQueue, WantQueued: queued,
		Requests: socks.Requests, WantRequests: requests,
	}
}

// Close closes the listener.
func (l *Lab) Close(s *Listener) {
	l.step("close %s", s.name)
	l.must(wrap("close", l.closeFD(s.fd)))
}

// AwaitFates waits until each connection has either reached the listener's accept queue or been reset.
func (l *Lab) AwaitFates(s *Listener) {
	l.step("await the retransmission")
	if err := l.awaitSettled(s, fateTimeout); errors.Is(err, errTimeout) {
		l.obs.Unsettled = err.Error()
	} else {
		l.must(err)
	}
}

// AcceptAll accepts on the listener, without blocking, until there is nothing more, and reads what each client sent.
func (l *Lab) AcceptAll(s *Listener) {
	l.step("accept on %s", s.name)
	for {
		fd, sa, err := unix.Accept4(s.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			l.obs.AcceptEnded = errno(err)
			if !errors.Is(err, unix.EAGAIN) {
				l.must(wrap("accept", err))
			}
			return
		}
		l.fds = append(l.fds, fd)
		peer := addrPort(sa)
		for _, c := range l.clients {
			c.accepted = c.accepted || c.local == peer
		}
		// The data segment that completes a handshake is queued just after the child is (tcp_child_process).
		a := Accepted{Peer: peer}
		if err := l.wait(handshakeTimeout, fd, unix.POLLIN, "the data is there"); errors.Is(err, errCancelled) {
			l.must(err)
		} else if err != nil {
			a.Data = err.Error()
		} else {
			var buf [1024]byte
			n, err := unix.Read(fd, buf[:])
			if a.Data = string(buf[:max(n, 0)]); err != nil {
				a.Data = errno(err)
			}
		}
		l.obs.Accepted = append(l.obs.Accepted, a)
	}
}

// ask collects what the witnesses say once the scenario is over, before anything of it is torn down.
func (l *Lab) ask(before kernel.Counters) error {
	// A reset may still be on its way through the backlog of lo. One that never comes is for the judge to see.
	patience := fateTimeout
	for _, c := range l.clients {
		if !c.accepted && l.obs.Unsettled == "" {
			switch err := l.wait(patience, c.fd, unix.POLLHUP, "a reset came"); {
			case errors.Is(err, errTimeout):
				patience = 0
			case err != nil:
				return err
			}
		}
		l.obs.Clients = append(l.obs.Clients, ClientSaid{
			Local: c.local, Accepted: c.accepted, Says: say(c.fd),
		})
	}
	after, err := kernel.ReadCounters()
	if err != nil {
		return err
	}
	l.obs.Known, l.obs.Counters = after, after.Since(before)
	if l.program != nil {
		asked, err := l.program.Asked()
		if err != nil {
			return err
		}
		l.obs.Program = &result.Program{SYN: asked.SYN, Stray: asked.Stray, Migrated: asked.Migrated}
	}
	return l.drain()
}

// drain reads what the capture has recorded.
func (l *Lab) drain() error {
	rec, err := l.ring.Drain()
	if err == nil {
		l.obs.watch(rec, l.start, l.steps)
	}
	return err
}

// close frees all that the Lab holds but the ring. It runs on the way out of every cell, when nobody looks any more.
func (l *Lab) close() {
	for _, fd := range l.fds {
		// No lingering in TIME_WAIT: each such socket would have to be hunted down in the host's table when the
		// namespace goes (net/ipv4/inet_timewait_sock.c:inet_twsk_purge).
		_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		_ = unix.Close(fd)
	}
	if l.program != nil {
		_ = l.program.Close()
	}
}

func (l *Lab) socket() (int, error) {
	fd, err := unix.Socket(l.cfg.Family.Domain, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, wrap("socket", err)
	}
	l.fds = append(l.fds, fd)
	return fd, nil
}

// closeFD closes a socket for good: when it returns, the kernel has done what the last close of a socket does. A child
// that another cell forks to run iptables holds copies of all our descriptors until it execs, and a close in that moment
// would not be the last; ForkLock is held from the fork to the exec (syscall.forkExec).
func (l *Lab) closeFD(fd int) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	for i, f := range l.fds {
		if f == fd {
			l.fds = append(l.fds[:i], l.fds[i+1:]...)
		}
	}
	return unix.Close(fd)
}

var (
	errTimeout   = errors.New("it did not happen")
	errCancelled = errors.New("cancelled")
)

func (l *Lab) v6() bool { return l.cfg.Family.Domain == unix.AF_INET6 }

func (l *Lab) scale(d time.Duration) time.Duration {
	return time.Duration(float64(d) * l.cfg.TimeoutMul)
}

// wait blocks until the socket shows the event, and says in its error which condition it waited for.
func (l *Lab) wait(limit time.Duration, fd int, event int16, condition string) error {
	return l.poll(limit, condition, func(left time.Duration) (bool, error) {
		fds := []unix.PollFd{{Fd: int32(fd), Events: event}, {Fd: int32(l.cfg.cancelled), Events: unix.POLLIN}}
		_, err := unix.Poll(fds, int(left.Milliseconds())+1)
		if fds[1].Revents != 0 {
			return false, errCancelled
		}
		return fds[0].Revents != 0, err
	})
}

// awaitSettled blocks until each connection is in the listener's accept queue or has been reset at the client.
func (l *Lab) awaitSettled(s *Listener, limit time.Duration) error {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return wrap("epoll_create1", err)
	}
	defer unix.Close(ep)
	// Edge-triggered: sk_data_ready wakes us for each connection that reaches the accept queue, not only the first.
	add := func(fd int, events uint32) error {
		return wrap("epoll_ctl", unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}))
	}
	if err := errors.Join(add(s.fd, unix.EPOLLIN|unix.EPOLLET), add(l.cfg.cancelled, unix.EPOLLIN)); err != nil {
		return err
	}
	for _, c := range l.clients {
		if err := add(c.fd, unix.EPOLLET); err != nil { // EPOLLHUP and EPOLLERR always
			return err
		}
	}
	reset := 0
	events := make([]unix.EpollEvent, 64)
	return l.poll(limit, fmt.Sprintf("all %d connections settled", len(l.clients)), func(left time.Duration) (bool, error) {
		queued, err := acceptQueue(s.fd)
		if err != nil || queued+reset >= len(l.clients) {
			return err == nil, err
		}
		n, err := unix.EpollWait(ep, events, int(left.Milliseconds())+1)
		for _, e := range events[:max(n, 0)] {
			switch {
			case e.Fd == int32(l.cfg.cancelled):
				return false, errCancelled
			case e.Fd != int32(s.fd) && e.Events&unix.EPOLLHUP != 0:
				reset++
			}
		}
		return false, err
	})
}

// poll calls try until it says yes or the limit is over. EINTR is no answer.
func (l *Lab) poll(limit time.Duration, condition string, try func(left time.Duration) (bool, error)) error {
	limit = l.scale(limit)
	for deadline := time.Now().Add(limit); ; {
		ok, err := try(max(time.Until(deadline), 0))
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("wait until %s: %w", condition, err)
		case ok:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("wait %v until %s: %w", limit, condition, errTimeout)
		}
	}
}

// acceptQueue is how many connections wait for accept: tcp_get_info puts sk_ack_backlog there for a listener.
func acceptQueue(fd int) (int, error) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, wrap("getsockopt TCP_INFO", err)
	}
	return int(info.Unacked), nil
}

// say is what the client's socket answers when it is asked for data: EAGAIN while it lives, ECONNRESET once reset.
func say(fd int) string {
	var buf [1]byte
	n, _, err := unix.Recvfrom(fd, buf[:], unix.MSG_DONTWAIT)
	switch {
	case err != nil:
		return errno(err)
	case n == 0:
		return "EOF"
	default:
		return "data"
	}
}

func socketError(fd int) error {
	e, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return wrap("getsockopt SO_ERROR", err)
	}
	if e != 0 {
		return unix.Errno(e)
	}
	return nil
}

// errno names an error as errno(3) does.
func errno(err error) string {
	var e unix.Errno
	if errors.As(err, &e) {
		if name := unix.ErrnoName(e); name != "" {
			return name
		}
	}
	return err.Error()
}

func wrap(what string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	default:
		return netip.AddrPort{}
	}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
