package evidence

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/rpmig/rpmig/capture"
	"github.com/rpmig/rpmig/kernel/trace"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// packet is a TCP segment as AF_PACKET captures it on loopback.
func packet(t *testing.T, at time.Time, from, to netip.AddrPort, flags capture.Flags, seq, ack uint32, data string) capture.Packet {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice()}
	tcp := &layers.TCP{
		SrcPort: layers.TCPPort(from.Port()), DstPort: layers.TCPPort(to.Port()), Seq: seq, Ack: ack, Window: 512,
		SYN: flags.Has(capture.SYN), ACK: flags.Has(capture.ACK), RST: flags.Has(capture.RST), PSH: flags.Has(capture.PSH), FIN: flags.Has(capture.FIN),
	}
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	b := gopacket.NewSerializeBuffer()
	eth := &layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: layers.EthernetTypeIPv4}
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, tcp, gopacket.Payload(data))
	if err != nil {
		t.Fatal(err)
	}
	return capture.Packet{Time: at, Data: b.Bytes(), Length: len(b.Bytes())}
}

// TestCrossedResets: a reset that answers what was on its way when the first reset was sent is told from one too many, and a
// SYN+ACK that was sent again before the case was staged from one that was sent again when it should be. What the rule could
// have dropped is what clients sent before it was asked.
func TestCrossedResets(t *testing.T) {
	const c, s = 1000, 2000 // initial sequence numbers
	start := time.Unix(100, 0)
	type frame struct {
		ms     int
		client bool
		flags  capture.Flags
		seq    uint32
		ack    uint32
		data   string
	}
	open := []frame{
		{1, true, capture.SYN, c, 0, ""}, {2, false, capture.SYN | capture.ACK, s, c + 1, ""}, {3, true, capture.ACK, c + 1, s + 1, ""},
	}
	data := frame{4, true, capture.PSH | capture.ACK, c + 1, s + 1, "Hello World"}
	aborted := frame{5, false, capture.RST | capture.ACK, s + 1, c + 1, ""}
	answer := frame{6, false, capture.RST, s + 1, 0, ""}
	again := frame{1000, false, capture.SYN | capture.ACK, s, c + 1, ""}
	ends := []frame{{5, false, capture.FIN | capture.ACK, s + 1, c + 1, ""}, {6, true, capture.FIN | capture.ACK, c + 1, s + 2, ""}}
	late := func(client bool) []frame { // an ACK for a side that has ended, and what that answers
		if client {
			return []frame{{7, true, capture.ACK, c + 2, s + 2, ""}, {8, false, capture.RST, s + 2, 0, ""}}
		}
		return []frame{{7, false, capture.ACK, s + 2, c + 2, ""}, {8, true, capture.RST, c + 2, 0, ""}}
	}
	for _, tt := range []struct {
		name    string
		frames  []frame
		crossed []bool // of each reset
		early   int
	}{
		{"one reset", []frame{data, aborted}, []bool{false}, 0},
		{"data that crossed it", []frame{data, aborted, answer}, []bool{false, true}, 0},
		{"one that answers nothing", []frame{data, aborted, aborted}, []bool{false, false}, 0},
		{"one of the client", []frame{data, {5, true, capture.RST, c + 1, 0, ""}, answer}, []bool{false, false}, 0},
		{"the client's, of what came after both have ended", append(ends[:2:2], late(false)...), []bool{true}, 0},
		{"the server's, of what came after both have ended", append(ends[:2:2], late(true)...), []bool{true}, 0},
		{"after one has ended", append(ends[:1:1], late(false)...), []bool{false}, 0},
		{"of nothing, after both have ended", append(ends[:2:2], frame{8, false, capture.RST, s + 9, 0, ""}), []bool{false}, 0},
		{"a SYN+ACK in time", []frame{again}, nil, 0},
		{"a SYN+ACK too early", []frame{{400, false, again.flags, s, c + 1, ""}}, nil, 1},
	} {
		rec := &capture.Recording{}
		for _, f := range append(open[:3:3], tt.frames...) {
			from, to := server, peers[0]
			if f.client {
				from, to = to, from
			}
			rec.Packets = append(rec.Packets, packet(t, start.Add(time.Duration(f.ms)*time.Millisecond), from, to, f.flags, f.seq, f.ack, f.data))
		}
		o := &verdict.Observation{Steps: result.Steps{{Name: "all"}}, StagedAt: 0.5, Rule: &verdict.Rule{At: 0.0035}}
		(&Record{Start: start}).ReadCapture(rec, o)
		var crossed []bool
		for _, r := range o.Wire.Resets {
			crossed = append(crossed, r.Crossed)
		}
		if len(crossed) != len(tt.crossed) || o.Wire.EarlySYNACKs != tt.early || o.Wire.Handshakes != 1 || o.Rule.Sent != 1 || o.Wire.Lost != 0 {
			t.Errorf("%s: crossed %v, %d early SYN+ACKs, %d segments for the rule; want %v, %d, the first ACK: %+v",
				tt.name, crossed, o.Wire.EarlySYNACKs, o.Rule.Sent, tt.crossed, tt.early, o.Wire)
			continue
		}
		for i := range crossed {
			if crossed[i] != tt.crossed[i] {
				t.Errorf("%s: reset %d crossed %t, want %t", tt.name, i, crossed[i], tt.crossed[i])
			}
		}
	}
}

// handshake is that of a client, and what follows it, in packets a millisecond apart.
func handshake(t *testing.T, client netip.AddrPort, more ...func(at time.Time) capture.Packet) []capture.Packet {
	t.Helper()
	at := func(i int) time.Time { return time.Unix(100, 0).Add(time.Duration(i) * time.Millisecond) }
	packets := []capture.Packet{
		packet(t, at(0), client, server, capture.SYN, 1000, 0, ""), packet(t, at(1), server, client, capture.SYN|capture.ACK, 2000, 1001, ""),
		packet(t, at(2), client, server, capture.ACK, 1001, 2001, ""),
	}
	for i, f := range more {
		packets = append(packets, f(at(3+i)))
	}
	return packets
}

// reset is one that the server sends.
func reset(t *testing.T, client netip.AddrPort, flags capture.Flags) func(time.Time) capture.Packet {
	return func(at time.Time) capture.Packet { return packet(t, at, server, client, flags, 2001, 1001, "") }
}

// TestLostFrames: what cannot be decoded could have been a reset, and so it is lost.
func TestLostFrames(t *testing.T) {
	packets := append(handshake(t, peers[0]), capture.Packet{Time: time.Unix(101, 0)})
	o := &verdict.Observation{}
	(&Record{}).ReadCapture(&capture.Recording{Packets: packets, Lost: 2}, o)
	if o.Wire.Lost != 3 || o.Wire.Packets != 4 || o.Wire.Handshakes != 1 {
		t.Errorf("%+v, want 3 of 4 packets lost", o.Wire)
	}
}

// TestReadCapture: what is counted of a connection's segments, each by itself.
func TestReadCapture(t *testing.T) {
	type sent = func(time.Time) capture.Packet
	client := func(flags capture.Flags, seq, ack uint32, data string) sent {
		return func(at time.Time) capture.Packet { return packet(t, at, peers[0], server, flags, seq, ack, data) }
	}
	from := func(flags capture.Flags, seq uint32, data string) sent {
		return func(at time.Time) capture.Packet { return packet(t, at, server, peers[0], flags, seq, 1001, data) }
	}
	const push = capture.PSH | capture.ACK
	says, more, answer := client(push, 1001, 2001, "x"), client(push, 1002, 2002, "y"), from(push, 2001, "z")
	syn, synack := client(capture.SYN, 1000, 0, ""), from(capture.SYN|capture.ACK, 2000, "")
	for _, tt := range []struct {
		name              string
		more              []sent
		answered, replied bool
		syns, synacks     int
		rule              int // segments that the rule could have dropped by the 5th millisecond
	}{
		{"nothing more", nil, false, false, 0, 0, 1},
		{"the client speaks", []sent{says}, false, false, 0, 0, 2},
		{"and is acknowledged", []sent{says, from(capture.ACK, 2001, "")}, false, false, 0, 0, 2},
		{"and is answered", []sent{says, answer}, true, false, 0, 0, 2},
		{"and acknowledges that", []sent{says, answer, client(capture.ACK, 1002, 2002, "")}, true, false, 0, 0, 3},
		{"and speaks again", []sent{says, answer, more}, true, true, 0, 0, 3},
		{"a SYN again", []sent{syn}, false, false, 1, 0, 1},
		{"a SYN+ACK again, and again", []sent{synack, synack}, false, false, 0, 2, 1},
		{"too late for the rule", []sent{says, answer, more, client(push, 1003, 2002, "late")}, true, true, 0, 0, 3},
	} {
		o := &verdict.Observation{Rule: &verdict.Rule{At: 0.005}}
		(&Record{Start: time.Unix(100, 0)}).ReadCapture(&capture.Recording{Packets: handshake(t, peers[0], tt.more...)}, o)
		w := o.Wire
		if w.Answered[peers[0]] != tt.answered || w.Replied[peers[0]] != tt.replied || w.SYNsAgain != tt.syns || w.SYNACKsAgain != tt.synacks || o.Rule.Sent != tt.rule {
			t.Errorf("%s: %+v, and %d for the rule", tt.name, w, o.Rule.Sent)
		}
	}
}

// TestRuleAt: the rule was in from the beginning of a span to its end, or to this day.
func TestRuleAt(t *testing.T) {
	r := &Record{Rule: []Span{{From: 1, Until: 2}, {From: 3}}}
	for at, want := range map[float64]bool{0.5: false, 1: true, 1.5: true, 2: false, 2.5: false, 3: true, 100: true} {
		if r.ruleAt(at) != want {
			t.Errorf("at %g: %t", at, !want)
		}
	}
}

// TestStreamLoss: the flavour of a connection's first reset tells where it was lost, and another one tells nothing.
func TestStreamLoss(t *testing.T) {
	const bare = capture.RST
	for _, tt := range []struct {
		name                 string
		resets               []capture.Flags
		inQueue, inHandshake int
	}{
		{"none", nil, 0, 0},
		{"in the queue", []capture.Flags{capture.RST | capture.ACK}, 1, 0},
		{"in the handshake", []capture.Flags{bare}, 0, 1},
		{"in the queue, and what crossed", []capture.Flags{capture.RST | capture.ACK, bare, bare}, 1, 0},
	} {
		var more []func(time.Time) capture.Packet
		for _, flags := range tt.resets {
			more = append(more, reset(t, peers[0], flags))
		}
		o := &verdict.Observation{Stream: &result.Stream{}}
		(&Record{}).ReadCapture(&capture.Recording{Packets: handshake(t, peers[0], more...)}, o)
		if o.Stream.InQueue != tt.inQueue || o.Stream.InHandshake != tt.inHandshake {
			t.Errorf("%s: %d in the queue and %d in the handshake, want %d and %d", tt.name, o.Stream.InQueue, o.Stream.InHandshake, tt.inQueue, tt.inHandshake)
		}
	}
}

// TestFlow: the connection that is drawn is the first that was reset, and where none was, the first.
func TestFlow(t *testing.T) {
	lives, lost := handshake(t, peers[0]), handshake(t, peers[1], reset(t, peers[1], capture.RST))
	for _, tt := range []struct {
		name     string
		packets  []capture.Packet
		want     netip.AddrPort
		segments int
	}{{"none", nil, netip.AddrPort{}, 0}, {"one lives", lives, peers[0], 3}, {"the second is lost", append(lives, lost...), peers[1], 4}} {
		r, o := &Record{}, &verdict.Observation{}
		r.ReadCapture(&capture.Recording{Packets: tt.packets}, o)
		client, segments := r.Flow(r.Comments(o, nil))
		if client != tt.want || len(segments) != tt.segments {
			t.Errorf("%s: %d segments of %v, want %d of %v", tt.name, len(segments), client, tt.segments, tt.want)
		}
	}
}

// TestReadTrace: how sure the trace is of each reset is known by its frame, and what the counters tell and the trace does not,
// it has lost.
func TestReadTrace(t *testing.T) {
	packets := handshake(t, peers[0], reset(t, peers[0], capture.RST|capture.ACK))
	at := packets[3].Time
	event := trace.Event{Time: at, Kind: trace.ResetSent, Src: server, Dst: peers[0], State: "CLOSE"}
	unsure := event
	unsure.By = trace.ByAddress
	for _, tt := range []struct {
		name string
		told trace.Recording
		want verdict.Trace
	}{
		{"sure", trace.Recording{Events: []trace.Event{event}}, verdict.Trace{Sure: map[int]bool{4: true}}},
		{"by its addresses", trace.Recording{Events: []trace.Event{unsure}, HostWide: true},
			verdict.Trace{Trace: result.Trace{HostWide: true}, Sure: map[int]bool{4: false}}},
		{"untold", trace.Recording{Lost: 2}, verdict.Trace{Trace: result.Trace{Lost: 3}, Sure: map[int]bool{}}},
		{"a kernel that tells of no resets, and of no softirqs", trace.Recording{Missing: []string{"tcp:tcp_send_reset", "irq:softirq_exit"}}, verdict.Trace{
			Trace: result.Trace{Missing: []string{"tcp:tcp_send_reset", "irq:softirq_exit"}}, LacksResets: true, LacksSoftirqs: true, Sure: map[int]bool{},
		}},
	} {
		r, o := &Record{}, &verdict.Observation{Counters: map[string]int64{result.OutRsts: 1}}
		r.ReadCapture(&capture.Recording{Packets: packets}, o)
		r.ReadTrace(&tt.told, o)
		if !reflect.DeepEqual(*o.Trace, tt.want) {
			t.Errorf("%s: %+v, want %+v", tt.name, *o.Trace, tt.want)
		}
	}
}
