package load

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// MaxListed is how many lost connections of each End Report.Lost has.
const MaxListed = 10_000

const (
	ringSize  = 1 << 17 // entries that may still be told which interval they belong to: 4 MiB
	maxSlices = 8192    // then pairs of them are merged
	maxStalls = 1000
	longStall = time.Second // see Report.Stalls
	fewStalls = 256         // the last ones, for stalledSince: 12.8 s or more
	patient   = 10          // a connection that timed out is void where stalls took more than Config.Timeout divided by this
	chunk     = 512         // entries that are settled while the engine waits: some 20 µs
)

// entry is the end of a connection, a right reply, or both, until it is known to which interval it belongs.
type entry struct {
	at          time.Duration
	life        time.Duration // of the connection, or since its last request
	connect     uint32        // µs
	reply       uint32        // µs
	end         End
	ended       bool // the connection
	replied     bool
	clean       bool // no stall has touched it
	cleanSilent bool // nor the time since the last right reply
}

// book is where an engine writes down what became of its connections. Its memory is bounded, apart from the intervals' and that of
// the lost connections up to their limit. The engine holds mu while it writes.
type book struct {
	mu   sync.Mutex
	live [NumEnds]atomic.Int64 // r.Counts, for those who only look

	ring       []entry
	head, tail uint64        // of the ring; they only grow
	settled    time.Duration // the newest entry that belongs to an interval
	current    int           // the interval of that
	replyAt    time.Duration // the last right reply that was settled

	stall, timeout      time.Duration // what is one, and Config.Timeout
	last                []Stall       // the last fewStalls
	beatAt              time.Duration
	lastStall, lastLong Stall

	r         Report
	lastReply time.Duration // the last right reply
	listed    Counts
	slice     int // the slice being filled
	sliceTime *hdrhistogram.Histogram
	most      int64 // µs; what a histogram can hold
}

// newBook begins a book at the current time.
func newBook(c *Config) *book {
	now := clock.now()
	b := &book{
		ring: make([]entry, ringSize), stall: c.Stall, beatAt: now, timeout: c.Timeout, settled: now, replyAt: now, lastReply: now,
		most: microseconds(max(2*c.Timeout, time.Minute)),
	}
	b.sliceTime = b.histogram()
	b.r = Report{From: now, Slice: c.Slice, Slices: make([]Slice, 1, maxSlices), Latency: map[Label]Latency{}}
	b.begin(now, Label{})
	return b
}

func (b *book) histogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, b.most, 2) }

func (b *book) begin(at time.Duration, label Label) {
	b.r.Intervals = append(b.r.Intervals, Interval{Label: label, From: at})
	if _, has := b.r.Latency[label]; !has {
		b.r.Latency[label] = Latency{b.histogram(), b.histogram()}
	}
}

// beat says that the generator runs, and tells whether it has not done so for too long.
func (b *book) beat(now time.Duration) {
	gap := Stall{b.beatAt, now}
	b.beatAt = now
	if now-gap.From <= b.stall {
		return
	}
	b.r.Stalled += now - gap.From
	if len(b.r.Stalls) < maxStalls {
		b.r.Stalls = append(b.r.Stalls, gap)
	}
	b.lastStall = gap
	if len(b.last) == fewStalls {
		b.last = append(b.last[:0], b.last[1:]...)
	}
	b.last = append(b.last, gap)
	if now-gap.From >= longStall {
		b.lastLong = gap
	}
}

// touched tells whether there was a stall since a time.
func (b *book) touched(since time.Duration) bool { return b.lastStall.To > since }

// stalledSince is how long the generator has not run since a time.
func (b *book) stalledSince(at time.Duration) (sum time.Duration) {
	for _, s := range b.last {
		sum += max(s.To-max(s.From, at), 0)
	}
	return sum
}

// judge is the end of a connection that began at some time: void, if a stall can have been the reason. Late is one whose request
// had not been sent when there was a stall. A reply is not missed for short stalls, as what came in one is read before the time is
// looked at; but a machine that keeps the generator from running for a good part of the time does so to the server.
func (b *book) judge(end End, began time.Duration, late bool) End {
	switch {
	case !end.Lost():
		return end
	case b.lastLong.To > began, b.touched(began) && late, end == Timeout && b.stalledSince(began) > b.timeout/patient:
		return Void
	default:
		return end
	}
}

// add writes an entry down, which is not before the last.
func (b *book) add(e entry) {
	slice := b.sliceAt(e.at)
	if e.ended {
		b.r.Counts[e.end]++
		b.live[e.end].Store(b.r.Counts[e.end])
		slice.Counts[e.end]++
	}
	if e.replied {
		b.r.Replies++
		slice.Replies++
		e.cleanSilent = !b.touched(b.lastReply)
		b.lastReply = e.at
		if e.clean {
			_ = b.sliceTime.RecordValue(min(int64(e.reply), b.most)) // cannot fail: it is in the range
		}
	}
	if b.head-b.tail == ringSize {
		b.settle()
	}
	b.ring[b.head%ringSize] = e
	b.head++
}

// list keeps a lost connection, whose end has been judged.
func (b *book) list(l Lost) {
	if b.listed[l.End]++; b.listed[l.End] > MaxListed {
		return
	}
	b.r.Lost = append(b.r.Lost, l)
}

// lost are those that list has kept, from an index on.
func (b *book) lost(from int) []Lost {
	if c := b.sum(); c.Lost() <= int64(from) { // the engine need not wait
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.r.Lost[from:])
}

// notStarted counts a connection that could not begin.
func (b *book) notStarted() {
	b.r.NotStarted++
	b.add(entry{at: b.beatAt, end: Void, ended: true})
}

// settle lets the oldest entry count in its interval.
func (b *book) settle() {
	e := &b.ring[b.tail%ringSize]
	b.tail++
	b.settled = e.at
	for b.current+1 < len(b.r.Intervals) && e.at >= b.r.Intervals[b.current+1].From {
		b.current++
	}
	in := &b.r.Intervals[b.belongs(b.current, e.at-e.life)]
	if e.ended {
		in.Counts[e.end]++
	}
	latency := b.r.Latency[in.Label]
	if e.clean && e.connect > 0 {
		_ = latency.Connect.RecordValue(min(int64(e.connect), b.most))
	}
	if !e.replied {
		return
	}
	in.Replies++
	if e.clean {
		_ = latency.Reply.RecordValue(min(int64(e.reply), b.most))
	}
	b.silence(e.at, e.cleanSilent)
}

// silence ends a time without a right reply.
func (b *book) silence(at time.Duration, clean bool) {
	if clean {
		in := &b.r.Intervals[b.belongs(b.current, b.replyAt)]
		in.Pause = max(in.Pause, at-b.replyAt)
	}
	b.replyAt = at
}

// belongs is to which interval something belongs that began at some time and ended in an interval: to the last reload that it
// touched, or else to that one.
func (b *book) belongs(in int, began time.Duration) int {
	for i := in; i >= 0; i-- {
		if b.r.Intervals[i].Reload {
			return i
		}
		if b.r.Intervals[i].From <= began {
			break
		}
	}
	return in
}

func (b *book) mark(at time.Duration, label Label) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if at < b.r.Intervals[len(b.r.Intervals)-1].From || at < b.settled || b.r.To != 0 {
		return ErrPast
	}
	b.begin(at, label)
	for b.tail < b.head && b.ring[b.tail%ringSize].at < at {
		for range chunk {
			if b.tail < b.head && b.ring[b.tail%ringSize].at < at {
				b.settle()
			}
		}
		b.mu.Unlock()
		b.mu.Lock()
	}
	return nil
}

// finish closes the book.
func (b *book) finish() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.tail < b.head {
		b.settle()
	}
	b.r.To = clock.now()
	b.current = len(b.r.Intervals) - 1
	b.silence(b.r.To, !b.touched(b.lastReply))
	b.closeSlice()
}

func (b *book) sum() (c Counts) {
	for e := range c {
		c[e] = b.live[e].Load()
	}
	return c
}

// report is a copy.
func (b *book) report() Report {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.r
	r.Intervals, r.Slices = slices.Clone(r.Intervals), slices.Clone(r.Slices)
	r.Lost, r.Stalls = slices.Clone(r.Lost), slices.Clone(r.Stalls)
	r.Latency = make(map[Label]Latency, len(b.r.Latency))
	for label, l := range b.r.Latency {
		r.Latency[label] = Latency{l.Connect.Clone(), l.Reply.Clone()}
	}
	if r.To == 0 {
		r.To = clock.now()
	}
	in := 0
	for i := range r.Lost { // they are in the order in which they ended
		l := &r.Lost[i]
		for in+1 < len(r.Intervals) && l.Ended >= r.Intervals[in+1].From {
			in++
		}
		l.Interval = b.belongs(in, l.asked)
	}
	return r
}

// sliceAt is the slice of a time, which is not before that of the last call.
func (b *book) sliceAt(at time.Duration) *Slice {
	for {
		i := int((at - b.r.From) / b.r.Slice)
		if i == b.slice {
			return &b.r.Slices[b.slice]
		}
		b.closeSlice()
		if i >= maxSlices {
			b.widen()
			continue
		}
		for b.slice < i {
			b.slice++
			b.r.Slices = append(b.r.Slices, Slice{})
		}
	}
}

// closeSlice writes down the times of the slice being filled.
func (b *book) closeSlice() {
	if b.sliceTime.TotalCount() == 0 {
		return
	}
	s := &b.r.Slices[b.slice]
	s.P99 = max(s.P99, time.Duration(b.sliceTime.ValueAtQuantile(99))*time.Microsecond)
	s.Max = max(s.Max, time.Duration(b.sliceTime.Max())*time.Microsecond)
	b.sliceTime.Reset()
}

// widen merges pairs of slices.
func (b *book) widen() {
	all := b.r.Slices
	for i := range all {
		if i%2 == 0 {
			all[i/2] = all[i]
			continue
		}
		to := &all[i/2]
		to.Counts.Add(all[i].Counts)
		to.Replies += all[i].Replies
		to.P99, to.Max = max(to.P99, all[i].P99), max(to.Max, all[i].Max)
	}
	b.r.Slices = all[:(len(all)+1)/2]
	b.r.Slice *= 2
	b.slice = len(b.r.Slices) - 1
}
