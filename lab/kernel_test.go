package lab_test

import (
	"flag"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/scenarios"
	"github.com/rpmig/rpmig/verdict"
	"github.com/rpmig/rpmig/worker"
)

func TestMain(m *testing.M) {
	worker.RunIfWorker()
	flag.Parse()
	playManyCells()
	goleak.VerifyTestMain(m)
}

// playManyCells lets more tests run side by side than there are processors, unless -parallel says how many: a cell waits for the
// kernel's timers for most of its time.
func playManyCells() {
	parallel := flag.Lookup("test.parallel").Value
	if n := runtime.GOMAXPROCS(0); parallel.String() == strconv.Itoa(n) {
		if err := parallel.Set(strconv.Itoa(8 * n)); err != nil {
			panic(err)
		}
	}
}

func scenario(t *testing.T, name string) lab.Scenario {
	t.Helper()
	all := scenarios.All()
	i := slices.IndexFunc(all, func(s lab.Scenario) bool { return s.Name == name })
	if i < 0 {
		t.Fatalf("no scenario %q", name)
	}
	return all[i]
}

func modes(t *testing.T, list string) []lab.Mode {
	t.Helper()
	m, err := migrate.Parse(list)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestBrokenCells breaks cells on the running kernel. None may pass, and each has to say what was wrong.
func TestBrokenCells(t *testing.T) {
	lab.NeedNamespace(t)
	off, sysctl, bpf := modes(t, "off")[0], modes(t, "sysctl")[0], modes(t, "bpf")[0]
	quiz1, quiz2, storm := scenario(t, "quiz1"), scenario(t, "quiz2"), scenario(t, "storm")
	// The storm of the catalogue serves some 140 clients where all migrate, and may serve too few for a loss of next to none to be
	// surely below the lower bound: it takes 131 of whom none is lost.
	longStorm := storm
	longStorm.Frames *= 2
	longStorm.Play = func(l *lab.Lab) { l.Storm(8, 100, 3) }
	play := func(play func(*lab.Lab)) lab.Scenario {
		s := quiz1
		s.Play = play
		return s
	}
	unsteered, drained := scenario(t, "sk-lookup-quiz1"), scenario(t, "sk-lookup-drain-alone")
	unsteered.Play = func(l *lab.Lab) {
		l.Steer(lab.Lookup)
		l.Listen("A", l.Aside()...)
		l.Connect()
	}
	drained.Play = scenario(t, "sk-lookup-drain-group").Play
	relistens := scenario(t, "shutdown-first")
	relistens.Play = func(l *lab.Lab) {
		a := l.Listen("A")
		l.Connect()
		b := l.Listen("B")
		l.AssertAcceptQueue(a)
		a.Shutdown(unix.SHUT_RD)
		b.AcceptAll()
		a.Relisten()
		l.Fact("new clients that reach B", fmt.Sprintf("%d of %d", b.Reach(l.Connections()), l.Connections()))
	}
	for _, tt := range []struct {
		name        string
		scenario    lab.Scenario
		mode        lab.Mode
		connections int
		broken      []lab.Fault
		want        result.Status
		reason      string
	}{
		{"the rule was never installed", quiz2, off, 1, []lab.Fault{lab.NoRule},
			result.Error, "not staged: in the accept queue of A: want 0, got 1"},
		{"the capture lost frames, and no reset is claimed", quiz1, sysctl, 25, []lab.Fault{lab.TinyRing},
			result.Error, "the capture lost"},
		{"the capture lost the resets", quiz1, off, 25, []lab.Fault{lab.TinyRing},
			result.Error, "the capture lost"},
		{"the kernel does not migrate from the accept queue", quiz1, sysctl, 1, []lab.Fault{lab.KernelOf(off)},
			result.Fail, "tcp_migrate_req=1 was taken, and nothing migrated"},
		{"the kernel does not migrate request sockets", quiz2, sysctl, 1, []lab.Fault{lab.KernelOf(off)},
			result.Fail, "tcp_migrate_req=1 was taken, and nothing migrated"},
		{"the kernel migrates when it should not", quiz2, off, 1, []lab.Fault{lab.KernelOf(sysctl)},
			result.Fail, "accepted: want 0, got 1"},
		{"the kernel does not heed the program's choice, in the accept queue", quiz1, bpf, 25, []lab.Fault{lab.NoChoice},
			result.Fail, "with a listener that the program did not choose"},
		{"the kernel does not heed the program's choice, for request sockets", quiz2, bpf, 25, []lab.Fault{lab.NoChoice},
			result.Fail, "with a listener that the program did not choose"},
		{"a server that hears nothing once it has accepted", play(func(l *lab.Lab) {
			quiz1.Play(l)
			l.DropACKs()
		}), sysctl, 2, []lab.Fault{lab.KeepRule}, result.Fail,
			"survivors talk: want 2 both ways, got 2 server to client: wait until what was sent has arrived: what is sent, and sent again, is not heard after 65536 bytes"},
		{"the kernel does not migrate in a storm", storm, sysctl, 1, []lab.Fault{lab.KernelOf(off)},
			result.Fail, "lost: want 0 to 10000 per million, got "},
		{"the kernel migrates in a storm when it should not", longStorm, off, 1, []lab.Fault{lab.KernelOf(sysctl)},
			result.Fail, "lost: want 100000 to 600000 per million, got "},
		{"the capture lost frames of a storm", storm, sysctl, 1, []lab.Fault{lab.TinyRing},
			result.Error, "the capture lost"},
		{"the kernel migrates nothing of what a program destroys", scenario(t, "close-by-bpf-destroy-quiz1"), sysctl, 1,
			[]lab.Fault{lab.KernelOf(off)}, result.Fail, "tcp_migrate_req=1 was taken, and nothing migrated"},
		{"the kernel migrates what a program destroys, and should not", scenario(t, "close-by-bpf-destroy-quiz2"), off, 1,
			[]lab.Fault{lab.KernelOf(sysctl)}, result.Fail, "accepted: want 0, got 1"},
		{"the kernel migrates nothing of what was steered", scenario(t, "sk-lookup-quiz2"), sysctl, 1,
			[]lab.Fault{lab.KernelOf(off)}, result.Fail, "tcp_migrate_req=1 was taken, and nothing migrated"},
		{"the kernel migrates what was steered, and should not", scenario(t, "sk-lookup-quiz1"), off, 1,
			[]lab.Fault{lab.KernelOf(sysctl)}, result.Fail, "accepted: want 0, got 1"},
		{"the kernel migrates nothing of what was assigned", scenario(t, "tc-assign-quiz1"), sysctl, 1,
			[]lab.Fault{lab.KernelOf(off)}, result.Fail, "tcp_migrate_req=1 was taken, and nothing migrated"},
		{"the kernel migrates what was assigned, and should not", scenario(t, "tc-assign-quiz2"), off, 1,
			[]lab.Fault{lab.KernelOf(sysctl)}, result.Fail, "accepted: want 0, got 1"},
		{"a socket that nothing shows is never freed", play(func(l *lab.Lab) {
			quiz1.Play(l)
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Error(err)
			}
			t.Cleanup(func() { unix.Close(fd) })
		}), sysctl, 1, nil,
			result.Fail, "closed sockets that are never freed: want 0, got 1"},
		{"clients are steered to nobody", unsteered, off, 1, nil,
			result.Error, `1 client connects and sends "Hello World": connect to 127.0.0.1:80: connection refused`},
		{"clients are steered to the group of the one that is meant", drained, off, 1, nil,
			result.Fail, "of the new clients A gets: want none, got some"},
		{"the scenario panics", play(func(*lab.Lab) { panic("oh") }), off, 1, nil,
			result.Error, "the scenario panicked: oh"},
		{"nobody listens", play(func(l *lab.Lab) { l.Connect() }), off, 1, nil,
			result.Error, `1 client connects and sends "Hello World": connect to 127.0.0.1:80: connection refused`},
		{"nobody is half open", play(func(l *lab.Lab) { l.AssertHalfOpen(l.Listen("A")) }), off, 1, nil,
			result.Error, "not staged: request sockets: want 1, got 0"},
		{"a listener closes before the handshake", play(func(l *lab.Lab) {
			a := l.Listen("A")
			a.Close()
			l.AssertAcceptQueue(a)
		}), off, 1, nil, result.Error, "all in the accept queue of A"},
		{"nobody has inherited the listener that is closed", play(func(l *lab.Lab) {
			a, b := l.Listen("A"), l.Listen("B")
			a.CloseHere()
			l.ConnectUntilQueued(a, b)
		}), off, 1, nil, result.Error, "sock_diag shows no listener A"},
		{"nothing wakes the thread that sleeps in accept", play(func(l *lab.Lab) {
			a := l.Listen("A")
			if read := a.CloseInAccept(func() {}); read == "nothing" {
				panic("it sleeps on")
			}
		}), off, 1, nil, result.Error, "it sleeps on"},
		{"a listener that was shut down, and its fresh clients go elsewhere", relistens, sysctl, 25, nil,
			result.Fail, "new clients that reach B: want all, got "},
		{"what a leaked listener holds does not migrate", scenario(t, "leaked-listener"), sysctl, 25,
			[]lab.Fault{lab.KernelOf(off)}, result.Fail, "tcp_migrate_req=1 was taken, and nothing migrated"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if !tt.scenario.Busy {
				t.Parallel()
			}
			for _, probe := range []func() error{tt.mode.Probe, tt.scenario.Probe} {
				if probe == nil {
					continue
				}
				if err := netns.Do(probe); err != nil {
					t.Skip(err)
				}
			}
			c := lab.PlayOne(t, tt.scenario, lab.Families()[0], tt.mode, tt.connections, tt.broken...)
			if c.Status != tt.want || !strings.Contains(c.Reason, tt.reason) {
				t.Errorf("got %s: %s\nwant %s: …%s…\n%s", c.Status, c.Reason, tt.want, tt.reason, failed(c))
			}
		})
	}
}

// TestCodeless: a kernel that has the sysctl and not the code is told so, whatever the case is about, and no step waits for
// counters that do not exist, or for timers that have fired.
func TestCodeless(t *testing.T) {
	lab.NeedNamespace(t)
	sysctl := modes(t, "sysctl")[0]
	for _, s := range scenarios.All() {
		// Busy ones are streams and statistics, which take long.
		if !s.PlaysMode(sysctl) || s.Busy || s.Probe != nil && netns.Do(s.Probe) != nil {
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			family := lab.Families()[0]
			if !s.PlaysFamily(family) {
				family = lab.Families()[1]
			}
			c := lab.PlayOne(t, s, family, sysctl, max(s.Connections, 1), lab.Codeless)
			e := s.Expect(sysctl)
			needs := e.Counted[result.MigrateSuccess]+e.Counted[result.MigrateFailure] > 0
			switch {
			case needs && c.Status == result.Fail && strings.HasPrefix(c.Reason, "the sysctl is there and the code is not"):
			case !needs && c.Status == result.Pass:
			default:
				t.Errorf("%s: %s\n%s", c.Status, c.Reason, failed(c))
			}
		})
	}
}

// TestWrongExpectations plays every scenario once in two modes, and judges what was seen by expectations of which one
// thing is wrong: no scenario, and none of its checks, may be unable to fail.
func TestWrongExpectations(t *testing.T) {
	lab.NeedNamespace(t)
	for _, s := range scenarios.All() {
		for _, m := range modes(t, "off,sysctl") {
			if !s.PlaysMode(m) || s.Probe != nil && netns.Do(s.Probe) != nil {
				continue
			}
			t.Run(s.Name+"/"+m.Name, func(t *testing.T) {
				if !s.Busy {
					t.Parallel()
				}
				family := lab.Families()[0]
				if !s.PlaysFamily(family) {
					family = lab.Families()[1]
				}
				judge := lab.Observe(t, s, family, m)
				if judge == nil {
					return
				}
				right := func() verdict.Expectation {
					e := s.Expect(m)
					e.Counted, e.Facts = maps.Clone(e.Counted), maps.Clone(e.Facts)
					return e
				}
				if v := judge(right()); v.Status != result.Pass && len(s.Bugs) == 0 {
					t.Errorf("as expected: %s: %s", v.Status, v.Reason)
				}
				wrong := func(what string, change func(*verdict.Expectation)) {
					e := right()
					change(&e)
					if v := judge(e); v.Status == result.Pass {
						t.Errorf("%s wrong: %s: %s", what, v.Status, v.Reason)
					}
				}
				if right().Loss.Unit == "" {
					wrong("lives", func(e *verdict.Expectation) { e.Lives = !e.Lives })
				} else {
					wrong("loss", func(e *verdict.Expectation) { e.Loss.Min, e.Loss.Max = 2e6, 3e6 })
				}
				if right().Lives && right().Loss.Unit == "" { // nobody talks with the clients of a stream
					wrong("talk", func(e *verdict.Expectation) { e.Talk = "otherwise" })
				}
				for name := range right().Counted {
					wrong(name, func(e *verdict.Expectation) { e.Counted[name]++ })
				}
				for name := range right().Facts {
					wrong(name, func(e *verdict.Expectation) { e.Facts[name] = "something else" })
				}
			})
		}
	}
}

// TestOtherSettings judges cases by what is expected where the listeners have other settings, or where the connection migrates at
// another point: the check that fails has to name the setting.
func TestOtherSettings(t *testing.T) {
	lab.NeedNamespace(t)
	sysctl := modes(t, "sysctl")[0]
	for _, tt := range []struct{ played, judged, reason string }{
		{"options-queue", "options-ack", "TCP_NODELAY: want B's, got A's"},
		{"options-ack", "options-queue", "TCP_NODELAY: want A's, got B's"},
		{"md5-none-quiz1", "md5-none-quiz2", "survivors talk: want 1 " + verdict.Deaf + ", got 1 " + verdict.BothWays},
		{"md5-none-quiz2", "md5-same-quiz2", "survivors talk: want 1 " + verdict.BothWays + ", got 1 " + verdict.Deaf},
		{"md5-other-quiz2", "md5-same-quiz2", "survivors talk: want 1 " + verdict.BothWays + ", got 1 " + verdict.Deaf},
		{"md5-same-quiz2", "md5-none-quiz2", "survivors talk: want 1 " + verdict.Deaf + ", got 1 " + verdict.BothWays},
		{"md5-same-timer", "md5-none-timer", "clients that are answered while B lacks their key: want none, got not found out"},
	} {
		t.Run(tt.played+" as "+tt.judged, func(t *testing.T) {
			t.Parallel()
			s := scenario(t, tt.played)
			if s.Probe != nil && netns.Do(s.Probe) != nil {
				t.Skip("this kernel lacks what it needs")
			}
			s.Expect, s.Bugs = scenario(t, tt.judged).Expect, nil
			c := lab.PlayOne(t, s, lab.Families()[0], sysctl, 1)
			found := slices.ContainsFunc(c.Failed(), func(k result.Check) bool { return k.String() == tt.reason })
			if c.Status != result.Fail || !found {
				t.Errorf("%s: %s, want FAIL and %q\n%s", c.Status, c.Reason, tt.reason, failed(c))
			}
		})
	}
}

func failed(c result.Cell) string {
	var b strings.Builder
	for _, k := range c.Failed() {
		fmt.Fprintf(&b, "  %s\n    want %s\n    got  %s\n", k.Name, k.Want, k.Got)
	}
	return b.String()
}
