package harness

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/capture"
	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/kernel/trace"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/result"
)

// Lab is where a scenario is played: a namespace, its witnesses, and the words (words.go) that a scenario is written in.
// A word that cannot be done ends the scenario; the cell is an ERROR then. All words run on the namespace's own thread.
type Lab struct {
	cfg      cellConfig
	start    time.Time     // zero of every time in the cell
	ring     *capture.Ring // nil: not there yet, or closed
	later    func(func())  // does what waits for the kernel and need not be waited for
	rests    func()        // lets another cell begin in this one's place; nil: it has done so
	diag     *kernel.Diag
	counting *kernel.Counting
	program  *migrate.Program
	rule     netns.Rule

	listeners []*Listener // in the order in which they came up; those that are gone too
	clients   []*Client
	// bystanders are clients besides those that the case is about.
	bystanders []*Client
	workers    []*Worker
	connected  time.Time // when the first of them began to
	payload    []byte
	again      bool  // clients have sent more than once
	fds        []int // every socket, closed at the end unless closed before
	held       int   // the most of them at a time

	weather       []Sysctl     // what was set, the last word on each at the end
	rules         []netns.Rule // that were in at some time
	before, after kernel.MIB   // the counters around the scenario; before is empty where they were not read

	steps  []result.Step
	tracer *trace.Tracer
	watch  *trace.Watch // nil: no trace
	noted  []noted
	obs    Observation
}

// abort carries an error out of Play; only perform recovers it.
type abort struct{ err error }

// must ends the scenario when err is not nil.
func (l *Lab) must(err error) {
	if err != nil {
		panic(abort{fmt.Errorf("%s: %w", l.steps[len(l.steps)-1].Name, err)})
	}
}

func (l *Lab) step(format string, args ...any) {
	if err := l.snapshot(); err != nil {
		panic(abort{err})
	}
	l.steps = append(l.steps, result.Step{Name: fmt.Sprintf(format, args...), At: l.now()})
}

// now is the time in the cell, in seconds.
func (l *Lab) now() float64 { return time.Since(l.start).Seconds() }

// ask collects what the witnesses say once the scenario is over, before anything of it is torn down.
func (l *Lab) ask() error {
	// A reset may still be on its way through the backlog of lo. One that never comes is for the judge to see.
	patience := fateTimeout
	for _, c := range l.clients {
		if c.fd < 0 {
			continue
		}
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
	var err error
	if l.after, err = l.counting.MIB(); err != nil {
		return err
	}
	after, err := l.after.Counters()
	if err != nil {
		return err
	}
	// A new namespace counts from 0, and nothing was sent in it before the scenario began.
	l.obs.Known, l.obs.Counters = after, after.Since(nil)
	if l.program != nil {
		asked, err := l.program.Asked()
		if err != nil {
			return err
		}
		l.obs.Program = &result.Program{SYN: asked.SYN, Stray: asked.Stray, Migrated: asked.Migrated()}
	}
	if err := l.snapshot(); err != nil {
		return err
	}
	return l.drain()
}

// drain reads what the capture and the trace have recorded.
func (l *Lab) drain() error {
	rec, err := l.ring.Drain()
	if err != nil {
		return err
	}
	l.later(l.ring.Close)
	l.ring = nil
	l.obs.watch(rec, l.start, l.steps)
	if l.watch == nil {
		return nil
	}
	told, err := l.watch.Stop()
	l.watch = nil
	if err != nil {
		return err
	}
	told.Claim(l.own())
	l.obs.Trace = &TraceSaid{
		Lost: told.Lost + told.Untraced(l.obs.Counters), Missing: told.Missing, HostWide: told.HostWide, events: told.Events,
	}
	l.obs.explain(told.Events, l.start)
	return nil
}

// try sees whether those who are left still work: a kernel that migrates and leaves the new listener damaged is no
// better. As many fresh clients connect as there are listeners open, and each listener has to serve one.
func (l *Lab) try() error {
	if l.rule != nil {
		if err := l.liftRule(); err != nil {
			return err
		}
	}
	// What the case itself asked for is not the kernel's doing.
	if slices.ContainsFunc(l.weather, func(s Sysctl) bool { return s.Name == syncookies && s.Value != "0" }) {
		if err := (Sysctl{Name: syncookies, Value: "0"}).Set(); err != nil {
			return err
		}
	}
	left := map[int32]*Listener{} // by descriptor
	for _, s := range l.listeners {
		if s.serves() {
			left[int32(s.fd)] = s
		}
	}
	said := &AfterSaid{Open: len(left)}
	l.obs.After = said
	if err := l.serveEach(left, said); err != nil {
		return err
	}
	said.Unserved = len(left)
	after, err := l.counting.Read()
	if err != nil {
		return err
	}
	said.Counters = after.Since(l.obs.Known)
	return nil
}

// serveEach connects clients until each listener has served one, and takes those that have out of the map. It says why a
// client was not served.
func (l *Lab) serveEach(left map[int32]*Listener, said *AfterSaid) error {
	ready, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return wrap("epoll_create1", err)
	}
	defer unix.Close(ready)
	in := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(l.cfg.cancelled)}
	if err := unix.EpollCtl(ready, unix.EPOLL_CTL_ADD, l.cfg.cancelled, &in); err != nil {
		return wrap("epoll_ctl", err)
	}
	for fd := range left {
		in.Fd = fd
		if err := unix.EpollCtl(ready, unix.EPOLL_CTL_ADD, int(fd), &in); err != nil {
			return wrap("epoll_ctl", err)
		}
	}
	for len(left) > 0 {
		s, err := l.serveOne(ready, left)
		if errors.Is(err, errCancelled) {
			return err
		} else if err != nil {
			said.Broken = err.Error()
			return nil
		}
		// Who is next is up to the hash, so who has served makes room for the others.
		delete(left, int32(s.fd))
		err = errors.Join(unix.EpollCtl(ready, unix.EPOLL_CTL_DEL, s.fd, nil), unix.Shutdown(s.fd, unix.SHUT_RD))
		if err != nil {
			return wrap("shutdown", err)
		}
	}
	return nil
}

// serveOne connects a client, has whoever gets it accept it, and exchanges a byte.
func (l *Lab) serveOne(ready int, left map[int32]*Listener) (*Listener, error) {
	fd, err := l.dial(l.cfg.Family.Dial)
	if err != nil {
		return nil, err
	}
	defer l.hangUp(fd)
	if _, err := unix.Write(fd, []byte{'?'}); err != nil {
		return nil, wrap("send", err)
	}
	var from *Listener
	events := make([]unix.EpollEvent, 2)
	err = l.poll(handshakeTimeout, "some listener has the fresh connection", func(limit time.Duration) (bool, error) {
		n, err := unix.EpollWait(ready, events, int(limit.Milliseconds())+1)
		for _, e := range events[:max(n, 0)] {
			if from = left[e.Fd]; from == nil {
				return false, errCancelled
			}
		}
		return from != nil, err
	})
	if err != nil {
		return nil, err
	}
	child, _, err := unix.Accept4(from.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if err != nil {
		return nil, wrap("accept on "+from.name, err)
	}
	l.hold(child)
	defer l.hangUp(child)
	if err := l.wait(handshakeTimeout, child, unix.POLLIN, "the fresh client's data is there"); err != nil {
		return nil, err
	}
	var b [1]byte
	if n, err := unix.Read(child, b[:]); n != 1 {
		return nil, fmt.Errorf("read of the fresh client's data: %d bytes, %v", n, err)
	}
	return from, nil
}

// close frees all that the Lab holds but the ring. It runs on the way out of every cell, when nobody looks any more.
func (l *Lab) close() {
	for _, w := range l.workers {
		w.kill()
	}
	for _, fd := range l.fds {
		noLinger(fd)
		_ = unix.Close(fd)
	}
	if l.ring != nil {
		l.later(l.ring.Close)
	}
	if l.rule != nil {
		l.later(l.rule.Close)
	}
	if l.diag != nil {
		_ = l.diag.Close()
	}
	if l.counting != nil {
		l.counting.Close()
	}
	if l.program != nil {
		_ = l.program.Close()
	}
	if l.watch != nil {
		_, _ = l.watch.Stop()
	}
}

// noLinger keeps a socket from lingering in TIME_WAIT, where the kernel would have to hunt for it when the namespace
// goes (net/ipv4/inet_timewait_sock.c:inet_twsk_purge).
func noLinger(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}

// hangUp ends a connection that nobody observes.
func (l *Lab) hangUp(fd int) {
	noLinger(fd)
	_ = l.closeFD(fd)
}

// hold keeps a descriptor until the end, unless it is closed before.
func (l *Lab) hold(fd int) {
	l.fds = append(l.fds, fd)
	l.held = max(l.held, len(l.fds))
}

func (l *Lab) socket(domain int) (int, error) {
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, wrap("socket", err)
	}
	l.hold(fd)
	return fd, nil
}

// dial connects to the port and returns when the handshake is done for the client.
func (l *Lab) dial(to netip.Addr) (int, error) {
	fd, err := l.socket(domain(to))
	if err != nil {
		return -1, err
	}
	return fd, l.connectTo(fd, to)
}

func (l *Lab) connectTo(fd int, to netip.Addr) error {
	at := netip.AddrPortFrom(to, l.cfg.Port)
	l.connects()
	err := unix.Connect(fd, sockaddr(at))
	if errors.Is(err, unix.EINPROGRESS) {
		if err := l.wait(handshakeTimeout, fd, unix.POLLOUT, "the handshake is done for the client"); err != nil {
			return err
		}
		err = socketError(fd)
	}
	return wrap("connect to "+at.String(), err)
}

// connects notes that a client is about to connect.
func (l *Lab) connects() {
	if l.connected.IsZero() {
		l.connected = time.Now()
	}
}

func (l *Lab) closeFD(fd int) error {
	l.fds = slices.DeleteFunc(l.fds, func(f int) bool { return f == fd })
	return unix.Close(fd)
}

// How long the Lab waits for a condition before it gives up, before --timeout-mul. None of them decides a verdict: a
// condition that does not come is an ERROR. The longest that a healthy kernel needs is a client's first retransmission
// (TCP_RTO_MIN, 200 ms) and, should that be lost, the next (400 ms later); but the processor of a virtual machine may stand
// still for seconds.
const (
	handshakeTimeout = 10 * time.Second
	fateTimeout      = 20 * time.Second
)

var (
	errTimeout   = errors.New("it did not happen")
	errCancelled = errors.New("cancelled")
)

func (l *Lab) v6() bool { return l.cfg.Family.Dial.Is6() }

func (l *Lab) scale(d time.Duration) time.Duration {
	return time.Duration(float64(d) * l.cfg.TimeoutMul)
}

// wait blocks until the descriptor shows the event, and says in its error which condition it waited for.
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

// tick is how often a condition that the kernel announces to nobody is looked at: a state in its socket tables.
const tick = 2 * time.Millisecond

// until is a way to wait for a condition that no descriptor tells of.
type until = func(limit time.Duration, condition string, holds func() (bool, error)) error

// until looks again and again whether a condition holds that no descriptor tells of.
func (l *Lab) until(limit time.Duration, condition string, holds func() (bool, error)) error {
	return l.poll(limit, condition, func(time.Duration) (bool, error) {
		ok, err := holds()
		if ok || err != nil {
			return ok, err
		}
		return false, l.pause(tick)
	})
}

// untilTimer is until for what happens when SYN+ACK timers fire. The kernel tells when that is due, so that nobody has to
// look before; a timer fires up to a jiffy late.
func (l *Lab) untilTimer(limit time.Duration, condition string, holds func() (bool, error)) error {
	return l.poll(limit, condition, func(left time.Duration) (bool, error) {
		// First, since who has looked at the condition and then finds a timer running may find the next one.
		requests, err := l.sockets(kernel.SynRecv)
		if err != nil {
			return false, err
		}
		ok, err := holds()
		if ok || err != nil {
			return ok, err
		}
		due := 0.0
		if len(requests) > 0 {
			sooner := func(a, b kernel.Socket) int { return cmp.Compare(a.Timer, b.Timer) }
			due = slices.MinFunc(requests, sooner).Timer
		}
		return false, l.pause(min(max(time.Duration(due*float64(time.Second)), tick), max(left, tick)))
	})
}

// sockets lists the server's sockets that are in one of the states; none given means all.
func (l *Lab) sockets(states ...kernel.State) ([]kernel.Socket, error) {
	all, err := l.diag.Sockets(l.cfg.Port, l.cfg.Family.socketFamilies(), states...)
	return slices.DeleteFunc(all, func(s kernel.Socket) bool { return s.Local.Port() != l.cfg.Port }), err
}

// count is how many of the sockets are in one of the states.
func count(all []kernel.Socket, states ...kernel.State) int {
	n := 0
	for _, s := range all {
		if slices.Contains(states, s.State) {
			n++
		}
	}
	return n
}

// pause lets time pass, unless the run is cancelled.
func (l *Lab) pause(d time.Duration) error {
	fds := []unix.PollFd{{Fd: int32(l.cfg.cancelled), Events: unix.POLLIN}}
	if n, _ := unix.Poll(fds, int(d.Milliseconds())); n > 0 {
		return errCancelled
	}
	return nil
}

// awaitSettled blocks until each connection is in the accept queue of one of the listeners, has been accepted, or has
// been reset at the client.
func (l *Lab) awaitSettled(limit time.Duration, listeners ...*Listener) error {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return wrap("epoll_create1", err)
	}
	defer unix.Close(ep)
	add := func(fd int, events uint32) {
		err = errors.Join(err, wrap("epoll_ctl", unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})))
	}
	add(l.cfg.cancelled, unix.EPOLLIN)
	for _, s := range listeners {
		// Edge-triggered: sk_data_ready wakes us for each connection that reaches the accept queue, not only the first.
		add(s.fd, unix.EPOLLIN|unix.EPOLLET)
	}
	settled, waiting := 0, map[int32]bool{}
	for _, c := range l.clients {
		if c.accepted {
			settled++
		} else if c.fd >= 0 {
			add(c.fd, unix.EPOLLET) // EPOLLHUP and EPOLLERR come unasked
			waiting[int32(c.fd)] = true
		}
	}
	if err != nil {
		return err
	}
	events := make([]unix.EpollEvent, 64)
	return l.poll(limit, fmt.Sprintf("all %d connections settled", len(l.clients)), func(left time.Duration) (bool, error) {
		queued := 0
		for _, s := range listeners {
			n, err := acceptQueue(s.fd)
			if err != nil {
				return false, err
			}
			queued += n
		}
		if queued+settled >= len(l.clients) {
			return true, nil
		}
		n, err := unix.EpollWait(ep, events, int(left.Milliseconds())+1)
		for _, e := range events[:max(n, 0)] {
			if e.Fd == int32(l.cfg.cancelled) {
				return false, errCancelled
			}
			if waiting[e.Fd] && e.Events&unix.EPOLLHUP != 0 {
				delete(waiting, e.Fd)
				settled++
			}
		}
		return false, err
	})
}

// brief is how long a cell may wait before another begins in its place. A packet needs microseconds, and a kernel timer 200
// milliseconds or more.
const brief = 4 * time.Millisecond

// rest tells that the cell has a kernel timer to sit out, and its processor nothing to do meanwhile.
func (l *Lab) rest() {
	if l.rests != nil {
		l.rests()
		l.rests = nil
	}
}

// poll calls try until it says yes or the limit is over. EINTR is no answer.
func (l *Lab) poll(limit time.Duration, condition string, try func(left time.Duration) (bool, error)) error {
	limit = l.scale(limit)
	began := time.Now()
	for deadline := began.Add(limit); ; {
		left := max(time.Until(deadline), 0)
		if l.rests != nil {
			if time.Since(began) >= brief {
				l.rest()
			} else {
				left = min(left, brief)
			}
		}
		ok, err := try(left)
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

// say is what a client's socket answers when it is asked for data: EAGAIN while it lives, ECONNRESET once reset.
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

// addrPort unmaps IPv4 addresses, so that an IPv6 listener and its IPv4 client call each other by the same name.
func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
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

// disconnect is connect(2) with an address of family AF_UNSPEC, for which x/sys has no Sockaddr.
func disconnect(fd int) error {
	sa := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	if _, _, e := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa)); e != 0 {
		return e
	}
	return nil
}
