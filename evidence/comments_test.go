package evidence

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rpmig/rpmig/capture"
	"github.com/rpmig/rpmig/kernel/trace"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

var (
	server = netip.MustParseAddrPort("127.0.0.1:80")
	peers  = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1001"), netip.MustParseAddrPort("127.0.0.1:1002")}
)

// TestCommentsSayOnlyWhatIsSure: what could be of another packet, or not of the packet at all, is not said of it. What is
// sure is read back from real captures by TestComments of cmd/rpmig.
func TestCommentsSayOnlyWhatIsSure(t *testing.T) {
	const c, s = 1000, 2000 // initial sequence numbers
	start := time.Unix(0, 0)
	ms := func(n float64) time.Time { return start.Add(time.Duration(n * float64(time.Millisecond))) }
	frame := func(n int, at float64, client bool, flags capture.Flags, seq, ack uint32, payload int) capture.Frame {
		f := capture.Frame{Number: n, Time: ms(at), Src: peers[0], Dst: server, Flags: flags, Seq: seq, Ack: ack, Payload: payload}
		if !client {
			f.Src, f.Dst = f.Dst, f.Src
		}
		return f
	}
	open := []capture.Frame{
		frame(1, 1, true, capture.SYN, c, 0, 0), frame(2, 1.1, false, capture.SYN|capture.ACK, s, c+1, 0),
		frame(3, 1.2, true, capture.ACK, c+1, s+1, 0),
	}
	data := frame(4, 1.3, true, capture.PSH|capture.ACK, c+1, s+1, 11)
	again := frame(5, 210, true, capture.PSH|capture.ACK, c+1, s+1, 11)
	established := trace.Event{Time: ms(1.4), Kind: trace.StateChange, Src: server, Dst: peers[0], OldState: "SYN_RECV", State: "ESTABLISHED"}
	drop := func(at float64, f capture.Frame, reason, state string) trace.Event {
		return trace.Event{
			Time: ms(at), Kind: trace.Drop, Src: f.Src, Dst: f.Dst, Flags: uint8(f.Flags), Seq: f.Seq, Ack: f.Ack, Reason: reason, State: state,
		}
	}
	late := established
	late.Time = ms(211)
	in, about := []Span{{From: 0.0005, Until: 0.3}}, []Span{}
	tables := []result.Table{
		{Step: 1, Sockets: []result.Socket{{State: "LISTEN", Name: "A"}}},
		{Step: 2, At: 0.1, Sockets: []result.Socket{{State: "LISTEN", Name: "B"}, {State: "SYN_RECV", Remote: peers[0]}}},
	}
	cookies := []result.Table{tables[0], {Step: 2, At: 0.1, Sockets: tables[1].Sockets[:1]}}
	for _, tt := range []struct {
		name      string
		frames    []capture.Frame
		events    []trace.Event
		lost      int
		rule      []Span // nil: there is none
		tables    []result.Table
		frame     int
		want, not string
	}{
		{"one segment can have completed the handshake", open, []trace.Event{established}, 0, nil, nil, 3, "SYN_RECV → ESTABLISHED", ""},
		{"two can have", append(open[:3:3], data), []trace.Event{established}, 0, nil, nil, 3, "final ACK", "ESTABLISHED"},
		{"one of two was dropped before", append(open[:3:3], data), []trace.Event{drop(1.25, open[2], "NETFILTER_DROP", ""), established}, 0, nil, nil, 4, "ESTABLISHED", ""},
		{"a segment is dropped where the rule is in", append(open[:3:3], data), nil, 0, in, nil, 4, "dropped by the nftables rule", ""},
		{"though the rule is in, it came through", append(open[:3:3], data), []trace.Event{drop(2, data, "QUEUE_PURGE", "CLOSE")}, 0, in, nil, 4, "QUEUE_PURGE", "dropped"},
		{"the rule is about to go, and drops all the same", append(open[:3:3], data, again), []trace.Event{drop(210.1, again, "NETFILTER_DROP", "")}, 0,
			about, nil, 5, "dropped by the nftables rule", ""},
		{"a drop is of the last transmission before it", append(open[:3:3], data, again), []trace.Event{drop(210.1, again, "NETFILTER_DROP", "")}, 0,
			about, nil, 4, "the client sends", "dropped"},
		{"a drop is of no transmission after it", append(open[:3:3], data, again), []trace.Event{drop(1.4, data, "NETFILTER_DROP", "")}, 0,
			about, nil, 4, "dropped by the nftables rule", ""},
		{"the request has moved", append(open[:3:3], again), []trace.Event{drop(1.25, open[2], "NETFILTER_DROP", ""), late}, 0, nil, tables, 5, "moved: the request was made for A, and the handshake is completed on B", ""},
		{"a SYN cookie does not move", append(open[:3:3], again), []trace.Event{drop(1.25, open[2], "NETFILTER_DROP", ""), late}, 0, nil, cookies, 5, "ESTABLISHED", "moved"},
		{"a reset that the trace has missed", append(open[:3:3], frame(4, 2, false, capture.RST, s+1, 0, 0)), nil, 1, nil, nil, 4, "kernel: not told of; the trace has lost 1 event", "TCP_"},
		{"a reset that ends nothing", append(open[:3:3], frame(4, 2, false, capture.FIN|capture.ACK, s+1, c+1, 0), frame(5, 3, true, capture.FIN|capture.ACK, c+1, s+2, 0),
			frame(6, 4, true, capture.RST, c+2, 0, 0)), nil, 0, nil, nil, 6, "a reset of a connection that has ended", "this reset ends"},
		{"a retransmission right after an answer", append(open[:3:3], data, frame(5, 209, false, capture.ACK, s+1, c+1, 0), frame(6, 210, true, capture.ACK, c+1, s+1, 11)),
			[]trace.Event{{Time: ms(210.1), Kind: trace.Retransmit, Src: peers[0], Dst: server, Seq: c + 1, State: "ESTABLISHED", Softirq: true}}, 0, nil, nil, 6, "tcp_retransmit_skb", "timer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := &verdict.Observation{
				Steps: result.Steps{{Name: "all"}}, Trace: &verdict.Trace{Trace: result.Trace{Lost: tt.lost}},
				Counters: map[string]int64{result.MigrateSuccess: 1},
			}
			if tt.rule != nil {
				o.Rule = &verdict.Rule{Backend: "nftables"}
			}
			r := &Record{Start: start, Rule: tt.rule, flows: capture.Flows(tt.frames), events: tt.events}
			comments := r.Comments(o, tt.tables)
			got := strings.Join(comments.Lines[tt.frame], "\n")
			if !strings.Contains(got, tt.want) || tt.not != "" && strings.Contains(got, tt.not) {
				t.Errorf("frame %d: got %q, want %q and not %q", tt.frame, got, tt.want, tt.not)
			}
			if said := strings.Contains(got, "dropped by the nftables rule"); said != comments.Dropped[tt.frame] {
				t.Errorf("frame %d: dropped is %t, and the words are %q", tt.frame, comments.Dropped[tt.frame], got)
			}
		})
	}
}
