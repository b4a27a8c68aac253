package evidence

import (
	"net/netip"
	"testing"
	"time"

	"github.com/rpmig/rpmig/capture"
	"github.com/rpmig/rpmig/kernel/trace"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// lost is what was observed of two clients whose connections a reset ended.
func lost() *verdict.Observation {
	o := &verdict.Observation{Staged: len(peers)}
	for i, p := range peers {
		o.Clients = append(o.Clients, verdict.Client{Local: p, Says: "ECONNRESET"})
		o.Wire.Resets = append(o.Wire.Resets, result.Reset{Frame: 6 + i, From: server, To: p, Flavour: result.BareRST})
	}
	return o
}

// TestOwnerOfTheHost: a trace of the whole host does not tell whether a file refers to a socket. Whose reset it was is
// then said where nobody else can have sent it, and else left open.
func TestOwnerOfTheHost(t *testing.T) {
	active := trace.Event{Kind: trace.ResetSent, By: trace.BySocket, Src: server, Dst: peers[0], State: "CLOSE"}
	with := func(change func(*trace.Event)) trace.Event {
		e := active
		change(&e)
		return e
	}
	byBPF := func(o *verdict.Observation) { o.Trace.HostWide = false }
	for _, tt := range []struct {
		name   string
		event  trace.Event
		change func(*verdict.Observation)
		want   result.Owner
	}{
		{"in a call, for a client that was not accepted", active, nil, result.ClosingListener},
		{"in a call, which BPF tells by the file", with(func(e *trace.Event) { e.Orphan = true }), byBPF, result.ClosingListener},
		{"by a timer, of a socket without a file", with(func(e *trace.Event) { e.Orphan, e.Softirq = true, true }), byBPF, result.OwnSocket},
		{"of a socket without a file, where softirqs are not told of", with(func(e *trace.Event) { e.Orphan = true }), func(o *verdict.Observation) {
			o.Trace.HostWide, o.Trace.LacksSoftirqs = false, true
		}, ""},
		{"of a socket with a file", active, byBPF, result.OwnSocket},
		{"accepted", active, func(o *verdict.Observation) { o.Clients[0].Accepted = true }, ""},
		{"accepted by somebody", active, func(o *verdict.Observation) { o.Accepted = []verdict.Accepted{{Peer: peers[0]}} }, ""},
		{"of a client that is not known", with(func(e *trace.Event) { e.Dst = netip.MustParseAddrPort("127.0.0.1:9") }), nil, ""},
		{"where accepted clients are not noted", active, func(o *verdict.Observation) { o.Stream = &result.Stream{} }, ""},
		{"by a timer", with(func(e *trace.Event) { e.Softirq = true }), nil, ""},
		{"by its addresses", with(func(e *trace.Event) { e.By = trace.ByAddress }), nil, ""},
		{"in another state", with(func(e *trace.Event) { e.State = "ESTABLISHED" }), nil, ""},
		{"of a listener", with(func(e *trace.Event) { e.State, e.Answer = "LISTEN", true }), nil, result.SurvivingListener},
		{"of a listener that closes meanwhile", with(func(e *trace.Event) { e.Answer, e.Reason = true, "TCP_FLAGS" }), byBPF, ""},
		{"of the same, where the kernel gives no reason", with(func(e *trace.Event) { e.Answer = true }), byBPF, ""},
		{"of a connection that data ended", with(func(e *trace.Event) { e.Answer, e.Reason = true, "TCP_ABORT_ON_DATA" }), byBPF, result.OwnSocket},
		{"of no socket", with(func(e *trace.Event) { e.State, e.Answer = "", true }), nil, result.NoSocket},
		{"of our client", with(func(e *trace.Event) { e.Src, e.Dst = peers[0], server }), nil, result.Harness},
	} {
		o := lost()
		o.Trace = &verdict.Trace{Trace: result.Trace{HostWide: true}}
		if tt.change != nil {
			tt.change(o)
		}
		if got := owner(tt.event, o); got != tt.want {
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
		o := lost()
		o.Wire.Resets = o.Wire.Resets[:1]
		o.Trace = &verdict.Trace{Trace: result.Trace{HostWide: true}}
		record := Record{Start: start, events: []trace.Event{tt.event}, sent: map[int]trace.Event{}}
		record.explainResets(o)
		r := o.Wire.Resets[0]
		if r.Owner != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, r.Owner, tt.want)
		}
		if tt.want != "" && (record.events[0].Src != r.From || record.events[0].Dst != r.To || r.Reason != "TCP_FLAGS") {
			t.Errorf("%s: %v, of %+v", tt.name, record.events[0], r)
		}
	}
}

// TestExplainEach: an event explains one reset, the one that is nearest in time.
func TestExplainEach(t *testing.T) {
	start := time.Unix(1, 0)
	event := func(ms int, reason string) trace.Event {
		return trace.Event{
			Time: start.Add(time.Duration(ms) * time.Millisecond), Kind: trace.ResetSent, Src: server, Dst: peers[0], State: "CLOSE", Reason: reason,
		}
	}
	another, elsewhere := event(0, "OTHER"), event(0, "ELSE")
	another.Dst, elsewhere.Src = peers[1], netip.AddrPortFrom(server.Addr(), 81)
	for _, tt := range []struct {
		name   string
		events []trace.Event
		want   [2]string // the reasons of the resets
	}{
		{"of another client, and of another server", []trace.Event{another, elsewhere}, [2]string{}},
		{"each has one", []trace.Event{event(0, "FIRST"), event(20, "SECOND")}, [2]string{"FIRST", "SECOND"}},
		{"one for both", []trace.Event{event(0, "FIRST")}, [2]string{"FIRST", ""}},
		{"none", nil, [2]string{}},
	} {
		o := &verdict.Observation{Trace: &verdict.Trace{}}
		for i := range tt.want {
			o.Wire.Resets = append(o.Wire.Resets, result.Reset{Time: float64(i) * 0.02, Frame: i + 1, From: server, To: peers[0]})
		}
		record := Record{Start: start, events: tt.events, sent: map[int]trace.Event{}}
		record.explainResets(o)
		if got := [2]string{o.Wire.Resets[0].Reason, o.Wire.Resets[1].Reason}; got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestExplainByKind: an event explains a reset of its own kind alone, though another between the same ends is nearer in time.
func TestExplainByKind(t *testing.T) {
	const syn, ack = uint8(capture.SYN), uint8(capture.ACK)
	start := time.Unix(1, 0)
	abort := func(us int) trace.Event {
		return trace.Event{
			Time: start.Add(time.Duration(us) * time.Microsecond), Kind: trace.ResetSent, Src: server, Dst: peers[0], State: "CLOSE", Orphan: true,
		}
	}
	answer := func(us int, flags uint8) trace.Event { // 0: the flags are not known
		e := abort(us)
		e.State, e.Orphan, e.Answer, e.Softirq, e.Flags = "LISTEN", false, true, true, flags
		return e
	}
	type frame struct {
		flags capture.Flags
		seq   uint32
	}
	aborted, bare, refusal := frame{capture.RST | capture.ACK, 7}, frame{capture.RST, 7}, frame{capture.RST | capture.ACK, 0}
	const closing, listener, none = result.ClosingListener, result.SurvivingListener, result.Owner("")
	for _, tt := range []struct {
		name   string
		frames [2]frame // at 10 and 13 µs
		events []trace.Event
		want   [2]result.Owner
	}{
		{"what was in flight is answered before the abort is told of", [2]frame{aborted, bare}, []trace.Event{answer(12, ack), abort(15)}, [2]result.Owner{closing, listener}},
		{"the same, where flags are not known", [2]frame{aborted, bare}, []trace.Event{answer(12, 0), abort(15)}, [2]result.Owner{closing, listener}},
		{"only the answer is told of", [2]frame{aborted, bare}, []trace.Event{answer(11, ack)}, [2]result.Owner{none, listener}},
		{"the same, where flags are not known", [2]frame{aborted, bare}, []trace.Event{answer(11, 0)}, [2]result.Owner{none, listener}},
		{"only the abort is told of", [2]frame{bare, aborted}, []trace.Event{abort(10)}, [2]result.Owner{none, closing}},
		{"only the answer to a SYN is told of", [2]frame{bare, refusal}, []trace.Event{answer(10, syn)}, [2]result.Owner{none, listener}},
		{"only the answer to an ACK is told of", [2]frame{refusal, bare}, []trace.Event{answer(10, ack)}, [2]result.Owner{none, listener}},
		{"an answer to a SYN, whose flags are not known", [2]frame{aborted, refusal}, []trace.Event{answer(10, 0)}, [2]result.Owner{none, listener}},
	} {
		o := &verdict.Observation{Trace: &verdict.Trace{}}
		var flow capture.Flow
		for i, f := range tt.frames {
			at := time.Duration(10+3*i) * time.Microsecond
			flow.Frames = append(flow.Frames, capture.Segment{
				Frame: capture.Frame{Number: i + 1, Src: server, Dst: peers[0], Flags: f.flags, Seq: f.seq}, Role: capture.RoleReset,
			})
			o.Wire.Resets = append(o.Wire.Resets, result.Reset{
				Time: at.Seconds(), Frame: i + 1, From: server, To: peers[0], Flavour: result.Flavour(flow.Resets()[i].Flavour),
			})
		}
		record := Record{Start: start, flows: []capture.Flow{flow}, events: tt.events, sent: map[int]trace.Event{}}
		record.explainResets(o)
		if got := [2]result.Owner{o.Wire.Resets[0].Owner, o.Wire.Resets[1].Owner}; got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}
