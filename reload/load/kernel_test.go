package load_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/reload/load"
)

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
		rule   bool           // the final ACK of the handshake is answered with a reset
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
				count := int64(20)
				if test.want == load.Timeout {
					c.Timeout, count = 500*time.Millisecond, 2 // enough for what is sent to come
				}
				if test.change != nil {
					test.change(&c)
				}
				r, err := play(t.Context(), c, count)
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

// play plays a load until some connections have ended, and are not void.
func play(ctx context.Context, c load.Config, count int64) (load.Report, error) {
	e, err := load.Start(ctx, c)
	if err != nil {
		return load.Report{}, err
	}
	waited := until(e, "connections end", func(c load.Counts) bool { return c.Judged() >= count })
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

// TestOpenLoop: connections arrive whether or not the earlier ones are served, and each is timed from when it should have arrived.
func TestOpenLoop(t *testing.T) {
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %v", secure), func(t *testing.T) {
			certificate := httptest.NewUnstartedServer(nil)
			certificate.StartTLS()
			certificate.Close()
			inNamespace(t, func() error {
				const together = 50 // a closed loop with fewer clients would wait for ever
				var came atomic.Int32
				free := make(chan struct{})
				err := serve(t, at, func(c net.Conn) {
					if secure {
						c = tls.Server(c, certificate.TLS)
					}
					asked(c)
					if came.Add(1) == together {
						close(free)
					}
					<-free
					io.WriteString(c, right)
				})
				if err != nil {
					return err
				}
				c := load.Config{To: at, Rate: 200, Request: get(), Timeout: 20 * time.Second}
				if secure {
					c.TLS = &tls.Config{InsecureSkipVerify: true}
				}
				r, err := play(t.Context(), c, together)
				if err := errors.Join(err, all(r, load.OK)); err != nil {
					return err
				}
				// The first has waited for the last of them, a quarter of a second later.
				l := r.Latency[load.Label{}]
				if waited := l.Reply.Max(); len(r.Stalls) == 0 && waited < 240_000 {
					return fmt.Errorf("the longest reply took %d µs", waited)
				}
				if due := 200 * (r.To - r.From).Seconds(); float64(total(r.Counts)) > due+1 {
					return fmt.Errorf("%d arrived in %v", total(r.Counts), r.To-r.From)
				}
				return nil
			})
		})
	}
}

// TestNoRoom: arrivals that cannot begin are void, and no loss.
func TestNoRoom(t *testing.T) {
	inNamespace(t, func() error {
		if err := serve(t, at, silent); err != nil {
			return err
		}
		e, err := load.Start(t.Context(), load.Config{To: at, Rate: 1000, MaxOpen: 3, Request: get(), Timeout: 20 * time.Second})
		if err != nil {
			return err
		}
		waited := until(e, "there is no room", func(c load.Counts) bool { return total(c) >= 100 })
		r, err := e.Stop(0)
		if err := errors.Join(waited, err); err != nil {
			return err
		}
		if r.Counts.Lost() > 3 || r.NotStarted < 97 || r.NotStarted > r.Counts[load.Void] {
			return fmt.Errorf("%v, %d not started", r.Counts, r.NotStarted)
		}
		return nil
	})
}

// TestStop: it stops at once when it has to, and knows what was open.
func TestStop(t *testing.T) {
	certificate := &tls.Config{InsecureSkipVerify: true}
	for _, test := range []struct {
		name   string
		change func(*load.Config)
	}{
		{"plain", func(*load.Config) {}},
		{"TLS", func(c *load.Config) { c.TLS = certificate }},
		{"command", func(c *load.Config) { c.Request, c.Command = load.Request{}, []string{"sleep", "1000"} }},
		{"open loop", func(c *load.Config) { c.Clients, c.Rate, c.MaxOpen = 0, 1000, 5 }},
		{"TLS and open loop", func(c *load.Config) { c.TLS, c.Clients, c.Rate, c.MaxOpen = certificate, 0, 1000, 5 }},
	} {
		for _, by := range []string{"limit", "context"} {
			t.Run(test.name+" by "+by, func(t *testing.T) {
				inNamespace(t, func() error {
					var came atomic.Int32
					if err := serve(t, at, func(c net.Conn) { came.Add(1); silent(c) }); err != nil {
						return err
					}
					c := load.Config{To: at, Clients: 5, Request: get(), Timeout: time.Hour}
					test.change(&c)
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					e, err := load.Start(ctx, c)
					if err != nil {
						return err
					}
					open := int64(5)
					if len(c.Command) > 0 {
						open = 0 // these do not connect
					}
					err = until(e, "all are open", func(load.Counts) bool { return int64(came.Load()) == open })
					begun := time.Now()
					limit := time.Duration(0)
					if by == "context" {
						cancel()
						limit = time.Hour
					}
					r, stopped := e.Stop(limit)
					if err := errors.Join(err, stopped); err != nil {
						return err
					}
					if took := time.Since(begun); took > 5*time.Second {
						return fmt.Errorf("it took %v", took)
					}
					if r.Counts.Judged() != 0 || r.Unfinished > 5 || r.Unfinished < open {
						return fmt.Errorf("%v, %d were open", r.Counts, r.Unfinished)
					}
					if again, err := e.Stop(0); err != nil || again.To != r.To {
						return fmt.Errorf("again: %v, %w", again.Counts, err)
					}
					return nil
				})
			})
		}
	}
}

// TestIPv6, and an address that clients cannot have.
func TestIPv6(t *testing.T) {
	inNamespace(t, func() error {
		six := netip.MustParseAddrPort("[::1]:80")
		err := serve(t, six, says(right))
		if err != nil {
			return fmt.Errorf("%w: no IPv6: %w", errSkip, err)
		}
		c := load.Config{To: six, Clients: 2, Sources: []netip.Addr{six.Addr()}, Request: get()}
		r, err := play(t.Context(), c, 10)
		if err := errors.Join(err, all(r, load.OK)); err != nil {
			return err
		}
		c.Sources = append(c.Sources, netip.MustParseAddr("2001:db8::1"))
		if _, err := load.Start(t.Context(), c); !errors.Is(err, load.ErrConfig) || !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("clients at 2001:db8::1: %w", err)
		}
		c.Sources, c.Clients = nil, 1<<30
		if _, err := load.Start(t.Context(), c); !errors.Is(err, load.ErrConfig) || !strings.Contains(err.Error(), "ulimit -n") {
			return fmt.Errorf("%d clients: %w", c.Clients, err)
		}
		return nil
	})
}
