package harness

import (
	"cmp"
	"slices"
	"time"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/migrate"
)

// Shard is a part of a plan that is played on one of several machines: number Index of Of, counted from 1.
type Shard struct{ Index, Of int }

// besidesTimers is what a cell takes beside the kernel timers that it sits out, as a weight.
const besidesTimers = 50 * time.Millisecond

// weight is how long a group takes, more or less.
func (g group) weight() time.Duration {
	return time.Duration(len(g)) * (g[0].Scenario.Cost + besidesTimers)
}

// of returns the groups of the shard, in their order. Each group is in one shard and is so on every machine: it hangs on the plan
// alone, and not on what can be played where. The heaviest go first, each to the shard that has least so far (Graham 1969, "Bounds on
// multiprocessing timing anomalies").
func (s Shard) of(groups []group) []group {
	if s.Of <= 1 {
		return groups
	}
	order := slices.Clone(groups)
	slices.SortStableFunc(order, func(a, b group) int {
		return cmp.Or(cmp.Compare(b.weight(), a.weight()), cmp.Compare(a[0].Scenario.Name, b[0].Scenario.Name), cmp.Compare(a[0].Family.Name, b[0].Family.Name))
	})
	loads := make([]time.Duration, s.Of)
	mine := map[[2]string]bool{}
	for _, g := range order {
		least := slices.Index(loads, slices.Min(loads))
		loads[least] += g.weight()
		if least == s.Index-1 {
			mine[g.name()] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(groups), func(g group) bool { return !mine[g.name()] })
}

// name tells a group from all others of its plan.
func (g group) name() [2]string { return [2]string{g[0].Scenario.Name, g[0].Family.Name} }

// Planned is how many cells the whole plan has, whatever the shard; 0 where there is no end to it.
func (o Options) Planned() int {
	o.Shard = Shard{}
	cells := 0
	for _, g := range plan(o, func(*lab.Scenario, lab.Family, migrate.Mode) string { return "" }) {
		cells += len(g)
	}
	return cells * o.Repeat
}
