package lab

import (
	"errors"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/stream"
	"github.com/rpmig/rpmig/tcp"
	"github.com/rpmig/rpmig/verdict"
)

// TestDrainEnds: a listener to which more and more connections come is drained of those that waited, and closed, though its
// queue is never empty.
func TestDrainEnds(t *testing.T) {
	NeedNamespace(t)
	const backlog = 100
	var clients *flood
	s := Scenario{Name: "flood", Play: func(l *Lab) {
		l.obs.Stream = &result.Stream{}
		old := l.Listen("A", Backlog(backlog))
		clients = startFlood(t, netip.AddrPortFrom(l.cfg.Family.Dial, l.cfg.Port))
		defer clients.end()
		l.must(l.until(handshakeTimeout, "the accept queue is long", func() (bool, error) {
			n, err := tcp.AcceptQueue(old.fd)
			return n > backlog/2, err
		}))
		old.drainAndClose()
	}}
	l := newLab(config(t, s, Families()[0], Mode{Sysctl: "0"}, 1), testHost{})
	if err := netns.Do(func() error {
		defer l.close()
		if err := l.prepare(); err != nil {
			return err
		}
		return l.perform()
	}); err != nil {
		t.Fatal(err)
	}
	if n := l.obs.Stream.Drained; n < backlog/2 || n > backlog+1+drainMost {
		t.Errorf("%d connections were drained, while %d came; want no more than %d", n, clients.sent.Load(), backlog+1+drainMost)
	}
}

// TestLosses: what a server does to its clients is counted by what they see of it, and no class is taken for another.
func TestLosses(t *testing.T) {
	NeedNamespace(t)
	const reloads = 10
	// dropping is a reload in which the server does otherwise with one connection of the old listener.
	dropping := func(do func(fd int, request []byte) error) Reload {
		return func(l *Lab, old *Listener) *Listener {
			next := l.successor(old)
			fd, _, err := unix.Accept4(old.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			l.must(err)
			l.must(l.wait(handshakeTimeout, fd, unix.POLLIN, "the request is there"))
			var request [tcp.TokenBytes]byte
			l.must(errors.Join(do(fd, request[:]), unix.Close(fd)))
			old.closeQuietly()
			return next
		}
	}
	answer := func(n int, change byte) Reload {
		return dropping(func(fd int, request []byte) error {
			_, err := unix.Read(fd, request)
			request[0] ^= change
			_, werr := unix.Write(fd, request[:n])
			return errors.Join(err, werr)
		})
	}
	for _, tt := range []struct {
		name   string
		reload Reload
		count  func(result.Losses) int
		want   result.Status
	}{
		{"it closes without an answer", answer(0, 0), func(l result.Losses) int { return l.EmptyReply }, result.Pass},
		{"it closes after half of it", answer(tcp.TokenBytes/2, 0), func(l result.Losses) int { return l.ClosedEarly }, result.Fail},
		{"it answers what nobody asked", answer(tcp.TokenBytes, 1), func(l result.Losses) int { return l.WrongReply }, result.Fail},
		{"it leaves the request unread", dropping(func(int, []byte) error { return nil }), func(l result.Losses) int { return l.Reset }, result.Pass},
		{"it closes before it listens again", func(l *Lab, old *Listener) *Listener {
			l.obs.Stream.AtStake++
			old.closeQuietly()
			was := l.Counter(result.OutRsts)
			l.must(l.until(handshakeTimeout, "a client is refused", func() (bool, error) { return l.Counter(result.OutRsts) > was, nil }))
			next, err := l.open(old.name, nil)
			l.must(err)
			return next
		}, func(l result.Losses) int { return l.ConnectionRefused }, result.Pass},
	} {
		c := PlayOne(t, Scenario{
			Name: "dropping-server", Frames: 200000, Listeners: 12,
			Play: func(l *Lab) { l.HotReload(reloads, 5, tt.reload) },
			Expect: func(Mode) verdict.Expectation {
				return verdict.Expectation{Lives: true, Loss: verdict.Range{Min: 10000, Max: 1e6}}
			},
		}, Families()[0], Mode{Name: "sysctl", Sysctl: "1"}, 1)
		if c.Status != tt.want {
			t.Errorf("%s: %s: %s", tt.name, c.Status, c.Reason)
			continue
		}
		if n := tt.count(c.Stream.Losses); n < reloads {
			t.Errorf("%s: want %d, got %s", tt.name, reloads, c.Stream.Losses)
		}
	}
}

// flood is clients that connect, send a byte and close, as fast as they can.
type flood struct {
	sent    atomic.Int32
	stop    atomic.Bool
	running sync.WaitGroup
}

// startFlood starts them in the namespace of the calling thread. There are not more than so many, so that a server which
// serves all of them comes to an end.
func startFlood(t *testing.T, at netip.AddrPort) *flood {
	ns, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(ns) })
	f := &flood{}
	for range 4 {
		f.running.Go(func() {
			runtime.LockOSThread() // not unlocked: the thread is left in the namespace, and ends
			if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
				t.Error(err)
				return
			}
			for !f.stop.Load() && f.sent.Add(1) < 20000 {
				fd, err := unix.Socket(tcp.Domain(at.Addr()), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					t.Error(err)
					return
				}
				_ = unix.Connect(fd, tcp.Sockaddr(at)) // no answer while the queue is full
				_, _ = unix.SendmsgN(fd, []byte{'?'}, nil, nil, unix.MSG_NOSIGNAL)
				unix.Close(fd)
			}
		})
	}
	return f
}

func (f *flood) end() {
	f.stop.Store(true)
	f.running.Wait()
}

// TestStreamTally: a client that had connected when its listener closed has lost its connection, and one that found no listener
// was refused.
func TestStreamTally(t *testing.T) {
	NeedNamespace(t)
	l := lab(t, false)
	l.cfg.Port, l.cfg.Family, l.cfg.Connections = 80, Families()[0], 1
	var sum result.Stream
	if err := netns.Do(func() (err error) {
		defer l.close()
		if l.counting, err = kernel.OpenCounting(); err != nil {
			return err
		}
		if l.diag, err = kernel.OpenDiag(); err != nil {
			return err
		}
		a, err := l.open("A", nil)
		if err != nil {
			return err
		}
		ns, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		l.hold(ns)
		clients := stream.Start(ns, netip.AddrPortFrom(l.cfg.Family.Dial, l.cfg.Port), l.scale(outcomeTimeout), l.cfg.Cancelled)
		defer func() {
			err = errors.Join(err, clients.End(&sum, func() error { return l.pause(tick) }))
		}()
		// A client that is reset before its connect has returned was refused.
		if err := l.until(handshakeTimeout, "all wait in the accept queue, and have sent", func() (bool, error) {
			socks, err := l.sockets(kernel.Established)
			sent := 0
			for _, s := range socks {
				if s.Local.Port() == l.cfg.Port && s.Queue > 0 {
					sent++
				}
			}
			return sent == stream.Clients, err
		}); err != nil {
			return err
		}
		if err := l.closeFD(a.fd); err != nil {
			return err
		}
		return l.until(handshakeTimeout, "all were reset, and as many refused", func() (bool, error) {
			c, err := l.counters()
			return c[result.OutRsts] >= 2*stream.Clients, err
		})
	}); err != nil {
		t.Fatal(err)
	}
	lost, refused, connections := sum.Lost, sum.Refused, sum.Connections
	if lost != stream.Clients || refused < stream.Clients || connections != lost+refused {
		t.Errorf("of %d connections %d were lost and %d refused, want %d and the rest", connections, lost, refused, stream.Clients)
	}
}
