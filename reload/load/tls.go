package load

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// counted counts what comes.
type counted struct {
	net.Conn
	m *meeting
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.m.Received += int64(n)
	return n, err
}

// talk is one connection that speaks TLS.
func (w *workers) talk(began time.Duration) (ok bool) {
	m := &meeting{Lost: Lost{Began: began, asked: began, Phase: Connecting}}
	due := time.Now().Add(w.c.Timeout)
	raw, err := w.dial(m, due)
	if err != nil {
		end, detail := classify(err, false, 0)
		m.Detail = detail
		return w.over(m, end, err)
	}
	over := func() { _ = raw.Close() }
	defer over()
	defer context.AfterFunc(w.ctx, over)()
	m.connect = max(1, microseconds(clock.now()-began))
	m.Phase = Handshaking
	c := tls.Client(counted{raw, m}, w.c.TLS)
	end, err := w.converse(m, raw, c, due)
	ok = w.over(m, end, err)
	if ok {
		leave(raw, c)
	}
	return ok
}

// leave ends a connection in good order: if the server's last words were not read, closing it would send a reset, which the kernel
// counts as an application's abort.
func leave(raw net.Conn, c *tls.Conn) {
	const patience = time.Second
	_ = raw.SetDeadline(time.Now().Add(patience))
	_ = c.CloseWrite()
	if half, ok := raw.(*net.TCPConn); ok {
		_ = half.CloseWrite()
	}
	_, _ = io.Copy(io.Discard, raw)
}

func (w *workers) dial(m *meeting, due time.Time) (net.Conn, error) {
	d := net.Dialer{KeepAlive: -1}
	d.SetMultipathTCP(false)
	if len(w.c.Sources) > 0 {
		a := w.c.Sources[int(w.turn.Add(1)-1)%len(w.c.Sources)]
		d.LocalAddr = &net.TCPAddr{IP: a.AsSlice()}
		d.Control = bindLateControl
	}
	ctx, cancel := context.WithDeadline(w.ctx, due)
	defer cancel()
	c, err := d.DialContext(ctx, "tcp", w.c.To.String())
	if err != nil {
		if a, ok := d.LocalAddr.(*net.TCPAddr); ok {
			m.Local = a.AddrPort()
		}
		return nil, err
	}
	m.Local = c.LocalAddr().(*net.TCPAddr).AddrPort()
	return c, nil
}

func bindLateControl(_, _ string, c syscall.RawConn) error {
	var err error
	return errors.Join(c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	}), err)
}

// converse shakes hands and asks, and tells how that ended.
func (w *workers) converse(m *meeting, raw net.Conn, c *tls.Conn, due time.Time) (end End, err error) {
	defer func() {
		if err != nil {
			end, m.Detail = classify(err, true, m.Received)
		}
	}()
	if err := raw.SetDeadline(due); err != nil {
		return 0, err
	}
	if err := c.Handshake(); err != nil {
		return 0, err
	}
	var buffer [16 << 10]byte // a record of TLS
	for i, ask := range w.s.asks {
		m.Phase, m.sentAll = Sending, false
		if i > 0 {
			m.asked = clock.now()
		}
		if _, err := c.Write(ask); err != nil {
			return 0, err
		}
		m.Phase, m.sentAll = Receiving, true
		w.mu.Lock()
		m.late = w.touched(m.asked)
		w.mu.Unlock()
		if over, end, err := w.hear(m, raw, c, buffer[:]); over || err != nil {
			return end, err
		}
	}
	return OK, nil
}

// hear takes the replies to what was sent, and tells whether the connection is over with them.
func (w *workers) hear(m *meeting, raw net.Conn, c io.Reader, buffer []byte) (over bool, end End, err error) {
	var p parser
	var b []byte
	for {
		if len(b) == 0 {
			n, err := c.Read(buffer)
			if b = buffer[:n]; n == 0 {
				if p.end() && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) {
					m.Replies++
					return true, OK, nil
				}
				return false, 0, err
			}
		}
		used, v := p.feed(&w.s.want, b)
		b = b[used:]
		switch v {
		case unfinished:
			continue
		case wrong:
			m.Detail = p.why
			return true, WrongReply, nil
		}
		m.Replies++
		last := m.Replies == w.c.Requests
		if len(b) > 0 && (last && w.s.want.http || !last && !w.c.Pipelined) {
			m.Detail = "more than what was asked for"
			return true, WrongReply, nil
		}
		if last || p.closes {
			return true, OK, nil
		}
		w.replied(m)
		p = parser{}
		if err := raw.SetDeadline(time.Now().Add(w.c.Timeout)); err != nil {
			return false, 0, err
		}
		if m.Replies%w.s.each == 0 {
			return false, 0, nil
		}
	}
}
