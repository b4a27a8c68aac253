package load_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/reload/load"
)

// TestTLS: the ends of connections that speak TLS.
func TestTLS(t *testing.T) {
	own := httptest.NewUnstartedServer(nil)
	own.StartTLS() // for its certificate; it listens outside the namespace
	certificate := own.TLS.Certificates
	own.Close()
	handshake := func(c net.Conn) *tls.Conn {
		s := tls.Server(c, &tls.Config{Certificates: certificate})
		_ = s.Handshake() // the client will say how it went
		return s
	}
	over := func(answer func(net.Conn)) func(net.Conn) {
		return func(c net.Conn) { s := handshake(c); answer(s); _ = s.CloseWrite() }
	}
	for _, test := range []struct {
		name   string
		server func(net.Conn)
		rule   bool
		change func(*load.Config)
		want   load.End
		phase  load.Phase
		errno  unix.Errno
		got    bool // whether bytes came
		detail string
	}{
		{name: "right", server: over(says(right)), want: load.OK},
		{name: "five requests", server: over(says(right)), want: load.OK, change: func(c *load.Config) { c.Requests = 5 }},
		{name: "five at once", server: over(says(right)), want: load.OK, change: func(c *load.Config) { c.Requests, c.Pipelined = 5, true }},
		{name: "read to the end", server: over(then("HTTP/1.1 200 OK\r\n\r\nHello")), want: load.OK},
		{name: "refused", want: load.Refused, phase: load.Connecting, errno: unix.ECONNREFUSED},
		{name: "reset before a byte", server: func(c net.Conn) {
			var b [1]byte
			c.Read(b[:])
			c.(*net.TCPConn).SetLinger(0)
		}, want: load.ResetBefore, phase: load.Handshaking, errno: unix.ECONNRESET},
		{name: "reset after the handshake", server: func(c net.Conn) { asked(handshake(c)); c.(*net.TCPConn).SetLinger(0) }, want: load.ResetAfter, phase: load.Receiving, errno: unix.ECONNRESET, got: true},
		{name: "closed in the handshake", server: func(c net.Conn) { c.(*net.TCPConn).CloseWrite(); silent(c) }, want: load.EOF, phase: load.Handshaking},
		{name: "closed without a reply", server: over(asked), want: load.ClosedEarly, phase: load.Receiving, got: true},
		{name: "no answer to the handshake", server: silent, want: load.Timeout, phase: load.Handshaking},
		{name: "no answer", server: over(silent), want: load.Timeout, phase: load.Receiving, got: true},
		{name: "no TLS", server: greets("HTTP/1.1 400 Bad Request\r\n\r\n"), want: load.WrongReply, phase: load.Handshaking, got: true, detail: "does not look like a TLS handshake"},
		{name: "another status", server: over(says("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n")), want: load.WrongReply, phase: load.Receiving, got: true, detail: "HTTP/1.1 503 No"},
		{name: "a certificate of nobody", server: over(says(right)), want: load.WrongReply, phase: load.Handshaking, got: true, detail: "certificate",
			change: func(c *load.Config) { c.TLS = &tls.Config{ServerName: "example.com"} }},
	} {
		t.Run(test.name, func(t *testing.T) {
			inNamespace(t, func() error {
				if test.server != nil {
					if err := serve(t, at, test.server); err != nil {
						return err
					}
				}
				c := load.Config{To: at, Clients: 2, Request: get(), Pause: time.Millisecond, TLS: &tls.Config{InsecureSkipVerify: true}}
				count := int64(6)
				if test.want == load.Timeout {
					c.Timeout, count = time.Second, 2 // enough for a handshake
				}
				if test.change != nil {
					test.change(&c)
				}
				r, err := play(t.Context(), c, count)
				if err := errors.Join(err, all(r, test.want)); err != nil {
					return err
				}
				for _, l := range r.Lost {
					if l.Phase != test.phase || l.Errno != test.errno || l.Received > 0 != test.got || !strings.Contains(l.Detail, test.detail) {
						return fmt.Errorf("%+v", l)
					}
					if l.Remote != at || l.Phase > load.Connecting && l.Local.Port() == 0 {
						return fmt.Errorf("from %v to %v", l.Local, l.Remote)
					}
				}
				return nil
			})
		})
	}
}

// greets sends words without being asked.
func greets(words string) func(net.Conn) {
	return func(c net.Conn) { c.Write([]byte(words)); silent(c) }
}

// TestCommand: the ends of commands, which leave nothing behind.
func TestCommand(t *testing.T) {
	dir := t.TempDir()
	for _, test := range []struct {
		name, script, detail string
		want                 load.End
	}{
		{name: "right", script: `exec 3<>/dev/tcp/$RPMIG_ADDR/$RPMIG_PORT && printf 'GET / HTTP/1.0\r\n\r\n' >&3 && grep -q Hello <&3`, want: load.OK},
		{name: "wrong", script: "echo it is broken >&2; exit 3", want: load.WrongReply, detail: "exit status 3: it is broken\n"},
		{name: "much to say", script: "head -c 1000000 /dev/zero; exit 1", want: load.WrongReply, detail: "exit status 1: \x00"},
		{name: "hangs", script: "sleep 1000", want: load.Timeout},
		{name: "leaves a child that holds its pipe", script: "sleep 1000 & echo $! >>" + filepath.Join(dir, "child"), want: load.OK},
	} {
		t.Run(test.name, func(t *testing.T) {
			inNamespace(t, func() error {
				if err := serve(t, at, then(right)); err != nil {
					return err
				}
				c := load.Config{To: at, Clients: 2, Command: []string{"bash", "-c", test.script}}
				if test.want == load.Timeout {
					c.Timeout = 100 * time.Millisecond
				}
				r, err := play(t.Context(), c, 4)
				if err := errors.Join(err, all(r, test.want)); err != nil {
					return err
				}
				for _, l := range r.Lost {
					if len(l.Detail) > 280 || !strings.HasPrefix(l.Detail, test.detail) {
						return fmt.Errorf("%d bytes: %.40q", len(l.Detail), l.Detail)
					}
				}
				return nil
			})
		})
	}
	children, err := os.ReadFile(filepath.Join(dir, "child"))
	if err != nil {
		t.Skip(err)
	}
	for _, child := range strings.Fields(string(children)) {
		for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
			stat, err := os.ReadFile("/proc/" + child + "/stat")
			if err != nil || strings.Contains(string(stat), ") Z ") {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("a child of a command lives on: %s", stat)
			}
		}
	}
}
