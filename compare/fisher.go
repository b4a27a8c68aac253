package compare

import (
	"math"
	"slices"
)

// fisher is the two-sided p-value of Fisher's exact test: how likely two samples of one population differ as much as these, of
// which a of n and b of m have something, or more. As in R's fisher.test, as much or more is every table with these margins
// that is no more likely than the one seen.
//
// Fisher, R. A. (1935): The logic of inductive inference. Journal of the Royal Statistical Society 98.
func fisher(a, n, b, m int) float64 {
	k := a + b
	least, most := max(0, k-m), min(k, n)
	if least == most {
		return 1
	}
	// The hypergeometric distribution has one peak, so that the tables which are as unlikely are two tails of it.
	const tie = 1e-7 // relative, as in R: the same chance, computed in two ways, differs in its last digits
	log := hypergeometric(n, m, k)
	seen := log(a) + math.Log1p(tie)
	peak := min(max((k+1)*(n+1)/(n+m+2), least), most)
	if log(peak) <= seen {
		return 1
	}
	// The last of the left tail, and the first of the right one.
	left := least - 1 + search(peak-least+1, func(i int) bool { return log(least+i) > seen })
	right := peak + search(most-peak+1, func(i int) bool { return log(peak+i) <= seen })
	return min(tail(log, left, least, -1)+tail(log, right, most, 1), 1)
}

// search is the least number from 0 to n-1 of which something holds, as it does of all that are greater; n: of none.
func search(n int, holds func(int) bool) int {
	from, to := 0, n
	for from < to {
		if mid := (from + to) / 2; holds(mid) {
			to = mid
		} else {
			from = mid + 1
		}
	}
	return from
}

// tail sums chances from one table outwards to the last, until what is added no longer counts.
func tail(log func(int) float64, from, last, step int) float64 {
	const nothing = 1e-17
	sum := 0.0
	for x := from; (last-x)*step >= 0; x += step {
		p := math.Exp(log(x))
		sum += p
		if p < sum*nothing {
			break
		}
	}
	return sum
}

// hypergeometric is the logarithm of the chance that x of k are among the n, and the others among the m.
func hypergeometric(n, m, k int) func(x int) float64 {
	all := choose(n+m, k)
	return func(x int) float64 { return choose(n, x) + choose(m, k-x) - all }
}

// choose is the logarithm of the binomial coefficient.
func choose(n, k int) float64 { return factorial(n) - factorial(k) - factorial(n-k) }

func factorial(n int) float64 {
	f, _ := math.Lgamma(float64(n) + 1)
	return f
}

// holm corrects p-values for how many there are: each is then the alpha at which it would just be taken, if the chance that any
// difference is told where there is none is to be no more than that. An exit status is red for a single cell, so that this is
// the chance to bound; Benjamini and Hochberg bound the share of such cells among those that are told.
//
// Holm, S. (1979): A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics 6.
func holm(p []float64) []float64 {
	order := make([]int, len(p))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case p[a] < p[b]:
			return -1
		case p[a] > p[b]:
			return 1
		default:
			return 0
		}
	})
	adjusted := make([]float64, len(p))
	worst := 0.0
	for rank, i := range order {
		worst = max(worst, min(p[i]*float64(len(p)-rank), 1))
		adjusted[i] = worst
	}
	return adjusted
}

// mostRepeats is more than anybody plays.
const mostRepeats = 1_000_000

// repeatsToTell is about how many repeats on each side would tell two rates apart at alpha, nine times of ten, if they are those
// that were seen; 0: more than mostRepeats. It is the usual size of a sample with Fleiss's correction, which makes it one for
// Fisher's test.
//
// Fleiss, J. L., Tytun, A. and Ury, H. K. (1980): A simple approximation for calculating sample sizes for comparing
// independent proportions. Biometrics 36.
func repeatsToTell(p, q, alpha float64) int {
	d := math.Abs(p - q)
	if d == 0 {
		return 0
	}
	mid := (p + q) / 2
	const power = 1.2816 // the normal quantile of nine of ten
	root := math.Sqrt2*math.Erfcinv(alpha)*math.Sqrt(2*mid*(1-mid)) + power*math.Sqrt(p*(1-p)+q*(1-q))
	n := root * root / (d * d)
	n = n / 4 * math.Pow(1+math.Sqrt(1+4/(n*d)), 2)
	if !(n <= mostRepeats) {
		return 0
	}
	return int(math.Ceil(n))
}

// fewestTimes are how many repeats of a side tell anything of its speed.
const fewestTimes = 8

// mannWhitney is the two-sided p-value of the test of Mann and Whitney, by the normal approximation with the corrections for ties
// and continuity: how likely two samples of one population lie as far apart as these, whatever its shape. Both have fewestTimes
// or more; it sorts them.
//
// Mann, H. B. and Whitney, D. R. (1947): On a test of whether one of two random variables is stochastically larger than the
// other. Annals of Mathematical Statistics 18.
func mannWhitney(a, b []float64) float64 {
	slices.Sort(a)
	slices.Sort(b)
	n, m := float64(len(a)), float64(len(b))
	all := n + m
	// The ranks of a, ties sharing theirs; and what the ties take from the variance.
	ranks, ties := 0.0, 0.0
	for i, j, before := 0, 0, 0.0; i < len(a) || j < len(b); {
		at := math.Inf(1)
		if i < len(a) {
			at = a[i]
		}
		if j < len(b) {
			at = min(at, b[j])
		}
		inA, inB := 0.0, 0.0
		for ; i < len(a) && a[i] == at; i++ {
			inA++
		}
		for ; j < len(b) && b[j] == at; j++ {
			inB++
		}
		t := inA + inB
		ranks += inA * (before + (t+1)/2)
		ties += t*t*t - t
		before += t
	}
	u := ranks - n*(n+1)/2
	variance := n * m / 12 * (all + 1 - ties/(all*(all-1)))
	if variance <= 0 {
		return 1
	}
	z := max(math.Abs(u-n*m/2)-0.5, 0) / math.Sqrt(variance)
	return math.Erfc(z / math.Sqrt2)
}

// spread is the median of sorted numbers, and how far apart their quartiles are.
func spread(sorted []float64) (median, quartiles float64) {
	at := func(q float64) float64 {
		x := q * float64(len(sorted)-1)
		i := int(x)
		j := min(i+1, len(sorted)-1)
		return sorted[i] + (x-float64(i))*(sorted[j]-sorted[i])
	}
	return at(0.5), at(0.75) - at(0.25)
}
