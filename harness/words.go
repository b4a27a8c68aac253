package harness

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/netns"
)

// greeting is what a client sends; the talk's.
const greeting = "Hello World"

// minBacklog is the talk's listen(32).
const minBacklog = 32

// Listener is a socket in LISTEN, or one that was.
type Listener struct {
	name   string
	fd     int // -1: closed
	inode  uint32
	local  netip.AddrPort
	cookie uint64 // 0: nobody has asked
	deaf   bool   // shut down, or of another group than the clients reach
}

// serves tells whether a fresh client may reach it.
func (s *Listener) serves() bool { return s.fd >= 0 && !s.deaf }

// isListener tells whether it is the one that sock_diag shows.
func (s *Listener) isListener(k kernel.Socket) bool {
	return k.State == kernel.Listen && k.Inode == s.inode
}

// Client is one of the cell's connections, seen from its client.
type Client struct {
	fd       int // -1: closed
	local    netip.AddrPort
	sent     bool
	accepted bool
}

// ListenOption changes how a listener is set up, before listen(2).
type ListenOption struct {
	alone   bool       // without SO_REUSEPORT
	addr    netip.Addr // instead of the family's
	backlog int
	owner   int // uid of the socket; 0: ours
	level   int
	name    int
	value   int
}

// WithoutReuseport leaves SO_REUSEPORT out.
func WithoutReuseport() ListenOption { return ListenOption{alone: true} }

// At binds to another address than the family's.
func At(a netip.Addr) ListenOption { return ListenOption{addr: a} }

// Backlog sets the length of the accept queue; a listener takes one connection more than this.
func Backlog(n int) ListenOption { return ListenOption{backlog: n} }

// SockOpt sets a socket option that is an int.
func SockOpt(level, name, value int) ListenOption {
	return ListenOption{level: level, name: name, value: value}
}

// Mode is the cell's mode.
func (l *Lab) Mode() Mode { return l.cfg.Mode }

// RealTimers tells whether the user wants the talk's kernel timers, however long they take.
func (l *Lab) RealTimers() bool { return l.cfg.RealTimers }

// Connections is how many clients the cell has.
func (l *Lab) Connections() int { return l.cfg.Connections }

// Listen opens a listener of the port with SO_REUSEPORT. The first gets the mode's program, which sends to it what
// arrives; a later one is the program's choice for what is to migrate.
func (l *Lab) Listen(name string, options ...ListenOption) *Listener {
	s, err := l.listen(name, options)
	l.must(err)
	return s
}

// TryListen is Listen for a case in which it may fail: it returns the errno, or "ok".
func (l *Lab) TryListen(name string, options ...ListenOption) (*Listener, string) {
	s, err := l.listen(name, options)
	if err != nil {
		return nil, errno(err)
	}
	return s, "ok"
}

// ListenMany opens n listeners, whose names are the name and a number from 1.
func (l *Lab) ListenMany(name string, n int, options ...ListenOption) []*Listener {
	l.step("%s1 to %s%d listen", name, name, n)
	all := make([]*Listener, n)
	for i := range all {
		var err error
		all[i], err = l.open(fmt.Sprintf("%s%d", name, i+1), options)
		l.must(err)
	}
	return all
}

func (l *Lab) listen(name string, options []ListenOption) (*Listener, error) {
	l.step("%s listens", name)
	return l.open(name, options)
}

func (l *Lab) open(name string, options []ListenOption) (*Listener, error) {
	addr, backlog, reuseport := l.cfg.Family.Listen, max(minBacklog, l.cfg.Connections), 1
	for _, o := range options {
		if o.addr.IsValid() {
			addr = o.addr
		}
		if o.backlog > 0 {
			backlog = o.backlog
		}
		if o.alone {
			reuseport = 0
		}
	}
	fd, err := l.socket(domain(addr))
	if err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, reuseport); err != nil {
		return nil, wrap("set SO_REUSEPORT", err)
	}
	for _, o := range options {
		if o.name != 0 {
			if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
				return nil, wrap(fmt.Sprintf("set socket option %d of level %d", o.name, o.level), err)
			}
		}
		if o.owner != 0 {
			if err := chown(fd, o.owner); err != nil {
				return nil, err
			}
		}
	}
	at := netip.AddrPortFrom(addr, l.cfg.Port)
	if err := unix.Bind(fd, sockaddr(at)); err != nil {
		return nil, wrap("bind "+at.String(), err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return nil, wrap("listen", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, wrap("fstat", err)
	}
	s := &Listener{name: name, fd: fd, inode: uint32(st.Ino), local: netip.AddrPortFrom(addr, l.cfg.Port)}
	if l.program != nil && reuseport == 1 {
		if err := l.enlist(s); err != nil {
			return nil, err
		}
	}
	l.listeners = append(l.listeners, s)
	return s, nil
}

// enlist gives the program its usual listeners: the first for what arrives, the latest for what migrates.
func (l *Lab) enlist(s *Listener) error {
	usual := l.cfg.Mode.Policy()
	if len(l.listeners) == 0 {
		return errors.Join(l.program.Put(usual.Arrive, s.fd), l.program.Attach(s.fd))
	}
	return l.program.Put(usual.Migrate, s.fd)
}

// Relisten calls listen(2) again on a listener that was shut down.
func (l *Lab) Relisten(s *Listener) {
	l.step("%s listens again", s.name)
	l.must(wrap("listen", unix.Listen(s.fd, max(minBacklog, l.cfg.Connections))))
	s.deaf = false
}

// Program changes what the mode's program does from now on; in a mode without one it does nothing.
func (l *Lab) Program(p Policy) {
	if l.program != nil {
		l.step("the program's policy becomes %+v", p)
		l.must(l.program.Set(p))
	}
}

// Slot puts a listener into a slot of the mode's program; in a mode without one it does nothing.
func (l *Lab) Slot(slot int, s *Listener) {
	if l.program != nil {
		l.step("slot %d becomes %s", slot, s.name)
		l.must(l.program.Put(uint32(slot), s.fd))
	}
}

// EmptySlot takes a listener out of the program's choice.
func (l *Lab) EmptySlot(slot int) {
	if l.program != nil {
		l.step("slot %d is emptied", slot)
		l.must(l.program.Take(uint32(slot)))
	}
}

// DetachProgram takes the mode's program off the group.
func (l *Lab) DetachProgram(s *Listener) {
	if l.program != nil {
		l.step("detach the program")
		l.must(migrate.Detach(s.fd))
	}
}

// Asked is what the mode's program has been asked so far; zero in a mode without one.
func (l *Lab) Asked() migrate.Asked {
	if l.program == nil {
		return migrate.Asked{}
	}
	a, err := l.program.Asked()
	l.must(err)
	return a
}

// Set writes a sysctl of the namespace.
func (l *Lab) Set(name, value string) {
	l.step("%s=%s", name, value)
	l.must(Sysctl{Name: name, Value: value}.Set())
	l.weather = append(l.weather, Sysctl{Name: name, Value: value})
}

// DropACKs puts the rule in that takes the final ACK of every handshake away, and all that clients send after it.
func (l *Lab) DropACKs() {
	l.step("drop ACKs to port %d", l.cfg.Port)
	if l.obs.Rule == nil { // it may be the second time
		l.obs.Rule = &RuleSaid{Backend: l.cfg.Dropper.Name()}
	}
	if l.cfg.faults.noRule {
		return
	}
	var err error
	l.rule, err = l.cfg.Dropper.Drop(l.v6(), l.cfg.Port)
	l.must(err)
	l.rules = append(l.rules, l.rule)
	l.obs.Rule.in = append(l.obs.Rule.in, span{from: l.now()})
}

// StopDropping takes the rule out again.
func (l *Lab) StopDropping() {
	l.step("stop dropping")
	if l.rule != nil {
		l.obs.Rule.in[len(l.obs.Rule.in)-1].until = l.now()
		l.must(l.liftRule())
	}
}

// Payload makes clients send this instead of the greeting.
func (l *Lab) Payload(b []byte) { l.payload = b }

// Connect connects the cell's clients and sends the greeting from each.
func (l *Lab) Connect() {
	l.step("%s %q", plural(l.cfg.Connections, "client connects and sends", "clients connect and send"), greeting)
	for range l.cfg.Connections {
		l.send(l.connect())
	}
}

// ConnectSilently connects the cell's clients, which send nothing.
func (l *Lab) ConnectSilently() {
	l.step("%s", plural(l.cfg.Connections, "client connects", "clients connect"))
	for range l.cfg.Connections {
		l.connect()
	}
}

// Send sends the greeting from each client.
func (l *Lab) Send() {
	l.step("%s %q", plural(len(l.clients), "client sends", "clients send"), greeting)
	for _, c := range l.clients {
		l.send(c)
	}
}

func (l *Lab) connect() *Client {
	fd, err := l.dial(l.cfg.Family.Dial)
	l.must(err)
	return l.client(fd)
}

func (l *Lab) client(fd int) *Client {
	sa, err := unix.Getsockname(fd)
	l.must(wrap("getsockname", err))
	c := &Client{fd: fd, local: addrPort(sa)}
	l.clients = append(l.clients, c)
	l.obs.Staged++
	return c
}

func (l *Lab) send(c *Client) {
	defer func() { l.obs.Sending = time.Since(l.connected) }()
	for rest := l.message(); len(rest) > 0; {
		n, err := unix.SendmsgN(c.fd, rest, nil, nil, unix.MSG_NOSIGNAL)
		l.must(wrap("send", err))
		rest = rest[n:]
	}
	c.sent = true
}

func (l *Lab) message() []byte {
	if l.payload != nil {
		return l.payload
	}
	return []byte(greeting)
}

// ConnectFast connects the cell's clients with TCP Fast Open: the greeting goes with the SYN. The clients must have the
// cookie already, or the namespace must want none.
func (l *Lab) ConnectFast() {
	l.step("%s %q with the SYN", plural(l.cfg.Connections, "client sends", "clients send"), greeting)
	for range l.cfg.Connections {
		l.client(l.dialFast())
	}
}

// dialFast sends the greeting with a SYN.
func (l *Lab) dialFast() int {
	at := netip.AddrPortFrom(l.cfg.Family.Dial, l.cfg.Port)
	fd, err := l.socket(domain(at.Addr()))
	l.must(err)
	l.connects()
	n, err := unix.SendmsgN(fd, l.message(), nil, sockaddr(at), unix.MSG_FASTOPEN|unix.MSG_NOSIGNAL)
	if err == nil && n != len(l.message()) {
		err = fmt.Errorf("%d of %d bytes went with the SYN", n, len(l.message()))
	}
	if errors.Is(err, unix.EINPROGRESS) {
		err = errors.New("the client has no cookie")
	}
	l.must(wrap("sendto with MSG_FASTOPEN", err))
	return fd
}

// HangUp closes the clients, which sends a FIN from each.
func (l *Lab) HangUp() {
	l.step("the clients close")
	for _, c := range l.clients {
		l.must(l.part(c.fd))
		c.fd = -1
	}
}

// HalfClose shuts the clients' sending side down, which sends a FIN from each.
func (l *Lab) HalfClose() {
	l.step("the clients shut their sending side down")
	for _, c := range l.clients {
		l.must(wrap("shutdown", unix.Shutdown(c.fd, unix.SHUT_WR)))
	}
}

// AssertAcceptQueue waits until the handshakes are done for the server too, and notes what sock_diag says: every
// connection in the accept queue of the listener, or of one of several.
func (l *Lab) AssertAcceptQueue(all ...*Listener) {
	l.step("all in the accept queue of %s", names(all))
	l.must(l.awaitSettled(handshakeTimeout, all...))
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
	l.must(l.awaitSettled(handshakeTimeout, all...))
	l.awaitDropped(l.cfg.Connections)
	l.stagedIn(all, l.cfg.Connections, l.cfg.Connections)
}

// AssertHalfOpen is AssertRequests where no rule holds the handshake up.
func (l *Lab) AssertHalfOpen(s *Listener) {
	l.step("all request sockets, none accepted by %s", s.name)
	l.staged(s, 0, l.cfg.Connections)
}

// awaitDropped waits until the rule has dropped what the clients have sent: it may still be on its way through the
// backlog of lo.
func (l *Lab) awaitDropped(want int) {
	l.obs.Rule.Want = want
	if l.rule == nil {
		return
	}
	err := l.until(handshakeTimeout, fmt.Sprintf("the rule has dropped %d", want), func() (bool, error) {
		n, err := l.rule.Packets()
		l.obs.Rule.Dropped = int(n)
		return l.obs.Rule.Dropped >= want, err
	})
	if !errors.Is(err, errTimeout) { // that is for the judge to see
		l.must(err)
	}
}

func (l *Lab) staged(s *Listener, queued, requests int) {
	l.stagedIn([]*Listener{s}, queued, requests)
}

func (l *Lab) stagedIn(all []*Listener, queued, requests int) {
	socks, err := l.sockets(kernel.Listen, kernel.SynRecv)
	l.must(err)
	said := StagingSaid{Listener: names(all), WantQueued: queued, Requests: count(socks, kernel.SynRecv), WantRequests: requests}
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

// AwaitRequests waits until the namespace has that many request sockets left.
func (l *Lab) AwaitRequests(n int) { l.awaitRequests(l.until, n) }

// AwaitRequestsByTimer is AwaitRequests where nothing but the SYN+ACK timer ends them.
func (l *Lab) AwaitRequestsByTimer(n int) { l.awaitRequests(l.untilTimer, n) }

func (l *Lab) awaitRequests(until until, n int) {
	condition := plural(n, "request socket is left", "request sockets are left")
	l.step("%s", condition)
	l.must(until(fateTimeout, condition, func() (bool, error) {
		socks, err := l.sockets(kernel.SynRecv)
		return len(socks) == n, err
	}))
}

// Requests is how many request sockets the port has.
func (l *Lab) Requests() int {
	socks, err := l.sockets(kernel.SynRecv)
	l.must(err)
	return len(socks)
}

// AwaitCounter waits until a counter of the namespace has reached a value.
func (l *Lab) AwaitCounter(name string, atLeast int) { l.awaitCounter(l.until, name, atLeast) }

// AwaitCounterByTimer is AwaitCounter where nothing but the SYN+ACK timer moves it.
func (l *Lab) AwaitCounterByTimer(name string, atLeast int) {
	l.awaitCounter(l.untilTimer, name, atLeast)
}

func (l *Lab) awaitCounter(until until, name string, atLeast int) {
	condition := fmt.Sprintf("%s is %d", name, atLeast)
	l.step("%s", condition)
	l.must(until(fateTimeout, condition, func() (bool, error) {
		c, err := l.counting.Read()
		return c[name] >= int64(atLeast), err
	}))
}

// Counter reads a counter of the namespace.
func (l *Lab) Counter(name string) int {
	c, err := l.counting.Read()
	l.must(err)
	return int(c[name])
}

// Close closes the listener, and returns when it is gone.
func (l *Lab) Close(s *Listener) {
	l.step("close %s", s.name)
	l.letGo(s)
}

// letGo closes this process's descriptor of a listener. When it returns, no child that another cell is starting, to run
// iptables or a worker, has a copy of it.
func (l *Lab) letGo(s *Listener) {
	l.must(wrap("close", l.closeFD(s.fd)))
	s.fd = -1
	netns.AwaitBirths()
}

// LetGo closes this process's descriptor of a listener that another process has too.
func (l *Lab) LetGo(s *Listener) {
	l.step("close %s in this process", s.name)
	l.letGo(s)
}

// Shutdown shuts the listener down; how is unix.SHUT_RD, SHUT_WR or SHUT_RDWR. SHUT_WR leaves it listening.
func (l *Lab) Shutdown(s *Listener, how int) {
	l.step("shutdown %s, %s", s.name, map[int]string{unix.SHUT_RD: "SHUT_RD", unix.SHUT_WR: "SHUT_WR", unix.SHUT_RDWR: "SHUT_RDWR"}[how])
	l.must(wrap("shutdown", unix.Shutdown(s.fd, how)))
	s.deaf = how != unix.SHUT_WR
}

// Disconnect dissolves the listener with connect(AF_UNSPEC) (connect(2)).
func (l *Lab) Disconnect(s *Listener) {
	l.step("connect %s to AF_UNSPEC", s.name)
	l.must(wrap("connect", disconnect(s.fd)))
	s.deaf = true
}

// Destroy has sock_diag(7) destroy the listener, as ss -K does (needs CONFIG_INET_DIAG_DESTROY).
func (l *Lab) Destroy(s *Listener) {
	l.step("destroy %s over sock_diag", s.name)
	l.must(l.diag.Destroy(netip.AddrPortFrom(l.cfg.Family.Listen, l.cfg.Port), s.inode))
	s.deaf = true
}

// AwaitFates waits until each connection has reached the accept queue of one of the listeners, or has been reset.
func (l *Lab) AwaitFates(listeners ...*Listener) {
	l.step("await the retransmission")
	if err := l.awaitSettled(fateTimeout, listeners...); errors.Is(err, errTimeout) {
		l.obs.Unsettled = err.Error()
	} else {
		l.must(err)
	}
}

// AcceptAll accepts on the listener, without blocking, until there is nothing more, reads what each client sent, and
// returns how many there were.
func (l *Lab) AcceptAll(s *Listener) int {
	l.step("accept on %s", s.name)
	return l.acceptEach(s, func(int, netip.AddrPort) {})
}

// acceptEach is AcceptAll with a look at each connection once its data has been read.
func (l *Lab) acceptEach(s *Listener, look func(fd int, peer netip.AddrPort)) int {
	for n := 0; ; n++ {
		fd, sa, err := unix.Accept4(s.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if errors.Is(err, unix.EAGAIN) {
			return n
		}
		l.must(wrap("accept", err))
		l.hold(fd)
		l.accepted(s.name, addrPort(sa), l.read(fd))
		look(fd, addrPort(sa))
	}
}

// AcceptQueued is AcceptAll where many listeners are looked at: it is no step unless there is something to accept.
func (l *Lab) AcceptQueued(s *Listener) {
	n, err := acceptQueue(s.fd)
	l.must(err)
	if n > 0 {
		l.AcceptAll(s)
	}
}

// accepted notes a connection that somebody has accepted.
func (l *Lab) accepted(by string, peer netip.AddrPort, data string) {
	if slices.ContainsFunc(l.bystanders, func(c *Client) bool { return c.local == peer }) {
		return
	}
	for _, c := range l.clients {
		c.accepted = c.accepted || c.local == peer
	}
	ok := data == string(l.message()) || l.again && strings.HasPrefix(data, string(l.message()))
	l.obs.Accepted = append(l.obs.Accepted, Accepted{By: by, Peer: peer, Data: data, OK: ok})
}

// read returns what the client sent, or why that is not to be had.
func (l *Lab) read(fd int) string {
	var data []byte
	buf := make([]byte, min(64<<10, len(l.message())+1)) // one more than there should be
	for len(data) < len(l.message()) {
		// The data segment that completes a handshake is queued just after the child is (tcp_child_process).
		if err := l.wait(handshakeTimeout, fd, unix.POLLIN, "the data is there"); errors.Is(err, errCancelled) {
			l.must(err)
		} else if err != nil {
			return err.Error()
		}
		n, err := unix.Read(fd, buf)
		if err != nil {
			return errno(err)
		}
		if n == 0 {
			return fmt.Sprintf("EOF after %d bytes", len(data))
		}
		data = append(data, buf[:n]...)
	}
	return string(data)
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

// Fact notes what the scenario has found out; the judge holds it against Expectation.Facts.
func (l *Lab) Fact(name string, got any) {
	l.obs.Facts = append(l.obs.Facts, Fact{Name: name, Got: fmt.Sprint(got)})
}

// Now is the time since the cell began.
func (l *Lab) Now() time.Duration { return time.Since(l.start) }

// Step names what comes next, where no other word does.
func (l *Lab) Step(format string, args ...any) { l.step(format, args...) }

// Must ends the cell as an ERROR when err is not nil.
func (l *Lab) Must(err error) { l.must(err) }
