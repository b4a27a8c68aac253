package reload

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/rpmig/rpmig/reload/load"
	"github.com/rpmig/rpmig/reload/stats"
	"github.com/rpmig/rpmig/result"
)

// Terms are what an outcome is judged by.
type Terms struct {
	Name     string // of the server, as the cells have it
	Family   string
	MaxLost  int
	Judged   []string // modes that may lose no more
	Untraced string   // why there is no trace; empty: there is one
}

// examples are how many lost connections a cell tells of: the first, and the first of each cause.
const examples = 40

// Cells judges an outcome: a cell for each mode. It is a pure function. err is that of Play, if it is the server's doing; then
// nothing can be concluded.
func (o *Outcome) Cells(c *Config, t Terms, err error) []result.Cell {
	losses := o.losses(t.Untraced == "")
	j := judge{o, c, t, losses, o.unlisted(losses)}
	var cells []result.Cell
	for _, m := range c.Modes {
		cells = append(cells, j.cell(m, err))
	}
	return cells
}

// judge is what the cells have in common.
type judge struct {
	*Outcome
	config *Config
	Terms
	lost []loss
	more []load.Counts // by cycle, those that were lost and are not among lost
}

func (j *judge) cell(m Mode, err error) result.Cell {
	c := result.Cell{
		Scenario: "reload/" + j.Name, Family: j.Family, Mode: m.Name, Repeat: 1, Control: result.Controlled,
		Counters: map[string]int64{},
	}
	if m.Name == "off" {
		c.Control = result.IsControl
	}
	r := &result.Reload{Server: j.config.Server, Seed: j.config.Seed, Load: j.loadInWords(), Untraced: j.Untraced, Ends: map[string]int64{}, Cycles: []result.ReloadCycle{}}
	for _, s := range j.config.Steps {
		r.Reloads = append(r.Reloads, s.Text)
	}
	c.Reload = r
	j.count(&c, m)
	j.rate(r, m)
	j.explain(r, m)
	c.Connections = result.Connections{Staged: int(r.Connections), Survived: int(r.Connections - r.Lost), Lost: int(r.Lost)}
	r.Verdict, r.More = j.verdict(m)
	j.decide(&c, m, err)
	return c
}

// played are the cycles of a mode.
func (j *judge) played(m string) []Cycle {
	return slices.DeleteFunc(slices.Clone(j.Cycles), func(c Cycle) bool { return c.Mode.Name != m })
}

// count adds up what became of the connections.
func (j *judge) count(c *result.Cell, m Mode) {
	r := c.Reload
	var counts load.Counts
	for i, cycle := range j.Cycles {
		if cycle.Mode.Name != m.Name {
			continue
		}
		here := j.countsOf(cycle)
		counts.Add(here)
		c.Elapsed += (cycle.To - cycle.From).Seconds()
		for name, n := range cycle.Counters {
			c.Counters[name] += n
		}
		if m.Program {
			c.Program = cmp.Or(c.Program, &result.Program{})
			c.Program.SYN += cycle.Asked.SYN
			c.Program.Migrated += cycle.Asked.Migrated()
			c.Program.Named += cycle.Asked.Named
		}
		r.Missed += cycle.TraceLost
		r.Cycles = append(r.Cycles, j.cycleResult(i, cycle, here))
	}
	r.Connections, r.Lost, r.Void = counts.Judged(), counts.Lost(), counts[load.Void]
	for e, n := range counts {
		if n > 0 {
			r.Ends[load.End(e).String()] = n
		}
	}
	for _, n := range j.Load.Intervals {
		if n.Name == m.Name && n.Reload {
			r.Pause = max(r.Pause, n.Pause.Seconds())
		}
	}
	r.Reloading = latency(j.Load.Latency[load.Label{Name: m.Name, Reload: true}])
	r.Between = latency(j.Load.Latency[load.Label{Name: m.Name}])
}

// countsOf is what became of the connections that ended in a cycle.
func (j *judge) countsOf(c Cycle) (counts load.Counts) {
	for i := c.First; i <= c.Last && i < len(j.Load.Intervals); i++ {
		counts.Add(j.Load.Intervals[i].Counts)
	}
	return counts
}

// cycleResult is a cycle as the ledger has it.
func (j *judge) cycleResult(i int, c Cycle, counts load.Counts) result.ReloadCycle {
	since := func(at time.Duration) float64 { return (at - j.Load.From).Seconds() }
	rc := result.ReloadCycle{Number: i + 1, At: since(c.From), To: since(c.To), Connections: counts.Judged(), Lost: counts.Lost()}
	for k, s := range j.Load.Slices {
		if at := j.Load.From + time.Duration(k)*j.Load.Slice; at >= c.From && at < c.To {
			rc.Course = append(rc.Course, result.ReloadPart{At: since(at), Replies: s.Replies, Lost: s.Counts.Lost(), P99: s.P99.Seconds()})
		}
	}
	for k, s := range c.Steps {
		step := result.ReloadStep{At: since(s.At), Changed: s.Changed, First: s.First.Seconds(), Last: s.Last.Seconds(),
			Returned: s.Returned.Seconds(), Closed: s.Closed, Holders: s.Holders, Listeners: s.Inodes}
		for at := c.First; at <= c.Last && at < len(j.Load.Intervals); at++ { // which has all, and a step begins one
			if in := &j.Load.Intervals[at]; c.stepAt(in.From) == k {
				step.Lost += in.Counts.Lost()
			}
		}
		rc.Steps = append(rc.Steps, step)
	}
	return rc
}

// latency is the quantiles of the histograms, which are in microseconds.
func latency(l load.Latency) result.ReloadLatency {
	var r result.ReloadLatency
	if l.Reply == nil || l.Connect == nil {
		return r
	}
	at := func(h *hdrhistogram.Histogram, q float64) float64 { return float64(h.ValueAtQuantile(q)) / 1e6 }
	return result.ReloadLatency{
		Count: l.Reply.TotalCount(), P50: at(l.Reply, 50), P99: at(l.Reply, 99), Max: float64(l.Reply.Max()) / 1e6,
		Connect99: at(l.Connect, 99), ConnectMost: float64(l.Connect.Max()) / 1e6,
	}
}

// sample is what the statistics take of a mode; with race B, or without it, as no mode keeps that from happening.
func (j *judge) sample(m string, raced bool) stats.Sample {
	var s stats.Sample
	for i, c := range j.Cycles {
		if c.Mode.Name != m {
			continue
		}
		counts := j.countsOf(c)
		one := stats.Cycle{Connections: counts.Judged(), Lost: counts.Lost(), Took: c.To - c.From, Reloads: len(c.Steps)}
		for _, l := range j.lost {
			switch {
			case l.cycle != i:
			case l.whose == result.OfApplication:
				one.Application++
			case l.kind == raceB && !raced:
				one.Lost--
			}
		}
		for e, n := range j.more[i] {
			if kindOfEnd(load.End(e)).whose == result.OfApplication {
				one.Application += n
			}
		}
		s = append(s, one)
	}
	return s
}

// rate says what the losses of a mode are worth.
func (j *judge) rate(r *result.Reload, m Mode) {
	sample := j.sample(m.Name, true)
	r.Bound = 1
	if len(sample) == 0 {
		return
	}
	mean := stats.Mean(sample.Losses(), j.config.Seed)
	r.PerCycle, r.Low, r.High = mean.Mean, mean.Low, mean.High
	million := sample.PerMillion()
	r.PerMillion, r.Rate, r.Every = million.Lost, million.Rate, million.Every.Seconds()
	if r.Lost == 0 {
		r.Bound = stats.Bound(len(sample))
	}
	if off := j.sample("off", true); m.Name != "off" && len(off) > 0 {
		p := stats.Permutation(off.Losses(), sample.Losses(), j.config.Seed)
		r.P = &p
	}
}

// explain counts the causes, and gives examples. The causes of a mode are those of all that it has lost.
func (j *judge) explain(r *result.Reload, m Mode) {
	type key struct{ why, by string }
	count := map[key]*result.LossCause{}
	for _, l := range j.lost {
		if j.Cycles[l.cycle].Mode.Name != m.Name {
			continue
		}
		by, _, _ := strings.Cut(l.by, " (")
		k := key{l.name, by}
		if count[k] == nil {
			count[k] = &result.LossCause{Why: l.name, Whose: l.whose, By: by}
		}
		count[k].Count++
		if len(r.Examples) < examples || count[k].Count == 1 { // of what is rare there is one, too
			r.Examples = append(r.Examples, result.LostFlow{
				At: (l.Ended - j.Load.From).Seconds(), Cycle: l.cycle + 1, Client: l.Local, Server: l.Remote,
				End: l.End.String(), Phase: l.Phase.String(), Why: l.name, By: l.by, Reason: l.reason, State: l.state, Stack: l.stack,
			})
		}
	}
	for i, more := range j.more {
		for e, n := range more {
			of := kindOfEnd(load.End(e))
			if n == 0 || j.Cycles[i].Mode.Name != m.Name || of == (kind{}) {
				continue
			}
			k := key{of.name, ""}
			if count[k] == nil {
				count[k] = &result.LossCause{Why: of.name, Whose: of.whose}
			}
			count[k].Count += n
		}
	}
	for _, k := range slices.SortedFunc(maps.Keys(count), func(a, b key) int {
		return cmp.Or(cmp.Compare(count[b].Count, count[a].Count), cmp.Compare(a.why, b.why), cmp.Compare(a.by, b.by))
	}) {
		r.Causes = append(r.Causes, *count[k])
	}
	if n := j.unlooked(m.Name); n > 0 {
		r.Causes = append(r.Causes, result.LossCause{Why: unlisted.name, Whose: unlisted.whose, Count: n})
	}
}

// verdict says what migration is worth to the server, in a sentence, and how many more cycles of each mode it takes to tell.
func (j *judge) verdict(m Mode) (said string, more int) {
	changed := slices.ContainsFunc(j.Cycles, Cycle.changed)
	of := map[result.Whose]bool{}
	for _, l := range j.lost {
		of[l.whose] = true
	}
	// One that is shut down and listens again is the same listener to who looks now and then. The trace knows better.
	closed := slices.ContainsFunc(j.Cycles, Cycle.closed) || of[result.OfKernel] || of[result.OfRace]
	switch {
	case len(j.played(m.Name)) == 0:
		return "", 0
	case !closed && of[result.OfNobody]:
		return "migration can hardly help: no listener was seen to close", 0
	case !closed && j.totalLost() > 0:
		return "migration does not help: no listener was closed, so that what is lost is the application's", 0
	case !changed && !closed:
		return "the listeners did not change: nothing to lose by closing", 0
	case !closed:
		return "migration does not apply: the listeners were kept or passed on, and none was closed", 0
	case m.Name == "off":
		return "", 0
	}
	d := stats.Decide(j.sample("off", false), j.sample(m.Name, false), j.config.Seed)
	said = d.Sentence(m.Name)
	if n := j.unlooked("off") + j.unlooked(m.Name); n > 0 {
		said += fmt.Sprintf("; %d resets that were not looked into count as the kernel's", n)
	}
	return said, d.More
}

// unlooked is how many connections a mode has lost of which nobody looked whose doing it was.
func (j *judge) unlooked(m string) (n int64) {
	for i, more := range j.more {
		for e, k := range more {
			if j.Cycles[i].Mode.Name == m && kindOfEnd(load.End(e)) == (kind{}) {
				n += k
			}
		}
	}
	return n
}

func (j *judge) totalLost() (n int64) {
	for _, c := range j.Cycles {
		counts := j.countsOf(c)
		n += counts.Lost()
	}
	return n
}

// decide gives the cell its status.
func (j *judge) decide(c *result.Cell, m Mode, err error) {
	r := c.Reload
	reason, skipped := j.Skipped[m.Name]
	var said *ServerError
	switch {
	case err != nil:
		c.Status, c.Reason = result.Error, err.Error()
		if errors.As(err, &said) {
			r.Output = said.Output
		}
	case skipped:
		c.Status, c.Reason = result.Skip, reason
	case len(r.Cycles) == 0:
		c.Status, c.Reason = result.Error, "no cycle was played"
	case m.Program && c.Program.SYN*2 < uint64(r.Connections):
		c.Status = result.Skip
		c.Reason = fmt.Sprintf("the program saw %d of %d connections arrive: its group is not the one that they reach", c.Program.SYN, r.Connections)
	case j.Unending != "":
		c.Status, c.Reason = result.Fail, j.Unending
	case r.Connections == 0 && r.Void == 0:
		c.Status, c.Reason = result.Error, "no connection came to its end in a cycle: all wait for replies, or there are too few"
	case r.Connections == 0:
		c.Status, c.Reason = result.Error, "every connection was void: the load generator did not get to run"
	default:
		j.weigh(c, m)
	}
}

// weigh holds the losses of a mode against what it may lose.
func (j *judge) weigh(c *result.Cell, m Mode) {
	r := c.Reload
	judged := slices.Contains(j.Judged, m.Name)
	counted := r.Lost
	c.Reason = r.Rating()
	// No mode keeps race B from happening: it says nothing about the server or about migration.
	if b := because(r, raceB); b > 0 && m.Name != "off" {
		counted -= b
		least := ""
		if j.unlooked(m.Name) > 0 {
			least = "at least "
		}
		c.Reason += fmt.Sprintf("; %s%d of them by race B, which is not counted", least, b)
	}
	c.Status = result.Pass
	if judged {
		check := result.Check{Name: "connections lost", Witness: result.Application,
			Want: fmt.Sprintf("at most %d", j.MaxLost), Got: fmt.Sprint(counted), OK: counted <= int64(j.MaxLost)}
		c.Checks = append(c.Checks, check)
		if !check.OK {
			c.Status = result.Fail
		}
	}
	if r.Verdict != "" {
		c.Reason += "; " + r.Verdict
	}
}

// loadInWords says how the clients come.
func (j *judge) loadInWords() string {
	l := j.config.Load
	if l.Rate > 0 {
		return fmt.Sprintf("%.0f connections a second, whatever becomes of the earlier ones", l.Rate)
	}
	return fmt.Sprintf("%s, each of which connects again when it is served, which limits what a reload can cost to about one each",
		result.Plural(l.Clients, "client", "clients"))
}

// because is how many were lost for a reason.
func because(r *result.Reload, k kind) (n int64) {
	for _, c := range r.Causes {
		if c.Why == k.name {
			n += c.Count
		}
	}
	return n
}
