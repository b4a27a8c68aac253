package harness_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/result"
)

// grumbler is a kernel that reports a fault of its own when a cell begins.
type grumbler struct {
	mu      sync.Mutex
	cell    string // at each time that this one begins; empty: once, and whichever is the third
	begun   int
	pending []string
	rearmed int
	inPlay  map[string]bool
	err     error
}

func (g *grumbler) Began(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.begun++
	g.inPlay[id] = true
	if g.cell == id || g.cell == "" && g.begun == 3 {
		g.pending = append(g.pending, "WARNING: at net/core/sock_reuseport.c")
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

func (g *grumbler) Rearm() { g.rearmed++ }

// TestFaults: a report of the kernel's about itself is the FAIL of the cell that brings it each time, and of no other that was
// played beside it; one that nobody brings again leaves no conclusion.
func TestFaults(t *testing.T) {
	needNamespace(t)
	play := func(t *testing.T, g *grumbler) ([]result.Cell, error) {
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
		err = harness.Run(t.Context(), o, s)
		if len(g.inPlay) > 0 {
			t.Errorf("still in play: %v", g.inPlay)
		}
		return s.cells, err
	}
	t.Run("of one cell", func(t *testing.T) {
		const culprit = "quiz1/ipv6/sysctl/1"
		g := &grumbler{cell: culprit}
		cells, err := play(t, g)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range cells {
			want := result.Pass
			if c.ID() == culprit {
				want = result.Fail
			}
			if c.Status != want || want == result.Fail && !strings.Contains(c.Reason, "WARNING: at net/core") {
				t.Errorf("%s: %s: %s", c.ID(), c.Status, c.Reason)
			}
		}
		if g.rearmed == 0 && g.begun > 4 {
			t.Error("cells were played again, and the kernel was not asked to report again")
		}
	})
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
