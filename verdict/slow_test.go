package verdict

import (
	"testing"

	"github.com/rpmig/rpmig/result"
)

// TestOnSlowMachine: what the machine was too slow for is skipped; an accusation, and an ERROR of another kind, are not.
func TestOnSlowMachine(t *testing.T) {
	slow := &Observation{Wire: Wire{EarlySYNACKs: 1}}
	for _, c := range []struct {
		o    *Observation
		was  result.Status
		want result.Status
	}{
		{slow, result.Error, result.Skip},
		{slow, result.Fail, result.Fail}, // of what no machine is too slow for
		{slow, result.Pass, result.Pass},
		{&Observation{}, result.Error, result.Error},
	} {
		if got := c.o.OnSlowMachine(Verdict{Status: c.was, Reason: "r"}); got.Status != c.want || got.Reason != "r" {
			t.Errorf("%s, slow %q: %+v, want %s", c.was, c.o.slow(), got, c.want)
		}
	}
}
