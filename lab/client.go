package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/tcp"
)

// greeting is what a client sends; the talk's.
const greeting = "Hello World"

// client is one of the cell's connections, seen from its client.
type client struct {
	fd       int // -1: closed
	local    netip.AddrPort
	sent     bool // data, behind the handshake
	said     int  // bytes that it has sent
	ended    bool // it has sent a FIN
	accepted bool
}

func (l *Lab) v6() bool { return l.cfg.Family.Dial.Is6() }

// Payload makes clients send so many bytes instead of the greeting.
func (l *Lab) Payload(bytes int) { l.payload = tcp.Sequence(bytes) }

func (l *Lab) message() []byte {
	if l.payload != nil {
		return l.payload
	}
	return []byte(greeting)
}

// SetClients has a function set something on each client that connects from now on, fresh ones included, before it does; to is
// what it connects to. nil: no more.
func (l *Lab) SetClients(set func(fd int, to netip.Addr) error) { l.setClient = set }

// Connect connects the cell's clients and sends the greeting from each.
func (l *Lab) Connect() {
	l.step("%s %q", result.Plural(l.cfg.Connections, "client connects and sends", "clients connect and send"), greeting)
	for range l.cfg.Connections {
		l.send(l.connect())
	}
}

// AwaitArrival waits until all that the clients have sent is acknowledged. Connect does not: what is on its way when the listener
// closes meets the listeners that are there then.
func (l *Lab) AwaitArrival() {
	for _, c := range l.clients {
		l.awaitArrival(c)
	}
}

func (l *Lab) awaitArrival(c *client) {
	l.must(l.until(handshakeTimeout, "what was sent is acknowledged", func() (bool, error) {
		left, err := unix.IoctlGetInt(c.fd, unix.TIOCOUTQ)
		return left == 0, wrap("ioctl SIOCOUTQ", err)
	}))
}

// ConnectSilently connects the cell's clients, which send nothing.
func (l *Lab) ConnectSilently() {
	l.step("%s", result.Plural(l.cfg.Connections, "client connects", "clients connect"))
	for range l.cfg.Connections {
		l.connect()
	}
}

// oddPort is the first client port of ConnectFromOddPorts.
const oddPort = 20001

// ConnectFromOddPorts is Connect with an odd port at each client. Left to themselves clients have even ones
// (net/ipv4/inet_hashtables.c:__inet_hash_connect).
func (l *Lab) ConnectFromOddPorts() {
	l.step("%s %q from odd ports", result.Plural(l.cfg.Connections, "client connects and sends", "clients connect and send"), greeting)
	from := l.cfg.Family.Dial
	for i := range l.cfg.Connections {
		fd, err := l.socket(tcp.Domain(from))
		l.must(err)
		l.must(wrap("bind", unix.Bind(fd, tcp.Sockaddr(netip.AddrPortFrom(from, oddPort+2*uint16(i))))))
		l.must(l.connectTo(fd, from))
		l.send(l.client(fd))
	}
}

// ConnectFast connects the cell's clients with TCP Fast Open: the greeting goes with the SYN. The clients must have the
// cookie already, or the namespace must want none.
func (l *Lab) ConnectFast() {
	l.step("%s %q with the SYN", result.Plural(l.cfg.Connections, "client sends", "clients send"), greeting)
	for range l.cfg.Connections {
		l.client(l.dialFast()).said = len(l.message())
	}
	// A SYN that waits for its softirq would meet the listeners that there are by then.
	for _, c := range l.clients {
		l.must(l.wait(handshakeTimeout, c.fd, unix.POLLOUT, "the SYN is answered"))
	}
}

// dialFast sends the greeting with a SYN.
func (l *Lab) dialFast() int {
	at := netip.AddrPortFrom(l.cfg.Family.Dial, l.cfg.Port)
	fd, err := l.socket(tcp.Domain(at.Addr()))
	l.must(err)
	l.connects()
	n, err := unix.SendmsgN(fd, l.message(), nil, tcp.Sockaddr(at), unix.MSG_FASTOPEN|unix.MSG_NOSIGNAL)
	if err == nil && n != len(l.message()) {
		err = fmt.Errorf("%d of %d bytes went with the SYN", n, len(l.message()))
	}
	if errors.Is(err, unix.EINPROGRESS) {
		err = errors.New("the client has no cookie")
	}
	l.must(wrap("sendto with MSG_FASTOPEN", err))
	return fd
}

// dial connects to the port and returns when the handshake is done for the client.
func (l *Lab) dial(to netip.Addr) (int, error) {
	fd, err := l.socket(tcp.Domain(to))
	if err != nil {
		return -1, err
	}
	return fd, l.connectTo(fd, to)
}

func (l *Lab) connectTo(fd int, to netip.Addr) error {
	if l.setClient != nil {
		if err := l.setClient(fd, to); err != nil {
			return err
		}
	}
	at := netip.AddrPortFrom(to, l.cfg.Port)
	l.connects()
	err := unix.Connect(fd, tcp.Sockaddr(at))
	if errors.Is(err, unix.EINPROGRESS) {
		if err := l.wait(handshakeTimeout, fd, unix.POLLOUT, "the handshake is done for the client"); err != nil {
			return err
		}
		err = tcp.Error(fd)
	}
	return wrap("connect to "+at.String(), err)
}

// connects notes that a client is about to connect.
func (l *Lab) connects() {
	if l.connected.IsZero() {
		l.connected = time.Now()
		l.obs.Connected = l.now()
	}
}

func (l *Lab) connect() *client {
	fd, err := l.dial(l.cfg.Family.Dial)
	l.must(err)
	return l.client(fd)
}

// clientOf is the client at the end of a socket that has connected, or has begun to.
func (l *Lab) clientOf(fd int) *client {
	sa, err := unix.Getsockname(fd)
	l.must(wrap("getsockname", err))
	return &client{fd: fd, local: tcp.AddrPort(sa)}
}

func (l *Lab) client(fd int) *client {
	c := l.clientOf(fd)
	l.clients = append(l.clients, c)
	l.obs.Staged++
	return c
}

// Send sends the greeting from each client.
func (l *Lab) Send() {
	l.step("%s %q", result.Plural(len(l.clients), "client sends", "clients send"), greeting)
	for _, c := range l.clients {
		l.send(c)
	}
}

// SendAgain sends the greeting once more from each client that has not been reset, whatever Nagle says.
func (l *Lab) SendAgain() {
	l.step("clients that live send again")
	l.again = true
	for _, c := range l.clients {
		fds := []unix.PollFd{{Fd: int32(c.fd)}} // POLLHUP comes unasked, and leaves the error for the client to tell
		_, err := unix.Poll(fds, 0)
		l.must(wrap("poll", err))
		if fds[0].Revents&unix.POLLHUP == 0 {
			l.must(wrap("set TCP_NODELAY", unix.SetsockoptInt(c.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)))
			l.send(c)
		}
	}
}

func (l *Lab) send(c *client) {
	defer func() { l.obs.Sending = time.Since(l.connected) }()
	for rest := l.message(); len(rest) > 0; {
		n, err := unix.SendmsgN(c.fd, rest, nil, nil, unix.MSG_NOSIGNAL)
		l.must(wrap("send", err))
		rest = rest[n:]
	}
	c.sent, c.said = true, c.said+len(l.message())
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
		l.must(tcp.Finish(c.fd))
		c.ended = true
	}
}

// part ends one side of a connection in good order.
func (l *Lab) part(fd int) error {
	return errors.Join(tcp.Finish(fd), wrap("close", l.closeFD(fd)))
}

// hangUp ends a connection that no witness observes.
func (l *Lab) hangUp(fd int) {
	tcp.NoLinger(fd)
	_ = l.closeFD(fd)
}
