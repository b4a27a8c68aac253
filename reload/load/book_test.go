package load

import (
	"errors"
	"testing"
	"time"
)

const ms = time.Millisecond

// testBook is a book that was begun at time 0.
func testBook() *book {
	b := newBook(&Config{Timeout: time.Second, Stall: 50 * ms, Slice: 100 * ms})
	b.beatAt, b.settled, b.replyAt, b.lastReply, b.r.From, b.r.Intervals[0].From = 0, 0, 0, 0, 0, 0
	return b
}

// served writes down a connection from one time to another.
func (b *book) served(from, to time.Duration) {
	took := uint32(microseconds(to - from))
	b.add(entry{at: to, life: to - from, connect: 1, reply: took, ended: true, replied: true, clean: !b.touched(from)})
}

// TestIntervals: a connection belongs to the last reload that it touches, or else to the interval in which it ends; and so does a pause.
func TestIntervals(t *testing.T) {
	calm, reload := Label{Name: "off"}, Label{Name: "off", Reload: true}
	b := testBook()
	b.served(0, 5*ms)
	b.served(6*ms, 10*ms)
	b.served(11*ms, 15*ms)    // begins before the reload, and ends in it
	b.served(16*ms, 40*ms)    // begins in it and ends after it
	b.served(41*ms, 42*ms)    // after it
	b.served(30*ms, 60*ms)    // begins in it, and ends after the next has begun
	b.served(61*ms, 62*ms)    // in that
	b.served(13*ms, 90*ms)    // touches both: the last
	b.served(85*ms, 91*ms)    // in neither
	b.served(1000*ms, 1e9+ms) // after a pause that nobody marked
	for _, m := range []struct {
		at    time.Duration
		label Label
	}{{12 * ms, reload}, {35 * ms, calm}, {50 * ms, reload}, {80 * ms, calm}} {
		if err := b.mark(m.at, m.label); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range []Lost{{asked: 16 * ms, Ended: 40 * ms}, {asked: 41 * ms, Ended: 42 * ms}, {asked: 13 * ms, Ended: 90 * ms}, {asked: 85 * ms, Ended: 91 * ms}} {
		l.End = EOF
		b.list(l)
	}
	b.finish()
	r := b.report()
	for i, want := range []int{1, 2, 3, 4} {
		if l := r.Lost[i]; l.Interval != want {
			t.Errorf("what was lost from %v to %v is in interval %d, want %d", l.asked, l.Ended, l.Interval, want)
		}
	}
	for i, want := range []struct {
		label Label
		count int64
		pause time.Duration
	}{{Label{}, 2, 5 * ms}, {reload, 2, 25 * ms}, {calm, 1, 2 * ms}, {reload, 3, 28 * ms}, {calm, 2, 910 * ms}} {
		in := r.Intervals[i]
		if i == len(r.Intervals)-1 { // and until the book was closed, now
			in.Pause = want.pause
		}
		if in.Label != want.label || in.Counts[OK] != want.count || in.Replies != want.count || in.Pause != want.pause {
			t.Errorf("interval %d: %+v, want %+v", i, in, want)
		}
	}
	if in, out := r.Latency[reload].Reply, r.Latency[calm].Reply; in.TotalCount() != 5 || out.TotalCount() != 3 || in.Max() < 77_000 || out.Max() > 6100 {
		t.Errorf("in reloads %d up to %d µs, out of them %d up to %d µs", in.TotalCount(), in.Max(), out.TotalCount(), out.Max())
	}
}

// TestMark: what is over cannot be marked any more.
func TestMark(t *testing.T) {
	b := testBook()
	b.served(0, 100*ms)
	for _, m := range []struct {
		at   time.Duration
		want error
	}{{50 * ms, nil}, {50 * ms, nil}, {49 * ms, ErrPast}, {200 * ms, nil}, {150 * ms, ErrPast}} {
		if err := b.mark(m.at, Label{}); !errors.Is(err, m.want) {
			t.Errorf("at %v: %v, want %v", m.at, err, m.want)
		}
	}
	for i := range time.Duration(ringSize) + 1 {
		b.served(300*ms, 300*ms+i)
	}
	if err := b.mark(299*ms, Label{}); err == nil {
		t.Error("an interval can begin before an entry that had to be settled")
	}
	if b.finish(); !errors.Is(b.mark(clock.now(), Label{}), ErrPast) {
		t.Error("it can be marked after its end")
	}
	if n := b.r.Replies; n != ringSize+2 {
		t.Errorf("%d replies", n)
	}
	var sum int64
	for _, in := range b.r.Intervals {
		sum += in.Replies
	}
	if sum != b.r.Replies {
		t.Errorf("%d replies in the intervals, %d in all", sum, b.r.Replies)
	}
}

// TestJudge: a stall voids what it can have lost, and nothing else.
func TestJudge(t *testing.T) {
	for _, test := range []struct {
		name       string
		stall      Stall
		began      time.Duration
		late       bool
		end, wants End
	}{
		{"no stall", Stall{100 * ms, 149 * ms}, 0, true, ResetBefore, ResetBefore},
		{"a reset", Stall{100 * ms, 200 * ms}, 0, false, ResetBefore, ResetBefore},
		{"refused", Stall{100 * ms, 200 * ms}, 0, false, Refused, Refused},
		{"a reset of what was sent late", Stall{100 * ms, 200 * ms}, 0, true, ResetBefore, Void},
		{"timed out", Stall{100 * ms, 201 * ms}, 0, false, Timeout, Void},
		{"timed out, and it was short", Stall{100 * ms, 200 * ms}, 0, false, Timeout, Timeout},
		{"timed out, and began in it", Stall{100 * ms, 300 * ms}, 150 * ms, false, Timeout, Void},
		{"timed out, and began near its end", Stall{100 * ms, 300 * ms}, 200 * ms, false, Timeout, Timeout},
		{"timed out, and began after it", Stall{100 * ms, 300 * ms}, 300 * ms, false, Timeout, Timeout},
		{"a second", Stall{100 * ms, 1100 * ms}, 0, false, ResetBefore, Void},
		{"a second, and began after it", Stall{100 * ms, 1100 * ms}, 1100 * ms, true, ResetBefore, ResetBefore},
		{"served", Stall{100 * ms, 1100 * ms}, 0, true, OK, OK},
	} {
		b := testBook()
		b.beat(test.stall.From)
		if test.stall.From > b.stall {
			b.r.Stalls, b.last, b.lastStall, b.lastLong = nil, nil, Stall{}, Stall{}
		}
		b.beat(test.stall.To)
		if got := b.judge(test.end, test.began, test.late); got != test.wants {
			t.Errorf("%s: %v, want %v", test.name, got, test.wants)
		}
	}
}

// TestStalledSince: stalls add up, and only the last are remembered.
func TestStalledSince(t *testing.T) {
	b := testBook()
	for at := time.Duration(0); len(b.last) < fewStalls; at += 60 * ms {
		b.beat(at)
	}
	end := b.beatAt
	for _, test := range []struct{ since, want time.Duration }{{0, fewStalls * 60 * ms}, {end - 150*ms, 150 * ms}, {end, 0}} {
		if got := b.stalledSince(test.since); got != test.want {
			t.Errorf("since %v: %v, want %v", test.since, got, test.want)
		}
	}
	b.beat(end + 60*ms)
	if got := b.stalledSince(0); got != fewStalls*60*ms || len(b.last) != fewStalls {
		t.Errorf("%v, of %d stalls", got, len(b.last))
	}
}

// TestUnclean: times that a stall has touched are in no histogram, and neither is a pause.
func TestUnclean(t *testing.T) {
	b := testBook()
	b.beat(10 * ms)
	b.served(0, 10*ms)
	b.beat(500 * ms)
	b.served(9*ms, 500*ms)
	b.served(500*ms, 501*ms)
	if err := b.mark(502*ms, Label{}); err != nil || b.r.Intervals[0].Pause != 10*ms {
		t.Errorf("a pause of %v, want that before the first: %v", b.r.Intervals[0].Pause, err)
	}
	b.finish()
	l := b.r.Latency[Label{}]
	if l.Reply.TotalCount() != 2 || l.Reply.Max() > 10_100 || b.r.Replies != 3 {
		t.Errorf("%d of %d replies are timed, up to %d µs", l.Reply.TotalCount(), b.r.Replies, l.Reply.Max())
	}
	if b.r.Stalled != 490*ms || len(b.r.Stalls) != 1 {
		t.Errorf("stalled for %v: %v", b.r.Stalled, b.r.Stalls)
	}
	for i, want := range []time.Duration{10 * ms, 0, 0, 0, 0, 1 * ms} {
		if got := b.r.Slices[i].Max; got < want || got > want+ms {
			t.Errorf("slice %d: up to %v, want %v", i, got, want)
		}
	}
}

// TestSlices: they are merged where there would be too many, and lose nothing.
func TestSlices(t *testing.T) {
	b := testBook()
	const count = 2*maxSlices + 17
	for i := range time.Duration(count) {
		b.served(i*100*ms, i*100*ms+i%7*ms)
	}
	if b.r.Slice != 400*ms || len(b.r.Slices) > maxSlices || cap(b.r.Slices) != maxSlices {
		t.Errorf("%d slices of %v", len(b.r.Slices), b.r.Slice)
	}
	var replies int64
	for i, s := range b.r.Slices {
		replies += s.Replies
		if s.Replies > 4 || s.Counts[OK] != s.Replies || i < len(b.r.Slices)-1 && (s.Max < 3*ms || s.Max > 7*ms || s.P99 > s.Max) {
			t.Fatalf("slice %d: %+v", i, s)
		}
	}
	if replies != count {
		t.Errorf("%d replies, want %d", replies, count)
	}
}

// TestListed: the list of what was lost has an end.
func TestListed(t *testing.T) {
	b := testBook()
	for range MaxListed + 5 {
		b.list(Lost{End: Refused})
	}
	b.list(Lost{End: EOF})
	if len(b.r.Lost) != MaxListed+1 || b.r.Lost[MaxListed].End != EOF {
		t.Errorf("%d listed", len(b.r.Lost))
	}
}
