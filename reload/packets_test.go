package reload

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/rpmig/rpmig/capture"
)

// frame builds an Ethernet frame with TCP.
func frame(t testing.TB, src, dst netip.AddrPort, flags capture.Flags, payload string) []byte {
	t.Helper()
	tcp := &layers.TCP{
		SrcPort: layers.TCPPort(src.Port()), DstPort: layers.TCPPort(dst.Port()),
		SYN: flags.Has(capture.SYN), ACK: flags.Has(capture.ACK), FIN: flags.Has(capture.FIN), RST: flags.Has(capture.RST), PSH: flags.Has(capture.PSH),
		Options: []layers.TCPOption{{OptionType: layers.TCPOptionKindNop}, {OptionType: layers.TCPOptionKindNop}},
	}
	var ip gopacket.SerializableLayer
	eth := &layers.Ethernet{SrcMAC: make(net.HardwareAddr, 6), DstMAC: make(net.HardwareAddr, 6)}
	if src.Addr().Is4() {
		four := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice()}
		eth.EthernetType, ip = layers.EthernetTypeIPv4, four
		_ = tcp.SetNetworkLayerForChecksum(four)
	} else {
		six := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: src.Addr().AsSlice(), DstIP: dst.Addr().AsSlice()}
		eth.EthernetType, ip = layers.EthernetTypeIPv6, six
		_ = tcp.SetNetworkLayerForChecksum(six)
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, tcp, gopacket.Payload(payload)); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// TestParseFrame: what it reads is what capture.Decode reads.
func TestParseFrame(t *testing.T) {
	six := netip.MustParseAddrPort("[::1]:80")
	for _, pair := range [][2]netip.AddrPort{{client, server}, {netip.MustParseAddrPort("[::2]:4000"), six}} {
		for _, flags := range []capture.Flags{capture.SYN, capture.ACK | capture.PSH, capture.RST, capture.FIN | capture.ACK} {
			b := frame(t, pair[0], pair[1], flags, "hello")
			s, ok := parseFrame(b)
			if want := (segment{pair[0], pair[1], flags, 5}); !ok || s != want {
				t.Errorf("%+v, %t, want %+v", s, ok, want)
			}
		}
	}
}

func FuzzParseFrame(f *testing.F) {
	f.Add(frame(f, client, server, capture.SYN, ""))
	f.Add(frame(f, netip.MustParseAddrPort("[::2]:4000"), netip.MustParseAddrPort("[::1]:80"), capture.ACK, "x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, ok := parseFrame(b)
		frames, undecodable := capture.Decode([]capture.Packet{{Data: b, Length: len(b)}})
		if len(frames) == 1 && undecodable == 0 && (!ok || s.src != frames[0].Src || s.dst != frames[0].Dst || s.flags != frames[0].Flags) {
			t.Errorf("%+v, %t; Decode: %+v", s, ok, frames[0])
		}
	})
}

// TestPacketsKept: the frames of a connection that ended well are forgotten, and of others the last twelve are kept.
func TestPacketsKept(t *testing.T) {
	now := time.Now()
	ack, fin := capture.ACK, capture.FIN|capture.ACK
	type step struct {
		fromServer bool
		flags      capture.Flags
		payload    string
	}
	for name, tt := range map[string]struct {
		steps []step
		want  int
	}{
		"answered":         {[]step{{false, capture.SYN, ""}, {true, capture.SYN | ack, ""}, {false, ack, "GET"}, {true, ack, "200"}, {true, fin, ""}, {false, fin, ""}}, 0},
		"reset":            {[]step{{false, capture.SYN, ""}, {true, capture.SYN | ack, ""}, {false, ack, "GET"}, {true, capture.RST | ack, ""}}, 4},
		"closed, no byte":  {[]step{{false, capture.SYN, ""}, {true, fin, ""}, {false, fin, ""}}, 3},
		"answered, reset":  {[]step{{false, capture.SYN, ""}, {true, ack, "200"}, {true, capture.RST, ""}, {true, fin, ""}, {false, fin, ""}}, 5},
		"many":             {append([]step{{false, capture.SYN, ""}}, append(make([]step, 30), step{true, capture.RST, ""})...), framesKept},
		"reset, and again": {[]step{{false, capture.SYN, ""}, {true, capture.RST, ""}, {false, capture.SYN, ""}, {true, ack, "200"}, {true, fin, ""}, {false, fin, ""}}, 2},
		"after the end":    {[]step{{false, capture.SYN, ""}, {true, ack, "200"}, {true, fin, ""}, {false, fin, ""}, {true, ack, ""}}, 0},
	} {
		p := &packets{port: 80, flows: map[ends]*flow{}, lost: map[ends][]*flow{}}
		for _, s := range tt.steps {
			src, dst := client, server
			if s.fromServer {
				src, dst = server, client
			}
			p.add(capture.Packet{Time: now, Data: frame(t, src, dst, s.flags, s.payload)})
		}
		for key, f := range p.flows {
			p.keep(key, f)
		}
		if got := len(p.of(ends{client, server}, now)); got != tt.want {
			t.Errorf("%s: %d frames, want %d", name, got, tt.want)
		}
		if got := len(p.of(ends{client, server}, now.Add(time.Minute))); got != 0 {
			t.Errorf("%s: %d frames of another connection", name, got)
		}
	}
}

// TestPacketsReused: what was kept of a connection is its own, whatever others came before it and after.
func TestPacketsReused(t *testing.T) {
	now := time.Now()
	p := &packets{port: 80, flows: map[ends]*flow{}, lost: map[ends][]*flow{}}
	play := func(i int, last capture.Flags) (key ends, sent [][]byte) {
		key = ends{netip.AddrPortFrom(client.Addr(), uint16(4000+i)), server}
		add := func(fromServer bool, flags capture.Flags, payload string) {
			src, dst := key.client, key.server
			if fromServer {
				src, dst = dst, src
			}
			sent = append(sent, frame(t, src, dst, flags, payload))
			p.add(capture.Packet{Time: now, Data: slices.Clone(sent[len(sent)-1])})
		}
		add(false, capture.SYN, "")
		for range i {
			add(false, capture.ACK, "GET"[:i%4])
		}
		add(true, capture.ACK, "200")
		add(false, capture.FIN|capture.ACK, "")
		add(true, last, "")
		return key, sent
	}
	lost := map[ends][][]byte{}
	for i := range 2*framesKept + 1 {
		last := capture.FIN | capture.ACK
		if i%3 == 2 {
			last = capture.RST
		}
		if key, sent := play(i, last); last == capture.RST {
			lost[key] = sent[max(len(sent)-framesKept, 0):]
		}
	}
	for key, f := range p.flows {
		p.keep(key, f)
	}
	for key, want := range lost {
		var got [][]byte
		for _, f := range p.of(key, now) {
			got = append(got, f.Data)
		}
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("%v: %d frames, want the last %d that were sent", key.client, len(got), len(want))
		}
	}
	if len(p.lost) != len(lost) || len(p.free) != 1 {
		t.Errorf("%d kept, want %d; %d to be used again", len(p.lost), len(lost), len(p.free))
	}
}
