package harness

import (
	"errors"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/evidence"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/tcp"
	"github.com/rpmig/rpmig/verdict"
)

// TestDrainEnds: a listener to which more and more connections come is drained of those that waited, and closed, though its
// queue is never empty.
func TestDrainEnds(t *testing.T) {
	if err := netns.Probe(); err != nil {
		t.Skipf("needs network namespaces (run as root, or under unshare -Urn): %v", err)
	}
	const backlog = 100
	var clients *flood
	s := Scenario{Name: "flood", Play: func(l *Lab) {
		l.obs.Stream = &result.Stream{}
		old := l.Listen("A", Backlog(backlog))
		clients = startFlood(t, netip.AddrPortFrom(l.cfg.family.Dial, l.cfg.Port))
		defer clients.end()
		l.must(l.until(handshakeTimeout, "the accept queue is long", func() (bool, error) {
			n, err := tcp.AcceptQueue(old.fd)
			return n > backlog/2, err
		}))
		old.drainAndClose()
	}}
	l := &Lab{cfg: config(t, s, Families()[0], Mode{Sysctl: "0"}, 1), host: testHost{}, yielded: true, record: evidence.Record{Start: time.Now()}}
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

// TestEmptyReply: what a server accepts and closes is an empty reply, a class of its own, though the kernel migrates; and if it
// leaves the request unread, a reset.
func TestEmptyReply(t *testing.T) {
	if err := netns.Probe(); err != nil {
		t.Skipf("needs network namespaces (run as root, or under unshare -Urn): %v", err)
	}
	const reloads = 10
	for name, tt := range map[string]struct {
		read bool
		want func(result.Losses) int
	}{
		"read":   {true, func(l result.Losses) int { return l.EmptyReply }},
		"unread": {false, func(l result.Losses) int { return l.Reset }},
	} {
		c := Play(t, Scenario{
			Name: "dropping-server", Frames: 10000, Listeners: 12,
			Play: func(l *Lab) {
				l.HotReload(reloads, 5, func(l *Lab, old *Listener) *Listener {
					next := l.successor(old)
					fd, _, err := unix.Accept4(old.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
					l.must(err)
					l.must(l.wait(handshakeTimeout, fd, unix.POLLIN, "the request is there"))
					if tt.read {
						_, err = unix.Read(fd, make([]byte, tokenBytes))
					}
					l.must(errors.Join(err, unix.Close(fd)))
					old.closeQuietly()
					return next
				})
			},
			Expect: func(Mode) verdict.Expectation {
				return verdict.Expectation{Lives: true, Loss: verdict.Range{Min: 10000, Max: 600000}}
			},
		}, Families()[0], Mode{Name: "sysctl", Sysctl: "1"}, 1)
		if c.Status != result.Pass {
			t.Errorf("%s: %s: %s", name, c.Status, c.Reason)
			continue
		}
		// A race of the kernel's may add one or another.
		if n := tt.want(c.Stream.Losses); n < reloads || c.Stream.Failed() > reloads+3 {
			t.Errorf("%s: want %d, got %s", name, reloads, c.Stream.Losses)
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
