package harness

import (
	"errors"
	"math"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/migrate"
)

// PlacesPerCPU is placesPerCPU.
const PlacesPerCPU = placesPerCPU

// FewReplays is fewReplays.
const FewReplays = fewReplays

func named(names ...string) []lab.Scenario {
	var all []lab.Scenario
	for _, n := range names {
		all = append(all, lab.Scenario{Name: n})
	}
	return all
}

func TestSelect(t *testing.T) {
	all := named("quiz1", "quiz2", "chain")
	for list, want := range map[string][]string{
		"all":           {"quiz1", "quiz2", "chain"},
		"quiz2":         {"quiz2"},
		"quiz*":         {"quiz1", "quiz2"},
		"chain,quiz?":   {"quiz1", "quiz2", "chain"},
		"quiz1,quiz1":   {"quiz1"},
		" quiz1, quiz2": {"quiz1", "quiz2"},
		"quiz3":         nil,
		"quiz1, ":       nil,
		"quiz1,nothing": nil,
		"[":             nil,
		"":              nil,
	} {
		var got []string
		found, err := Select(all, list)
		for _, s := range found {
			got = append(got, s.Name)
		}
		if !slices.Equal(got, want) || (err == nil) != (want != nil) {
			t.Errorf("Select(%q) = %q, %v; want %q", list, got, err, want)
		}
	}
}

// TestPlan: a cell that cannot run here stays in the plan with its reason, and every mode brings its control.
func TestPlan(t *testing.T) {
	bpf := must(migrate.Parse("bpf"))
	groups := plan(Options{Scenarios: named("a", "b"), Families: lab.Families(), Modes: bpf},
		func(_ *lab.Scenario, _ lab.Family, m migrate.Mode) string {
			if m.HasProgram() {
				return "no BPF"
			}
			return ""
		})
	if len(groups) != 6 {
		t.Fatalf("%d groups, want 6", len(groups))
	}
	for _, g := range groups {
		if len(g) != 2 || g[0].Mode.Name != "off" || g[0].skip != "" || g[1].Mode.Name != "bpf" || g[1].skip != "no BPF" {
			t.Errorf("group %+v", g)
		}
	}
}

// TestMakeRoom needs the limit to be lower than this process may have open.
func TestMakeRoom(t *testing.T) {
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	low := old
	low.Cur = 96
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
			t.Fatal(err)
		}
	}()
	one := Options{Scenarios: named("one")}
	if r, err := makeRoom(one); err != nil || r.keep || r.files != 96-processFDs {
		t.Errorf("one connection a cell: room %+v, %v", r, err)
	}
	var limit *kernel.LimitError
	many := one
	many.Connections = 100
	if _, err := makeRoom(many); !errors.As(err, &limit) || limit.Hint() == "" || many.Fits() == nil || one.Fits() != nil {
		t.Errorf("100 connections a cell: %v", err)
	}
	side := one
	side.Parallel = 2
	if r, err := makeRoom(side); err != nil || !r.keep || r.places != 2 {
		t.Errorf("2 cells side by side: room %+v, %v", r, err)
	}
	side.Parallel = 64
	if _, err := makeRoom(side); !errors.As(err, &limit) {
		t.Errorf("64 cells side by side: %v", err)
	}
}

// TestShare: where there is room for few cells, each takes as many descriptors as keep others out.
func TestShare(t *testing.T) {
	s := &named("one")[0]
	if got, want := (room{files: 1000, cells: math.MaxInt}).share(s, 1), int64(descriptors(s, 1)); got != want {
		t.Errorf("room for all: a share is %d, want %d", got, want)
	}
	for cells := 1; cells < 10; cells++ {
		share := (room{files: 1000, cells: cells}).share(s, 1)
		if n := 1000 / share; n != int64(cells) {
			t.Errorf("room for %d cells: a share of %d lets %d play", cells, share, n)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
