// Package stats says what losses are worth that were counted at some reloads. They come in bursts, one a reload, so the unit is the
// reload, or the cycle of several reloads, and never the connection: an interval over connections would be too narrow by far.
//
// All functions are pure: the same counts and the same seed give the same answer.
package stats

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"time"
)

// Risk is how often an interval may miss, and a test may see what is not there.
const Risk = 0.05

// resamples is how often chance is asked: the quantiles of an interval then rest on 250 of them each.
const resamples = 10_000

// Cycle is what became of the connections of one cycle.
type Cycle struct {
	Connections int64         // those that say something: served or lost
	Lost        int64         // of them
	Application int64         // of the lost, by the server itself, which had accepted them
	Took        time.Duration // from its beginning to that of the next
	Reloads     int           // how many it has: 1, if 0
}

// kernel is how many were lost that the server had not accepted.
func (c Cycle) kernel() int64 { return c.Lost - c.Application }

// Sample is the cycles of one mode.
type Sample []Cycle

// Losses is how many connections each cycle lost.
func (s Sample) Losses() []int64 { return s.each(func(c Cycle) int64 { return c.Lost }) }

// Kernel is how many each cycle lost that are not the application's.
func (s Sample) Kernel() []int64 { return s.each(Cycle.kernel) }

func (s Sample) each(of func(Cycle) int64) []int64 {
	all := make([]int64, len(s))
	for i, c := range s {
		all[i] = of(c)
	}
	return all
}

// Total is what all cycles have together.
func (s Sample) Total() (t Cycle) {
	for _, c := range s {
		t.Connections += c.Connections
		t.Lost += c.Lost
		t.Application += c.Application
		t.Took += c.Took
		t.Reloads += max(c.Reloads, 1)
	}
	return t
}

// PerMillion is how many of a million connections are lost where Rate of them come in a second, and a reload each Every. It means
// nothing without these two: twice the reloads are twice the loss.
type PerMillion struct {
	Lost  float64
	Rate  float64 // connections a second
	Every time.Duration
}

// PerMillion is zero where there were no connections.
func (s Sample) PerMillion() PerMillion {
	t := s.Total()
	if t.Connections <= 0 || t.Took <= 0 {
		return PerMillion{}
	}
	return PerMillion{
		Lost:  float64(t.Lost) * 1e6 / float64(t.Connections),
		Rate:  float64(t.Connections) / t.Took.Seconds(),
		Every: t.Took / time.Duration(t.Reloads),
	}
}

// Estimate is a mean, and the interval which holds the true one in 95 of 100 such experiments, about: with fewer than ten
// cycles it is too narrow.
type Estimate struct{ Mean, Low, High float64 }

// Mean estimates the mean loss of a cycle by the percentile bootstrap (Efron, 1979). Where every cycle lost the same the interval
// has no width, which for none lost at all is as good as nothing: see Bound.
func Mean(losses []int64, seed uint64) Estimate {
	n := len(losses)
	if n == 0 {
		return Estimate{Mean: math.NaN(), Low: math.NaN(), High: math.NaN()}
	}
	random := source(seed)
	means := make([]float64, resamples)
	for i := range means {
		var total int64
		for range n {
			total += losses[random.IntN(n)]
		}
		means[i] = float64(total) / float64(n)
	}
	slices.Sort(means)
	at := func(q float64) float64 { return means[int(q*float64(resamples-1)+0.5)] }
	return Estimate{Mean: float64(sum(losses)) / float64(n), Low: at(Risk / 2), High: at(1 - Risk/2)}
}

// Permutation is how likely two modes that do not differ would differ in their means by as much as these do, one way or the other
// (Fisher's permutation test). It is exact where there are few ways to share the cycles out, and otherwise by chance, with the
// observed way as one of those tried, so that it is never 0. It is 1 where a mode has no cycle.
func Permutation(a, b []int64, seed uint64) float64 {
	all := slices.Concat(a, b)
	n, total := len(a), sum(all)
	if n == 0 || len(b) == 0 {
		return 1
	}
	// The difference of the means, times both lengths, which keeps it whole.
	apart := func(sumA int64) int64 {
		d := sumA*int64(len(all)) - total*int64(n)
		return max(d, -d)
	}
	seen := apart(sum(a))
	if len(all) <= exact {
		var as, ways int
		for set := uint32(1)<<n - 1; set < 1<<len(all); set = next(set) {
			var s int64
			for rest := set; rest != 0; rest &= rest - 1 {
				s += all[bits.TrailingZeros32(rest)]
			}
			ways++
			if apart(s) >= seen {
				as++
			}
		}
		return float64(as) / float64(ways)
	}
	random := source(seed)
	as := 1
	for range resamples {
		for i := range n { // the first n of a shuffle
			j := i + random.IntN(len(all)-i)
			all[i], all[j] = all[j], all[i]
		}
		if apart(sum(all[:n])) >= seen {
			as++
		}
	}
	return float64(as) / (resamples + 1)
}

// exact is the most cycles, of both modes, of which Permutation tries every way: 48620 of 18 and 9.
const exact = 18

// next is the next larger number with as many bits set (Gosper, HAKMEM 175).
func next(set uint32) uint32 {
	low := set & -set
	ripple := set + low
	return ripple | (set^ripple)>>2/low
}

// Bound is how likely a reload can be to lose something, at most, when n of them have lost nothing: 95 of 100 such bounds hold.
// After none it is 1.
func Bound(n int) float64 {
	if n <= 0 {
		return 1
	}
	return 1 - math.Pow(Risk, 1/float64(n))
}

// needed is after how many reloads without a loss the Bound is no higher than this.
func needed(bound float64) int { return int(math.Ceil(math.Log(Risk) / math.Log1p(-bound))) }

func sum(all []int64) (total int64) {
	for _, n := range all {
		total += n
	}
	return total
}

func source(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, seed)) }
