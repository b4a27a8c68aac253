package harness

import (
	"sync"
	"time"
)

// Progress estimates how long a run still takes: from what its own cells took so far, and for scenarios of which none has
// ended, from the kernel timers that they sit out. The zero value is ready; a nil one takes no notice.
type Progress struct {
	mu      sync.Mutex
	endless bool
	pools   [2]pool // cells that wait for the kernel; busy ones
	took    map[*Scenario]mean
	beyond  mean // what cells take beyond their timers
}

// pool is the cells that share workers.
type pool struct {
	workers int
	waiting map[*Scenario]int
	running map[*Scenario][]time.Time // when each began
}

// mean of some times.
type mean struct {
	sum   time.Duration
	count int
}

func (m mean) add(d time.Duration) mean { return mean{m.sum + d, m.count + 1} }

func (m mean) value() time.Duration { return m.sum / time.Duration(max(m.count, 1)) }

// plan takes note of what is to be played. No repeats mean no end.
func (p *Progress) plan(idle, busy []group, workers, atWork, repeats int) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endless, p.took = repeats == 0, map[*Scenario]mean{}
	for i, groups := range [][]group{idle, busy} {
		p.pools[i] = pool{workers: max([]int{workers, atWork}[i], 1), waiting: map[*Scenario]int{}, running: map[*Scenario][]time.Time{}}
		for _, g := range groups {
			for _, s := range g {
				if s.skip == "" {
					p.pools[i].waiting[s.scenario] += repeats
				}
			}
		}
	}
}

func (p *Progress) pool(s *Scenario) *pool {
	if s.Busy {
		return &p.pools[1]
	}
	return &p.pools[0]
}

// began takes note that a cell has begun, and returns what to call when it ends.
func (p *Progress) began(s *Scenario, at time.Time) (ended func(time.Time)) {
	if p == nil {
		return func(time.Time) {}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	pool := p.pool(s)
	pool.waiting[s]--
	pool.running[s] = append(pool.running[s], at)
	return func(now time.Time) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.took[s] = p.took[s].add(now.Sub(at))
		p.beyond = p.beyond.add(max(now.Sub(at)-s.Cost, 0))
		for i, began := range pool.running[s] {
			if began.Equal(at) {
				pool.running[s] = append(pool.running[s][:i], pool.running[s][i+1:]...)
				break
			}
		}
	}
}

// Left is how long the run still takes, as far as can be told. It cannot be before a cell has ended, nor where there is
// no end.
func (p *Progress) Left(now time.Time) (left time.Duration, known bool) {
	if p == nil {
		return 0, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.endless || p.beyond.count == 0 {
		return 0, false
	}
	for _, pool := range p.pools {
		var work, longest time.Duration
		for s, n := range pool.waiting {
			if n > 0 {
				work += time.Duration(n) * p.expect(s)
				longest = max(longest, p.expect(s))
			}
		}
		for s, all := range pool.running {
			for _, began := range all {
				rest := max(p.expect(s)-now.Sub(began), 0)
				work += rest
				longest = max(longest, rest)
			}
		}
		// However many share the work, none of its cells gets shorter.
		left = max(left, longest, work/time.Duration(max(pool.workers, 1)))
	}
	return left, true
}

// expect is how long a cell takes.
func (p *Progress) expect(s *Scenario) time.Duration {
	if m := p.took[s]; m.count > 0 {
		return m.value()
	}
	return s.Cost + p.beyond.value()
}
