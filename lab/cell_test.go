package lab

import (
	"io"
	"testing"

	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// TestSkippedAsSlow: a cell that was played, and is skipped because the machine was too slow for it, is one that a ledger takes.
func TestSkippedAsSlow(t *testing.T) {
	seen := verdict.Observation{Staged: 1, Wire: verdict.Wire{EarlySYNACKs: 1, Packets: 6}}
	for name, was := range map[string]verdict.Verdict{
		"judged":     {Checks: []result.Check{{Name: "accepted", Want: "1", Got: "0"}}},
		"as a bug":   {Checks: []result.Check{{Name: "accepted", Want: "1", Got: "0"}}, Bug: "CVE-1"},
		"not judged": {},
	} {
		was.Status, was.Reason = result.Error, "too slow for this case"
		p := Played{Case: Case{Scenario: &Scenario{Name: "quiz1"}, Family: Families()[0], Mode: migrate.Off()}, Repeat: 1, Verdict: seen.OnSlowMachine(was), obs: seen}
		c := p.Cell("", true)
		w, err := result.NewWriter(io.Discard, result.Header{})
		if err == nil {
			err = w.Write(&c)
		}
		if err != nil || c.Status != result.Skip || c.Reason != was.Reason {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}
