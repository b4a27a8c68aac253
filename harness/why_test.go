package harness

import (
	"net/netip"
	"testing"
	"time"

	"github.com/rpmig/rpmig/kernel/trace"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/result"
)

// TestOwnerOfTheHost: a trace of the whole host does not tell whether a file refers to a socket. Whose reset it was is
// then said where nobody else can have sent it, and else left open.
func TestOwnerOfTheHost(t *testing.T) {
	active := trace.Event{Kind: trace.ResetSent, By: trace.BySocket, Src: server, Dst: peers[0], State: "CLOSE"}
	with := func(change func(*trace.Event)) trace.Event {
		e := active
		change(&e)
		return e
	}
	for _, tt := range []struct {
		name   string
		event  trace.Event
		change func(*Observation)
		want   result.Owner
	}{
		{"in a call, for a client whom nobody accepted", active, nil, result.ClosingListener},
		{"which BPF tells by the file", active, func(o *Observation) { o.Trace.HostWide = false }, result.OwnSocket},
		{"accepted", active, func(o *Observation) { o.Clients[0].Accepted = true }, ""},
		{"accepted by somebody", active, func(o *Observation) { o.Accepted = []Accepted{{Peer: peers[0]}} }, ""},
		{"of a client that is not known", with(func(e *trace.Event) { e.Dst = netip.MustParseAddrPort("127.0.0.1:9") }), nil, ""},
		{"where accepted clients are not noted", active, func(o *Observation) { o.Stream = &Stream{} }, ""},
		{"by a timer", with(func(e *trace.Event) { e.Softirq = true }), nil, ""},
		{"by its addresses", with(func(e *trace.Event) { e.By = trace.ByAddress }), nil, ""},
		{"in another state", with(func(e *trace.Event) { e.State = "ESTABLISHED" }), nil, ""},
		{"of a listener", with(func(e *trace.Event) { e.State, e.Answer = "LISTEN", true }), nil, result.SurvivingListener},
		{"of no socket", with(func(e *trace.Event) { e.State, e.Answer = "", true }), nil, result.NoSocket},
		{"of our client", with(func(e *trace.Event) { e.Src, e.Dst = peers[0], server }), nil, result.Harness},
	} {
		o := observed(false)
		o.Trace = &TraceSaid{HostWide: true}
		if tt.change != nil {
			tt.change(o)
		}
		if got := o.owner(tt.event); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestExplainListener: a listener's reset without a peer is joined by its port and the time, if it is surely ours, and has
// the wire's ends then.
func TestExplainListener(t *testing.T) {
	start := time.Unix(1, 0)
	wildcard := netip.MustParseAddrPort("[::]:80")
	e := trace.Event{
		Time: start, Kind: trace.ResetSent, By: trace.BySocket, Src: wildcard, Dst: netip.MustParseAddrPort("[::]:0"),
		State: "LISTEN", Reason: "TCP_FLAGS", Answer: true, Softirq: true,
	}
	another := e
	another.Src = netip.MustParseAddrPort("[::]:81")
	unsure := e
	unsure.By = trace.ByAddress
	late := e
	late.Time = start.Add(time.Second)
	for _, tt := range []struct {
		name  string
		event trace.Event
		want  result.Owner
	}{{"ours", e, result.SurvivingListener}, {"of another port", another, ""}, {"unsure", unsure, ""}, {"of another time", late, ""}} {
		o := observed(false)
		o.Wire.Resets = o.Wire.Resets[:1]
		events := []trace.Event{tt.event}
		o.Trace = &TraceSaid{HostWide: true, events: events}
		o.explain(events, start)
		r := o.Wire.Resets[0]
		if r.Owner != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, r.Owner, tt.want)
		}
		if tt.want != "" && (o.Trace.events[0].Src != r.From || o.Trace.events[0].Dst != r.To || r.Reason != "TCP_FLAGS") {
			t.Errorf("%s: %v, of %+v", tt.name, o.Trace.events[0], r)
		}
	}
}

// TestJudgeHostWide: what a trace of the whole host does not tell, or is not sure of, is no disagreement; what it is sure
// of is one.
func TestJudgeHostWide(t *testing.T) {
	for _, tt := range []struct {
		name   string
		owner  result.Owner
		by     trace.By
		host   bool
		want   result.Status
		checks int // of the trace
	}{
		{"as expected, for sure", result.SurvivingListener, trace.BySocket, true, result.Pass, 1},
		{"another's, for sure", result.NoSocket, trace.BySocket, true, result.Fail, 1},
		{"another's, by the addresses", result.NoSocket, trace.ByAddress, true, result.Pass, 0},
		{"not told whose", "", trace.BySocket, true, result.Pass, 0},
		{"not told whose, by those who tell", "", trace.ByNamespace, false, result.Error, 1},
	} {
		o := observed(false)
		o.Trace = &TraceSaid{HostWide: tt.host, sent: map[int]trace.Event{}}
		for i := range o.Wire.Resets {
			o.Wire.Resets[i].Owner = tt.owner
			o.Trace.sent[o.Wire.Resets[i].Frame] = trace.Event{By: tt.by}
		}
		v := judge(migrate.Off(), expect(false), o, nil, false)
		if v.Status != tt.want {
			t.Errorf("%s: %s: %s; want %s", tt.name, v.Status, v.Reason, tt.want)
		}
		n := 0
		for _, c := range v.Checks {
			if c.Witness == result.TraceSaid {
				n++
			}
		}
		if n != tt.checks {
			t.Errorf("%s: %d checks of the trace, want %d", tt.name, n, tt.checks)
		}
	}
}
