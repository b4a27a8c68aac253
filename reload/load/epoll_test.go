package load

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestDue: in an open loop what could not begin in time is timed from when it was due; and what was due in a stall is void, instead
// of coming all at once after it.
func TestDue(t *testing.T) {
	defer goleak.VerifyNone(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go answer(listener)
	const late = 300 * ms
	for _, test := range []struct {
		name    string
		stall   time.Duration
		stalled bool
	}{{"late", time.Minute, false}, {"stalled", 50 * ms, true}} {
		t.Run(test.name, func(t *testing.T) {
			c := Config{To: listener.Addr().(*net.TCPAddr).AddrPort(), Rate: 100, Stall: test.stall, Request: Request{HTTP: &HTTP{}}}
			if err := c.complete(); err != nil {
				t.Fatal(err)
			}
			var told atomic.Int32
			e, err := newEpoll(&c, &told)
			if err != nil {
				t.Fatal(err)
			}
			b := newBook(&c)
			b.r.From -= late // as if it had done nothing since
			b.beatAt, b.r.Intervals[0].From = b.r.From, b.r.From
			over := make(chan error)
			go func() { over <- e.run(b) }()
			for end := time.Now().Add(10 * time.Second); b.sum()[OK] < 10 && time.Now().Before(end); time.Sleep(ms) {
			}
			told.Store(stopping)
			if err := <-over; err != nil {
				t.Fatal(err)
			}
			b.finish()
			r := b.report()
			slowest := time.Duration(r.Latency[Label{}].Reply.Max()) * time.Microsecond
			switch {
			case r.Counts[OK] < 10 || r.Counts.Lost() > 0:
				t.Errorf("%v", r.Counts)
			case test.stalled && (r.NotStarted < 28 || len(r.Stalls) == 0):
				t.Errorf("%d were not started, of 30 that were due in a stall: %v", r.NotStarted, r.Stalls)
			case !test.stalled && (slowest < late-late/100 || r.NotStarted > 0):
				t.Errorf("the slowest reply came after %v, and the first was due %v before it could begin; %d not started", slowest, late, r.NotStarted)
			}
		})
	}
}

// TestSeen: as long as an engine is kept from looking, it has not seen what has become of its connections; and once it has, that is
// in the counts.
func TestSeen(t *testing.T) {
	defer goleak.VerifyNone(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	const clients = 5
	e, err := Start(t.Context(), Config{
		To: listener.Addr().(*net.TCPAddr).AddrPort(), Clients: clients, Request: Request{HTTP: &HTTP{}}, Pause: time.Minute, Timeout: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = e.Stop(0) }()
	var open []net.Conn
	for range clients {
		c, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	soon := func(what string, f func() bool) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); !f(); time.Sleep(ms) {
			if time.Now().After(end) {
				t.Fatal("not within 10 s: ", what)
			}
		}
	}
	soon("it looks", func() bool { return e.Seen() > 0 })
	hanging := Now() // for ever, as far as the engine knows
	time.Sleep(5 * tick)
	if seen := e.Seen(); seen >= hanging {
		t.Errorf("it has seen what becomes of connections that hang, %v before they end", seen-hanging)
	}
	func() {
		e.b.mu.Lock() // what an engine that the machine holds up does: nothing
		defer e.b.mu.Unlock()
		for _, c := range open {
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		}
		reset := Now()
		time.Sleep(5 * tick)
		if seen := e.Seen(); seen >= reset {
			t.Errorf("it has seen what it was kept from %v before", seen-reset)
		}
	}()
	reset := Now()
	soon("it has seen the resets", func() bool { return e.Seen() >= reset })
	if n := e.Counts().Lost(); n != clients {
		t.Errorf("it has seen all, and counts %d lost of %d", n, clients)
	}
}

// TestSeenCommand: a command has not told how it went before it has ended.
func TestSeenCommand(t *testing.T) {
	defer goleak.VerifyNone(t)
	begun, end := make(chan struct{}), make(chan struct{})
	e, err := Start(t.Context(), Config{To: netip.MustParseAddrPort("127.0.0.1:1"), Clients: 1, Pause: time.Minute, Timeout: time.Minute, Command: []string{"true"},
		Run: func(context.Context, []string, []string) (string, error) {
			close(begun)
			<-end
			return "", errors.New("it has failed")
		}})
	if err != nil {
		t.Fatal(err)
	}
	<-begun
	at := Now()
	time.Sleep(ms)
	if e.Seen() >= at {
		t.Error("it has seen how a command ends that runs")
	}
	close(end)
	for limit := time.Now().Add(10 * time.Second); e.Seen() < at && time.Now().Before(limit); time.Sleep(ms) {
	}
	if e.Counts()[WrongReply] != 1 || e.Seen() < at {
		t.Errorf("%v, seen %v after its beginning", e.Counts(), e.Seen()-at)
	}
	if _, err := e.Stop(0); err != nil {
		t.Error(err)
	}
}

// answer serves clients, one after the other.
func answer(listener net.Listener) {
	var b [4096]byte
	for {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		_, _ = c.Read(b[:])
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		_ = c.Close()
	}
}

// TestBehind: clients that are commands can be stopped while more of them are due than the machine can begin.
func TestBehind(t *testing.T) {
	c := Config{To: netip.MustParseAddrPort("127.0.0.1:1"), Rate: maxRate, MaxOpen: 1, Command: []string{"true"}}
	if err := c.complete(); err != nil {
		t.Fatal(err)
	}
	ns, err := openNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.close()
	var told atomic.Int32
	w, err := newWorkers(t.Context(), &c, &told, ns)
	if err != nil {
		t.Fatal(err)
	}
	b := newBook(&c)
	b.r.From -= time.Hour
	over := make(chan error, 1)
	go func() { over <- w.run(b) }()
	for end := time.Now().Add(10 * time.Second); b.sum() == (Counts{}) && time.Now().Before(end); time.Sleep(ms) {
	}
	told.Store(stopping)
	select {
	case err = <-over:
	case <-time.After(10 * time.Second):
		t.Fatal("it did not stop")
	}
	if err != nil {
		t.Fatal(err)
	}
}
