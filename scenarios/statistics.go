package scenarios

import (
	"fmt"
	"math"
)

// falseAlarm is the chance that a fair kernel is taken for an unfair one.
const falseAlarm = 1e-6

// portion returns "none" or "all" where it can, so that an expectation need not know how many there are.
func portion(k, of int) string {
	switch k {
	case 0:
		return "none"
	case of:
		return "all"
	default:
		return fmt.Sprintf("%d of %d", k, of)
	}
}

// chiSquare returns how far counts are from being even, and the chance that even odds give counts as far off, or
// farther. The number of counts has to be odd: with an even number of degrees of freedom, k, the chance has a closed
// form, e^(-x/2) times the sum of (x/2)^i/i! over i < k/2.
func chiSquare(counts []int) (x, significance float64) {
	total := 0
	for _, n := range counts {
		total += n
	}
	mean := float64(total) / float64(len(counts))
	for _, n := range counts {
		x += (float64(n) - mean) * (float64(n) - mean) / mean
	}
	term := math.Exp(-x / 2)
	for i := range (len(counts) - 1) / 2 {
		significance += term
		term *= x / 2 / float64(i+1)
	}
	return x, significance
}

// throwsFor is the chance that a fair coin has to be thrown n times until it has come up heads k times, or a number of times that
// is as unlikely, or less likely, on either side.
func throwsFor(k, n int) float64 {
	lgamma := func(n int) float64 { x, _ := math.Lgamma(float64(n + 1)); return x }
	fewer := func(k, n int) float64 { // than k heads in n throws
		p := 0.0
		for i := range min(k, n+1) {
			p += math.Exp(lgamma(n) - lgamma(i) - lgamma(n-i) - float64(n)*math.Ln2)
		}
		return p
	}
	// It has to be thrown n times or more if there are fewer than k heads before, and n times or fewer if there are not fewer now.
	return min(2*min(fewer(k, n-1), 1-fewer(k, n)), 1)
}

// coin is the chance that a fair coin, thrown n times, comes up heads k times or a number as far from n/2, or farther.
func coin(k, n int) float64 {
	off := func(k int) int { return max(2*k-n, n-2*k) }
	lgamma := func(n int) float64 { x, _ := math.Lgamma(float64(n + 1)); return x }
	p := 0.0
	for i := range n + 1 {
		if off(i) >= off(k) {
			p += math.Exp(lgamma(n) - lgamma(i) - lgamma(n-i) - float64(n)*math.Ln2)
		}
	}
	return min(p, 1)
}
