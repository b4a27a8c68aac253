package harness

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
)

// Bystanders connects clients besides those that the case is about: they send the greeting and take up room, and
// nothing is judged by what becomes of them. The scenario has to ask for FramesServed of room in the capture for each.
func (l *Lab) Bystanders(n int) {
	l.step("%s", plural(n, "bystander connects and sends", "bystanders connect and send"))
	for range n {
		fd, err := l.dial(l.cfg.Family.Dial)
		l.must(err)
		l.send(l.bystander(fd))
	}
}

// FastBystanders is Bystanders with TCP Fast Open.
func (l *Lab) FastBystanders(n int) {
	l.step("%s with the SYN", plural(n, "bystander sends", "bystanders send"))
	for range n {
		l.bystander(l.dialFast())
	}
}

func (l *Lab) bystander(fd int) *Client {
	sa, err := unix.Getsockname(fd)
	l.must(wrap("getsockname", err))
	c := &Client{fd: fd, local: addrPort(sa)}
	l.bystanders = append(l.bystanders, c)
	l.obs.Bystander++
	return c
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

// Children is how many connections the server's side has, accepted or not, whose handshake is done.
func (l *Lab) Children() int {
	socks, err := l.sockets()
	l.must(err)
	return len(socks) - count(socks, kernel.Listen, kernel.SynRecv)
}

// AwaitRefusals waits until every connection has found the accept queue full that many times, or has been reset.
func (l *Lab) AwaitRefusals(times int) {
	condition := plural(times, "time the accept queue was full for each", "times the accept queue was full for each")
	l.step("%s", condition)
	l.must(l.until(fateTimeout, condition, func() (bool, error) {
		c, err := l.counting.Read()
		return int(c["ListenOverflows"]+int64(times)*c[kernel.OutRsts]) >= times*l.cfg.Connections, err
	}))
}

// Hurry gives the cell's thread precedence over others, where the user may do that: for a case that has to be over when
// the SYN+ACK timer fires, a second after the SYN, on however busy a machine. The thread dies with the cell.
func (l *Lab) Hurry() {
	l.step("hurry")
	const highest = -20
	l.must(precedence(highest))
}

// precedence gives the thread another nice value, where the user may do that.
func precedence(nice int) error {
	err := unix.Setpriority(unix.PRIO_PROCESS, 0, nice) // of this thread (setpriority(2), C library/kernel differences)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		return nil
	}
	return wrap("setpriority", err)
}

// AwaitSYNACKTimers waits until the SYN+ACK timer has found the listener of every request socket gone: what is left of
// them has migrated.
func (l *Lab) AwaitSYNACKTimers() {
	const condition = "the SYN+ACK timers have fired"
	l.step(condition)
	moved := 0
	l.must(l.untilTimer(fateTimeout, condition, func() (bool, error) {
		c, err := l.counting.Read()
		if err != nil {
			return false, err
		}
		moved = int(c[kernel.MigrateSuccess])
		socks, err := l.sockets(kernel.SynRecv)
		return len(socks) <= moved, err
	}))
	if l.rule == nil {
		return
	}
	// A client answers a SYN+ACK that it has had before with a challenge ACK, which the rule drops as it does the final one.
	// One that is late would pass the rule once that is out, and race what the client sends then, on another CPU: both have
	// the request migrated, one of them in vain, and the kernel counts that neither way (inet_csk_complete_hashdance).
	err := l.until(handshakeTimeout, "the rule has dropped what answers the SYN+ACKs", func() (bool, error) {
		n, err := l.rule.Packets()
		return int(n) >= l.obs.Rule.Want+moved, err
	})
	if !errors.Is(err, errTimeout) { // a kernel may limit them (net.ipv4.tcp_challenge_ack_limit)
		l.must(err)
	}
}

// ProbeDestroy tells whether sock_diag destroys sockets here.
func ProbeDestroy() error {
	err := kernel.ProbeDestroy()
	if errors.Is(err, unix.EOPNOTSUPP) {
		return &kernel.NotSupportedError{
			Reason: "sock_diag destroys no sockets here",
			Next:   "boot a kernel that has CONFIG_INET_DIAG_DESTROY",
		}
	}
	return err
}

// Share words how many of the connections something is true of, whatever their number.
func (l *Lab) Share(n int) string {
	switch n {
	case 0:
		return "none"
	case l.cfg.Connections:
		return "all"
	default:
		return fmt.Sprintf("%d of %d", n, l.cfg.Connections)
	}
}
