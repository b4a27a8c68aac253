package compare

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// TestFisherPublished: the p-values in the manual page of R's fisher.test, two-sided: "Fisher's Tea Drinker" and the convictions
// of like-sex twins. The others by counting tables.
func TestFisherPublished(t *testing.T) {
	for _, c := range []struct {
		a, n, b, m int
		want       float64
	}{
		{3, 4, 1, 4, 0.4857},        // TeaTasting
		{2, 17, 10, 13, 0.0005367},  // Convictions: 2 15, 10 3
		{0, 1, 1, 1, 1},             // nothing can be told
		{0, 100, 0, 100, 1},         // nothing has happened
		{100, 100, 100, 100, 1},     // or all has
		{0, 4, 4, 4, 0.02857},       // 2 of 70 tables
		{0, 10, 10, 10, 1.0825e-05}, // 2 of 184756
	} {
		if got := fisher(c.a, c.n, c.b, c.m); math.Abs(got-c.want) > 6e-5*math.Max(c.want, 0.5) && math.Abs(got/c.want-1) > 1e-3 {
			t.Errorf("%d of %d and %d of %d: p = %v, want %v", c.a, c.n, c.b, c.m, got, c.want)
		}
	}
}

// exact is Fisher's test by counting tables with whole numbers.
func exact(a, n, b, m int) float64 {
	k := a + b
	ways := func(x int) *big.Int {
		var w, u big.Int
		return w.Mul(w.Binomial(int64(n), int64(x)), u.Binomial(int64(m), int64(k-x)))
	}
	seen, sum, all := ways(a), new(big.Int), new(big.Int)
	for x := max(0, k-m); x <= min(k, n); x++ {
		w := ways(x)
		all.Add(all, w)
		if w.Cmp(seen) <= 0 {
			sum.Add(sum, w)
		}
	}
	p, _ := new(big.Rat).SetFrac(sum, all).Float64()
	return p
}

func TestFisherExact(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		n, m := 1+r.IntN(60), 1+r.IntN(60)
		a, b := r.IntN(n+1), r.IntN(m+1)
		got, want := fisher(a, n, b, m), exact(a, n, b, m)
		if math.Abs(got-want) > 1e-9*want {
			t.Fatalf("%d of %d and %d of %d: p = %v, want %v", a, n, b, m, got, want)
		}
		if other := fisher(b, m, a, n); math.Abs(got-other) > 1e-9*want {
			t.Fatalf("%d of %d and %d of %d: p = %v, and the other way round %v", a, n, b, m, got, other)
		}
	}
	for _, c := range [][4]int{{500_000, 1_000_000, 500_100, 1_000_000}, {0, mostRepeats, mostRepeats, mostRepeats}, {1, mostRepeats, 0, 1}} {
		if p := fisher(c[0], c[1], c[2], c[3]); !(p >= 0 && p <= 1) {
			t.Errorf("%v: p = %v", c, p)
		}
	}
}

// TestHolm: the example of Wikipedia's article on Holm's method, and what R's p.adjust makes of it.
func TestHolm(t *testing.T) {
	got := holm([]float64{0.01, 0.04, 0.03, 0.005})
	for i, want := range []float64{0.03, 0.06, 0.06, 0.02} {
		if math.Abs(got[i]-want) > 1e-12 {
			t.Errorf("number %d: %v, want %v", i, got[i], want)
		}
	}
	if len(holm(nil)) != 0 {
		t.Error("nothing has become something")
	}
}

// TestRepeatsToTell: with as many repeats the test tells most runs apart, and with a quarter of them few.
func TestRepeatsToTell(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, c := range []struct{ p, q, alpha float64 }{{0, 0.01, 0.05}, {0.1, 0.3, 0.05}, {0.5, 0.4, 0.001}, {0.02, 0.06, 1e-5}} {
		n := repeatsToTell(c.p, c.q, c.alpha)
		told := func(n int) float64 {
			count := 0
			const runs = 200
			for range runs {
				a, b := 0, 0
				for range n {
					if r.Float64() < c.p {
						a++
					}
					if r.Float64() < c.q {
						b++
					}
				}
				if fisher(a, n, b, n) <= c.alpha {
					count++
				}
			}
			return float64(count) / runs
		}
		if enough, few := told(n), told(n/4); enough < 0.8 || few > 0.6 {
			t.Errorf("%+v: %d repeats tell %v, a quarter of them %v", c, n, enough, few)
		}
	}
	for _, c := range [][3]float64{{0.5, 0.5, 0.05}, {0.5, 0.5000001, 0.05}, {0, 1e-9, 1e-300}, {0, 0.5, 0}} {
		if n := repeatsToTell(c[0], c[1], c[2]); n != 0 {
			t.Errorf("%v: %d repeats", c, n)
		}
	}
}

// TestMannWhitney: the p-value that R's wilcox.test(exact=FALSE) has, and no alarm where nothing differs.
func TestMannWhitney(t *testing.T) {
	// The depression data of the manual page of wilcox.test in its one-sample form, as two samples, computed by hand: U = 58 of
	// 9 times 9, mean 40.5, deviation 11.3131 with its ties, z = 17/11.3131.
	x := []float64{1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30}
	y := []float64{0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29}
	if got := mannWhitney(x, y); math.Abs(got-0.1329) > 0.001 {
		t.Errorf("p = %v", got)
	}
	// Nearly all of them tied: U = 16 of 8 times 9, and by the ranks as they are, shared, the variance is 96.0882; without the
	// correction it would be 108, and p 0.0606.
	if got := mannWhitney([]float64{1, 1, 1, 1, 2, 2, 2, 3}, []float64{1, 2, 2, 2, 3, 3, 3, 3, 3}); math.Abs(got-0.0466685) > 1e-6 {
		t.Errorf("of ties: p = %v", got)
	}
	same := []float64{1, 1, 1, 1, 1, 1, 1, 1}
	if p := mannWhitney(same, same); p != 1 {
		t.Errorf("the same: p = %v", p)
	}
	alarms := 0
	r := rand.New(rand.NewPCG(5, 6))
	const runs = 2000
	for range runs {
		a, b := make([]float64, 10), make([]float64, 12)
		for i := range a {
			a[i] = r.ExpFloat64()
		}
		for i := range b {
			b[i] = r.ExpFloat64()
		}
		if mannWhitney(a, b) <= 0.05 {
			alarms++
		}
	}
	if alarms > runs*7/100 {
		t.Errorf("%d alarms in %d runs that do not differ", alarms, runs)
	}
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		sorted            []float64
		median, quartiles float64
	}{{[]float64{1, 2, 4, 8}, 3, 5 - 1.75}, {[]float64{1, 2, 9}, 2, 5.5 - 1.5}, {[]float64{7}, 7, 0}} {
		if m, q := spread(c.sorted); m != c.median || q != c.quartiles {
			t.Errorf("%v: %v and %v, want %v and %v", c.sorted, m, q, c.median, c.quartiles)
		}
	}
}
