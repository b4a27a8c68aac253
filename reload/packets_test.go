package reload

import (
	"bytes"
	"encoding/binary"
	"maps"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/rpmig/rpmig/capture"
	"github.com/rpmig/rpmig/reload/load"
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
			if want := (segment{pair[0], pair[1], flags}); !ok || s != want {
				t.Errorf("%+v, %t, want %+v", s, ok, want)
			}
		}
	}
}

func FuzzParseFrame(f *testing.F) {
	f.Add(frame(f, client, server, capture.SYN, ""))
	f.Add(frame(f, netip.MustParseAddrPort("[::2]:4000"), netip.MustParseAddrPort("[::1]:80"), capture.ACK, "x"))
	odd := frame(f, client, server, capture.SYN, "")
	binary.BigEndian.PutUint16(odd[12:], 0xffff) // an EtherType that is reserved, and which gopacket has for IP
	f.Add(odd)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, ok := parseFrame(b)
		frames, undecodable := capture.Decode([]capture.Packet{{Data: b, Length: len(b)}})
		if len(frames) == 1 && undecodable == 0 && (!ok || s.src != frames[0].Src || s.dst != frames[0].Dst || s.flags != frames[0].Flags) {
			t.Errorf("%+v, %t; Decode: %+v", s, ok, frames[0])
		}
	})
}

// lostAt has the load tell that a connection was lost.
func lostAt(at time.Time, all ...ends) func(int) []load.Lost {
	return func(from int) (list []load.Lost) {
		for _, key := range all {
			list = append(list, load.Lost{Local: key.client, Remote: key.server, Ended: time.Duration(at.UnixNano())})
		}
		return list[from:]
	}
}

// TestPacketsKept: the last twelve frames of a connection that was lost are kept, however it ended, and those of others forgotten.
func TestPacketsKept(t *testing.T) {
	now := time.Now()
	key := ends{client, server}
	ack, fin := capture.ACK, capture.FIN|capture.ACK
	type step struct {
		fromServer bool
		flags      capture.Flags
		payload    string
	}
	for name, tt := range map[string]struct {
		steps []step
		want  int // if it was lost
	}{
		"answered":         {[]step{{false, capture.SYN, ""}, {true, capture.SYN | ack, ""}, {false, ack, "GET"}, {true, ack, "503"}, {true, fin, ""}, {false, fin, ""}}, 6},
		"reset":            {[]step{{false, capture.SYN, ""}, {true, capture.SYN | ack, ""}, {false, ack, "GET"}, {true, capture.RST | ack, ""}}, 4},
		"closed, no byte":  {[]step{{false, capture.SYN, ""}, {true, fin, ""}, {false, fin, ""}}, 3},
		"answered, reset":  {[]step{{false, capture.SYN, ""}, {true, ack, "200"}, {true, capture.RST, ""}, {true, fin, ""}, {false, fin, ""}}, 5},
		"no end":           {[]step{{false, capture.SYN, ""}, {true, capture.SYN | ack, ""}, {false, fin, ""}}, 3},
		"many":             {append([]step{{false, capture.SYN, ""}}, append(make([]step, 30), step{true, capture.RST, ""})...), framesKept},
		"reset, and again": {[]step{{false, capture.SYN, ""}, {true, capture.RST, ""}, {false, capture.SYN, ""}, {true, ack, "200"}, {true, fin, ""}, {false, fin, ""}}, 2},
		"after the end":    {[]step{{false, capture.SYN, ""}, {true, ack, "200"}, {true, fin, ""}, {false, fin, ""}, {true, ack, ""}}, 5},
	} {
		for _, lost := range []bool{true, false} {
			told := lostAt(now)
			if lost {
				told = lostAt(now, key)
			} else {
				tt.want = 0
			}
			p := newPackets(80, told, 0)
			for _, s := range tt.steps {
				src, dst := client, server
				if s.fromServer {
					src, dst = server, client
				}
				p.add(capture.Packet{Time: now, Data: frame(t, src, dst, s.flags, s.payload)})
			}
			p.sortAll()
			if got := len(p.of(key, now)); got != tt.want {
				t.Errorf("%s, lost: %t: %d frames, want %d", name, lost, got, tt.want)
			}
			if got := len(p.of(key, now.Add(time.Minute))); got != 0 {
				t.Errorf("%s: %d frames of another connection", name, got)
			}
			if len(p.flows)+len(p.over) > 0 {
				t.Errorf("%s: it was not sorted", name)
			}
		}
	}
}

// TestPacketsAmongMany: the one that is lost is kept, however many end by a reset and are not; it is kept until that can be known.
func TestPacketsAmongMany(t *testing.T) {
	now := time.Now()
	p := newPackets(80, nil, 0)
	var told []ends
	p.losses = func(from int) []load.Lost { return lostAt(now, told...)(from) }
	last := ends{}
	for i := range 3 * PacketsOf {
		last = ends{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 1, byte(i >> 15)}), uint16(1000+i&0x7fff)), server}
		p.add(capture.Packet{Time: now, Data: frame(t, last.client, server, capture.SYN, "")})
		p.add(capture.Packet{Time: now, Data: frame(t, server, last.client, capture.RST, "")})
		if i%1000 == 0 {
			p.sort(now.Add(time.Second))
		}
	}
	p.sort(now) // it is not known yet
	told = []ends{last}
	p.sort(now.Add(time.Second))
	if len(p.of(last, now)) != 2 || p.kept != 1 || len(p.flows) > 0 {
		t.Errorf("%d frames, want 2; %d connections are kept, want 1", len(p.of(last, now)), p.kept)
	}
}

// TestPacketsOf: of more losses than PacketsOf the first are kept, and the others counted.
func TestPacketsOf(t *testing.T) {
	now := time.Now()
	var told []ends
	for i := range PacketsOf + 5 {
		told = append(told, ends{netip.AddrPortFrom(client.Addr(), uint16(1000+i)), server})
	}
	p := newPackets(80, lostAt(now, told...), 0)
	for _, key := range told {
		p.add(capture.Packet{Time: now, Data: frame(t, key.client, server, capture.SYN, "")})
		p.add(capture.Packet{Time: now, Data: frame(t, server, key.client, capture.RST, "")})
	}
	p.sortAll()
	o := &Outcome{packets: p}
	if len(p.lost) != PacketsOf || o.Without() != 5 || p.of(told[0], now) == nil || p.of(told[PacketsOf], now) != nil {
		t.Errorf("%d kept and %d without, want %d and 5", len(p.lost), o.Without(), PacketsOf)
	}
	if n := (&Outcome{}).Without(); n != 0 {
		t.Errorf("without --packets, %d", n)
	}
}

// TestPacketsReused: what was kept of a connection is its own, whatever others came before it and after.
func TestPacketsReused(t *testing.T) {
	now := time.Now()
	p := newPackets(80, nil, 0)
	var ring []byte // where each frame is until the next one comes
	play := func(i int, last capture.Flags) (key ends, sent [][]byte) {
		key = ends{netip.AddrPortFrom(client.Addr(), uint16(4000+i)), server}
		add := func(fromServer bool, flags capture.Flags, payload string) {
			src, dst := key.client, key.server
			if fromServer {
				src, dst = dst, src
			}
			sent = append(sent, frame(t, src, dst, flags, payload))
			ring = append(ring[:0], sent[len(sent)-1]...)
			p.add(capture.Packet{Time: now, Data: ring})
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
		p.losses = lostAt(now, slices.Collect(maps.Keys(lost))...)
		p.told = 0
		p.sort(now.Add(time.Second))
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

// TestPacketsBacklog: what came while the reader did not run is sorted as it is read, so that it takes no more room than ever.
func TestPacketsBacklog(t *testing.T) {
	now := time.Now()
	p := newPackets(80, lostAt(now), 0)
	for i := range 10_000 { // a second
		now = now.Add(100 * time.Microsecond)
		from := netip.AddrPortFrom(client.Addr(), uint16(1000+i))
		p.add(capture.Packet{Time: now, Data: frame(t, from, server, capture.SYN, "")})
		p.add(capture.Packet{Time: now, Data: frame(t, server, from, capture.FIN, "")})
		p.add(capture.Packet{Time: now, Data: frame(t, from, server, capture.FIN, "")})
	}
	if room := len(p.flows) + len(p.free); room > 1000 {
		t.Errorf("room for %d connections", room)
	}
}
