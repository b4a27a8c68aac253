package stats

import (
	"strings"
	"testing"
)

// cycles of so many lost, and of these by the application.
func lost(all ...[2]int64) (s Sample) {
	for _, c := range all {
		s = append(s, Cycle{Connections: 5000, Lost: c[0], Application: c[1]})
	}
	return s
}

func times(n int, c [2]int64) (all [][2]int64) {
	for range n {
		all = append(all, c)
	}
	return all
}

// TestDecide: what real servers showed, and what is too little to say.
func TestDecide(t *testing.T) {
	none := func(n int) Sample { return lost(times(n, [2]int64{})...) }
	off := lost([2]int64{41, 0}, [2]int64{24, 0}, [2]int64{46, 0}, [2]int64{16, 0}, [2]int64{35, 0})
	for _, test := range []struct {
		name     string
		off, on  Sample
		want     Answer
		more     int
		sentence string
	}{
		{"nginx 8 to 1", off, none(5), Removes, 0, "sysctl removes the loss: off lost 162 in 5 cycles, sysctl none in 5"},
		{"too few of it", off[:3], none(3), CannotTell, 3, "cannot tell whether migration helps: run 3 more cycles of each mode"},
		{"rare losses", lost(append(times(9, [2]int64{}), [2]int64{1, 0})...), none(10), CannotTell, 50, "run 50 more"},
		{"Go, its own losses apart", lost(times(6, [2]int64{4, 2})...), lost(times(6, [2]int64{2, 2})...), KernelPart, 0,
			"sysctl removes the kernel's part of the loss, 12 in 6 cycles; the rest is the application's, 12 of 12"},
		{"Unbound by HUP", lost(times(5, [2]int64{3, 3})...), lost(times(5, [2]int64{5, 5})...), Applications, 0,
			"migration does not help: the loss is the application's, 40 of 40"},
		{"Unbound, and too few", lost([2]int64{3, 3}, [2]int64{}), lost([2]int64{5, 5}, [2]int64{}), CannotTell, 3, "run 3 more"},
		{"the application's, and too few to be sure", lost([2]int64{3, 3}, [2]int64{}, [2]int64{}), lost([2]int64{5, 5}, [2]int64{}), CannotTell, 4, "run 4 more"},
		{"a race is left", lost(times(8, [2]int64{20, 0})...), lost(append(times(7, [2]int64{}), [2]int64{1, 0})...), Reduces, 0,
			"sysctl reduces the kernel's part of the loss from 160 in 8 cycles to 1 in 8"},
		{"two groups", lost(times(8, [2]int64{13, 0})...), lost(times(8, [2]int64{12, 0})...), Reduces, 0, "from 104 in 8 cycles to 96 in 8"},
		{"no difference", lost([2]int64{4, 0}, [2]int64{6, 0}, [2]int64{3, 0}, [2]int64{5, 0}), lost([2]int64{5, 0}, [2]int64{3, 0}, [2]int64{6, 0}, [2]int64{4, 0}),
			DoesNotHelp, 0, "sysctl does not help: off lost 18 in 4 cycles, sysctl 18 in 4"},
		{"one cycle is enough", lost([2]int64{50, 0}), none(20), Removes, 0, "off lost 50 in 1 cycle, sysctl none in 20"},
		{"both lose now and then", lost([2]int64{9, 0}, [2]int64{}, [2]int64{}), lost([2]int64{1, 0}, [2]int64{}, [2]int64{}), CannotTell, 15, "run 15 more"},
		{"worse in fewer cycles", lost(times(20, [2]int64{2, 0})...), lost(times(5, [2]int64{5, 0})...), DoesNotHelp, 0, "off lost 40 in 20 cycles, sysctl 25 in 5"},
		{"worse", none(8), lost(times(8, [2]int64{3, 0})...), DoesNotHelp, 0, "off lost 0 in 8 cycles, sysctl 24 in 8"},
		{"nothing lost", none(29), none(29), NothingLost, 0, "off lost none in 29 cycles (a cycle loses something in 9.8 % of cases at most)"},
		{"nothing lost in a few", none(20), none(20), CannotTell, 9, "run 9 more"},
		{"one mode", off, nil, CannotTell, 29, "run 29 more"},
		{"nothing", nil, nil, CannotTell, 29, "run 29 more"},
	} {
		d := Decide(test.off, test.on, 1)
		if d.Answer != test.want || d.More != test.more {
			t.Errorf("%s: %v, %d more (P %v), want %v, %d", test.name, d.Answer, d.More, d.P, test.want, test.more)
		}
		if got := d.Sentence("sysctl"); !strings.Contains(got, test.sentence) {
			t.Errorf("%s: %q, want %q", test.name, got, test.sentence)
		}
		if again := Decide(test.off, test.on, 1); again != d {
			t.Errorf("%s: the same seed, and another decision: %+v", test.name, again)
		}
	}
}

// TestMore: as many more cycles as it names, if they are like those before, and there is an answer.
func TestMore(t *testing.T) {
	for _, test := range []struct{ off, on Sample }{
		{lost([2]int64{5, 0}, [2]int64{0, 0}, [2]int64{0, 0}), lost(times(3, [2]int64{})...)},
		{lost([2]int64{5, 5}, [2]int64{0, 0}), lost(times(2, [2]int64{})...)},
		{lost(times(7, [2]int64{})...), lost(times(7, [2]int64{})...)},
	} {
		d := Decide(test.off, test.on, 1)
		if d.Answer != CannotTell || d.More == 0 {
			t.Fatalf("%v and %v: %+v", test.off, test.on, d)
		}
		off, on := test.off, test.on
		for n := len(off) + d.More; len(off) < n; {
			off, on = append(off, test.off...), append(on, test.on...)
		}
		if again := Decide(off, on, 1); again.Answer == CannotTell {
			t.Errorf("%v and %v: after %d more still %+v", test.off, test.on, d.More, again)
		}
	}
}
