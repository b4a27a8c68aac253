package harness_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/rpmig/rpmig/evidence"
	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/scenarios"
	"github.com/rpmig/rpmig/verdict"
	"github.com/rpmig/rpmig/worker"
)

func TestMain(m *testing.M) {
	worker.RunIfWorker()
	goleak.VerifyTestMain(m)
}

func needNamespace(t *testing.T) {
	t.Helper()
	if err := netns.Probe(); err != nil {
		t.Skipf("needs network namespaces (run as root, or under unshare -Urn): %v", err)
	}
}

func scenario(t *testing.T, name string) harness.Scenario {
	t.Helper()
	found, err := harness.Select(scenarios.All(), name)
	if err != nil {
		t.Fatal(err)
	}
	return found[0]
}

func modes(t *testing.T, list string) []harness.Mode {
	t.Helper()
	m, err := migrate.Parse(list)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestEveryCell plays the catalogue, every scenario in every family and mode, on the running kernel. The quizzes, which
// have one connection, are played with many too.
func TestEveryCell(t *testing.T) {
	needNamespace(t)
	quizzes := []harness.Scenario{scenario(t, "quiz1"), scenario(t, "quiz2")}
	all := harness.Options{Families: harness.Families(), Modes: migrate.Modes()}
	crowd := all
	crowd.Scenarios, crowd.Connections = quizzes, 25
	for _, o := range []harness.Options{all, crowd} {
		for _, c := range run(t, o) {
			t.Run(fmt.Sprintf("%s/%d", c.ID(), c.Connections.Staged), func(t *testing.T) {
				switch c.Status {
				case result.Skip:
					t.Skip(c.Reason)
				case result.Pass, result.XFail:
					for _, w := range unasked(c) {
						t.Errorf("%s, and the witness %q was not asked", c.Status, w)
					}
				default:
					t.Errorf("%s: %s\n%s", c.Status, c.Reason, failed(c))
				}
			})
		}
	}
}

// noListenerStays are the scenarios after which there is no listener to try.
var noListenerStays = regexp.MustCompile(`^(fd-pass|last-listener|other-group-uid)-quiz[12]$`)

// unasked returns the witnesses that have no check in a cell and should: a witness that is left out agrees with everything.
func unasked(c result.Cell) []result.Witness {
	want := []result.Witness{result.Staging, result.Application, result.Agreement, result.Accounts}
	if c.Stream == nil {
		want = append(want, result.Wire, result.Counters)
	}
	if c.Program != nil && c.Stream == nil {
		want = append(want, result.ProgramSaid)
	}
	if !noListenerStays.MatchString(c.Scenario) {
		want = append(want, result.After)
	}
	return slices.DeleteFunc(want, func(w result.Witness) bool {
		return slices.ContainsFunc(c.Checks, func(k result.Check) bool { return k.Witness == w })
	})
}

// TestBrokenCells breaks cells on the running kernel. None may pass, and each has to say what was wrong.
func TestBrokenCells(t *testing.T) {
	needNamespace(t)
	off, sysctl, bpf := modes(t, "off")[0], modes(t, "sysctl")[0], modes(t, "bpf")[0]
	quiz1, quiz2, storm := scenario(t, "quiz1"), scenario(t, "quiz2"), scenario(t, "storm")
	play := func(play func(*harness.Lab)) harness.Scenario {
		s := quiz1
		s.Play = play
		return s
	}
	unsteered, drained := scenario(t, "sk-lookup-quiz1"), scenario(t, "sk-lookup-drain-alone")
	unsteered.Play = func(l *harness.Lab) {
		l.Steer(harness.Lookup)
		l.Listen("A", l.Aside()...)
		l.Connect()
	}
	drained.Play = scenario(t, "sk-lookup-drain-group").Play
	for _, tt := range []struct {
		name        string
		scenario    harness.Scenario
		mode        harness.Mode
		connections int
		broken      []harness.Fault
		want        result.Status
		reason      string
	}{
		{"the rule was never installed", quiz2, off, 1, []harness.Fault{harness.NoRule},
			result.Error, "not staged: in the accept queue of A: want 0, got 1"},
		{"the capture lost frames, and no reset is claimed", quiz1, sysctl, 25, []harness.Fault{harness.TinyRing},
			result.Error, "the capture lost"},
		{"the capture lost the resets", quiz1, off, 25, []harness.Fault{harness.TinyRing},
			result.Error, "the capture lost"},
		{"the kernel does not migrate from the accept queue", quiz1, sysctl, 1, []harness.Fault{harness.KernelOf(off)},
			result.Fail, "the sysctl is there and the code is not"},
		{"the kernel does not migrate request sockets", quiz2, sysctl, 1, []harness.Fault{harness.KernelOf(off)},
			result.Fail, "the sysctl is there and the code is not"},
		{"the kernel migrates when it should not", quiz2, off, 1, []harness.Fault{harness.KernelOf(sysctl)},
			result.Fail, "accepted: want 0, got 1"},
		{"the kernel does not heed the program's choice, in the accept queue", quiz1, bpf, 25, []harness.Fault{harness.NoChoice},
			result.Fail, "with a listener that the program did not choose"},
		{"the kernel does not heed the program's choice, for request sockets", quiz2, bpf, 25, []harness.Fault{harness.NoChoice},
			result.Fail, "with a listener that the program did not choose"},
		{"a server that hears nothing once it has accepted", play(func(l *harness.Lab) {
			quiz1.Play(l)
			l.DropACKs()
		}), sysctl, 2, []harness.Fault{harness.KeepRule}, result.Fail,
			"survivors talk: want 2 both ways, got 2 server to client: wait until what was sent has arrived: what is sent, and sent again, is not heard after 65536 bytes"},
		{"the kernel does not migrate in a storm", storm, sysctl, 1, []harness.Fault{harness.KernelOf(off)},
			result.Fail, "lost: want 0 to 10000 per million, got "},
		{"the kernel migrates in a storm when it should not", storm, off, 1, []harness.Fault{harness.KernelOf(sysctl)},
			result.Fail, "lost: want 100000 to 600000 per million, got "},
		{"the capture lost frames of a storm", storm, sysctl, 1, []harness.Fault{harness.TinyRing},
			result.Error, "the capture lost"},
		{"the kernel migrates nothing of what a program destroys", scenario(t, "close-by-bpf-destroy-quiz1"), sysctl, 1,
			[]harness.Fault{harness.KernelOf(off)}, result.Fail, "the sysctl is there and the code is not"},
		{"the kernel migrates what a program destroys, and should not", scenario(t, "close-by-bpf-destroy-quiz2"), off, 1,
			[]harness.Fault{harness.KernelOf(sysctl)}, result.Fail, "accepted: want 0, got 1"},
		{"the kernel migrates nothing of what was steered", scenario(t, "sk-lookup-quiz2"), sysctl, 1,
			[]harness.Fault{harness.KernelOf(off)}, result.Fail, "the sysctl is there and the code is not"},
		{"the kernel migrates what was steered, and should not", scenario(t, "sk-lookup-quiz1"), off, 1,
			[]harness.Fault{harness.KernelOf(sysctl)}, result.Fail, "accepted: want 0, got 1"},
		{"the kernel migrates nothing of what was assigned", scenario(t, "tc-assign-quiz1"), sysctl, 1,
			[]harness.Fault{harness.KernelOf(off)}, result.Fail, "the sysctl is there and the code is not"},
		{"the kernel migrates what was assigned, and should not", scenario(t, "tc-assign-quiz2"), off, 1,
			[]harness.Fault{harness.KernelOf(sysctl)}, result.Fail, "accepted: want 0, got 1"},
		{"clients are steered to nobody", unsteered, off, 1, nil,
			result.Error, `1 client connects and sends "Hello World": connect to 127.0.0.1:80: connection refused`},
		{"clients are steered to the group of the one that is meant", drained, off, 1, nil,
			result.Fail, "of the new clients A gets: want none, got some"},
		{"the scenario panics", play(func(*harness.Lab) { panic("oh") }), off, 1, nil,
			result.Error, "the scenario panicked: oh"},
		{"nobody listens", play(func(l *harness.Lab) { l.Connect() }), off, 1, nil,
			result.Error, `1 client connects and sends "Hello World": connect to 127.0.0.1:80: connection refused`},
		{"nobody is half open", play(func(l *harness.Lab) { l.AssertHalfOpen(l.Listen("A")) }), off, 1, nil,
			result.Error, "not staged: request sockets: want 1, got 0"},
		{"a listener closes before the handshake", play(func(l *harness.Lab) {
			a := l.Listen("A")
			a.Close()
			l.AssertAcceptQueue(a)
		}), off, 1, nil, result.Error, "all in the accept queue of A"},
		{"nobody has inherited the listener that is closed", play(func(l *harness.Lab) {
			a, b := l.Listen("A"), l.Listen("B")
			a.CloseHere()
			l.ConnectUntilQueued(a, b)
		}), off, 1, nil, result.Error, "sock_diag shows no listener A"},
		{"nothing wakes the thread that sleeps in accept", play(func(l *harness.Lab) {
			a := l.Listen("A")
			if read := a.CloseInAccept(func() {}); read == "nothing" {
				panic("it sleeps on")
			}
		}), off, 1, nil, result.Error, "it sleeps on"},
		{"what a leaked listener holds does not migrate", scenario(t, "leaked-listener"), sysctl, 25,
			[]harness.Fault{harness.KernelOf(off)}, result.Fail, "the sysctl is there and the code is not"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, probe := range []func() error{tt.mode.Probe, tt.scenario.Probe} {
				if probe == nil {
					continue
				}
				if err := netns.Do(probe); err != nil {
					t.Skip(err)
				}
			}
			c := harness.Play(t, tt.scenario, harness.Families()[0], tt.mode, tt.connections, tt.broken...)
			if c.Status != tt.want || !strings.Contains(c.Reason, tt.reason) {
				t.Errorf("got %s: %s\nwant %s: …%s…\n%s", c.Status, c.Reason, tt.want, tt.reason, failed(c))
			}
		})
	}
}

// liar is a packet-drop backend whose rules drop what they should, and count something else.
type liar struct {
	netns.Dropper
	counts func(uint64) uint64
}

type lyingRule struct {
	netns.Rule
	counts func(uint64) uint64
}

func (d liar) Drop(v6 bool, port uint16) (netns.Rule, error) {
	r, err := d.Dropper.Drop(v6, port)
	return lyingRule{r, d.counts}, err
}

func (r lyingRule) Packets() (uint64, error) {
	n, err := r.Rule.Packets()
	return r.counts(n), err
}

// TestLyingRule: what the rule says is asked for, and is held against the wire.
func TestLyingRule(t *testing.T) {
	needNamespace(t)
	dropper, err := netns.NewDropper(t.Context(), "nftables")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		counts func(uint64) uint64
		reason string
	}{
		{"nothing", func(uint64) uint64 { return 0 }, "not staged: segments dropped by the rule: want 2 or more, got 0"},
		{"100 more", func(n uint64) uint64 { return n + 100 }, "the witnesses disagree: rule and wire: dropped segments were sent: want all"},
	} {
		var got sink
		err := harness.Run(t.Context(), harness.Options{
			Scenarios: []harness.Scenario{scenario(t, "quiz2")}, Families: harness.Families()[:1], Modes: modes(t, "off"), Repeat: 1, Port: 80,
			TimeoutMul: 0.05, Dropper: liar{dropper, tt.counts}, // the rule is asked in vain for half a second
		}, &got)
		if err != nil || len(got.cells) != 1 {
			t.Fatalf("%d cells, %v", len(got.cells), err)
		}
		if c := got.cells[0]; c.Status != result.Error || !strings.Contains(c.Reason, tt.reason) {
			t.Errorf("it counts %s: %s: %s\nwant %s", tt.name, c.Status, c.Reason, tt.reason)
		}
	}
}

// TestKnownBugs: a bug's check is weighed by the version that the run was told, and in the modes in which the bug can show.
func TestKnownBugs(t *testing.T) {
	needNamespace(t)
	const check = "the bug"
	bug := result.Bug{ID: "CVE-1", Check: check, Since: "5.14", Fixed: []string{"6.1.175", "6.18.27"}, Modes: []string{"sysctl"}}
	for _, tt := range []struct {
		mode, upstream, shows string
		want                  result.Status
		bug, reason           string
	}{
		{"sysctl", "6.1.170", "yes", result.XFail, "CVE-1", "CVE-1: the bug: want no, got yes"},
		{"sysctl", "6.1.170", "no", result.Pass, "CVE-1", "XPASS: CVE-1"},
		{"sysctl", "6.1.180", "yes", result.Fail, "", "the bug: want no, got yes"},
		{"sysctl", "6.1.180", "no", result.Pass, "", "migrated, no RST"},
		{"sysctl", "unknown", "yes", result.XFail, "CVE-1", "as the known bug CVE-1 does; by version unknown"},
		{"sysctl", "unknown", "no", result.Pass, "", "migrated, no RST"},
		{"off", "6.1.170", "yes", result.Fail, "", "the bug: want no, got yes"},
		{"off", "6.1.170", "no", result.Pass, "", "lost, as expected"},
	} {
		s := scenario(t, "quiz1")
		play, expect := s.Play, s.Expect
		s.Bugs = []result.Bug{bug}
		s.Play = func(l *harness.Lab) {
			play(l)
			if l.Mode().Name == tt.mode {
				l.Fact(check, tt.shows)
			} else {
				l.Fact(check, "no")
			}
		}
		s.Expect = func(m harness.Mode) verdict.Expectation {
			e := expect(m)
			e.Facts = map[string]any{check: "no"}
			return e
		}
		cells := run(t, harness.Options{
			Scenarios: []harness.Scenario{s}, Families: harness.Families()[:1], Modes: modes(t, tt.mode), Upstream: tt.upstream, NoConfirm: true,
		})
		c := cells[len(cells)-1]
		if c.Status != tt.want || c.Bug != tt.bug || !strings.Contains(c.Reason, tt.reason) {
			t.Errorf("%s on %s, where the bug shows: %s: got %s of %q: %s", tt.mode, tt.upstream, tt.shows, c.Status, c.Bug, c.Reason)
		}
		if tt.bug == "" && strings.Contains(c.Reason, "CVE-1") {
			t.Errorf("%s on %s: %s", tt.mode, tt.upstream, c.Reason)
		}
	}
}

// TestCodeless: a kernel that has the sysctl and not the code is told so, whatever the case is about, and no step waits for
// counters that do not exist, or for timers that have fired.
func TestCodeless(t *testing.T) {
	needNamespace(t)
	sysctl := modes(t, "sysctl")[0]
	for _, s := range scenarios.All() {
		// Busy ones are streams and statistics, which take long.
		if !s.PlaysMode(sysctl) || s.Busy || s.Probe != nil && netns.Do(s.Probe) != nil {
			continue
		}
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			family := harness.Families()[0]
			if !s.PlaysFamily(family) {
				family = harness.Families()[1]
			}
			c := harness.Play(t, s, family, sysctl, max(s.Connections, 1), harness.Codeless)
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
	needNamespace(t)
	for _, s := range scenarios.All() {
		for _, m := range modes(t, "off,sysctl") {
			if !s.PlaysMode(m) || s.Probe != nil && netns.Do(s.Probe) != nil {
				continue
			}
			t.Run(s.Name+"/"+m.Name, func(t *testing.T) {
				t.Parallel()
				family := harness.Families()[0]
				if !s.PlaysFamily(family) {
					family = harness.Families()[1]
				}
				judge := harness.Observe(t, s, family, m)
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
				if right().Lives && right().Loss.Unit == "" { // in a stream the talk is part of being served
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
	needNamespace(t)
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
			s := scenario(t, tt.played)
			if s.Probe != nil && netns.Do(s.Probe) != nil {
				t.Skip("this kernel lacks what it needs")
			}
			s.Expect, s.Bugs = scenario(t, tt.judged).Expect, nil
			c := harness.Play(t, s, harness.Families()[0], sysctl, 1)
			found := slices.ContainsFunc(c.Failed(), func(k result.Check) bool { return k.String() == tt.reason })
			if c.Status != result.Fail || !found {
				t.Errorf("%s: %s, want FAIL and %q\n%s", c.Status, c.Reason, tt.reason, failed(c))
			}
		})
	}
}

// TestControls: what is planned is reported, and each mode is weighed against its off cell.
func TestControls(t *testing.T) {
	needNamespace(t)
	for _, tt := range []struct {
		modes     string
		noControl bool
		want      []string
	}{
		{"sysctl", false, []string{"off control", "sysctl controlled"}},
		{"sysctl", true, []string{"sysctl uncontrolled"}},
		{"sysctl,off", true, []string{"off control", "sysctl controlled"}},
	} {
		cells := run(t, harness.Options{
			Scenarios: []harness.Scenario{scenario(t, "quiz1")}, Families: harness.Families()[:1],
			Modes: modes(t, tt.modes), NoControl: tt.noControl,
		})
		var got []string
		for _, c := range cells {
			got = append(got, c.Mode+" "+string(c.Control))
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("--migrate=%s --no-control=%t: got %q, want %q", tt.modes, tt.noControl, got, tt.want)
		}
	}
}

// TestUntilFail: the run ends with the first failure, and not before.
func TestUntilFail(t *testing.T) {
	needNamespace(t)
	s := scenario(t, "quiz1")
	honest, plays := s.Expect, 0
	s.Expect = func(m harness.Mode) verdict.Expectation {
		e := honest(m)
		if plays++; plays == 5 {
			e.Lives = !e.Lives
		}
		return e
	}
	cells := run(t, harness.Options{
		Scenarios: []harness.Scenario{s}, Families: harness.Families()[:1], Modes: modes(t, "off"),
		Repeat: 1000, UntilFail: true, Parallel: 1, NoConfirm: true,
	})
	if len(cells) != 5 || cells[4].Status != result.Fail {
		t.Errorf("%d cells were played, the last %v", len(cells), cells[len(cells)-1].Status)
	}
}

// TestConfirm: the kernel is accused of what it did twice, and of nothing that did not come again.
func TestConfirm(t *testing.T) {
	needNamespace(t)
	var plays atomic.Int32
	for _, tt := range []struct {
		name      string
		wrong     func(play int32) bool // that play is judged by an expectation that is wrong
		noConfirm bool
		want      result.Status
		confirmed result.Status
		plays     int32
		reason    string
	}{
		{name: "never", wrong: func(int32) bool { return false }, want: result.Pass, plays: 1},
		{name: "always", wrong: func(int32) bool { return true }, want: result.Fail, confirmed: result.Fail, plays: 2},
		{name: "once", wrong: func(n int32) bool { return n == 1 }, want: result.Error, confirmed: result.Pass, plays: 2,
			reason: "not confirmed: accepted: want 1, got 0; played again, alone, it was PASS"},
		{name: "once, and unconfirmed", wrong: func(n int32) bool { return n == 1 }, noConfirm: true, want: result.Fail, plays: 1},
	} {
		s := scenario(t, "quiz1")
		honest := s.Expect
		plays.Store(0)
		s.Expect = func(m harness.Mode) verdict.Expectation {
			e := honest(m)
			if tt.wrong(plays.Add(1)) {
				e.Lives = !e.Lives
			}
			return e
		}
		c := run(t, harness.Options{
			Scenarios: []harness.Scenario{s}, Families: harness.Families()[:1], Modes: modes(t, "off"), NoConfirm: tt.noConfirm,
		})[0]
		confirmed := result.Status("")
		if c.Confirmed != nil {
			confirmed = c.Confirmed.Status
		}
		if c.Status != tt.want || confirmed != tt.confirmed || plays.Load() != tt.plays || !strings.Contains(c.Reason, tt.reason) {
			t.Errorf("%s: %s, confirmed %q, after %d plays: %s", tt.name, c.Status, confirmed, plays.Load(), c.Reason)
		}
	}
}

// TestPooled: what no cell shows by itself, all repeats together do. The run is not green then, and ends with --until-fail; without
// that each accusation takes as much evidence as the first.
func TestPooled(t *testing.T) {
	needNamespace(t)
	s := scenario(t, "hot-reload-plain")
	honest := s.Expect
	s.Expect = func(m harness.Mode) verdict.Expectation {
		e := honest(m)
		e.Loss.Min, e.Loss.Max = 400000, 1e6 // some 350000 are lost, and a cell has some 230 connections
		return e
	}
	for _, untilFail := range []bool{true, false} {
		cells := run(t, harness.Options{
			Scenarios: []harness.Scenario{s}, Families: harness.Families()[:1], Modes: modes(t, "off"), Repeat: 60, UntilFail: untilFail, NoConfirm: true,
		})
		failed := 0
		for _, c := range cells {
			switch {
			case c.Status == result.Fail && strings.Contains(c.Reason, "repeats together: want 400000 to 1e+06 per million"):
				failed++
			case c.Status == result.Fail && strings.HasPrefix(c.Reason, "lost: "): // rare: by itself
				failed++
			case c.Status != result.Pass:
				t.Errorf("%s: %s", c.Status, c.Reason)
			}
			if c.Stream.Most == nil || *c.Stream.Most != 1e6 {
				t.Errorf("%s: its bounds are not told", c.ID())
			}
		}
		if failed == 0 || failed > 30 || untilFail && len(cells) > 30 {
			t.Errorf("until it fails: %t: %d of %d cells are a FAIL", untilFail, failed, len(cells))
		}
	}
}

// TestCancel: a cancelled run gives no verdict on cells that it cut short.
func TestCancel(t *testing.T) {
	needNamespace(t)
	ctx, cancel := context.WithCancel(t.Context())
	s := scenario(t, "quiz2")
	play := s.Play
	s.Play = func(l *harness.Lab) {
		cancel()
		play(l)
	}
	dropper, err := netns.NewDropper(t.Context(), "nftables")
	if err != nil {
		t.Fatal(err)
	}
	var got sink
	err = harness.Run(ctx, harness.Options{
		Scenarios: []harness.Scenario{s}, Families: harness.Families(), Modes: modes(t, "off,sysctl"),
		Repeat: 100, Connections: 1, Port: 80, TimeoutMul: 1, Parallel: 2, Dropper: dropper,
	}, &got)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v", err)
	}
	for _, c := range got.cells {
		if c.Status != result.Pass {
			t.Errorf("%s: %s: %s", c.ID(), c.Status, c.Reason)
		}
	}
}

// TestSinkFails: what cannot be written down ends the run.
func TestSinkFails(t *testing.T) {
	needNamespace(t)
	full := errors.New("no space left")
	got := sink{err: full}
	err := harness.Run(t.Context(), harness.Options{
		Scenarios: []harness.Scenario{scenario(t, "quiz1")}, Families: harness.Families(), Modes: modes(t, "off"),
		Repeat: 1000, Connections: 1, Port: 80, TimeoutMul: 1,
	}, &got)
	if !errors.Is(err, full) {
		t.Errorf("Run: got %v, want %v", err, full)
	}
	if len(got.cells) > 500 {
		t.Errorf("it went on for %d cells", len(got.cells))
	}
}

type sink struct {
	planned int
	cells   []result.Cell
	err     error
}

func (s *sink) Begin(cells int) error {
	s.planned = cells
	return nil
}

func (s *sink) Cell(c *result.Cell, _ evidence.Files) error {
	s.cells = append(s.cells, *c)
	return s.err
}

// run plays with what the options leave out filled in, and returns the cells in a stable order.
func run(t *testing.T, o harness.Options) []result.Cell {
	t.Helper()
	if o.Scenarios == nil {
		o.Scenarios = scenarios.All()
	}
	o.Repeat = max(o.Repeat, 1)
	o.Port, o.TimeoutMul = 80, 4 // the race detector is slow
	o.Upstream = cmp.Or(o.Upstream, kernel.Upstream())
	var err error
	if o.Dropper, err = netns.NewDropper(t.Context(), "nftables"); err != nil {
		t.Fatal(err)
	}
	var got sink
	if err := harness.Run(t.Context(), o, &got); err != nil {
		t.Fatal(err)
	}
	if got.planned != len(got.cells) && !o.UntilFail {
		t.Errorf("%d cells were planned and %d played", got.planned, len(got.cells))
	}
	slices.SortFunc(got.cells, func(a, b result.Cell) int { return strings.Compare(a.ID(), b.ID()) })
	return got.cells
}

func failed(c result.Cell) string {
	var b strings.Builder
	for _, k := range c.Failed() {
		fmt.Fprintf(&b, "  %s\n    want %s\n    got  %s\n", k.Name, k.Want, k.Got)
	}
	return b.String()
}

// counted returns the scenario and what tells how many of its cells were in their midst at the same time, at most.
func counted(s harness.Scenario) (harness.Scenario, func() int32) {
	var now, peak atomic.Int32
	honest := s.Play
	s.Play = func(l *harness.Lab) {
		n := now.Add(1)
		defer now.Add(-1)
		for {
			if old := peak.Load(); old >= n || peak.CompareAndSwap(old, n) {
				break
			}
		}
		honest(l)
	}
	return s, peak.Load
}

// TestPlaces: while a cell sits a timer out, others are played in its place, unless the user has said how many there shall
// be.
func TestPlaces(t *testing.T) {
	needNamespace(t)
	places := harness.PlacesPerCPU * runtime.NumCPU()
	play := func(parallel int) int {
		s, most := counted(scenario(t, "synack-timer"))
		for _, c := range run(t, harness.Options{
			Scenarios: []harness.Scenario{s}, Families: harness.Families()[:1], Modes: modes(t, "off"), Connections: 1,
			Repeat: 2 * places, Parallel: parallel,
		}) {
			if c.Status != result.Pass {
				t.Errorf("%s: %s: %s", c.ID(), c.Status, c.Reason)
			}
		}
		return int(most())
	}
	if n := play(0); n <= places {
		t.Errorf("%d cells at a time, and there are %d places", n, places)
	}
	if n := play(places); n > places {
		t.Errorf("%d cells at a time, of %d asked for", n, places)
	}
}
