package trace

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/capture"
	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/netns"
)

func TestMain(m *testing.M) {
	stayIfVictim()
	goleak.VerifyTestMain(m)
}

const deadline = 10 * time.Second

// tracer returns a tracer for a test, or skips the test with the reason why there can be none.
func tracer(t *testing.T, o Options) *Tracer {
	t.Helper()
	if err := netns.Probe(); err != nil {
		t.Skipf("needs network namespaces (run as root): %v", err)
	}
	o.misses = true
	tr, err := open(o)
	if errors.Is(err, kernel.ErrNotSupported) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	for _, name := range o.Without {
		if !slices.Contains(tr.Missing, name) {
			t.Errorf("it does without %s, and says that it lacks %v", name, tr.Missing)
		}
	}
	if lacks := slices.DeleteFunc(slices.Clone(tr.Missing), func(name string) bool { return slices.Contains(o.Without, name) }); len(lacks) > 0 {
		t.Skipf("this kernel lacks %v", lacks)
	}
	return tr
}

// bpf returns the backend of a tracer that has BPF programs.
func bpf(tr *Tracer) *programs { return tr.backend.(*programs) }

// stage is a namespace in which a test makes system calls, on the namespace's thread.
type stage struct {
	fds []int
}

// abort is a panic with an error, which play returns.
type abort struct{ error }

func must(what string, err error) {
	if err != nil {
		panic(abort{fmt.Errorf("%s: %w", what, err)})
	}
}

// play runs f in a new namespace, and closes its sockets afterwards.
func play(f func(*stage)) error {
	return netns.Do(func() (err error) {
		// A signal of the runtime would end a call that has a timeout with EINTR (signal(7)). The thread ends with f.
		if err := unix.PthreadSigmask(unix.SIG_BLOCK, &unix.Sigset_t{Val: [16]uint64{^uint64(0)}}, nil); err != nil {
			return err
		}
		s := &stage{}
		defer func() {
			for _, fd := range s.fds {
				unix.Close(fd)
			}
			switch r := recover().(type) {
			case nil:
			case abort:
				err = r
			default:
				panic(r)
			}
		}()
		f(s)
		return nil
	})
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

func (s *stage) socket(a netip.Addr) int {
	domain := unix.AF_INET6
	if a.Is4() {
		domain = unix.AF_INET
	}
	fd, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must("socket", err)
	s.fds = append(s.fds, fd)
	// So that no call of a test waits for ever.
	for _, option := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		must("set timeout", unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, option, &unix.Timeval{Sec: int64(deadline / time.Second)}))
	}
	return fd
}

func (s *stage) close(fd int) {
	s.fds = slices.DeleteFunc(s.fds, func(open int) bool { return open == fd })
	must("close", unix.Close(fd))
	netns.WaitExecs() // a child that another stage starts may have a copy until it execs
}

// listen opens a listener with SO_REUSEPORT and asks for its cookie.
func (s *stage) listen(at netip.AddrPort) (fd int, cookie uint64) {
	fd = s.socket(at.Addr())
	must("set SO_REUSEPORT", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1))
	must("bind", unix.Bind(fd, sockaddr(at)))
	must("listen", unix.Listen(fd, 128))
	return fd, cookieOf(fd)
}

func cookieOf(fd int) uint64 {
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	must("ask for SO_COOKIE", err)
	return cookie
}

// connect returns a connected client and its address.
func (s *stage) connect(to netip.AddrPort) (fd int, client netip.AddrPort) {
	fd = s.socket(to.Addr())
	must("connect", unix.Connect(fd, sockaddr(to)))
	return fd, localOf(fd)
}

func localOf(fd int) netip.AddrPort {
	local, err := unix.Getsockname(fd)
	must("getsockname", err)
	switch a := local.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
	}
	panic(abort{errors.New("getsockname: another family")})
}

func (s *stage) accept(listener int) int {
	fd, _, err := unix.Accept4(listener, unix.SOCK_CLOEXEC)
	must("accept", err)
	s.fds = append(s.fds, fd)
	return fd
}

// refused connects to a port without a listener, and returns the client's address.
func (s *stage) refused(to netip.AddrPort) netip.AddrPort {
	fd := s.socket(to.Addr())
	must("bind", unix.Bind(fd, sockaddr(netip.AddrPortFrom(to.Addr(), 0))))
	client := localOf(fd)
	if err := unix.Connect(fd, sockaddr(to)); err != unix.ECONNREFUSED {
		must("connect", fmt.Errorf("got %v, want ECONNREFUSED", err))
	}
	s.close(fd)
	return client
}

func (s *stage) send(fd int, text string) {
	_, err := unix.Write(fd, []byte(text))
	must("write", err)
}

// reset waits for a reset to arrive.
func (s *stage) reset(fd int) {
	if _, err := unix.Read(fd, make([]byte, 1)); err != unix.ECONNRESET {
		must("read", fmt.Errorf("got %v, want ECONNRESET", err))
	}
}

// watch starts a watch of the stage's namespace.
func (s *stage) watch(tr *Tracer) *Watch {
	cookie, err := namespace()
	must("namespace", err)
	w, err := tr.Watch(cookie)
	must("watch", err)
	return w
}

// take is what the capture and the trace recorded of a play.
type take struct {
	events []Event
	frames []capture.Frame
	pid    int
	tid    int // of the stage's thread
}

// stop ends a watch of a ring that is large enough, and tells whether the recording is complete as far as the kernel
// knows. If it is not, the test plays again.
func stop(t *testing.T, w *Watch) (r *Recording, whole bool) {
	r, err := w.Stop()
	must("stop", err)
	if r.Lost > 0 {
		t.Errorf("%d events were lost", r.Lost)
	}
	if r.missed > 0 {
		t.Logf("the kernel kept %d events from the programs", r.missed)
	}
	return r, r.missed == 0
}

// own returns what Claim needs to know about a take.
func (g *take) own() Own {
	return Own{Thread: g.tid, Seen: func(a, b netip.AddrPort) bool {
		return slices.ContainsFunc(g.frames, func(f capture.Frame) bool { return f.Src == a && f.Dst == b || f.Src == b && f.Dst == a })
	}}
}

// plays is how often a test tries to get a complete recording.
const plays = 10

// record plays f while the namespace is watched and lo is captured.
func record(t *testing.T, tr *Tracer, f func(*stage)) *take {
	t.Helper()
	var got *take
	for whole, n := false, 0; !whole && n < plays; n++ {
		got = &take{pid: os.Getpid()}
		err := play(func(s *stage) {
			got.tid = unix.Gettid()
			ring, err := capture.Open("lo", 256)
			must("capture", err)
			defer ring.Close()
			before, err := counters()
			must("counters", err)
			w := s.watch(tr)
			f(s)
			var r *Recording
			r, whole = stop(t, w)
			after, err := counters()
			must("counters", err)
			wire, err := ring.Drain()
			must("drain", err)
			got.frames, _ = capture.Decode(wire.Packets)
			r.Claim(got.own())
			got.events = r.Events
			if n := r.Untraced(after.Since(before)); n > 0 {
				t.Logf("the trace lacks %d resets and retransmissions", n)
				whole = false
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, e := range got.events {
				t.Logf("%s %v cookie %d orphan %t", e.Time.Format("05.000000000"), e, e.Cookie, e.Orphan)
			}
			for _, f := range got.frames {
				t.Logf("%s %v > %v %v seq %d ack %d", f.Time.Format("05.000000000"), f.Src, f.Dst, f.Flags, f.Seq, f.Ack)
			}
		}
	})
	return got
}

// find returns the events of a kind that match.
func (g *take) find(k Kind, match func(Event) bool) []Event {
	var found []Event
	for _, e := range g.events {
		if e.Kind == k && (match == nil || match(e)) {
			found = append(found, e)
		}
	}
	return found
}

// one is find for exactly one event.
func (g *take) one(t *testing.T, k Kind, match func(Event) bool) Event {
	t.Helper()
	found := g.find(k, match)
	if len(found) != 1 {
		t.Fatalf("%d events of %v, want 1: %v", len(found), k, found)
	}
	return found[0]
}

// onWire checks that the frame of an event was captured, within a millisecond of it.
func (g *take) onWire(t *testing.T, e Event, match func(capture.Frame) bool) capture.Frame {
	t.Helper()
	var found []capture.Frame
	for _, f := range g.frames {
		if f.Src == e.Src && f.Dst == e.Dst && match(f) {
			found = append(found, f)
		}
	}
	if len(found) == 0 {
		t.Fatalf("%v: not on the wire", e)
	}
	// If a segment was sent several times, the closest one is meant.
	near := slices.MinFunc(found, func(a, b capture.Frame) int {
		return int(a.Time.Sub(e.Time).Abs() - b.Time.Sub(e.Time).Abs())
	})
	if apart := near.Time.Sub(e.Time).Abs(); apart > time.Millisecond {
		t.Errorf("%v: its frame was captured %v apart", e, apart)
	}
	return near
}

func isReset(f capture.Frame) bool { return f.Flags.Has(capture.RST) }

// check compares an event with the wanted one, as far as the test can know it.
func check(t *testing.T, got, want Event) {
	t.Helper()
	want.Time, want.Seq, want.Ack, want.Flags = got.Time, got.Seq, got.Ack, got.Flags
	if want.Cookie == 0 {
		// While a process has perf events on tcp:tcp_receive_reset or tcp:tcp_destroy_sock, the kernel gives every socket that
		// passes there a cookie (include/trace/events/tcp.h: sock_gen_cookie). Another package's tests may have some.
		want.Cookie = got.Cookie
	}
	if got != want {
		t.Errorf("got  %v, cookie %d, process %d\nwant %v, cookie %d, process %d", got, got.Cookie, got.PID, want, want.Cookie, want.PID)
	}
}

var families = []struct {
	name          string
	listen, reach netip.AddrPort
}{
	{name: "ipv4", listen: netip.MustParseAddrPort("127.0.0.1:80"), reach: netip.MustParseAddrPort("127.0.0.1:80")},
	{name: "ipv6", listen: netip.MustParseAddrPort("[::1]:80"), reach: netip.MustParseAddrPort("[::1]:80")},
	{name: "mapped", listen: netip.MustParseAddrPort("[::]:80"), reach: netip.MustParseAddrPort("127.0.0.1:80")},
}

// TestListenerCloses is Quiz 1 without migration: inet_csk_listen_stop aborts what is in the accept queue.
func TestListenerCloses(t *testing.T) {
	for _, clock := range []struct {
		name string
		old  bool
	}{{"tai", false}, {"monotonic", true}} {
		tr := tracer(t, Options{noTAI: clock.old})
		for _, family := range families {
			t.Run(clock.name+"/"+family.name, func(t *testing.T) {
				var client netip.AddrPort
				var cookie uint64
				got := record(t, tr, func(s *stage) {
					var a int
					a, cookie = s.listen(family.listen)
					_, client = s.connect(family.reach)
					s.close(a)
				})
				sent := got.one(t, ResetSent, nil)
				check(t, sent, Event{
					Kind: ResetSent, Src: family.reach, Dst: client, Reason: "TCP_STATE", State: "CLOSE",
					Orphan: true, PID: got.pid, TID: got.tid,
				})
				got.onWire(t, sent, isReset)
				received := got.one(t, ResetReceived, nil)
				check(t, received, Event{
					Kind: ResetReceived, Src: family.reach, Dst: client, State: "ESTABLISHED",
					Softirq: true, PID: got.pid, TID: got.tid,
				})
				got.onWire(t, received, isReset)
				closes := got.one(t, StateChange, func(e Event) bool { return e.OldState == "LISTEN" && e.State == "CLOSE" })
				if closes.Cookie != cookie || closes.TID != sent.TID || closes.Softirq {
					t.Errorf("the listener, of cookie %d, closes: got %+v", cookie, closes)
				}
				if !closes.Time.Before(sent.Time) {
					t.Errorf("the listener closes %v after its connection is reset", closes.Time.Sub(sent.Time))
				}
			})
		}
	}
}

// TestSurvivorRejects is Quiz 2 without migration: the listener that is left rejects the ACK of a request that is not its
// own, in tcp_rcv_state_process.
func TestSurvivorRejects(t *testing.T) {
	tr := tracer(t, Options{})
	for _, family := range families[:2] {
		t.Run(family.name, func(t *testing.T) {
			var client netip.AddrPort
			var survivor uint64
			got := record(t, tr, func(s *stage) {
				drop, err := netns.NewDropper(t.Context(), "nftables")
				must("drop", err)
				a, _ := s.listen(family.listen)
				rule, err := drop.Drop(family.listen.Addr().Is6(), family.listen.Port())
				must("drop", err)
				var fd int
				fd, client = s.connect(family.reach)
				s.send(fd, "Hello World")
				_, survivor = s.listen(family.listen)
				s.close(a)
				must("drop", rule.Remove())
				s.reset(fd)
			})
			sent := got.one(t, ResetSent, nil)
			check(t, sent, Event{
				Kind: ResetSent, Src: family.reach, Dst: client, Reason: "TCP_FLAGS", State: "LISTEN", Cookie: survivor,
				Answer: true, Softirq: true,
				PID: sent.PID, TID: sent.TID, // the thread that the client's timer interrupted
			})
			frame := got.onWire(t, sent, isReset)
			if frame.Flags.Has(capture.ACK) || frame.Seq != sent.Ack {
				t.Errorf("the reset %v seq %d is no answer to ack %d", frame.Flags, frame.Seq, sent.Ack)
			}
			dropped := got.find(Drop, func(e Event) bool { return e.Reason == "NETFILTER_DROP" })
			if len(dropped) < 2 { // or more, if the rule was removed late
				t.Errorf("%d segments were dropped by the rule, want the ACK and the data", len(dropped))
			}
			for _, e := range dropped {
				same := func(f capture.Frame) bool { return f.Seq == e.Seq && f.Ack == e.Ack && uint8(f.Flags) == e.Flags }
				got.onWire(t, e, same)
			}
			again := got.find(Retransmit, nil)
			if len(again) == 0 {
				t.Error("the client did not retransmit")
			}
			for _, e := range again {
				if e.State != "ESTABLISHED" {
					t.Errorf("%v", e)
				}
				got.onWire(t, e, func(f capture.Frame) bool { return f.Seq == e.Seq && f.Payload > 0 })
			}
		})
	}
}

// TestNoListener: the reset has no socket that could give the namespace.
func TestNoListener(t *testing.T) {
	tr := tracer(t, Options{})
	for _, family := range families[:2] {
		t.Run(family.name, func(t *testing.T) {
			var client netip.AddrPort
			got := record(t, tr, func(s *stage) { client = s.refused(family.reach) })
			sent := got.one(t, ResetSent, nil)
			check(t, sent, Event{
				Kind: ResetSent, Src: family.reach, Dst: client, Reason: "NO_SOCKET", Answer: true,
				Softirq: true, PID: got.pid, TID: got.tid,
			})
			if capture.Flags(sent.Flags) != capture.SYN {
				t.Errorf("it answers %v, want a SYN", capture.Flags(sent.Flags))
			}
			if frame := got.onWire(t, sent, isReset); frame.Ack != sent.Seq+1 {
				t.Errorf("the reset acknowledges %d, and the SYN was %d", frame.Ack, sent.Seq)
			}
			dropped := got.one(t, Drop, func(e Event) bool { return e.Reason == "NO_SOCKET" })
			got.onWire(t, dropped, func(f capture.Frame) bool { return f.Seq == dropped.Seq })
		})
	}
}

// TestOwnReset: close() of a socket with unread data sends a reset, with a reason of its own.
func TestOwnReset(t *testing.T) {
	tr := tracer(t, Options{})
	at := families[0].listen
	got := record(t, tr, func(s *stage) {
		a, _ := s.listen(at)
		fd, _ := s.connect(at)
		s.send(fd, "unread")
		s.close(s.accept(a))
	})
	sent := got.one(t, ResetSent, nil)
	if sent.Reason != "TCP_ABORT_ON_CLOSE" || sent.Orphan || sent.Answer || sent.Softirq || sent.TID != got.tid {
		t.Errorf("got %+v", sent)
	}
	got.onWire(t, sent, isReset)
}

// TestSynAckTimer: the event of a request socket has the cookie of its listener.
func TestSynAckTimer(t *testing.T) {
	tr := tracer(t, Options{})
	at := families[0].listen
	var client netip.AddrPort
	var cookie uint64
	got := record(t, tr, func(s *stage) {
		drop, err := netns.NewDropper(t.Context(), "nftables")
		must("drop", err)
		_, cookie = s.listen(at)
		_, err = drop.Drop(false, at.Port())
		must("drop", err)
		before, err := counters()
		must("counters", err)
		_, client = s.connect(at)
		for end := time.Now().Add(deadline); ; time.Sleep(10 * time.Millisecond) {
			now, err := counters()
			must("counters", err)
			if now.Since(before)["RetransSegs"] > 0 {
				break
			}
			if time.Now().After(end) {
				must("SYN+ACK timer", errors.New("nothing was retransmitted"))
			}
		}
	})
	e := got.one(t, SynAckRetransmit, nil)
	check(t, e, Event{
		Kind: SynAckRetransmit, Src: at, Dst: client, State: "LISTEN", Cookie: cookie, Softirq: true, PID: e.PID, TID: e.TID,
	})
	got.onWire(t, e, func(f capture.Frame) bool { return f.Flags.Has(capture.SYN | capture.ACK) })
}

// TestSideBySide plays in 50 namespaces at once. They differ in their ports, their numbers of connections and what happens
// to these. Each watch must have recorded only events of its own namespace. The test must also notice if the filter on the
// namespace is missing: the events of all namespaces together must not pass for those of one.
func TestSideBySide(t *testing.T) {
	tr := tracer(t, Options{})
	parts := make([]part, 50)
	var all sync.WaitGroup
	for i := range parts {
		all.Go(func() {
			p := &parts[i]
			p.at = netip.AddrPortFrom(families[i%2].listen.Addr(), uint16(10_000+i))
			p.unused = netip.AddrPortFrom(p.at.Addr(), p.at.Port()+uint16(len(parts)))
			p.fate, p.connections = fates[i/2%len(fates)], 1+i
			for whole, n := false, 0; !whole && n < plays; n++ {
				err := play(func(s *stage) {
					p.tid = unix.Gettid()
					before, err := counters()
					must("counters", err)
					w := s.watch(tr)
					p.fate.play(s, p.at, p.unused, p.connections)
					var r *Recording
					r, whole = stop(t, w)
					after, err := counters()
					must("counters", err)
					p.events, whole = r.Events, whole && r.Untraced(after.Since(before)) == 0
				})
				if err != nil {
					t.Errorf("namespace %d: %v", i, err)
				}
			}
		})
	}
	all.Wait()
	var mixed []Event
	for i := range parts {
		mixed = append(mixed, parts[i].events...)
		if odd := parts[i].odd(parts[i].events); odd != "" {
			t.Errorf("namespace %d, %v, %s × %d: %s", i, parts[i].at, parts[i].fate.reason, parts[i].connections, odd)
		}
	}
	for i := range parts {
		if parts[i].odd(mixed) == "" {
			t.Errorf("namespace %d: the events of all pass for its own", i)
		}
		// The hardest to tell apart: the events of another namespace in which the same happens.
		other := &parts[(i+2*len(fates))%len(parts)]
		if parts[i].odd(other.events) == "" {
			t.Errorf("namespace %d: the events of the one at %v pass for its own", i, other.at)
		}
	}
}

// part is what one of many namespaces plays, and what was recorded of it.
type part struct {
	at, unused  netip.AddrPort // with and without a listener
	fate        fate
	connections int
	tid         int
	events      []Event
}

// odd returns what is wrong with events if they should be those of this part: too many or too few. It returns "" if
// nothing is.
func (p *part) odd(events []Event) string {
	counted := map[string]int{}
	for _, e := range events {
		ports := []uint16{e.Src.Port(), e.Dst.Port()}
		known := slices.Contains(ports, p.at.Port()) || slices.Contains(ports, p.unused.Port())
		if !known || !e.Softirq && e.TID != p.tid {
			return "another namespace's event: " + e.String()
		}
		switch {
		case e.Kind == ResetSent:
			counted["reset "+e.Reason]++
		case e.Kind == StateChange && e.State == "ESTABLISHED":
			counted["established"]++ // both ends
		case e.Kind == StateChange && e.State == "LISTEN":
			counted["listening"]++
		}
	}
	want := map[string]int{"listening": 1}
	if p.fate.reason != "" {
		want["reset "+p.fate.reason] = p.connections
	}
	if p.fate.reason != "NO_SOCKET" {
		want["established"] = 2 * p.connections
	}
	if !maps.Equal(counted, want) {
		return fmt.Sprintf("counted %v, want %v", counted, want)
	}
	if !slices.IsSortedFunc(events, func(a, b Event) int { return a.Time.Compare(b.Time) }) {
		return "out of order"
	}
	return ""
}

// fate is what can happen to connections, and the reason of their resets.
type fate struct {
	reason string
	play   func(s *stage, at, unused netip.AddrPort, connections int)
}

var fates = []fate{
	{"TCP_STATE", func(s *stage, at, _ netip.AddrPort, connections int) {
		a, _ := s.listen(at)
		for range connections {
			s.connect(at)
		}
		s.close(a)
	}},
	{"NO_SOCKET", func(s *stage, at, unused netip.AddrPort, connections int) {
		s.listen(at)
		for range connections {
			s.refused(unused)
		}
	}},
	{"TCP_ABORT_ON_CLOSE", func(s *stage, at, _ netip.AddrPort, connections int) {
		a, _ := s.listen(at)
		for range connections {
			fd, _ := s.connect(at)
			s.send(fd, "unread")
			s.close(s.accept(a))
		}
	}},
	{"", func(s *stage, at, _ netip.AddrPort, connections int) {
		a, _ := s.listen(at)
		for range connections {
			s.connect(at)
			s.accept(a)
		}
		s.close(a)
	}},
}

// TestUnwatched: what happens before a watch, after it or in another namespace is not recorded.
func TestUnwatched(t *testing.T) {
	tr := tracer(t, Options{})
	at := families[0].listen
	err := play(func(s *stage) {
		s.refused(at)
		w := s.watch(tr)
		must("elsewhere", play(func(s *stage) { s.refused(at) }))
		if r, _ := stop(t, w); len(r.Events) != 0 {
			t.Errorf("the first watch: %v", r.Events)
		}
		s.refused(at)
		if r, _ := stop(t, s.watch(tr)); len(r.Events) != 0 {
			t.Errorf("the second watch: %v", r.Events)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestFullRing: a watch counts the events that it lost, and the next one starts from 0.
func TestFullRing(t *testing.T) {
	tr := tracer(t, Options{Ring: os.Getpagesize()})
	room := os.Getpagesize() / (recordSize + 8) // with the header
	err := play(func(s *stage) {
		w := s.watch(tr)
		bpf(tr).mu.Lock() // the ring is not read
		for range room {
			s.refused(families[0].listen)
		}
		bpf(tr).mu.Unlock()
		r, err := w.Stop()
		must("stop", err)
		if len(r.Events) != room || r.Lost < room {
			t.Errorf("%d events and %d lost in a ring with room for %d", len(r.Events), r.Lost, room)
		}
		w = s.watch(tr)
		s.refused(families[0].listen)
		if r, _ := stop(t, w); len(r.Events) == 0 {
			t.Error("the next watch has no events")
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestHalfFullRing: a ring is read before it is full.
func TestHalfFullRing(t *testing.T) {
	tr := tracer(t, Options{Ring: os.Getpagesize()})
	const connections = 200
	resets := 0
	for whole, n := false, 0; !whole && n < plays; n++ {
		err := play(func(s *stage) {
			w := s.watch(tr)
			for range connections {
				s.refused(families[0].listen)
				for end := time.Now().Add(deadline); bpf(tr).ring.AvailableBytes() > os.Getpagesize()/2; time.Sleep(time.Millisecond) {
					if time.Now().After(end) {
						must("wait for the ring to be read", errors.New("it is not"))
					}
				}
			}
			var r *Recording
			r, whole = stop(t, w)
			resets = len((&take{events: r.Events}).find(ResetSent, nil))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if resets != connections {
		t.Errorf("%d resets of %d", resets, connections)
	}
}

// TestMisuse: wrong calls are refused, and do no harm.
func TestMisuse(t *testing.T) {
	tr := tracer(t, Options{})
	refuses := func(what string, err error, want string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want …%s…", what, err, want)
		}
	}
	err := play(func(s *stage) {
		w := s.watch(tr)
		_, err := tr.Watch(w.cookie)
		refuses("the second watch of a namespace", err, fmt.Sprintf("watch network namespace %d: it is watched already", w.cookie))
		s.refused(families[0].listen)
		if r, _ := stop(t, w); len(r.Events) == 0 {
			t.Error("Stop: no events")
		}
		_, err = w.Stop()
		refuses("the second Stop", err, "it is stopped already")
		w = s.watch(tr)
		if err := tr.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		_, err = w.Stop()
		refuses("Stop after Close", err, ErrClosed.Error())
		_, err = tr.Watch(w.cookie)
		refuses("Watch after Close", err, ErrClosed.Error())
		if err := tr.Close(); err != nil {
			t.Errorf("the second Close: %v", err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestNotAllowed: the error tells a root without capabilities what is missing.
func TestNotAllowed(t *testing.T) {
	tracer(t, Options{})
	err := netns.Do(func() error { // on a thread that ends with it
		var none [2]unix.CapUserData
		if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); err != nil {
			return fmt.Errorf("drop capabilities: %w", err)
		}
		_, err := Open()
		return err
	})
	var no *kernel.NotSupportedError
	if !errors.As(err, &no) || !errors.Is(err, kernel.ErrNotSupported) {
		t.Fatalf("got %v, want a kernel.NotSupportedError", err)
	}
	if !strings.Contains(no.Error(), "CAP_PERFMON") || !strings.Contains(no.Hint(), "PERFMON") || !kernel.MayNot(err) {
		t.Errorf("got %q, hint %q", no, no.Hint())
	}
}

// TestMissing does without each tracepoint in turn, by asking the kernel for one that it does not have: all other events
// are still recorded.
func TestMissing(t *testing.T) {
	kindsOf := func(t *testing.T, o Options) []Kind {
		tr := tracer(t, o)
		defer tr.Close()
		got := record(t, tr, func(s *stage) { s.refused(families[0].listen) })
		var all []Kind
		for _, e := range got.events {
			all = append(all, e.Kind)
		}
		slices.Sort(all)
		return slices.Compact(all)
	}
	whole := kindsOf(t, Options{})
	if len(whole) < 3 {
		t.Fatalf("a refused connection is no more than %v", whole)
	}
	for _, k := range whole {
		t.Run(k.String(), func(t *testing.T) {
			want := slices.DeleteFunc(slices.Clone(whole), func(o Kind) bool { return o == k })
			if got := kindsOf(t, Options{Without: []string{k.String()}}); !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

// TestLostRights: the process loses rights that it had when the trace was opened.
func TestLostRights(t *testing.T) {
	for _, tt := range []struct {
		name string
		lose func() error
		// goesOn tells that this kernel may not check the right again.
		goesOn bool
	}{
		// Before Linux 5.19 that depends on kernel.unprivileged_bpf_disabled.
		{"its capabilities", func() error { return dropCapabilities(unix.CAP_BPF, unix.CAP_PERFMON, unix.CAP_SYS_ADMIN) }, true},
		{"bpf(2) to a seccomp filter", forbidBPF, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr := tracer(t, Options{})
			said := func(what string, err error) {
				t.Helper()
				if err == nil && tt.goesOn {
					return
				}
				if err == nil || !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "the right to use BPF was lost since the trace was opened") {
					t.Errorf("%s: got %v", what, err)
				}
			}
			err := play(func(s *stage) { // on a thread that ends with it
				w := s.watch(tr)
				must("lose rights", tt.lose())
				s.refused(families[0].listen)
				r, err := w.Stop()
				said("Stop", err)
				if err == nil && r.missed == 0 && len((&take{events: r.Events}).find(ResetSent, nil)) != 1 {
					t.Errorf("the watch goes on, and recorded %v", r.Events)
				}
				w, err = tr.Watch(w.cookie)
				said("Watch", err)
				if err == nil {
					_, err = w.Stop()
					said("the next Stop", err)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			// A thread that still has the right can go on.
			if err := play(func(s *stage) {
				w := s.watch(tr)
				s.refused(families[0].listen)
				if r, whole := stop(t, w); whole && len((&take{events: r.Events}).find(ResetSent, nil)) != 1 {
					t.Errorf("the next namespace: %v", r.Events)
				}
			}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// dropCapabilities takes capabilities from the calling thread.
func dropCapabilities(drop ...int) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var has [2]unix.CapUserData
	if err := unix.Capget(&header, &has[0]); err != nil {
		return err
	}
	for _, c := range drop {
		has[c/32].Effective &^= 1 << (c % 32)
		has[c/32].Permitted &^= 1 << (c % 32)
	}
	return unix.Capset(&header, &has[0])
}

// forbidBPF makes bpf(2) fail for the calling thread, as a service manager's filter does.
func forbidBPF() error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // seccomp_data.nr
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_BPF, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0)
}

// counters reads the counters of the calling thread's namespace.
func counters() (kernel.Counters, error) {
	m, err := kernel.ReadMIB()
	if err != nil {
		return nil, err
	}
	return m.Counters()
}
