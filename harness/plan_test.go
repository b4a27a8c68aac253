package harness

import (
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/verdict"
)

func named(names ...string) []Scenario {
	var all []Scenario
	for _, n := range names {
		all = append(all, Scenario{Name: n, Section: SectionBeyond, Doc: "title\n\nstory", Path: "p", Play: func(*Lab) {}, Expect: func(Mode) verdict.Expectation { return verdict.Expectation{} }})
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
		"quiz3":         nil,
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

func TestValidate(t *testing.T) {
	untold := named("a")
	untold[0].Doc = "title alone"
	for _, bad := range [][]Scenario{named("a", "a"), named("A"), named("../a"), untold, {{Name: "a", Doc: "t\n\ns"}}} {
		if Validate(bad) == nil {
			t.Errorf("%q was taken", bad[0].Name)
		}
	}
	if err := Validate(named("a", "b-2")); err != nil {
		t.Error(err)
	}
}

// TestPlan: a cell that cannot run here stays in the plan with its reason, and every mode brings its control.
func TestPlan(t *testing.T) {
	bpf := must(migrate.Parse("bpf"))
	groups := plan(Options{Scenarios: named("a", "b"), Families: Families(), Modes: bpf},
		func(_ *Scenario, _ Family, m Mode) string {
			if m.HasProgram() {
				return "no BPF"
			}
			return ""
		})
	if len(groups) != 6 {
		t.Fatalf("%d groups, want 6", len(groups))
	}
	for _, g := range groups {
		if len(g) != 2 || g[0].mode.Name != "off" || g[0].skip != "" || g[1].mode.Name != "bpf" || g[1].skip != "no BPF" {
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
	var limit *limitError
	many := one
	many.Connections = 100
	if _, err := makeRoom(many); !errors.As(err, &limit) || limit.Hint() == "" {
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

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
