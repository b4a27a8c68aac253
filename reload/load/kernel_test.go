package load_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/reload/load"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var at = netip.MustParseAddrPort("127.0.0.1:80")

var errSkip = errors.New("it cannot be staged")

// inNamespace plays a test on a thread in a network namespace of its own, which t.Fatal must not end.
func inNamespace(t *testing.T, f func() error) {
	t.Helper()
	if err := netns.Probe(); err != nil {
		t.Skipf("needs network namespaces (run as root, or under unshare -Urn): %v", err)
	}
	err := netns.Do(f)
	if errors.Is(err, errSkip) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
}

// serve has a function answer each connection, until the test is over.
func serve(t *testing.T, to netip.AddrPort, answer func(net.Conn)) error {
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	listener, err := config.Listen(context.Background(), "tcp", to.String())
	if err != nil {
		return err
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				answer(c)
			}()
		}
	}()
	t.Cleanup(func() { listener.Close(); <-over })
	return nil
}

// asked reads a request of HTTP.
func asked(c net.Conn) { _, _ = http.ReadRequest(bufio.NewReader(c)) }

// says sends words after each request, and leaves the connection to its client.
func says(words string) func(net.Conn) {
	return func(c net.Conn) {
		r := bufio.NewReader(c)
		for {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			if _, err := io.WriteString(c, words); err != nil {
				return
			}
		}
	}
}

// then sends words after a request, and closes the connection in good order.
func then(words string) func(net.Conn) {
	return func(c net.Conn) { asked(c); io.WriteString(c, words) }
}

// aborts sends words after a request, and resets the connection when the client has acknowledged them.
func aborts(words string) func(net.Conn) {
	return func(c net.Conn) {
		asked(c)
		io.WriteString(c, words)
		_ = c.(*net.TCPConn).SetLinger(0)
	}
}

func silent(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

func get() load.Request { return load.Request{HTTP: &load.HTTP{}} }

// until waits for a condition of what was counted.
func until(e *load.Engine, what string, f func(load.Counts) bool) error {
	for end := time.Now().Add(20 * time.Second); !f(e.Counts()); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("%s: it did not come to that: %v", what, e.Counts())
		}
	}
	return nil
}

func total(c load.Counts) (n int64) {
	for _, k := range c {
		n += k
	}
	return n
}

const right = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHello"

// TestEnds: each way in which a connection can end is told from all others, by what a real server does.
func TestEnds(t *testing.T) {
	for _, test := range []struct {
		name   string
		server func(net.Conn) // none: nobody listens
		rule   bool               // the final ACK of the handshake is answered with a reset
		change func(*load.Config)
		want   load.End
		phase  load.Phase
		errno  unix.Errno
		got    int64
		detail string
	}{
		{name: "right", server: says(right), want: load.OK},
		{name: "right, and closed", server: then(right), want: load.OK},
		{name: "read to the end", server: then("HTTP/1.1 200 OK\r\n\r\nHello"), want: load.OK},
		{name: "in chunks", server: says("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nHello\r\n0\r\n\r\n"), want: load.OK},
		{name: "the expected status", server: says("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"), want: load.OK,
			change: func(c *load.Config) { c.Request.HTTP.Status = 503 }},
		{name: "five requests", server: says(right), want: load.OK, change: func(c *load.Config) { c.Requests = 5 }},
		{name: "five at once", server: says(right), want: load.OK, change: func(c *load.Config) { c.Requests, c.Pipelined = 5, true }},
		{name: "the server wants no more requests", server: then("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nHello"), want: load.OK,
			change: func(c *load.Config) { c.Requests = 5 }},
		{name: "expected bytes", server: func(c net.Conn) { io.CopyN(c, c, 5); silent(c) }, want: load.OK,
			change: func(c *load.Config) { c.Request = load.Request{Send: []byte("Hello"), Expect: []byte("Hello")} }},
		{name: "bytes that nobody asked for", server: func(c net.Conn) { io.WriteString(c, "220 Hello"); silent(c) }, want: load.OK,
			change: func(c *load.Config) { c.Request = load.Request{Expect: []byte("220 ")} }},

		{name: "refused", want: load.Refused, phase: load.Connecting, errno: unix.ECONNREFUSED},
		{name: "reset in connect", server: says(right), rule: true, want: load.ResetInConnect, phase: load.Connecting, errno: unix.ECONNRESET},
		{name: "reset before a byte", server: aborts(""), want: load.ResetBefore, phase: load.Receiving, errno: unix.ECONNRESET},
		{name: "reset after some", server: aborts("HTTP/1.1"), want: load.ResetAfter, phase: load.Receiving, errno: unix.ECONNRESET, got: 8},
		{name: "closed without a byte", server: then(""), want: load.EOF, phase: load.Receiving},
		{name: "closed in a reply", server: then("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHell"), want: load.ClosedEarly, phase: load.Receiving, got: 42},
		{name: "closed before the next reply", server: func(c net.Conn) { then(right)(c); c.(*net.TCPConn).CloseWrite(); silent(c) }, want: load.ClosedEarly, phase: load.Receiving, got: 43,
			change: func(c *load.Config) { c.Requests = 2 }},
		{name: "no answer", server: silent, want: load.Timeout, phase: load.Receiving},
		{name: "no end of an answer", server: says("HTTP/1.1 200 OK\r\n\r\nHello"), want: load.Timeout, phase: load.Receiving, got: 24},
		{name: "another status", server: says("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"), want: load.WrongReply, phase: load.Receiving, got: 38, detail: "HTTP/1.1 503 No"},
		{name: "no HTTP", server: says("220 mail\r\n"), want: load.WrongReply, phase: load.Receiving, got: 10, detail: `it begins "220 mail"`},
		{name: "other bytes", server: func(c net.Conn) { io.WriteString(c, "Hallo"); silent(c) }, want: load.WrongReply, phase: load.Receiving, got: 5, detail: `it begins "Hallo"`,
			change: func(c *load.Config) { c.Request = load.Request{Send: []byte("Hello"), Expect: []byte("Hello")} }},
	} {
		t.Run(test.name, func(t *testing.T) {
			inNamespace(t, func() error {
				if test.server != nil {
					if err := serve(t, at, test.server); err != nil {
						return err
					}
				}
				if test.rule {
					if err := rejectACKs(); err != nil {
						return err
					}
				}
				c := load.Config{To: at, Clients: 2, Request: get(), Pause: time.Millisecond, Sources: []netip.Addr{netip.MustParseAddr("127.0.1.1"), netip.MustParseAddr("127.0.1.2")}}
				if test.want == load.Timeout {
					c.Timeout = 20 * time.Millisecond
				}
				if test.change != nil {
					test.change(&c)
				}
				r, err := play(t.Context(), c, 20)
				if err := errors.Join(err, all(r, test.want)); err != nil {
					return err
				}
				for _, l := range r.Lost {
					if l.End != test.want || l.Phase != test.phase || l.Errno != test.errno || l.Received != test.got || l.Detail != test.detail {
						return fmt.Errorf("%+v", l)
					}
					if l.Remote != at || !strings.HasPrefix(l.Local.Addr().String(), "127.0.1.") || l.Local.Port() == 0 {
						return fmt.Errorf("from %v to %v", l.Local, l.Remote)
					}
					if l.Began < r.From || l.Ended < l.Began || l.Ended > r.To {
						return fmt.Errorf("from %v to %v in a run from %v to %v", l.Began, l.Ended, r.From, r.To)
					}
				}
				if int64(len(r.Lost)) != r.Counts.Lost() {
					t.Errorf("%d lost, and %d listed", r.Counts.Lost(), len(r.Lost))
				}
				return nil
			})
		})
	}
}

// all checks that connections ended in one way. A starved machine may void some, but loses none and serves none instead.
func all(r load.Report, want load.End) error {
	if r.Counts[want] > 0 && total(r.Counts) == r.Counts[want]+r.Counts[load.Void] {
		return nil
	}
	return fmt.Errorf("%v, want all %v; lost: %+v", r.Counts, want, r.Lost[:min(1, len(r.Lost))])
}

// play plays a load until some connections have ended.
func play(ctx context.Context, c load.Config, count int64) (load.Report, error) {
	e, err := load.Start(ctx, c)
	if err != nil {
		return load.Report{}, err
	}
	waited := until(e, "connections end", func(c load.Counts) bool { return total(c) >= count })
	r, err := e.Stop(10 * time.Second)
	return r, errors.Join(waited, err)
}

// rejectACKs has the namespace answer what is not a SYN with a reset.
func rejectACKs() error {
	out, err := exec.Command("iptables", "--wait", "3", "-A", "INPUT", "-p", "tcp", "--dport", "80", "--tcp-flags", "SYN,RST,ACK", "ACK",
		"-j", "REJECT", "--reject-with", "tcp-reset").CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) || strings.Contains(string(out), "REJECT") {
		return fmt.Errorf("%w: it needs iptables and its target REJECT: %w: %s", errSkip, err, out)
	} else if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}
