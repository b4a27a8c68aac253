package harness

import (
	"fmt"
	"testing"
	"time"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/migrate"
)

func canAll(*lab.Scenario, lab.Family, migrate.Mode) string { return "" }

func cannotAny(*lab.Scenario, lab.Family, migrate.Mode) string { return "no" }

// TestShards: each cell of the plan is in exactly one shard, beside its control, whatever can be played where, and shards weigh
// about the same.
func TestShards(t *testing.T) {
	var all []lab.Scenario
	for i := range 60 {
		all = append(all, lab.Scenario{Name: fmt.Sprintf("s%02d", i), Cost: time.Duration(i%4) * time.Second})
	}
	o := Options{Scenarios: all, Families: lab.Families(), Modes: must(migrate.Parse("sysctl,bpf")), Repeat: 2}
	whole := plan(o, canAll)
	if n := len(whole) * 3 * 2; o.Planned() != n {
		t.Errorf("planned %d, want %d", o.Planned(), n)
	}
	for _, of := range []int{1, 2, 3, 7, 50} {
		seen := map[[3]string]int{}
		var least, most time.Duration
		for i := 1; i <= of; i++ {
			o.Shard = Shard{i, of}
			groups := plan(o, canAll)
			var load time.Duration
			for _, g := range groups {
				load += g.weight()
				if g[0].Mode.Name != "off" {
					t.Errorf("%s has lost its control", g[0].Scenario.Name)
				}
				for _, c := range g {
					seen[[3]string{c.Scenario.Name, c.Family.Name, c.Mode.Name}]++
				}
			}
			if i == 1 || load < least {
				least = load
			}
			most = max(most, load)
			elsewhere := plan(o, cannotAny)
			if len(elsewhere) != len(groups) {
				t.Errorf("shard %d of %d has %d groups, and %d where nothing can be played", i, of, len(groups), len(elsewhere))
			}
			if o.Planned() != len(whole)*3*2 {
				t.Errorf("shard %d of %d plans %d", i, of, o.Planned())
			}
		}
		if len(seen) != len(whole)*3 {
			t.Errorf("%d shards have %d cells, want %d", of, len(seen), len(whole)*3)
		}
		for cell, n := range seen {
			if n != 1 {
				t.Errorf("%d shards: %v is in %d", of, cell, n)
			}
		}
		if heaviest := 3 * (3*time.Second + besidesTimers); most-least > heaviest {
			t.Errorf("%d shards weigh %v to %v", of, least, most)
		}
	}
}

// TestEmptyShard: of more shards than there are groups some have nothing to play, and what is in them is known all the same.
func TestEmptyShard(t *testing.T) {
	o := Options{Scenarios: named("a"), Families: lab.Families()[:1], Modes: must(migrate.Parse("off")), Repeat: 1, Shard: Shard{2, 2}}
	if n := len(plan(o, canAll)); n != 0 || o.Planned() != 1 {
		t.Errorf("%d groups of %d cells", n, o.Planned())
	}
}
