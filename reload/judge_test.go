package reload

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rpmig/rpmig/kernel/trace"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/reload/load"
	"github.com/rpmig/rpmig/result"
)

// TestCellInFull: all that a cell says, of a run in two modes whose cycles take turns.
func TestCellInFull(t *testing.T) {
	const s, ms = time.Second, time.Millisecond
	off, bpf := modes[0], modes[2]
	another, softirq := killed, raced // by a process that held no listener when it was looked for, and one that was only interrupted
	another.PID, softirq.PID = 8, 7
	at := func(i uint16) netip.AddrPort { return netip.AddrPortFrom(client.Addr(), client.Port()+i) }
	counts := func(ok, reset int64) (c load.Counts) {
		c[load.OK], c[load.ResetBefore] = ok, reset
		return c
	}
	histogram := func(micros ...int64) *hdrhistogram.Histogram {
		h := hdrhistogram.New(1, 60_000_000, 3)
		for _, n := range micros {
			_ = h.RecordValue(n)
		}
		return h
	}
	step := Played{Step: Step{Text: "x"}, Changed: true, First: 125 * ms, Last: 250 * ms, Returned: 500 * ms, Closed: 2, Holders: 3, Inodes: 4}
	steps := func(at ...time.Duration) (all []Played) {
		for _, a := range at {
			step.At = a
			all = append(all, step)
		}
		return all
	}
	reset := func(i uint16, at time.Duration, e trace.Event) trace.Event {
		e.Src, e.Dst, e.Time = server, netip.AddrPortFrom(client.Addr(), client.Port()+i), time.Unix(0, int64(at+100*s))
		return e
	}
	label := func(m Mode, reload bool) load.Label { return load.Label{Name: m.Name, Reload: reload} }
	o := &Outcome{
		Offset: 100 * s, Names: map[int]string{7: "nginx"},
		Cycles: []Cycle{
			{Mode: off, First: 1, Last: 2, From: 12 * s, To: 16 * s, Steps: steps(12*s, 14*s), TraceLost: 5,
				Counters: map[string]int64{"A": 1}, Resets: []trace.Event{reset(1, 13*s, queued), reset(2, 15*s, queued), reset(3, 15*s, another)}},
			{Mode: bpf, First: 4, Last: 4, From: 18 * s, To: 20 * s, Steps: steps(18 * s), Asked: migrate.Asked{SYN: 80, Established: 3, Named: 1}},
			{Mode: off, First: 6, Last: 6, From: 22 * s, To: 26 * s, Steps: steps(22*s, 24*s), TraceLost: 2, Counters: map[string]int64{"A": 2}},
			{Mode: bpf, First: 8, Last: 8, From: 28 * s, To: 30 * s, Steps: steps(28 * s), Asked: migrate.Asked{SYN: 20, SYNRecv: 4, Named: 2}, Resets: []trace.Event{reset(4, 28*s, softirq)}},
		},
		Load: load.Report{
			From: 10 * s, Slice: 2 * s,
			Slices: []load.Slice{{Replies: 1}, {Replies: 2, Counts: counts(2, 1), P99: 500 * ms}, {Replies: 3}, {Replies: 4}},
			Intervals: []load.Interval{
				{Counts: counts(1000, 1)}, // the warm-up
				{Label: label(off, true), From: 12 * s, Counts: counts(91, 1), Pause: 250 * ms}, {Label: label(off, false), From: 14 * s, Counts: counts(6, 2), Pause: 4 * s},
				{Counts: counts(1000, 1)}, // between cycles
				{Label: label(bpf, true), From: 18 * s, Counts: counts(100, 0), Pause: 125 * ms},
				{},
				{Label: label(off, true), Counts: counts(100, 0), Pause: 500 * ms},
				{},
				{Label: label(bpf, true), From: 28 * s, Counts: counts(99, 1)},
			},
			Latency: map[load.Label]load.Latency{
				label(off, true):  {Reply: histogram(1000, 2000), Connect: histogram(100, 500)},
				label(off, false): {Reply: histogram(1000), Connect: histogram(100)},
				label(bpf, true):  {}, // of none
			},
			Lost: []load.Lost{
				{Local: at(0), Remote: server, End: load.ResetBefore, Interval: 0, Ended: 11 * s},
				{Local: at(1), Remote: server, End: load.ResetBefore, Interval: 1, Ended: 13 * s, Phase: load.Sending},
				{Local: at(2), Remote: server, End: load.ResetBefore, Interval: 2, Ended: 15 * s},
				{Local: at(3), Remote: server, End: load.ResetBefore, Interval: 2, Ended: 15 * s},
				{Local: at(4), Remote: server, End: load.ResetBefore, Interval: 8, Ended: 28 * s},
			},
		},
	}
	o.Load.Intervals[2].Counts[load.Void] = 6
	config := &Config{Server: []string{"nginx", "-x"}, Seed: 9, Modes: []Mode{off, bpf}, Steps: []Step{{Text: "x"}, {Text: "y"}}, Load: load.Config{Clients: 1}}
	one := func(at float64, lost int64) result.ReloadStep {
		return result.ReloadStep{At: at, Lost: lost, Changed: true, First: 0.125, Last: 0.25, Returned: 0.5, Closed: 2, Holders: 3, Listeners: 4}
	}
	flow := func(i uint16, seconds float64, cycle int, e trace.Event, k kind, by string) result.LostFlow {
		return result.LostFlow{At: seconds, Cycle: cycle, Client: at(i), Server: server, End: load.ResetBefore.String(), Phase: load.Connecting.String(),
			Why: k.name, By: by, Reason: e.Reason, State: e.State}
	}
	first := flow(1, 3, 1, queued, inQueue, "nginx (process 7)")
	first.Phase = load.Sending.String()
	p := 1. // each way to share out 3, 0 and 0, 1 is as far apart
	load := "1 client, each of which connects again when it is served, which limits what a reload can cost to about one each"
	want := []result.Cell{
		{Scenario: "reload/nginx", Family: "ipv4", Mode: "off", Repeat: 1, Control: result.IsControl, Status: result.Pass, Elapsed: 8,
			Reason:      "3 of 200 lost in 2 cycles: 1.5 a cycle (0.0 to 3.0), 15000 per million at 25/s and a reload each 2.0 s",
			Connections: result.Connections{Staged: 200, Survived: 197, Lost: 3}, Counters: map[string]int64{"A": 3},
			Reload: &result.Reload{
				Server: config.Server, Reloads: []string{"x", "y"}, Seed: 9, Load: load, Connections: 200, Lost: 3, Void: 6, Missed: 7,
				Ends:     map[string]int64{"ok": 197, "reset before a byte": 3, "void": 6},
				PerCycle: 1.5, Low: 0, High: 3, Bound: 1, PerMillion: 15000, Rate: 25, Every: 2, Pause: 0.5,
				Reloading: result.ReloadLatency{Count: 2, P50: 0.001, P99: 0.002, Max: 0.002, Connect99: 0.0005, ConnectMost: 0.0005},
				Between:   result.ReloadLatency{Count: 1, P50: 0.001, P99: 0.001, Max: 0.001, Connect99: 0.0001, ConnectMost: 0.0001},
				Cycles: []result.ReloadCycle{
					{Number: 1, At: 2, To: 6, Connections: 100, Lost: 3, Steps: []result.ReloadStep{one(2, 1), one(4, 2)},
						Course: []result.ReloadPart{{At: 2, Replies: 2, Lost: 1, P99: 0.5}, {At: 4, Replies: 3}}},
					{Number: 3, At: 12, To: 16, Connections: 100, Steps: []result.ReloadStep{one(12, 0), one(14, 0)}},
				},
				Causes: []result.LossCause{
					{Why: inQueue.name, Whose: result.OfKernel, By: "nginx", Count: 2}, {Why: aborted.name, Whose: result.OfApplication, By: "process 8", Count: 1},
				},
				Examples: []result.LostFlow{
					first, flow(2, 5, 1, queued, inQueue, "nginx (process 7)"), flow(3, 5, 1, killed, aborted, "process 8"),
				},
			}},
		{Scenario: "reload/nginx", Family: "ipv4", Mode: "bpf", Repeat: 1, Control: result.Controlled, Status: result.Pass, Elapsed: 4,
			Reason: "1 of 200 lost in 2 cycles: 0.5 a cycle (0.0 to 1.0), 5000 per million at 50/s and a reload each 2.0 s; " +
				"1 of them by race B, which is not counted; cannot tell whether migration helps: run 10 more cycles of each mode",
			Connections: result.Connections{Staged: 200, Survived: 199, Lost: 1}, Counters: map[string]int64{},
			Program: &result.Program{SYN: 100, Migrated: 7, Named: 3},
			Checks:  []result.Check{{Name: "connections lost", Witness: result.Application, Want: "at most 0", Got: "0", OK: true}},
			Reload: &result.Reload{
				Server: config.Server, Reloads: []string{"x", "y"}, Seed: 9, Load: load, Connections: 200, Lost: 1,
				Ends:     map[string]int64{"ok": 199, "reset before a byte": 1},
				PerCycle: 0.5, Low: 0, High: 1, Bound: 1, PerMillion: 5000, Rate: 50, Every: 2, P: &p, Pause: 0.125,
				Cycles: []result.ReloadCycle{
					{Number: 2, At: 8, To: 10, Connections: 100, Steps: []result.ReloadStep{one(8, 0)}},
					{Number: 4, At: 18, To: 20, Connections: 100, Lost: 1, Steps: []result.ReloadStep{one(18, 1)}},
				},
				Causes:   []result.LossCause{{Why: raceB.name, Whose: result.OfRace, Count: 1}},
				Examples: []result.LostFlow{flow(4, 18, 4, raced, raceB, "")},
				Verdict:  "cannot tell whether migration helps: run 10 more cycles of each mode", More: 10,
			}},
	}
	got := o.Cells(config, Terms{Name: "nginx", Family: "ipv4", Judged: []string{"bpf"}}, nil)
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{}, netip.Addr{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestVerdict: what is said of migration where no listener closes, and where all that is lost is the application's.
func TestVerdict(t *testing.T) {
	const kept = "the listeners were kept or passed on"
	for name, tt := range map[string]struct {
		mode            Mode
		changed, closed bool
		lost            []trace.Event
		want            string
	}{
		"unchanged":                        {modes[1], false, false, nil, "the listeners did not change"},
		"passed on":                        {modes[1], true, false, nil, kept},
		"passed on, in off":                {modes[0], true, false, nil, kept},
		"passed on, and lossy":             {modes[1], true, false, []trace.Event{killed}, "no listener was closed, so that what is lost is the application's"},
		"closed, and lossy":                {modes[1], true, true, []trace.Event{killed}, "cannot tell"},
		"closed, in off":                   {modes[0], true, true, []trace.Event{killed}, ""},
		"closed, nothing lost":             {modes[1], true, true, nil, "cannot tell"},
		"unchanged, and lossy":             {modes[1], false, false, []trace.Event{killed}, "no listener was closed"},
		"shut down, and listens again":     {modes[1], false, false, []trace.Event{queued}, "cannot tell"},
		"a reset of which nothing is told": {modes[1], false, false, []trace.Event{{State: "CLOSE", Orphan: true, Softirq: true, Stack: &trace.Stack{}}}, "no listener was seen to close"},
		"a mode of no cycle is":            {modes[2], true, true, nil, ""},
	} {
		played := tt.mode
		if tt.mode.Name == "bpf" {
			played = modes[1]
		}
		o := outcome(played, tt.lost...)
		o.Cycles[0].Steps[0].Changed, o.Cycles[0].Steps[0].Closed = tt.changed, 0
		if tt.closed {
			o.Cycles[0].Steps[0].Closed = 1
		}
		said := o.Cells(&Config{Modes: []Mode{tt.mode}}, Terms{}, nil)[0].Reload.Verdict
		if (said == "") != (tt.want == "") || !strings.Contains(said, tt.want) {
			t.Errorf("%s: %q, want %q", name, said, tt.want)
		}
	}
}

// TestFailures: each migration that failed is of one loss, and the race in the handshake comes last.
func TestFailures(t *testing.T) {
	both := raced
	both.Stack = &trace.Stack{"inet_csk_reqsk_queue_add", "inet_csk_listen_stop"}
	for name, tt := range map[string]struct {
		events []trace.Event
		failed int64
		want   []kind
	}{
		"none":                   {[]trace.Event{raced, queued}, 0, []kind{raceB, inQueue}},
		"that of the queue":      {[]trace.Event{raced, queued}, 1, []kind{raceB, inQueue}},
		"one more":               {[]trace.Event{raced, queued}, 2, []kind{raceA, inQueue}},
		"one of two races":       {[]trace.Event{raced, raced}, 1, []kind{raceA, raceB}},
		"a race that is certain": {[]trace.Event{raced, both}, 1, []kind{raceB, raceA}},
		"of no application":      {[]trace.Event{killed, raced}, 1, []kind{aborted, raceA}},
	} {
		o := outcome(modes[1], tt.events...)
		o.Cycles[0].Counters[result.MigrateFailure] = tt.failed
		var got []kind
		for _, l := range o.losses(true) {
			got = append(got, l.kind)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}

// TestNothingEnded: where no connection came to its end, that is said, and that the load did not run is said of void ones alone.
func TestNothingEnded(t *testing.T) {
	for name, tt := range map[string]struct {
		counts load.Counts
		want   string
	}{
		"all wait": {load.Counts{}, "no connection came to its end"},
		"all void": {load.Counts{load.Void: 3}, "the load generator did not get to run"},
	} {
		o := outcome(modes[1])
		o.Load.Intervals[1].Counts = tt.counts
		if c := o.Cells(&Config{Modes: modes[1:2]}, Terms{}, nil)[0]; c.Status != result.Error || !strings.Contains(c.Reason, tt.want) {
			t.Errorf("%s: %s: %s", name, c.Status, c.Reason)
		}
	}
}

// TestNotMigrations: what migration is not there for is never the kernel's part of a loss.
func TestNotMigrations(t *testing.T) {
	for _, k := range []kind{nobody, overflow, aborted, closed, wrong} {
		if k.whose != result.OfApplication {
			t.Errorf("%q is of the %s", k.name, k.whose)
		}
	}
}

// TestUnlisted: what became of connections beyond those that are listed is counted in the steps, and is the application's where the
// client saw so. Of a reset nobody looked whose it is.
func TestUnlisted(t *testing.T) {
	o := outcome(modes[1], queued, raced)
	o.Cycles[0].Counters = nil
	in := o.Load.Intervals
	in[1].From, in[2].From = o.Cycles[0].From, o.Cycles[0].From+time.Second
	in[1].Counts[load.ResetBefore] += 7
	in[1].Counts[load.EOF], in[2].Counts[load.Refused], in[2].Counts[load.Timeout], in[2].Counts[load.Void] = 4, 2, 1, 9
	for e := range o.Load.Counts {
		o.Load.Counts[e] = load.MaxListed + 1
	}
	another := o.Cycles[0].Steps[0]
	another.At = in[2].From
	o.Cycles[0].Steps = append(o.Cycles[0].Steps, another)
	off := o.Cycles[0]
	off.Mode, off.First, off.Last, off.Resets, off.Steps = modes[0], 3, 3, nil, nil
	o.Cycles = append(o.Cycles, off)
	o.Load.Intervals = append(in, load.Interval{Counts: load.Counts{load.OK: 100}})
	cell := o.Cells(&Config{Modes: modes[:2]}, Terms{Name: "nginx", Judged: []string{modes[1].Name}}, nil)[1]
	r := cell.Reload
	want := []result.LossCause{
		{Why: closed.name, Whose: result.OfApplication, Count: 4},
		{Why: nobody.name, Whose: result.OfApplication, Count: 2}, {Why: inQueue.name, Whose: result.OfKernel, By: "nginx", Count: 1},
		{Why: silent.name, Whose: result.OfNobody, Count: 1}, {Why: raceB.name, Whose: result.OfRace, Count: 1},
		{Why: unlisted.name, Whose: result.OfNobody, Count: 7},
	}
	if diff := cmp.Diff(want, r.Causes); diff != "" {
		t.Errorf("causes, -want +got:\n%s", diff)
	}
	if steps := r.Cycles[0].Steps; steps[0].Lost != 13 || steps[1].Lost != 3 || r.Lost != 16 {
		t.Errorf("lost %d, in the steps %d and %d", r.Lost, steps[0].Lost, steps[1].Lost)
	}
	j := judge{Outcome: o, more: o.unlisted(o.losses(true)), lost: o.losses(true)}
	if got := j.sample(modes[1].Name, true)[0]; got.Application != 6 || got.Lost != 16 {
		t.Errorf("the application's share: %+v", got)
	}
	rest := "; 7 resets that were not looked into count as the kernel's"
	if !strings.HasSuffix(r.Verdict, rest) || !strings.Contains(cell.Reason, "; at least 1 of them by race B") {
		t.Errorf("verdict %q, reason %q", r.Verdict, cell.Reason)
	}
}
