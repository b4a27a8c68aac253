package trace

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/capture"
	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/netns"
)

// ephemeral sets the port range of the clients in the thread's namespace. Ports below 32768 do not collide with the tests of
// other packages, which run at the same time with the default range (net.ipv4.ip_local_port_range).
func ephemeral(ports string) {
	must("set the clients' ports", netns.Sysctl{Name: "net.ipv4.ip_local_port_range", Value: ports}.Set())
}

// neighbour plays with the same addresses in another namespace and on another thread, until stop is called. once waits until
// it has played once more from the beginning to the end.
func neighbour(t *testing.T, ports string) (once, stop func()) {
	done, played := make(chan struct{}), make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		err := play(func(s *stage) {
			ephemeral(ports)
			for {
				for _, f := range families[:2] {
					s.refused(f.reach)
					a, _ := s.listen(f.listen)
					client, _ := s.connect(f.reach)
					s.send(client, "unread")
					gone := s.accept(a)
					another, _ := s.connect(f.reach)
					s.close(gone)
					s.close(a)
					s.close(client)
					s.close(another)
				}
				select {
				case <-done:
					return
				case played <- struct{}{}:
				default:
				}
			}
		})
		if err != nil {
			t.Errorf("the neighbour: %v", err)
		}
	})
	once = func() {
		for range 2 { // the first may have begun before the call
			select {
			case <-played:
			case <-time.After(deadline):
				t.Error("the neighbour does not play")
			}
		}
	}
	once()
	return once, func() { close(done); all.Wait() }
}

// twice is one play as both backends recorded it: BPF knows the namespace, and tracefs does not.
type twice struct {
	bpf, host []Event
	all       []Event // of the whole host, by tracefs
	frames    []capture.Frame
}

// recordTwice plays f beside a neighbour while both backends watch. If the counts show that either recording is incomplete,
// it plays again.
func recordTwice(t *testing.T, ourPorts, theirPorts string, f func(*stage)) *twice {
	t.Helper()
	programs, events := tracer(t, Options{}), tracer(t, Options{Tracefs: true})
	if !events.HostWide || programs.HostWide {
		t.Fatal("tracefs is host-wide, and BPF is not")
	}
	var got *twice
	whole := false
	for n := 0; !whole && n < 5*plays; n++ {
		once, stop := neighbour(t, theirPorts)
		got = &twice{}
		err := play(func(s *stage) {
			ephemeral(ourPorts)
			ring, err := capture.Open("lo", 256)
			must("capture", err)
			defer ring.Close()
			host, err := events.WatchThread()
			must("watch", err)
			bpf := s.watch(programs)
			f(s)
			for range 4 {
				once()
			}
			after, err := counters()
			must("counters", err)
			exact, err := bpf.Stop()
			must("stop", err)
			maybe, err := host.Stop()
			must("stop", err)
			wire, err := ring.Drain()
			must("drain", err)
			got.frames, _ = capture.Decode(wire.Packets)
			for _, e := range maybe.host {
				got.all = append(got.all, e.Event)
			}
			maybe.Claim((&take{frames: got.frames, tid: unix.Gettid()}).own())
			got.bpf, got.host = exact.Events, maybe.Events
			whole = maybe.Lost == 0 && exact.Lost == 0 && exact.missed == 0 && exact.Untraced(after) == 0
		})
		if stop(); err != nil {
			t.Fatal(err)
		}
	}
	if !whole {
		t.Fatal("the kernel left something out of each recording")
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, e := range got.bpf {
				t.Logf("BPF     %s %v, thread %d", e.Time.Format("05.000000000"), e, e.TID)
			}
			for _, e := range got.host {
				t.Logf("tracefs %s %v by %d, thread %d", e.Time.Format("05.000000000"), e, e.By, e.TID)
			}
		}
	})
	return got
}

// same tells whether an event of BPF and one of tracefs are the same, as far as tracefs has the fields.
func same(bpf, host Event) bool {
	end := func(exact, maybe netip.AddrPort) bool { return maybe.Port() == 0 || exact == maybe }
	return bpf.Kind == host.Kind && bpf.Reason == host.Reason && bpf.OldState == host.OldState && bpf.Answer == host.Answer &&
		bpf.Softirq == host.Softirq && bpf.TID == host.TID && (host.State == "" || host.State == bpf.State) &&
		end(bpf.Src, host.Src) && end(bpf.Dst, host.Dst) && bpf.Time.Sub(host.Time).Abs() < time.Millisecond
}

// unmatched returns the events of host that bpf lacks, and those of bpf that host lacks. Each event matches one at most.
func unmatched(bpf, host []Event) (others, missing []Event) {
	missing = slices.Clone(bpf)
	for _, e := range host {
		i := slices.IndexFunc(missing, func(b Event) bool { return same(b, e) })
		if i < 0 {
			others = append(others, e)
			continue
		}
		missing = slices.Delete(missing, i, i+1)
	}
	return others, missing
}

// TestTracefsAgrees: beside a neighbour, tracefs records the same events as BPF, and no others.
func TestTracefsAgrees(t *testing.T) {
	at, reach := families[0].listen, families[0].reach
	for _, tt := range []struct {
		name string
		play func(*stage)
		sure map[Kind]string // what has to be among the sure events
	}{
		{"a listener closes", func(s *stage) {
			a, _ := s.listen(at)
			s.connect(reach)
			s.close(a)
		}, map[Kind]string{ResetSent: "TCP_STATE", ResetReceived: ""}},
		{"a listener closes, IPv6", func(s *stage) {
			a, _ := s.listen(families[1].listen)
			s.connect(families[1].reach)
			s.close(a)
		}, map[Kind]string{ResetSent: "TCP_STATE", ResetReceived: ""}},
		{"a listener of both families closes", func(s *stage) {
			a, _ := s.listen(families[2].listen)
			s.connect(families[2].reach)
			s.close(a)
		}, map[Kind]string{ResetSent: "TCP_STATE", ResetReceived: ""}},
		{"a survivor rejects", func(s *stage) {
			drop, err := netns.NewDropper(t.Context(), "nftables")
			must("drop", err)
			a, _ := s.listen(at)
			rule, err := drop.Drop(false, at.Port())
			must("drop", err)
			client, _ := s.connect(reach)
			s.send(client, "Hello World")
			s.listen(at)
			s.close(a)
			must("drop", rule.Remove())
			s.reset(client)
		}, map[Kind]string{ResetSent: "TCP_FLAGS", Retransmit: "", ResetReceived: ""}},
		{"a socket with unread data closes", func(s *stage) {
			a, _ := s.listen(at)
			client, _ := s.connect(reach)
			s.send(client, "unread")
			s.close(s.accept(a))
		}, map[Kind]string{ResetSent: "TCP_ABORT_ON_CLOSE"}},
		{"no listener", func(s *stage) { s.refused(reach) }, map[Kind]string{ResetReceived: ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := recordTwice(t, "20000 20999", "21000 21999", tt.play)
			others, missing := unmatched(got.bpf, got.host)
			for _, e := range others {
				if e.By == ByThread { // it may be another's, as its doc says
					t.Logf("by the thread alone: %v", e)
					continue
				}
				t.Errorf("another namespace's: %v, by %d", e, e.By)
			}
			for _, e := range missing {
				t.Errorf("not recorded by tracefs: %v", e)
			}
			for kind, reason := range tt.sure {
				if !slices.ContainsFunc(got.host, func(e Event) bool { return e.Kind == kind && e.Reason == reason && e.Sure() }) {
					t.Errorf("no %v %s for sure", kind, reason)
				}
			}
			if others, _ := unmatched(got.bpf, got.all); len(others) == 0 {
				t.Error("the host has no event of the neighbour, so that Claim was not tested")
			}
		})
	}
}

// TestSandboxedThread: a process in a PID namespace below ours, as one of a sandbox or a container, has the number by which we know it.
func TestSandboxedThread(t *testing.T) {
	nobody := netip.MustParseAddrPort("127.0.0.1:1")
	var pid int
	got := recordTwice(t, "20000 20999", "21000 21999", func(*stage) {
		client := exec.CommandContext(t.Context(), "bash", "-c", ": <>/dev/tcp/127.0.0.1/1")
		client.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
		var refused *exec.ExitError
		defer netns.BeginExec()()
		if err := client.Run(); !errors.As(err, &refused) {
			must("connect to a port without a listener", cmp.Or(err, errors.New("it was taken")))
		}
		pid = client.Process.Pid
	})
	for name, events := range map[string][]Event{"BPF": got.bpf, "tracefs": got.all} {
		i := slices.IndexFunc(events, func(e Event) bool { return e.Kind == StateChange && e.State == "SYN_SENT" && e.Dst == nobody })
		if i < 0 {
			t.Fatalf("%s has nothing of the client", name)
		}
		if e := events[i]; e.Softirq || e.PID != pid || e.TID != pid {
			t.Errorf("%s: %v, thread %d of process %d, want %d", name, e, e.TID, e.PID, pid)
		}
	}
}

// TestTracefsSameAddresses: a neighbour whose clients have the same addresses may add events that are ByAddress, but none
// that is sure.
func TestTracefsSameAddresses(t *testing.T) {
	mixed := 0
	// We use two thirds of the ports of one parity, from which the kernel picks first (__inet_hash_connect). So each of the
	// neighbour's connections over IPv4, at least twenty-four, has the port of one of ours at odds of two to one.
	const ports = "22000 22299"
	got := recordTwice(t, ports, ports, func(s *stage) {
		a, _ := s.listen(families[0].listen)
		for range 100 {
			s.connect(families[0].reach)
		}
		s.close(a)
	})
	sure := slices.DeleteFunc(slices.Clone(got.host), func(e Event) bool { return !e.Sure() })
	if others, _ := unmatched(got.bpf, sure); len(others) > 0 {
		t.Errorf("another namespace's, and yet sure: %v", others)
	}
	if resets := (&take{events: sure}).find(ResetSent, nil); len(resets) != 100 {
		t.Errorf("%d resets are sure, want 100", len(resets))
	}
	ours := (&take{frames: got.frames}).own()
	others, _ := unmatched(got.bpf, got.all)
	for _, e := range others {
		if e.Src.Port() != 0 && e.Dst.Port() != 0 && ours.Seen(e.Src, e.Dst) {
			mixed++
		}
	}
	if mixed == 0 {
		t.Error("the neighbour had no address of ours")
	}
}

// TestTracefsFullRing: a watch counts all events that it lost, and the next one starts from 0.
func TestTracefsFullRing(t *testing.T) {
	tr := tracer(t, Options{Tracefs: true, Ring: os.Getpagesize()})
	p := tr.backend.(*perf)
	err := play(func(s *stage) {
		w, err := tr.WatchThread()
		must("watch", err)
		p.mu.Lock() // the rings are not read
		const refused = 100
		for range refused {
			s.refused(families[0].reach)
		}
		p.mu.Unlock()
		r, err := w.Stop()
		must("stop", err)
		// Each refused connection is five events or more, of some hundred bytes.
		if room := len(p.cpus) * os.Getpagesize() / 60; len(r.host) > room || r.Lost+len(r.host) < 5*refused || len(r.host) == 0 {
			t.Errorf("%d events and %d lost of %d or more, in rings with room for %d", len(r.host), r.Lost, 5*refused, room)
		}
		for n := 0; ; n++ { // now and then the kernel does not record an event
			w, err = tr.WatchThread()
			must("watch", err)
			s.refused(families[0].reach)
			if r, err = w.Stop(); err != nil || len(r.host) >= 5 && r.Lost == 0 {
				must("stop", err)
				return
			}
			if n == plays {
				t.Errorf("the next watch: %d events, %d lost", len(r.host), r.Lost)
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestTracefsHalfFullRing: rings are read before they are full.
func TestTracefsHalfFullRing(t *testing.T) {
	tr := tracer(t, Options{Tracefs: true, Ring: os.Getpagesize()})
	p := tr.backend.(*perf)
	waiting := func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return slices.ContainsFunc(p.cpus, func(c *perfCPU) bool { return c.filled() > uint64(os.Getpagesize()/2) })
	}
	err := play(func(s *stage) {
		w, err := tr.WatchThread()
		must("watch", err)
		for range 200 {
			s.refused(families[0].reach)
			for end := time.Now().Add(deadline); waiting(); time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					must("wait for the rings to be read", errors.New("they are not"))
				}
			}
		}
		r, err := w.Stop()
		must("stop", err)
		if most := len(p.cpus) * os.Getpagesize() / 60; len(r.host) <= 2*most {
			t.Errorf("%d events, which might be what the rings hold at once: %d", len(r.host), most)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// held counts this process's perf events and files of tracefs, and the mounts of tracefs that it can see.
func held(t *testing.T) (events, files, mounts int) {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range fds {
		name, err := os.Readlink(path)
		if err != nil {
			continue // the descriptor that Glob used
		}
		if name == "anon_inode:[perf_event]" {
			events++
		}
		var fs unix.Statfs_t
		if err := unix.Statfs(path, &fs); err == nil && fs.Type == unix.TRACEFS_MAGIC {
			files++
		}
	}
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	return events, files, strings.Count(string(table), " - tracefs ")
}

func TestTracefsLeavesNothing(t *testing.T) {
	tracer(t, Options{Tracefs: true}) // skips where there is none; its perf events stay open
	before := [3]int{}
	before[0], before[1], before[2] = held(t)
	dir, done, err := tracefs()
	if err != nil {
		t.Fatal(err)
	}
	_, files, mounts := held(t)
	if private := strings.HasPrefix(dir, "/proc/"); private && files != before[1]+1 {
		t.Errorf("a mount of our own is not found: %d descriptors", files)
	}
	if mounts != before[2] {
		t.Errorf("a tracefs was mounted for all to see")
	}
	done()
	tr, err := open(Options{Tracefs: true})
	if err != nil {
		t.Fatal(err)
	}
	if events, files, _ := held(t); events <= before[0] || files != before[1] {
		t.Errorf("open: %d perf events and %d files of tracefs, before %v", events, files, before)
	}
	if err := tr.Close(); err != nil {
		t.Fatal(err)
	}
	if events, files, mounts := held(t); [3]int{events, files, mounts} != before {
		t.Errorf("Close left %d events, %d files and %d mounts, before %v", events, files, mounts, before)
	}
}

// TestNoBTF: without BTF, Open uses perf events.
func TestNoBTF(t *testing.T) {
	tr := tracer(t, Options{noBTF: true})
	if _, ok := tr.backend.(*perf); !ok || !tr.HostWide || !errors.Is(tr.NoBPF, errNoBTF) {
		t.Errorf("got %T, host-wide: %t, because %v", tr.backend, tr.HostWide, tr.NoBPF)
	}
	err := netns.Do(func() error { // on a thread that ends with it
		var none [2]unix.CapUserData
		if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); err != nil {
			return fmt.Errorf("drop capabilities: %w", err)
		}
		_, err := OpenWith(Options{noBTF: true})
		return err
	})
	lacks := "SYS_ADMIN" // to mount tracefs
	if _, err := os.Stat("/sys/kernel/tracing/events"); err == nil {
		lacks = "PERFMON"
	}
	var no *kernel.NotSupportedError
	if !errors.As(err, &no) || !strings.Contains(no.Error(), "CONFIG_DEBUG_INFO_BTF") ||
		!strings.Contains(no.Error(), "CAP_"+lacks) || !strings.Contains(no.Hint(), lacks) || !kernel.MayNot(no) {
		t.Errorf("got %v, want both reasons and a hint", err)
	}
	missing := tracer(t, Options{Tracefs: true, Without: []string{"tcp:tcp_send_reset", "skb:kfree_skb"}})
	if len(missing.Missing) != 2 {
		t.Errorf("missing: %v", missing.Missing)
	}
}

// TestOnlineCPUs: both places tell the same.
func TestOnlineCPUs(t *testing.T) {
	for _, tt := range []struct {
		parse func(string) ([]int, error)
		text  string
		want  []int
	}{
		{parseOnline, "0-3,5\n", []int{0, 1, 2, 3, 5}}, {parseOnline, "0\n", []int{0}}, {parseOnline, "", nil}, {parseOnline, "0-x", nil},
		{parseStat, "cpu  1 2 3\ncpu0 1 2 3\ncpu2 1 2 3\nintr 7\n", []int{0, 2}}, {parseStat, "intr 7\n", nil}, {parseStat, "cpux 1\n", nil},
	} {
		if got, err := tt.parse(tt.text); !slices.Equal(got, tt.want) || (err == nil) != (tt.want != nil) {
			t.Errorf("%q: got %v, %v, want %v", tt.text, got, err, tt.want)
		}
	}
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	online, err := onlineCPUs()
	if counted, err2 := parseStat(string(stat)); err != nil || err2 != nil || !slices.Equal(online, counted) {
		t.Errorf("online: %v, %v, and by /proc/stat: %v, %v", online, err, counted, err2)
	}
}

// TestTracefsMisuse: wrong calls are refused, and do no harm.
func TestTracefsMisuse(t *testing.T) {
	tr := tracer(t, Options{Tracefs: true})
	w, err := tr.WatchThread()
	if err != nil {
		t.Fatal(err)
	}
	refuses := func(what string, err error, want string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want …%s…", what, err, want)
		}
	}
	_, err = tr.WatchThread()
	refuses("the second watch", err, "watch the host: it is watched already")
	if _, err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	_, err = w.Stop()
	refuses("the second Stop", err, "it is stopped already")
	if w, err = tr.WatchThread(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(tr.Close(), tr.Close()); err != nil {
		t.Errorf("Close: %v", err)
	}
	_, err = w.Stop()
	refuses("Stop after Close", err, ErrClosed.Error())
	_, err = tr.WatchThread()
	refuses("a watch after Close", err, ErrClosed.Error())
}
