package harness

import (
	"slices"
	"testing"
	"time"

	"github.com/rpmig/rpmig/lab"
)

func TestProgress(t *testing.T) {
	slow, quick, busy := &lab.Scenario{Name: "slow", Cost: time.Second}, &lab.Scenario{Name: "quick"}, &lab.Scenario{Name: "busy", Busy: true}
	cell := func(s *lab.Scenario) plannedCell { return plannedCell{Case: lab.Case{Scenario: s}} }
	group1 := group{cell(slow), cell(slow), {Case: lab.Case{Scenario: slow}, skip: "cannot"}}
	group2 := group{cell(quick), cell(quick)}
	start := time.Unix(0, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	var p Progress
	want := func(now int, left time.Duration, known bool) {
		t.Helper()
		if got, ok := p.Left(at(now)); got != left || ok != known {
			t.Errorf("at %d ms: %v, %t, want %v, %t", now, got, ok, left, known)
		}
	}
	p.plan([]group{group1, group2}, []group{{cell(busy)}}, room{places: 2, keep: true}, 1)
	want(0, 0, false)
	first, second := p.began(quick, at(0)), p.began(slow, at(0))
	want(50, 0, false)
	first.ended(at(100))
	// 900 ms of the slow one that runs, and of what waits 1100 ms, 100 ms, with two places; the busy one takes 100 ms.
	want(100, 1100*time.Millisecond, true)
	other := p.began(slow, at(100))
	want(100, 1100*time.Millisecond, true)
	want(600, 600*time.Millisecond, true)
	second.ended(at(1500))                 // it has taken 500 ms longer than its timer
	want(1500, 300*time.Millisecond, true) // the busy one may take as much beyond
	other.ended(at(1600))
	p.began(busy, at(1600)).ended(at(1700))
	want(1700, 100*time.Millisecond, true) // the quick one that waits
	p.began(quick, at(1700)).ended(at(1800))
	want(1800, 0, true)

	// Where cells leave their places while they sit a timer out, it is their work that adds up.
	slows := slices.Repeat(group{cell(slow)}, 50)
	p = Progress{}
	p.plan([]group{slows}, nil, room{places: 2}, 1)
	one := p.began(slow, at(0))
	one.yields(at(100))
	one.ended(at(1100))
	want(1100, 2450*time.Millisecond, true) // 49 of 100 ms, two at a time
	for range 49 {
		p.began(slow, at(1100)).yields(at(1200))
	}
	want(1200, 1000*time.Millisecond, true) // all rest

	p.plan([]group{group1}, nil, room{places: 2}, 0)
	p.began(slow, at(0)).ended(at(1000))
	want(1000, 0, false) // there is no end
	var none *Progress
	none.plan(nil, nil, room{places: 1}, 1)
	c := none.began(slow, at(0))
	c.yields(at(1))
	c.ended(at(1))
	if _, known := none.Left(at(1)); known {
		t.Error("nobody took notice, and yet it is known")
	}
}
