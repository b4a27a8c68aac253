package evidence

import (
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/rpmig/rpmig/capture"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// packet is a TCP segment as AF_PACKET captures it on loopback.
func packet(t *testing.T, at time.Time, from, to netip.AddrPort, flags capture.Flags, seq, ack uint32, data string) capture.Packet {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice()}
	tcp := &layers.TCP{
		SrcPort: layers.TCPPort(from.Port()), DstPort: layers.TCPPort(to.Port()), Seq: seq, Ack: ack, Window: 512,
		SYN: flags.Has(capture.SYN), ACK: flags.Has(capture.ACK), RST: flags.Has(capture.RST), PSH: flags.Has(capture.PSH),
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
