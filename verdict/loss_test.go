package verdict

import (
	"strings"
	"testing"

	"github.com/rpmig/rpmig/result"
)

// lost is a stream in which so many were reset.
func lost(n, of int) *result.Stream {
	s := &result.Stream{Reloads: 3, Connections: of, Lost: n, AtStake: 3, InQueue: n, Losses: result.Losses{Reset: n}}
	s.Estimate()
	return s
}

var may = Range{Max: 10000, Unit: "per million"}

// TestStream: a loss is judged by its interval, so that few connections neither accuse nor excuse; and a contradiction, or a
// stream that put no connection at stake, is no conclusion.
func TestStream(t *testing.T) {
	for _, tt := range []struct {
		name   string
		stream *result.Stream
		may    Range
		change func(*Observation)
		want   result.Status
		reason string
	}{
		{name: "within the bounds", stream: lost(1, 5000), want: result.Pass, reason: "5000 connections over 3 reloads: 1 lost"},
		{name: "none of few", stream: lost(0, 200), want: result.Pass, reason: "none lost, 0 per million (0 to 18846); " +
			"surely between 0 and 66746 per million: too few to tell from the bound of 10000; --repeat 8 would"},
		{name: "more than the bound, of few", stream: lost(4, 200), want: result.Pass, reason: "too few to tell from the bound of 10000"},
		{name: "more than the bound, of many", stream: lost(400, 20000), want: result.Fail,
			reason: "lost: want 0 to 10000 per million, got 20000 per million (surely 15635 to 25109)"},
		{name: "most", stream: lost(50, 100), want: result.Fail, reason: "lost: want 0 to 10000 per million, got 500000"},
		{name: "less than the lower bound, of few", stream: lost(6, 100), may: Range{Min: 100000, Max: 600000, Unit: "per million"},
			want: result.Pass, reason: "too few to tell from the bound of 100000"},
		{name: "less than the lower bound, of many", stream: lost(600, 10000), may: Range{Min: 100000, Max: 600000, Unit: "per million"},
			want: result.Fail, reason: "lost: want 100000 to 600000 per million, got 60000"},
		{name: "none, where none may be", stream: lost(0, 200), may: Range{Unit: "per million"}, want: result.Pass, reason: "(0 to 18846)"},
		{name: "one, where none may be", stream: lost(1, 200), may: Range{Unit: "per million"}, want: result.Fail, reason: "want 0 to 0"},
		{name: "no connections", stream: &result.Stream{}, want: result.Error, reason: "in the queues of old listeners: want some, got none"},
		{name: "nothing at stake", stream: lost(1, 5000), change: func(o *Observation) { o.Stream.AtStake = 0 },
			want: result.Error, reason: "in the queues of old listeners: want some, got none"},
		{name: "a client saw a reset that was not sent", stream: lost(1, 5000), change: func(o *Observation) { o.Stream.Reset++ },
			want: result.Error, reason: "clients reset, connections reset: want 2, got 1"},
		{name: "a reset was sent that no client saw", stream: lost(1, 5000), change: func(o *Observation) { o.Stream.InQueue++ },
			want: result.Error, reason: "clients reset, connections reset: want 1, got 2"},
		{name: "a reset that a FIN hid", stream: lost(1, 5000), change: func(o *Observation) {
			o.Stream.Reset, o.Stream.EmptyReply = 0, 1
		}, want: result.Pass},
		{name: "a FIN alone", stream: lost(1, 5000), change: func(o *Observation) {
			o.Stream.Reset, o.Stream.EmptyReply, o.Stream.InQueue = 0, 1, 0
		}, want: result.Pass},
		{name: "every class that has a reset", stream: lost(3, 5000), change: func(o *Observation) {
			o.Stream.Losses = result.Losses{ConnectionRefused: 1, ResetInConnect: 1, Reset: 1}
		}, want: result.Pass},
		{name: "a client waited in vain", stream: lost(0, 5000), change: func(o *Observation) {
			o.Stream.Lost, o.Stream.TimedOut = 1, 1
		}, want: result.Error, reason: "fate of every connection: want known, got 1 client waited in vain"},
		{name: "a reply of another", stream: lost(0, 5000), change: func(o *Observation) {
			o.Stream.Lost, o.Stream.WrongReply = 1, 1
		}, want: result.Fail, reason: "replies that were cut short, or another's: want 0, got 1"},
		{name: "a reply cut short", stream: lost(0, 5000), change: func(o *Observation) {
			o.Stream.Lost, o.Stream.ClosedEarly = 1, 1
		}, want: result.Fail, reason: "replies that were cut short, or another's: want 0, got 1"},
		{name: "the kernel counts resets that nobody sent", stream: lost(1, 5000), change: func(o *Observation) {
			o.Counters[result.OutRsts] = 5
		}, want: result.Fail, reason: "the kernel miscounts: resets sent, and OutRsts: want 0, got 5"},
		{name: "a lossy capture", stream: lost(0, 5000), change: func(o *Observation) { o.Wire.Lost = 1 },
			want: result.Error, reason: "the capture lost 1 frame"},
	} {
		o := observed(true)
		o.Stream = tt.stream
		if tt.change != nil {
			tt.change(o)
		}
		e := Expectation{Lives: true, Loss: tt.may}
		if tt.may.Unit == "" {
			e.Loss = may
		}
		v := Judge(e, o, nil, false)
		if v.Status != tt.want || !strings.Contains(v.Reason, tt.reason) {
			t.Errorf("%s: %s: %s\nwant %s: …%s…", tt.name, v.Status, v.Reason, tt.want, tt.reason)
		}
		if tt.want == result.Pass && tt.stream.Connections == 5000 && strings.Contains(v.Reason, "too few") {
			t.Errorf("%s: %s", tt.name, v.Reason)
		}
	}
}

// TestPooled: cells that pass by themselves come to a FAIL if all of them together are beyond a bound, and whatever they come to
// the last one speaks of all.
func TestPooled(t *testing.T) {
	for _, tt := range []struct {
		name    string
		streams []*result.Stream
		status  result.Status // of the last cell by itself
		want    result.Status
		reason  string
		broken  bool
	}{
		{name: "one", streams: []*result.Stream{lost(0, 200)}, want: result.Pass, reason: "by itself"},
		{name: "few", streams: []*result.Stream{lost(0, 200), lost(1, 200)}, want: result.Pass, reason: "200 connections over 3 reloads: 1 lost, " +
			"1 by RST+ACK and 0 by a bare RST (reset before a reply 1), 5000 per million (883 to 27774); 2 repeats so far: 2500 per million; " +
			"surely between 0 and 40998 per million: too few to tell from the bound of 10000"},
		{name: "enough, within", streams: repeat(lost(0, 200), 8), want: result.Pass, reason: "8 repeats so far: 0 per million"},
		{name: "enough, beyond", streams: repeat(lost(4, 200), 40), want: result.Fail, broken: true,
			reason: "lost, in 40 repeats together: want 0 to 10000 per million, got 20000 per million (surely 13"},
		{name: "as many, in one burst", streams: append(repeat(lost(0, 200), 39), lost(160, 200)), want: result.Pass, reason: "too few to tell"},
		{name: "the last by itself", streams: repeat(lost(100, 200), 2), status: result.Fail, want: result.Fail, reason: "by itself", broken: true},
	} {
		var p result.Pool
		for _, s := range tt.streams {
			p.Add(s)
		}
		v := Verdict{Status: result.Pass, Reason: "by itself"}
		if tt.status != "" {
			v.Status = tt.status
		}
		broken := v.Pool(may, tt.streams[len(tt.streams)-1], &p)
		if v.Status != tt.want || broken != tt.broken || !strings.Contains(v.Reason, tt.reason) {
			t.Errorf("%s: %s: %s\nwant %s: …%s…", tt.name, v.Status, v.Reason, tt.want, tt.reason)
		}
		if pooled := len(tt.streams) > 1 && tt.status == ""; pooled != (len(v.Checks) == 1) {
			t.Errorf("%s: checks %v", tt.name, v.Checks)
		}
	}
}

func repeat(s *result.Stream, n int) []*result.Stream {
	all := make([]*result.Stream, n)
	for i := range all {
		all[i] = s
	}
	return all
}
