package verdict

import (
	"testing"

	"github.com/rpmig/rpmig/result"
)

// TestParted: a check that does not hold says in which step that began, where it is known, and one that holds says nothing.
func TestParted(t *testing.T) {
	steps := result.Steps{{Name: "A listens"}, {Name: "connect", At: 1}, {Name: "close A", At: 2}, {Name: "accept on B", At: 3}}
	for _, tt := range []struct {
		name   string
		lives  bool
		change func(e *Expectation, o *Observation)
		check  string
		want   int
	}{
		{"a reset that should not have come", true, func(_ *Expectation, o *Observation) {
			o.Wire.Resets = []result.Reset{{From: server, To: peers[0], Flavour: result.BareRST, Step: 2, Crossed: true}, {From: server, To: peers[0], Flavour: result.BareRST, Step: 3}}
		}, "resets", 3},
		{"the client says so", true, func(_ *Expectation, o *Observation) {
			o.Clients[0].Says = "ECONNRESET"
			o.Wire.Resets = []result.Reset{{From: server, To: peers[0], Flavour: result.BareRST, Step: 3}}
		}, "client sockets say", 3},
		{"another's reset", false, func(e *Expectation, o *Observation) {
			e.Owner = result.SurvivingListener
			o.Wire.Resets[0].Step, o.Wire.Resets[0].Owner = 2, result.SurvivingListener
			o.Wire.Resets[1].Step, o.Wire.Resets[1].Owner = 4, result.ClosingListener
			o.Trace = &Trace{}
		}, "resets are of", 4},
		{"another reason", false, func(_ *Expectation, o *Observation) {
			o.Wire.Resets[1].Step, o.Wire.Resets[1].Owner, o.Wire.Resets[1].Reason = 4, result.SurvivingListener, "NO_SOCKET"
			o.Wire.Resets[0].Owner, o.Wire.Resets[0].Reason = result.SurvivingListener, "TCP_FLAGS"
			o.Trace = &Trace{}
		}, "resets have the reason", 4},
		{"no reset where one should come", false, func(_ *Expectation, o *Observation) { o.Wire.Resets = o.Wire.Resets[:1] }, "resets", 0},
		{"not staged", true, func(_ *Expectation, o *Observation) { o.Staging[0].Requests, o.StagedAt = 1, 1.5 }, "request sockets", 2},
		{"a fact", true, func(e *Expectation, o *Observation) {
			e.Facts = map[string]any{"limit": "kept"}
			o.Facts = []Fact{{Name: "limit", Got: "passed", Step: 2}}
		}, "limit", 2},
		{"a fact that was not found out", true, func(e *Expectation, _ *Observation) { e.Facts = map[string]any{"limit": "kept"} }, "limit", 0},
		{"aftercare", true, func(_ *Expectation, o *Observation) { o.PostCheck = &PostCheck{Open: 1, Unserved: 1} }, "open listeners serve fresh clients", 4},
	} {
		e, o := expect(tt.lives), observed(tt.lives)
		o.Steps = steps
		tt.change(&e, o)
		seen := false
		for _, c := range Judge(e, o, nil, false).Checks {
			if c.OK && c.Step != 0 {
				t.Errorf("%s: %s holds, and parted in step %d", tt.name, c.Name, c.Step)
			}
			if c.Name == tt.check && !c.OK {
				seen = true
				if c.Step != tt.want {
					t.Errorf("%s: step %d, want %d", tt.name, c.Step, tt.want)
				}
			}
		}
		if !seen {
			t.Errorf("%s: %q holds, or is not there", tt.name, tt.check)
		}
	}
}
