package harness_test

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rpmig/rpmig/evidence"
	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/scenarios"
	"github.com/rpmig/rpmig/verdict"
	"github.com/rpmig/rpmig/wait"
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

func scenario(t *testing.T, name string) lab.Scenario {
	t.Helper()
	found, err := harness.Select(scenarios.All(), name)
	if err != nil {
		t.Fatal(err)
	}
	return found[0]
}

func modes(t *testing.T, list string) []lab.Mode {
	t.Helper()
	m, err := migrate.Parse(list)
	if err != nil {
		t.Fatal(err)
	}
	return m
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
			Scenarios: []lab.Scenario{scenario(t, "quiz2")}, Families: lab.Families()[:1], Modes: modes(t, "off"), Repeat: 1,
			Settings: lab.Settings{Port: 80, TimeoutMul: 0.05}, // the rule is asked in vain for half a second
			Dropper:  liar{dropper, tt.counts},
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
		s.Play = func(l *lab.Lab) {
			play(l)
			if l.Mode().Name == tt.mode {
				l.Fact(check, tt.shows)
			} else {
				l.Fact(check, "no")
			}
		}
		s.Expect = func(m lab.Mode) verdict.Expectation {
			e := expect(m)
			e.Facts = map[string]any{check: "no"}
			return e
		}
		cells := run(t, harness.Options{
			Scenarios: []lab.Scenario{s}, Families: lab.Families()[:1], Modes: modes(t, tt.mode), NoConfirm: true,
			Settings: lab.Settings{Upstream: tt.upstream},
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
			Scenarios: []lab.Scenario{scenario(t, "quiz1")}, Families: lab.Families()[:1],
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
	for _, repeat := range []int{1000, 0} { // 0: without end
		s := scenario(t, "quiz1")
		honest, plays := s.Expect, 0
		s.Expect = func(m lab.Mode) verdict.Expectation {
			e := honest(m)
			if plays++; plays == 5 {
				e.Lives = !e.Lives
			}
			return e
		}
		cells := run(t, harness.Options{
			Scenarios: []lab.Scenario{s}, Families: lab.Families()[:1], Modes: modes(t, "off"),
			Repeat: repeat, UntilFail: true, Parallel: 1, NoConfirm: true,
		})
		if len(cells) != 5 || cells[4].Status != result.Fail {
			t.Fatalf("--repeat=%d: %d cells were played, the last %v", repeat, len(cells), cells[len(cells)-1].Status)
		}
	}
}

// TestUntilFailSkipped: what cannot be played is no more so the second time, and a run of nothing else has an end.
func TestUntilFailSkipped(t *testing.T) {
	needNamespace(t)
	s := scenario(t, "quiz1")
	s.Probe = func() error { return &kernel.NotSupportedError{Reason: "no", Next: "none"} }
	cells := run(t, harness.Options{Scenarios: []lab.Scenario{s}, Families: lab.Families()[:1], Modes: modes(t, "off"), UntilFail: true})
	if len(cells) != 1 || cells[0].Status != result.Skip {
		t.Errorf("got %d cells, the first %v", len(cells), cells[0].Status)
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
		s.Expect = func(m lab.Mode) verdict.Expectation {
			e := honest(m)
			if tt.wrong(plays.Add(1)) {
				e.Lives = !e.Lives
			}
			return e
		}
		c := run(t, harness.Options{
			Scenarios: []lab.Scenario{s}, Families: lab.Families()[:1], Modes: modes(t, "off"), NoConfirm: tt.noConfirm,
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

// TestMeasuredAgain: what the machine was too slow for is measured again, alone, and the second measurement counts if it is not
// void as well. It excuses no FAIL, and there is an end to it.
func TestMeasuredAgain(t *testing.T) {
	needNamespace(t)
	// Plays are l: held up and judged wrongly; w: judged wrongly; r: right.
	for _, tt := range []struct {
		name, plays string // the last goes on
		noConfirm   bool
		slow        bool
		want        result.Status
		void        result.Status
		confirmed   result.Status
		count       int32
		reason      string
	}{
		{name: "late once", plays: "lr", want: result.Pass, void: result.Error, count: 2, reason: "lost, as expected"},
		{name: "late twice", plays: "llr", want: result.Error, void: result.Error, count: 2, reason: "too slow for this case: the cell's thread did not run for"},
		{name: "late, then a FAIL", plays: "lw", want: result.Fail, void: result.Error, confirmed: result.Fail, count: 3},
		{name: "late, then a FAIL that does not come again", plays: "lwr", want: result.Error, void: result.Error, confirmed: result.Pass, count: 3, reason: "not confirmed"},
		{name: "a FAIL, then late twice", plays: "wl", want: result.Error, confirmed: result.Error, count: 3, reason: "not confirmed"},
		{name: "a FAIL, then late, then a FAIL", plays: "wlw", want: result.Fail, confirmed: result.Fail, count: 3},
		{name: "a FAIL, then late, then right", plays: "wlr", want: result.Error, confirmed: result.Pass, count: 3, reason: "before that it was void: too slow for this case"},
		{name: "a FAIL, then right", plays: "wrw", want: result.Error, confirmed: result.Pass, count: 2, reason: "not confirmed"},
		{name: "late, and each cell is played once", plays: "lr", noConfirm: true, want: result.Error, count: 1, reason: "too slow for this case"},
		{name: "late once on a slow machine", plays: "lr", slow: true, want: result.Pass, void: result.Skip, count: 2},
		{name: "late twice on a slow machine", plays: "llr", slow: true, want: result.Skip, void: result.Skip, count: 2, reason: "too slow for this case"},
	} {
		s, count := lateScenario(t, tt.plays)
		c := run(t, harness.Options{
			Scenarios: []lab.Scenario{s}, Families: lab.Families()[:1], Modes: modes(t, "off"), NoConfirm: tt.noConfirm,
			Settings: lab.Settings{Slow: tt.slow},
		})[0]
		status := func(r *result.Replay) result.Status {
			if r == nil {
				return ""
			}
			return r.Status
		}
		if c.Status != tt.want || status(c.Void) != tt.void || status(c.Confirmed) != tt.confirmed || count() != tt.count || !strings.Contains(c.Reason, tt.reason) {
			t.Errorf("%s: %s, void %q, confirmed %q, after %d plays: %s", tt.name, c.Status, status(c.Void), status(c.Confirmed), count(), c.Reason)
		}
		if c.Void != nil && !strings.HasPrefix(c.Void.Reason, "too slow for this case: ") {
			t.Errorf("%s: the first was void for: %s", tt.name, c.Void.Reason)
		}
		if c.Status == result.Pass && (len(c.Failed()) > 0 || c.Connections.Lost != 1) {
			t.Errorf("%s: it is a PASS by the checks of another play: %+v", tt.name, c)
		}
	}
	// No more than a few of a small run, and each is told.
	s, _ := lateScenario(t, "l")
	again, left := 0, 0
	for _, c := range run(t, harness.Options{
		Scenarios: []lab.Scenario{s}, Families: lab.Families()[:1], Modes: modes(t, "off"), Repeat: harness.FewReplays + 2, Parallel: 1,
	}) {
		switch {
		case c.Status != result.Error:
			t.Errorf("%s: %s: %s", c.ID(), c.Status, c.Reason)
		case c.Void != nil:
			again++
		case strings.Contains(c.Reason, "not measured again"):
			left++
		}
	}
	if again != harness.FewReplays || left != 2 {
		t.Errorf("%d were measured again, and %d were not", again, left)
	}
	// A FAIL whose confirmation is void is played once more as long as there are any left.
	s, count := lateScenario(t, strings.Repeat("wll", harness.FewReplays)+"wlwl")
	for _, c := range run(t, harness.Options{
		Scenarios: []lab.Scenario{s}, Families: lab.Families()[:1], Modes: modes(t, "off"), Repeat: harness.FewReplays + 2, Parallel: 1,
	}) {
		if c.Status != result.Error || c.Confirmed == nil || c.Confirmed.Status != result.Error {
			t.Errorf("%s: %s: %s", c.ID(), c.Status, c.Reason)
		}
	}
	if want := int32(3*harness.FewReplays + 2*2); count() != want {
		t.Errorf("%d plays, want %d", count(), want)
	}
}

// lateScenario is quiz1 whose plays are late, wrongly judged or right, a letter each, of which the last goes on; and what tells how
// many there were.
func lateScenario(t *testing.T, plays string) (lab.Scenario, func() int32) {
	s := scenario(t, "quiz1")
	honest := s.Expect
	var n atomic.Int32
	is := func() byte { return plays[min(int(n.Load()), len(plays))-1] }
	s.Play = func(l *lab.Lab) {
		n.Add(1)
		a := l.Listen("A")
		l.Connect()
		if is() == 'l' {
			time.Sleep(2 * wait.Late) // a thread that does not run is what is tried
		}
		b := l.Listen("B")
		l.AssertAcceptQueue(a)
		a.Close()
		b.AcceptAll()
	}
	s.Expect = func(m lab.Mode) verdict.Expectation {
		e := honest(m)
		if n.Load() > 0 && is() != 'r' {
			e.Lives = !e.Lives
		}
		return e
	}
	return s, n.Load
}

// TestPooled: what no cell shows by itself, all repeats together do. The run is not green then, and ends with --until-fail; without
// that each accusation takes as much evidence as the first.
func TestPooled(t *testing.T) {
	needNamespace(t)
	s := scenario(t, "hot-reload-plain")
	honest := s.Expect
	s.Expect = func(m lab.Mode) verdict.Expectation {
		e := honest(m)
		e.Loss.Min, e.Loss.Max = 400000, 1e6 // some 350000 are lost, and a cell has some 230 connections
		return e
	}
	for _, untilFail := range []bool{true, false} {
		cells := run(t, harness.Options{
			Scenarios: []lab.Scenario{s}, Families: lab.Families()[:1], Modes: modes(t, "off"), Repeat: 60, UntilFail: untilFail, NoConfirm: true,
		})
		failed, alone := 0, 0
		for _, c := range cells {
			if c.Status == result.Error && strings.HasPrefix(c.Reason, "too slow for this case: ") { // it says nothing, and is not pooled
				t.Log(c.Reason)
				continue
			}
			switch {
			case c.Status == result.Fail && strings.Contains(c.Reason, "repeats together: want 400000 to 1e+06 per million"):
				failed++
			case c.Status == result.Fail && strings.HasPrefix(c.Reason, "lost: "): // by itself, which is rarer the less is lost
				alone++
			case c.Status != result.Pass:
				t.Errorf("%s: %s", c.Status, c.Reason)
			}
			if c.Stream.Most == nil || *c.Stream.Most != 1e6 {
				t.Errorf("%s: its bounds are not told", c.ID())
			}
		}
		if failed+alone == 0 || failed > 30 || untilFail && len(cells) > 30 { // it takes two cells to be one together
			t.Errorf("until it fails: %t: of %d cells %d are a FAIL together, and %d alone", untilFail, len(cells), failed, alone)
		}
	}
}

// TestCancel: a cancelled run gives no verdict on cells that it cut short.
func TestCancel(t *testing.T) {
	needNamespace(t)
	ctx, cancel := context.WithCancel(t.Context())
	s := scenario(t, "quiz2")
	play := s.Play
	s.Play = func(l *lab.Lab) {
		cancel()
		play(l)
	}
	dropper, err := netns.NewDropper(t.Context(), "nftables")
	if err != nil {
		t.Fatal(err)
	}
	var got sink
	err = harness.Run(ctx, harness.Options{
		Scenarios: []lab.Scenario{s}, Families: lab.Families(), Modes: modes(t, "off,sysctl"),
		Repeat: 100, Connections: 1, Parallel: 2, Dropper: dropper, Settings: lab.Settings{Port: 80, TimeoutMul: 1},
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
		Scenarios: []lab.Scenario{scenario(t, "quiz1")}, Families: lab.Families(), Modes: modes(t, "off"),
		Repeat: 1000, Connections: 1, Settings: lab.Settings{Port: 80, TimeoutMul: 1},
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
	if !o.UntilFail {
		o.Repeat = max(o.Repeat, 1)
	}
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

// counted returns the scenario and what tells how many of its cells were in their midst at the same time, at most.
func counted(s lab.Scenario) (lab.Scenario, func() int32) {
	var now, peak atomic.Int32
	honest := s.Play
	s.Play = func(l *lab.Lab) {
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
			Scenarios: []lab.Scenario{s}, Families: lab.Families()[:1], Modes: modes(t, "off"), Connections: 1,
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
