package lab

import (
	"testing"

	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

func named(names ...string) []Scenario {
	var all []Scenario
	for _, n := range names {
		all = append(all, Scenario{Name: n, Section: SectionBeyond, Doc: "title\n\nstory", Path: "p", Play: func(*Lab) {}, Expect: func(Mode) verdict.Expectation { return verdict.Expectation{} }})
	}
	return all
}

func TestValidate(t *testing.T) {
	untold := named("a")
	untold[0].Doc = "title alone"
	bug := result.Bug{ID: "CVE-1", Doc: "d", Link: "l", Check: "c", Since: "5.14", Fixed: []string{"6.1.2"}, Modes: []string{"sysctl"}}
	known := named("a")
	known[0].Bugs = []result.Bug{bug}
	if err := Validate(known); err != nil {
		t.Error(err)
	}
	undated, misplaced := named("a"), named("a")
	undated[0].Bugs, misplaced[0].Bugs = []result.Bug{bug}, []result.Bug{bug}
	undated[0].Bugs[0].Since, misplaced[0].Bugs[0].Modes = "", []string{"no-mode"}
	for _, bad := range [][]Scenario{named("a", "a"), named("A"), named("../a"), untold, undated, misplaced, {{Name: "a", Doc: "t\n\ns"}}} {
		if Validate(bad) == nil {
			t.Errorf("%q was taken", bad[0].Name)
		}
	}
	if err := Validate(named("a", "b-2")); err != nil {
		t.Error(err)
	}
}
