package stats

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// nginx are losses of real reloads of nginx from 8 workers to 1 and back, a cycle each, with migration off.
var nginx = []int64{6, 35, 24, 46, 16, 0}

func near(a, b, within float64) bool { return math.Abs(a-b) <= within }

func TestMean(t *testing.T) {
	for _, test := range []struct {
		losses          []int64
		mean, low, high float64
	}{
		{nginx, 127. / 6, 8.8, 33.7},
		{[]int64{0, 0, 0, 0}, 0, 0, 0},
		{[]int64{24, 24, 24, 24, 24}, 24, 24, 24}, // a closed loop of 24 clients, each of which loses one
		{[]int64{7}, 7, 7, 7},
		{[]int64{0, 100}, 50, 0, 100},
	} {
		got := Mean(test.losses, 1)
		if !near(got.Mean, test.mean, 1e-9) || !near(got.Low, test.low, 1) || !near(got.High, test.high, 1) {
			t.Errorf("%v: %+v, want %v from %v to %v", test.losses, got, test.mean, test.low, test.high)
		}
	}
	if none := Mean(nil, 1); !math.IsNaN(none.Mean) || !math.IsNaN(none.Low) || !math.IsNaN(none.High) {
		t.Errorf("of nothing: %+v", none)
	}
	if a, b := Mean(nginx, 1), Mean(nginx, 1); a != b {
		t.Errorf("the same seed: %+v, and then %+v", a, b)
	}
	if a, b := Mean(nginx, 1), Mean(nginx, 2); a == b || a.Mean != b.Mean {
		t.Errorf("another seed: %+v, and then %+v", a, b)
	}
}

// burst is the loss of a reload: in half of them none, and otherwise anything up to 40. Its mean is 10.25.
func burst(r *rand.Rand) int64 {
	if r.IntN(2) == 0 {
		return 0
	}
	return 1 + r.Int64N(40)
}

// TestCoverage: the interval holds the true mean nearly as often as it says, where one that takes each connection for independent
// misses it most of the time.
func TestCoverage(t *testing.T) {
	const trials, n, mean = 100, 20, 10.25
	r := source(7)
	var held, poisson int
	for i := range trials {
		losses := make([]int64, n)
		for j := range losses {
			losses[j] = burst(r)
		}
		if e := Mean(losses, uint64(i)); e.Low <= mean && mean <= e.High {
			held++
		}
		total := float64(sum(losses))
		if width := 1.96 * math.Sqrt(total); total-width <= n*mean && n*mean <= total+width {
			poisson++
		}
	}
	t.Logf("of %d intervals, %d hold the mean; of those over connections, %d", trials, held, poisson)
	if share := float64(held) / trials; share < 0.86 || share > 0.99 {
		t.Errorf("the interval holds the mean in %.2f of cases", share)
	}
	if share := float64(poisson) / trials; share > 0.6 {
		t.Errorf("the interval over connections holds the mean in %.2f of cases: then this test shows nothing", share)
	}
}

func TestPermutation(t *testing.T) {
	for _, test := range []struct {
		name string
		a, b []int64
		want float64
	}{
		{"the best that three can show", []int64{6, 35, 24}, []int64{0, 0, 0}, 2. / 20},
		{"the best that four can show", []int64{6, 35, 24, 46}, []int64{0, 0, 0, 0}, 2. / 70},
		{"the other way round", []int64{0, 0, 0, 0}, []int64{6, 35, 24, 46}, 2. / 70},
		{"some lost none by chance", []int64{6, 0, 24, 0}, []int64{0, 0, 0, 0}, 30. / 70}, // both in one half: 2 * C(6,2)
		{"no difference", []int64{1, 2, 3}, []int64{1, 2, 3}, 1},
		{"nothing lost", []int64{0, 0, 0}, []int64{0, 0, 0}, 1},
		{"of other lengths", []int64{5, 5}, []int64{0, 0, 0, 0, 0, 0}, 1. / 28},
		{"no cycle", nil, []int64{1, 2}, 1},
	} {
		if got := Permutation(test.a, test.b, 1); !near(got, test.want, 1e-12) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// TestPermutationByChance: where there are too many ways, the answer is near that of all of them, and never 0.
func TestPermutationByChance(t *testing.T) {
	a, b := slices.Repeat([]int64{24}, 20), make([]int64, 20)
	if p := Permutation(a, b, 1); p != 1./(resamples+1) {
		t.Errorf("20 of 24 against 20 of 0: %v", p)
	}
	if p, q := Permutation(a, b, 1), Permutation(a, b, 1); p != q {
		t.Errorf("the same seed: %v, and then %v", p, q)
	}
	a, b = []int64{3, 0, 5, 0, 1, 0, 0, 9, 0, 2}, []int64{0, 1, 0, 0, 0, 2, 0, 0, 0}
	all := slices.Clone(a)
	p := Permutation(a, b, 1) // 19 cycles: by chance
	if !slices.Equal(a, all) {
		t.Error("the sample was shuffled in place")
	}
	if want := everyWay(a, b); !near(p, want, 0.02) {
		t.Errorf("%v, and of all ways %v", p, want)
	}
}

// everyWay is Permutation by the definition.
func everyWay(a, b []int64) float64 {
	all := slices.Concat(a, b)
	mean := func(all []int64) float64 { return float64(sum(all)) / float64(len(all)) }
	seen := math.Abs(mean(a) - mean(b))
	var as, ways int
	var split func(from int, in []int64, out []int64)
	split = func(from int, in, out []int64) {
		if from == len(all) {
			if len(in) == len(a) {
				ways++
				if math.Abs(mean(in)-mean(out)) >= seen-1e-9 {
					as++
				}
			}
			return
		}
		split(from+1, append(slices.Clip(in), all[from]), out)
		split(from+1, in, append(slices.Clip(out), all[from]))
	}
	split(0, nil, nil)
	return float64(as) / float64(ways)
}

// TestFalseAlarms: modes that do not differ are told apart no more often than the risk says, and those that do nearly always.
func TestFalseAlarms(t *testing.T) {
	r := source(3)
	const trials, n = 200, 7
	sample := func(of func(*rand.Rand) int64) []int64 {
		all := make([]int64, n)
		for i := range all {
			all[i] = of(r)
		}
		return all
	}
	var alarms, seen int
	for i := range uint64(trials) {
		if Permutation(sample(burst), sample(burst), i) <= Risk {
			alarms++
		}
		if Permutation(sample(func(*rand.Rand) int64 { return 1 + r.Int64N(40) }), make([]int64, n), i) <= Risk {
			seen++
		}
	}
	t.Logf("%d false alarms and %d right ones in %d", alarms, seen, trials)
	if share := float64(alarms) / trials; share > 0.1 {
		t.Errorf("%.3f of false alarms", share)
	}
	if share := float64(seen) / trials; share < 0.99 {
		t.Errorf("%.3f of right alarms", share)
	}
}

func TestBound(t *testing.T) {
	for n, want := range map[int]float64{-1: 1, 0: 1, 1: 0.95, 30: 0.0950, 100: 0.0295} {
		if got := Bound(n); !near(got, want, 0.0001) {
			t.Errorf("none lost in %d: %v, want %v", n, got, want)
		}
	}
	for _, bound := range []float64{0.5, 0.1, 0.03, 0.001} {
		if n := needed(bound); Bound(n) > bound || Bound(n-1) <= bound {
			t.Errorf("%d reloads for %v: %v, and one less %v", n, bound, Bound(n), Bound(n-1))
		}
	}
}

func TestPerMillion(t *testing.T) {
	s := Sample{{Connections: 20_000, Lost: 40, Took: 10 * time.Second, Reloads: 10}, {Connections: 28_397, Lost: 39, Took: 11 * time.Second, Reloads: 11}}
	got := s.PerMillion()
	if !near(got.Lost, 1632.3, 0.1) || !near(got.Rate, 48_397./21, 0.1) || got.Every != time.Second {
		t.Errorf("%+v", got)
	}
	if one := (Sample{{Connections: 1000, Lost: 1, Took: time.Second}}).PerMillion(); one != (PerMillion{1000, 1000, time.Second}) {
		t.Errorf("%+v", one)
	}
	for _, s := range []Sample{nil, {{}}, {{Connections: 5}}} {
		if got := s.PerMillion(); got != (PerMillion{}) {
			t.Errorf("%v: %+v", s, got)
		}
	}
}
