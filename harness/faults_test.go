package harness_test

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// grumbler is a kernel that reports a fault of its own when a cell begins.
type grumbler struct {
	mu      sync.Mutex
	cell    string // at each time that this one begins; empty: once, and whichever is the third, or that of number nth
	nth     int
	says    string        // empty: a warning
	host    bool          // that may be due to the machine
	second  chan struct{} // not nil: the cell does not report before two have begun
	begun   int
	pending []string
	rearmed int
	onRearm func() // may be nil
	inPlay  map[string]bool
	err     error
}

func (g *grumbler) Began(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.begun++
	g.inPlay[id] = true
	if g.second != nil && g.begun == 2 {
		close(g.second)
	}
	if g.second != nil && g.cell == id { // as two begin side by side, either may be the first
		g.mu.Unlock()
		<-g.second
		g.mu.Lock()
	}
	if g.cell == id || g.cell == "" && g.begun == cmp.Or(g.nth, 3) {
		g.pending = append(g.pending, cmp.Or(g.says, "WARNING: at net/core/sock_reuseport.c"))
	}
}

func (g *grumbler) Ended(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.inPlay, id)
}

func (g *grumbler) Reports() ([]string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	said := g.pending
	g.pending = nil
	return said, g.err
}

func (g *grumbler) Rearm() {
	g.rearmed++
	if g.onRearm != nil {
		g.onRearm()
	}
}

func (g *grumbler) MayBeHost(line string) bool { return g.host && line == g.says }

// TestFaults: a report of the kernel's about itself is the FAIL of the cell that brings it each time, and of no other that was
// played beside it; one that nobody brings again leaves no conclusion.
func TestFaults(t *testing.T) {
	needNamespace(t)
	playIn := func(ctx context.Context, t *testing.T, g *grumbler, change func(*harness.Options)) ([]result.Cell, error) {
		g.inPlay = map[string]bool{}
		families, err := lab.ParseFamilies("ipv4,ipv6")
		if err != nil {
			t.Fatal(err)
		}
		s := &sink{}
		o := harness.Options{
			Settings: lab.Settings{Port: 80, TimeoutMul: 4, Upstream: kernel.Upstream()}, Scenarios: []lab.Scenario{scenario(t, "quiz1")}, Families: families,
			Modes: modes(t, "off,sysctl"), Repeat: 1, Watch: g, Faults: g,
		}
		if change != nil {
			change(&o)
		}
		err = harness.Run(ctx, o, s)
		if len(g.inPlay) > 0 {
			t.Errorf("still in play: %v", g.inPlay)
		}
		return s.cells, err
	}
	play := func(t *testing.T, g *grumbler) ([]result.Cell, error) { return playIn(t.Context(), t, g, nil) }
	// One that begins before any other is accused at once, and one of those behind it once it has been played again, alone.
	for culprit, again := range map[string]bool{"quiz1/ipv6/sysctl/1": false, "quiz1/ipv4/off/1": true} {
		t.Run("of "+culprit, func(t *testing.T) {
			g := &grumbler{cell: culprit}
			if again {
				g.second = make(chan struct{})
			}
			cells, err := play(t, g)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range cells {
				want := result.Pass
				if c.ID() == culprit {
					want = result.Fail
				}
				if c.Status != want || want == result.Fail && !strings.Contains(c.Reason, "WARNING: at net/core") || again && (c.Confirmed != nil) != (want == result.Fail) {
					t.Errorf("%s: %s: %s; played again: %v", c.ID(), c.Status, c.Reason, c.Confirmed)
				}
			}
			if again && (g.rearmed == 0 || g.begun == len(cells)) {
				t.Errorf("%d cells, of which %d were begun; the kernel was asked %d times to report again", len(cells), g.begun, g.rearmed)
			}
		})
	}
	t.Run("of nobody", func(t *testing.T) {
		cells, err := play(t, &grumbler{})
		if err != nil {
			t.Fatal(err)
		}
		errors := 0
		for _, c := range cells {
			switch {
			case c.Status == result.Fail:
				t.Errorf("%s is accused: %s", c.ID(), c.Reason)
			case c.Status == result.Error && strings.Contains(c.Reason, "WARNING: at net/core"):
				errors++
			}
		}
		if errors == 0 {
			t.Error("nobody tells of the report")
		}
	})
	// That it comes again proves nothing: the machine may be as busy then.
	t.Run("that may be due to the machine", func(t *testing.T) {
		const culprit, stall = "quiz1/ipv6/sysctl/1", "rcu: INFO: rcu_preempt detected stalls"
		g := &grumbler{cell: culprit, says: stall, host: true}
		cells, err := play(t, g)
		if err != nil {
			t.Fatal(err)
		}
		if g.rearmed > 0 {
			t.Error("cells were played again")
		}
		for _, c := range cells {
			if c.Status == result.Fail || c.ID() == culprit && (c.Status != result.Error || !strings.Contains(c.Reason, stall)) {
				t.Errorf("%s: %s: %s", c.ID(), c.Status, c.Reason)
			}
		}
	})
	t.Run("when a FAIL is played again", func(t *testing.T) {
		wrong := scenario(t, "quiz1")
		honest := wrong.Expect
		wrong.Expect = func(m lab.Mode) verdict.Expectation {
			e := honest(m)
			e.Lives = !e.Lives
			return e
		}
		cells, err := playIn(t.Context(), t, &grumbler{nth: 2}, func(o *harness.Options) {
			o.Scenarios, o.Families, o.Modes = []lab.Scenario{wrong}, o.Families[:1], modes(t, "off")
		})
		if err != nil || len(cells) != 1 || !strings.Contains(cells[0].Reason, "WARNING: at net/core") {
			t.Errorf("%v; nobody tells of the report in %d cells", err, len(cells))
		}
	})
	t.Run("of nobody yet, when the run is interrupted", func(t *testing.T) {
		ctx, interrupt := context.WithCancel(t.Context())
		cells, err := playIn(ctx, t, &grumbler{onRearm: interrupt}, nil)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want that it was interrupted", err)
		}
		for _, c := range cells {
			if c.Status != result.Pass {
				t.Errorf("%s, which was not played to its end again: %s: %s", c.ID(), c.Status, c.Reason)
			}
		}
	})
	t.Run("before any cell", func(t *testing.T) {
		g := &grumbler{cell: "none", pending: []string{"BUG: sleeping function"}}
		if _, err := play(t, g); err == nil || !strings.Contains(err.Error(), "BUG: sleeping function") {
			t.Errorf("got %v, want the report", err)
		}
	})
	t.Run("that cannot be read", func(t *testing.T) {
		lost := errors.New("records were lost")
		if _, err := play(t, &grumbler{cell: "none", err: lost}); !errors.Is(err, lost) {
			t.Errorf("got %v, want %v", err, lost)
		}
	})
}
