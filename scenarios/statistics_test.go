package scenarios

import (
	"math"
	"slices"
	"testing"
)

// TestChiSquare compares with quantiles from tables.
func TestChiSquare(t *testing.T) {
	for _, tt := range []struct {
		counts  []int
		x, want float64
	}{
		{[]int{10, 10, 10}, 0, 1},
		{[]int{20, 10, 0}, 20, math.Exp(-10)},          // 2 degrees of freedom
		{[]int{14, 8, 8, 8, 12}, 3.2, 0.524930945},     // 4
		{[]int{9, 0, 0, 0, 0, 0, 0, 0, 0}, 72, 0},      // 8
		{slices.Repeat([]int{250}, spreadOver), 0, 1},  // 8
		{[]int{5, 0, 0, 0, 0}, 20, 0.0004993992273873}, // 4
	} {
		x, p := chiSquare(tt.counts)
		if math.Abs(x-tt.x) > 1e-9 || math.Abs(p-tt.want) > 1e-6 {
			t.Errorf("chiSquare(%v) = %v, %v; want %v, %v", tt.counts, x, p, tt.x, tt.want)
		}
	}
}

// TestSpreadPower: a listener that gets half or twice its share is unfair, as the story of spread has it.
func TestSpreadPower(t *testing.T) {
	const share = spreadClients / spreadOver
	for _, one := range []int{share / 2, 2 * share} {
		counts := slices.Repeat([]int{(spreadClients - one) / (spreadOver - 1)}, spreadOver)
		counts[0] = one
		if x, p := chiSquare(counts); p >= falseAlarm {
			t.Errorf("%v: chi-square %.1f, %v", counts, x, p)
		}
	}
}

// TestThrowsFor compares with what can be counted by hand.
func TestThrowsFor(t *testing.T) {
	for _, tt := range []struct {
		k, n int
		want float64
	}{
		{1, 1, 1},                // half of all need one throw
		{1, 2, 1},                // half need two or more
		{1, 11, 2. / 1024},       // none of ten throws
		{10, 10, 2. / 1024},      // each of ten
		{2, 11, 2 * 11. / 1024},  // fewer than two of ten
		{10, 11, 2 * 12. / 2048}, // ten or more of eleven
		{25, 50, 1},
	} {
		if p := throwsFor(tt.k, tt.n); math.Abs(p-tt.want) > 1e-9 && tt.want < 1 || tt.want == 1 && p < 0.8 {
			t.Errorf("throwsFor(%d, %d) = %v, want %v", tt.k, tt.n, p, tt.want)
		}
	}
}

func TestCoin(t *testing.T) {
	for _, tt := range []struct {
		k, n int
		want float64
	}{{0, 1, 1}, {1, 1, 1}, {5, 10, 1}, {0, 10, 2. / 1024}, {10, 10, 2. / 1024}, {1, 10, 22. / 1024}, {0, 0, 1}} {
		if p := coin(tt.k, tt.n); math.Abs(p-tt.want) > 1e-9 {
			t.Errorf("coin(%d, %d) = %v, want %v", tt.k, tt.n, p, tt.want)
		}
	}
}
