package load

import (
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/tcp"
)

// ready goes on with a connection of which epoll has something to say.
func (e *epoll) ready(i int32, events uint32) {
	c := &e.conns[i]
	now := e.now()
	if !c.connected && len(c.unsent) == 0 { // it has nothing to send, and so nothing else would tell
		if errno := socketError(int(c.fd)); errno != 0 {
			e.fail(i, errno)
			return
		}
		c.connects(now)
		e.watch(i, false)
	}
	if len(c.unsent) > 0 {
		if !e.write(i) {
			return
		}
		e.watch(i, len(c.unsent) > 0)
	}
	if c.open && events&^unix.EPOLLOUT != 0 {
		e.read(i)
	}
}

func (c *conn) connects(now time.Duration) {
	c.connected, c.connect = true, max(1, microseconds(now-c.began))
}

// write sends what can be sent, and tells whether the connection is still open.
func (e *epoll) write(i int32) bool {
	c := &e.conns[i]
	for len(c.unsent) > 0 {
		n, errno := send(int(c.fd), c.unsent)
		switch errno {
		case 0:
			c.unsent = c.unsent[n:]
			if !c.connected {
				c.connects(e.now())
			}
		case unix.EAGAIN:
			return true
		case unix.EPIPE: // reset after the server had closed it: whether it had sent something before is still to be read
			c.unsent = nil
			e.read(i)
			return c.open
		default:
			e.fail(i, errno)
			return false
		}
	}
	c.late = e.touched(c.asked)
	return true
}

func (e *epoll) read(i int32) {
	c := &e.conns[i]
	n, errno := receive(int(c.fd), e.buffer[:])
	switch {
	case errno == unix.EAGAIN:
	case errno != 0:
		e.fail(i, errno)
	case n > 0:
		c.got += int64(n)
		e.parse(i, e.buffer[:n])
	case e.s.want.http && c.p.end():
		c.replies++
		e.end(i, OK, 0, "")
	case c.got == 0:
		e.end(i, EOF, 0, "")
	default:
		e.end(i, ClosedEarly, 0, "")
	}
}

// parse reads replies, and asks again where more are wanted.
func (e *epoll) parse(i int32, b []byte) {
	c := &e.conns[i]
	for {
		used, v := c.p.feed(&e.s.want, b)
		b = b[used:]
		switch v {
		case unfinished:
			return
		case wrong:
			e.end(i, WrongReply, 0, c.p.why)
			return
		}
		c.replies++
		last := int(c.replies) == e.c.Requests
		if len(b) > 0 && (last && e.s.want.http || !last && !e.c.Pipelined) {
			e.end(i, WrongReply, 0, "more than what was asked for")
			return
		}
		if last || c.p.closes {
			e.end(i, OK, 0, "")
			return
		}
		e.again(i)
		if len(b) == 0 || !c.open {
			return
		}
	}
}

// again goes on to the next reply, and sends the request for it unless that is done.
func (e *epoll) again(i int32) {
	c := &e.conns[i]
	now := e.now()
	e.add(e.entry(c, now, true))
	c.p = parser{}
	c.due = now + e.c.Timeout
	e.move(waiting, i)
	if e.c.Pipelined {
		return
	}
	c.asked = now
	c.ask++
	c.unsent = e.s.asks[c.ask]
	if e.write(i) {
		e.watch(i, len(c.unsent) > 0)
	}
}

// entry is what is written down of a connection, by the end of a reply or of itself.
func (e *epoll) entry(c *conn, now time.Duration, replied bool) entry {
	took := now - c.asked
	return entry{at: now, life: took, reply: uint32(min(microseconds(took), e.most)), replied: replied, clean: !e.touched(c.asked)}
}

// fail ends a connection by what the system says of it.
func (e *epoll) fail(i int32, errno unix.Errno) {
	c := &e.conns[i]
	switch {
	case errno == unix.ETIMEDOUT:
		e.end(i, Timeout, errno, "")
	case errno == unix.ECONNREFUSED && !c.connected:
		e.end(i, Refused, errno, "")
	case !c.connected:
		e.end(i, ResetInConnect, errno, "")
	case c.got == 0:
		e.end(i, ResetBefore, errno, "")
	default:
		e.end(i, ResetAfter, errno, "")
	}
}

// expire ends the connections that took too long.
func (e *epoll) expire(now time.Duration) {
	for first := e.lists[waiting].first; first >= 0 && e.conns[first].due <= now; first = e.lists[waiting].first {
		e.end(first, Timeout, 0, "")
	}
}

// end closes a connection and writes down what became of it.
func (e *epoll) end(i int32, end End, errno unix.Errno, detail string) {
	c := &e.conns[i]
	now := e.now()
	end = e.judge(end, c.asked, c.late || len(c.unsent) > 0)
	en := e.entry(c, now, end == OK)
	en.ended, en.end = true, end
	en.connect = uint32(min(c.connect, e.most))
	e.add(en)
	if end.Lost() {
		e.list(e.lost(c, now, end, errno, detail))
	}
	closeSocket(int(c.fd))
	c.open = false
	e.busy--
	if end == OK {
		e.move(idle, i)
	} else {
		e.rest(i)
	}
}

func (e *epoll) lost(c *conn, now time.Duration, end End, errno unix.Errno, detail string) Lost {
	l := Lost{
		Began: c.began, Ended: now, Remote: e.c.To, End: end, Errno: errno, Phase: Receiving,
		Received: c.got, Replies: int(c.replies), Detail: detail, asked: c.asked,
	}
	if !c.connected {
		l.Phase = Connecting
	} else if len(c.unsent) > 0 {
		l.Phase = Sending
	}
	if sa, err := unix.Getsockname(int(c.fd)); err == nil {
		l.Local = tcp.AddrPort(sa)
	} else if c.source >= 0 {
		l.Local = netip.AddrPortFrom(e.c.Sources[c.source], 0)
	}
	return l
}
