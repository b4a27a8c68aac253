package harness

import (
	"runtime"
	"sync"
	"time"

	"github.com/rpmig/rpmig/lab"
)

// Progress estimates how long a run still takes: from what its own cells took so far, and for scenarios of which none has
// ended, from the kernel timers that they sit out. The zero value is ready; a nil one takes no notice.
type Progress struct {
	mu      sync.Mutex
	endless bool
	pools   [2]pool // cells that wait for the kernel; busy ones
	took    map[*lab.Scenario]mean
	worked  map[*lab.Scenario]mean // for how long they held a place
	beyond  mean                   // what cells take beyond their timers
}

// pool is the cells that share places.
type pool struct {
	places  int
	keep    bool // also while they sit a timer out
	waiting map[*lab.Scenario]int
	running map[*playing]bool
}

// playing is a cell while it is played.
type playing struct {
	p              *Progress
	s              *lab.Scenario
	began, yielded time.Time
}

// mean of some times.
type mean struct {
	sum   time.Duration
	count int
}

func (m mean) add(d time.Duration) mean { return mean{m.sum + d, m.count + 1} }

func (m mean) value() time.Duration { return m.sum / time.Duration(max(m.count, 1)) }

// plan takes note of what is to be played. No repeats mean no end.
func (p *Progress) plan(idle, busy []group, r room, repeats int) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endless, p.took, p.worked = repeats == 0, map[*lab.Scenario]mean{}, map[*lab.Scenario]mean{}
	for i, groups := range [][]group{idle, busy} {
		p.pools[i] = pool{
			places: []int{r.places, runtime.NumCPU()}[i], keep: r.keep || i == 1,
			waiting: map[*lab.Scenario]int{}, running: map[*playing]bool{},
		}
		for _, g := range groups {
			for _, s := range g {
				if s.skip == "" {
					p.pools[i].waiting[s.Scenario] += repeats
				}
			}
		}
	}
}

func (p *Progress) pool(s *lab.Scenario) *pool {
	if s.Busy {
		return &p.pools[1]
	}
	return &p.pools[0]
}

// began takes note that a cell has begun.
func (p *Progress) began(s *lab.Scenario, now time.Time) *playing {
	c := &playing{p: p, s: s, began: now}
	if p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		pool := p.pool(s)
		pool.waiting[s]--
		pool.running[c] = true
	}
	return c
}

// yields takes note that the cell has left its place.
func (c *playing) yields(now time.Time) {
	if p := c.p; p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.worked[c.s] = p.worked[c.s].add(now.Sub(c.began))
		c.yielded = now
	}
}

func (c *playing) ended(now time.Time) {
	p := c.p
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	took := now.Sub(c.began)
	p.took[c.s] = p.took[c.s].add(took)
	p.beyond = p.beyond.add(max(took-c.s.Cost, 0))
	if c.yielded.IsZero() {
		p.worked[c.s] = p.worked[c.s].add(took)
	}
	delete(p.pool(c.s).running, c)
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
	for i := range p.pools {
		pool := &p.pools[i]
		var work, longest time.Duration
		for s, n := range pool.waiting {
			if n > 0 {
				work += time.Duration(n) * p.works(s, pool)
				longest = max(longest, p.takes(s))
			}
		}
		for c := range pool.running {
			if c.yielded.IsZero() {
				work += max(p.works(c.s, pool)-now.Sub(c.began), 0)
			}
			longest = max(longest, p.takes(c.s)-now.Sub(c.began))
		}
		// However many share the work, none of its cells gets shorter.
		left = max(left, longest, work/time.Duration(max(pool.places, 1)))
	}
	return left, true
}

// takes is how long a cell takes.
func (p *Progress) takes(s *lab.Scenario) time.Duration {
	if m := p.took[s]; m.count > 0 {
		return m.value()
	}
	return s.Cost + p.beyond.value()
}

// works is for how long a cell holds a place.
func (p *Progress) works(s *lab.Scenario, in *pool) time.Duration {
	switch m := p.worked[s]; {
	case m.count > 0:
		return m.value()
	case in.keep:
		return p.takes(s)
	default:
		return p.beyond.value()
	}
}
