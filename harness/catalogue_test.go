package harness_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/result"
)

// TestEveryCell plays the catalogue, every scenario in every family and mode, on the running kernel. The quizzes, which
// have one connection, are played with many too.
func TestEveryCell(t *testing.T) {
	needNamespace(t)
	quizzes := []lab.Scenario{scenario(t, "quiz1"), scenario(t, "quiz2")}
	all := harness.Options{Families: lab.Families(), Modes: migrate.Modes()}
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

func failed(c result.Cell) string {
	var b strings.Builder
	for _, k := range c.Failed() {
		fmt.Fprintf(&b, "  %s\n    want %s\n    got  %s\n", k.Name, k.Want, k.Got)
	}
	return b.String()
}
