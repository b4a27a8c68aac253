package harness

import (
	"testing"
	"time"
)

func TestProgress(t *testing.T) {
	slow, quick, busy := &Scenario{Name: "slow", Cost: time.Second}, &Scenario{Name: "quick"}, &Scenario{Name: "busy", Busy: true}
	group1 := group{{scenario: slow}, {scenario: slow}, {scenario: slow, skip: "cannot"}}
	group2 := group{{scenario: quick}, {scenario: quick}}
	start := time.Unix(0, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	var p Progress
	want := func(now int, left time.Duration, known bool) {
		t.Helper()
		if got, ok := p.Left(at(now)); got != left || ok != known {
			t.Errorf("at %d ms: %v, %t, want %v, %t", now, got, ok, left, known)
		}
	}
	p.plan([]group{group1, group2}, []group{{{scenario: busy}}}, 2, 1, 1)
	want(0, 0, false)
	endQuick, endSlow := p.began(quick, at(0)), p.began(slow, at(0))
	want(50, 0, false)
	endQuick(at(100))
	// 900 ms of the slow one that runs, and of what waits 1100 ms, 100 ms, with two workers; the busy one takes 100 ms.
	want(100, 1100*time.Millisecond, true)
	endOther := p.began(slow, at(100))
	want(100, 1100*time.Millisecond, true)
	want(600, 600*time.Millisecond, true)
	endSlow(at(1500))                      // it has taken 500 ms longer than its timer
	want(1500, 300*time.Millisecond, true) // the busy one may take as much beyond
	endOther(at(1600))
	endBusy := p.began(busy, at(1600))
	endBusy(at(1700))
	want(1700, 100*time.Millisecond, true) // the quick one that waits
	end := p.began(quick, at(1700))
	end(at(1800))
	want(1800, 0, true)

	p.plan([]group{group1}, nil, 2, 0, 0)
	p.began(slow, at(0))(at(1000))
	want(1000, 0, false) // there is no end
	var none *Progress
	none.plan(nil, nil, 1, 1, 1)
	none.began(slow, at(0))(at(1))
	if _, known := none.Left(at(1)); known {
		t.Error("nobody took notice, and yet it is known")
	}
}
