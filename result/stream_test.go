package result

import (
	"encoding/json"
	"math"
	"testing"
)

// stream is one that the ledger may hold, in which each class of losses is of another number.
func stream() *Stream {
	least, most := 0.0, 10000.0
	s := &Stream{
		Reloads: 30, Connections: 200, Refused: 3, Lost: 25, AtStake: 40, Drained: 2, InQueue: 5, InHandshake: 1, Lingered: 0.5,
		Losses: Losses{1, 2, 3, 4, 5, 6, 7}, Least: &least, Most: &most,
	}
	s.Estimate()
	return s
}

// streamed is a cell with a stream.
func streamed() Cell {
	c := passed()
	c.Scenario, c.Stream, c.Void = "storm", stream(), &Replay{Status: Error, Reason: "too slow for this case"}
	c.Connections = Connections{Staged: c.Stream.Connections, Survived: c.Stream.Connections - c.Stream.Failed(), Lost: c.Stream.Failed()}
	return c
}

// TestPool: a pool is the sums of its streams, and its loss that of all their connections.
func TestPool(t *testing.T) {
	var p Pool
	for range 3 {
		p.Add(stream())
	}
	one := stream()
	one.Lingered = 1.5
	one.Reloads, one.Connections = 90, 1400
	p.Add(one)
	want := Stream{
		Reloads: 180, Connections: 2000, Refused: 12, Lost: 100, AtStake: 160, Drained: 8, InQueue: 20, InHandshake: 4, Lingered: 1,
		Losses: Losses{4, 8, 12, 16, 20, 24, 28}, Least: one.Least, Most: one.Most,
		PerMillion: 56000,
	}
	got := p.Stream
	got.Low, got.High = 0, 0
	if got != want || p.Repeats != 4 {
		t.Errorf("of %d repeats\ngot  %+v\nwant %+v", p.Repeats, got, want)
	}
	if p.Failed() != 112 || p.OnWire() != 24 {
		t.Errorf("%d failed, %d by a reset", p.Failed(), p.OnWire())
	}
	if got, want := p.Losses.String(), "refused 4, reset in connect 8, reset before a reply 12, empty replies 16, closed early 20, timed out 24, wrong replies 28"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestTogether: where losses come together in a repeat the interval of all of them is wider, and never narrower than if each
// came by itself.
func TestTogether(t *testing.T) {
	pool := func(lost ...int) *Pool {
		p := &Pool{}
		for _, n := range lost {
			p.Add(&Stream{Connections: 1000, Lost: n})
		}
		return p
	}
	for _, tt := range []struct {
		name string
		pool *Pool
		want float64 // how many connections count as one
	}{
		{"one repeat", pool(40), 1},
		{"none lost", pool(0, 0, 0, 0), 1},
		{"all lost", pool(1000, 1000), 1},
		{"evenly", pool(10, 10, 10, 10), 1},
		{"in one of four", pool(0, 0, 0, 40), 40.404}, // the variance of 0, 0, 0, 40 is 400, and a binomial one 9.9
	} {
		if got := tt.pool.together(); math.Abs(got-tt.want) > 0.001 {
			t.Errorf("%s: %.3f, want %.3f", tt.name, got, tt.want)
		}
	}
	even, burst := pool(10, 10, 10, 10), pool(0, 0, 0, 40)
	if even.PerMillion != burst.PerMillion || even.High-even.Low > (burst.High-burst.Low)/4 {
		t.Errorf("evenly %.0f to %.0f, in a burst %.0f to %.0f", even.Low, even.High, burst.Low, burst.High)
	}
}

// TestSurely: the interval after Clopper and Pearson, against sums of binomial terms that were computed apart from this.
func TestSurely(t *testing.T) {
	for _, tt := range []struct {
		k, n      int
		low, high float64
	}{
		{0, 0, 0, 1e6}, {0, 200, 0, 66745.7}, {1, 200, 0.005, 80249.6}, {2, 200, 7.1, 91655.1}, {200, 200, 933254.3, 1e6},
		{85, 285, 180977.1, 437164.7}, {7, 15287, 32.7, 1906.3}, {3000, 10000, 278487.6, 322129.9},
	} {
		s := Stream{Connections: tt.n, Lost: tt.k}
		low, high := s.Surely()
		if math.Abs(low-tt.low) > 0.1 || math.Abs(high-tt.high) > 0.1 {
			t.Errorf("%d of %d: %.1f to %.1f, want %.1f to %.1f", tt.k, tt.n, low, high, tt.low, tt.high)
		}
		var p Pool
		p.Add(&s)
		if l, h := p.Surely(); l != low || h != high {
			t.Errorf("%d of %d, pooled: %.1f to %.1f", tt.k, tt.n, l, h)
		}
	}
}

// TestAgainst: an interval is beyond bounds as a whole, and within them as a whole; and where neither is so, that many more
// repeats that are like these tell.
func TestAgainst(t *testing.T) {
	for _, tt := range []struct {
		name        string
		lost, of    int
		least, most float64
		want        Bound
	}{
		{"no connections", 0, 0, 0, 10000, Unknown},
		{"none of few lost", 0, 200, 0, 10000, Unknown},
		{"none of many lost", 0, 2000, 0, 10000, Within},
		{"some of few, twice the bound", 4, 200, 0, 10000, Unknown},
		{"some of many, twice the bound", 400, 20000, 0, 10000, Beyond},
		{"most of few", 100, 200, 0, 10000, Beyond},
		{"none of few, and many should be", 0, 200, 100000, 600000, Beyond},
		{"some of few, and many should be", 30, 200, 100000, 600000, Unknown},
		{"many of few, as it should be", 80, 230, 100000, 600000, Within},
		{"all of few, and not all should be", 200, 200, 100000, 600000, Beyond},
		{"one of few, and none may be", 1, 200, 0, 0, Beyond},
		{"none of few, and none may be", 0, 200, 0, 0, Unknown},
		{"all that there are", 200, 200, 0, 1e6, Within},
	} {
		var p Pool
		p.Add(&Stream{Connections: tt.of, Lost: tt.lost})
		low, high := p.Surely()
		if got := Against(low, high, tt.least, tt.most); got != tt.want {
			t.Errorf("%s: %s (%.0f to %.0f), want %s", tt.name, got, low, high, tt.want)
		}
		n := p.RepeatsToTell(tt.least, tt.most)
		hopeless := tt.of == 0 || tt.most == 0
		if tt.want == Unknown && (n == 0) != hopeless {
			t.Errorf("%s: %d repeats would tell", tt.name, n)
		}
		if tt.want != Unknown || n == 0 {
			continue
		}
		for range n - 1 {
			p.Add(&Stream{Connections: tt.of, Lost: tt.lost})
		}
		if low, high := p.Surely(); Against(low, high, tt.least, tt.most) == Unknown {
			t.Errorf("%s: %d repeats do not tell: %.0f to %.0f", tt.name, n, low, high)
		}
	}
}

// TestStreamIsFlat: the numbers of a stream are those of one JSON object, and a class without a loss is absent.
func TestStreamIsFlat(t *testing.T) {
	s := stream()
	s.TimedOut = 0
	line, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var numbers map[string]float64
	if err := json.Unmarshal(line, &numbers); err != nil {
		t.Fatal(err)
	}
	_, there := numbers["timed_out"]
	if numbers["empty_reply"] != 4 || there {
		t.Errorf("%s", line)
	}
}
