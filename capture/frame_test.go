package capture

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

var compareAddrPorts = cmpopts.EquateComparable(netip.AddrPort{})

func TestFlagsString(t *testing.T) {
	for flags, want := range map[Flags]string{
		0:               "none",
		SYN:             "S",
		SYN | ACK:       "S.",
		ACK:             ".",
		PSH | ACK:       "P.",
		FIN | PSH | ACK: "FP.",
		RST | ACK:       "R.",
		RST:             "R",
		0xff:            "FSRP.UEW",
	} {
		if got := flags.String(); got != want {
			t.Errorf("Flags(%#x).String() = %q, want %q", uint8(flags), got, want)
		}
	}
}

func TestDecode(t *testing.T) {
	for _, want := range []Frame{
		{Src: client4, Dst: server4, Flags: SYN, Seq: 1<<32 - 1, Window: 65495},
		{Src: server4, Dst: client4, Flags: SYN | ACK, Seq: 7, Ack: 1 << 31, Window: 65483},
		{Src: client4, Dst: server4, Flags: PSH | ACK, Seq: 1, Ack: 1, Payload: 11},
		{Src: client6, Dst: server6, Flags: PSH | ACK | ECE | CWR, Seq: 1, Ack: 1, Payload: 11},
		{Src: server6, Dst: client6, Flags: RST, Seq: 1},
		{Src: client6, Dst: server6, Flags: FIN | URG},
		// Loopback has the same address at both ends.
		{Src: netip.MustParseAddrPort("127.0.0.1:39258"), Dst: netip.MustParseAddrPort("127.0.0.2:80"), Flags: SYN},
		{Src: netip.MustParseAddrPort("[::1]:39258"), Dst: netip.MustParseAddrPort("[fe80::1]:80"), Flags: SYN},
	} {
		t.Run(fmt.Sprintf("%s from %s", want.Flags, want.Src), func(t *testing.T) {
			want.Number = 1
			want.Time = epoch
			got, undecodable := Decode([]Packet{packet(t, want)})
			if diff := cmp.Diff([]Frame{want}, got, compareAddrPorts); diff != "" {
				t.Errorf("frames (-want +got):\n%s", diff)
			}
			if undecodable != 0 {
				t.Errorf("%d undecodable", undecodable)
			}
		})
	}
}

// TestDecodeOptions: the options of IP are neither of TCP's header nor payload.
func TestDecodeOptions(t *testing.T) {
	ip := &layers.IPv4{
		Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: client4.Addr().AsSlice(), DstIP: server4.Addr().AsSlice(),
		Options: []layers.IPv4Option{{OptionType: 7, OptionLength: 7, OptionData: []byte{4, 0, 0, 0, 0}}, {OptionType: 0}}, // record route
	}
	tcp := &layers.TCP{SrcPort: layers.TCPPort(client4.Port()), DstPort: layers.TCPPort(server4.Port()), Seq: 1, Ack: 1, PSH: true, ACK: true}
	eth := &layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: layers.EthernetTypeIPv4}
	p := serialize(t, tcp.SetNetworkLayerForChecksum(ip), eth, ip, tcp, gopacket.Payload("Hello World"))
	frames, undecodable := Decode([]Packet{p})
	if len(frames) != 1 || undecodable != 0 || frames[0].Payload != 11 {
		t.Errorf("got %+v, and %d undecodable; want 11 bytes of payload", frames, undecodable)
	}
}

// TestDecodeCut: a packet that was longer than its slot keeps its length on the wire.
func TestDecodeCut(t *testing.T) {
	const captured = 1000
	for _, ends := range [][2]netip.AddrPort{{client4, server4}, {client6, server6}} {
		p := packet(t, frame(ends[0], ends[1], ACK, 1, 1, 60000))
		p.Data = p.Data[:captured]
		frames, undecodable := Decode([]Packet{p})
		if len(frames) != 1 || undecodable != 0 {
			t.Fatalf("%d frames and %d undecodable, want 1 and 0", len(frames), undecodable)
		}
		if got := frames[0].Payload; got != 60000 {
			t.Errorf("payload of %d bytes, want 60000", got)
		}
	}
}

// TestDecodeOther: every packet that could be TCP is a frame or counts as undecodable.
func TestDecodeOther(t *testing.T) {
	ip4 := func(protocol layers.IPProtocol) *layers.IPv4 {
		return &layers.IPv4{Version: 4, TTL: 64, Protocol: protocol, SrcIP: client4.Addr().AsSlice(), DstIP: server4.Addr().AsSlice()}
	}
	ip6 := func(next layers.IPProtocol) *layers.IPv6 {
		return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: next, SrcIP: client6.Addr().AsSlice(), DstIP: server6.Addr().AsSlice()}
	}
	ethernet := func(kind layers.EthernetType) *layers.Ethernet {
		return &layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: kind}
	}
	stack := func(l ...gopacket.SerializableLayer) Packet { return serialize(t, nil, l...) }
	bytes := func(n int) gopacket.Payload { return make([]byte, n) }
	fragment := ip4(layers.IPProtocolTCP)
	fragment.Flags = layers.IPv4MoreFragments
	tcp4 := func() Packet { return packet(t, frame(client4, server4, ACK, 1, 1, 4)) }
	edit := func(p Packet, edit func(data []byte)) Packet { edit(p.Data); return p }

	for name, c := range map[string]struct {
		packet      Packet
		undecodable int
	}{
		"arp":                {stack(ethernet(layers.EthernetTypeARP), bytes(28)), 0},
		"udp":                {stack(ethernet(layers.EthernetTypeIPv4), ip4(layers.IPProtocolUDP), bytes(8)), 0},
		"icmpv6":             {stack(ethernet(layers.EthernetTypeIPv6), ip6(layers.IPProtocolICMPv6), bytes(8)), 0},
		"no EtherType of IP": {edit(tcp4(), func(data []byte) { binary.BigEndian.PutUint16(data[12:], 0xffff) }), 0},
		"nothing":            {Packet{Time: epoch}, 1},
		"no IP header":       {stack(ethernet(layers.EthernetTypeIPv4)), 1},
		"no TCP header":      {stack(ethernet(layers.EthernetTypeIPv4), ip4(layers.IPProtocolTCP)), 1},
		"half a TCP header":  {stack(ethernet(layers.EthernetTypeIPv6), ip6(layers.IPProtocolTCP), bytes(10)), 1},
		"fragment":           {stack(ethernet(layers.EthernetTypeIPv4), fragment, bytes(40)), 1},
		"routing header":     {stack(ethernet(layers.EthernetTypeIPv6), ip6(layers.IPProtocolIPv6Routing), bytes(40)), 1},
		"vlan":               {stack(ethernet(layers.EthernetTypeDot1Q), bytes(40)), 1},
		"BIG TCP": {edit(tcp4(), func(data []byte) {
			binary.BigEndian.PutUint16(data[14+2:], 0)
		}), 1},
		"IP longer than the wire": {edit(tcp4(), func(data []byte) {
			binary.BigEndian.PutUint16(data[14+2:], 1000)
		}), 1},
		"TCP header longer than IP": {edit(tcp4(), func(data []byte) {
			data[14+20+12] = 0xf0
		}), 1},
	} {
		t.Run(name, func(t *testing.T) {
			// It is between two TCP packets, and must not change either.
			frames, undecodable := Decode([]Packet{tcp4(), c.packet, tcp4()})
			if undecodable != c.undecodable {
				t.Errorf("%d undecodable, want %d", undecodable, c.undecodable)
			}
			if len(frames) != 2 || frames[0].Number != 1 || frames[1].Number != 3 {
				t.Errorf("frames %v, want numbers 1 and 3", frames)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	for _, p := range []Packet{
		packet(f, frame(client4, server4, SYN, 1, 0, 0)),
		packet(f, frame(client6, server6, PSH|ACK, 1, 1, 11)),
		packet(f, frame(server4, client4, RST, 1, 0, 0)),
	} {
		f.Add(p.Data, p.Length)
		f.Add(p.Data[:len(p.Data)/2], p.Length)
	}
	f.Fuzz(func(t *testing.T, data []byte, length int) {
		fuzzed := Packet{Time: epoch, Data: data, Length: length}
		known := packet(t, frame(client6, server6, PSH|ACK, 1, 1, 11))

		alone, undecodable := Decode([]Packet{fuzzed})
		if len(alone)+undecodable > 1 {
			t.Fatalf("one packet gave %d frames and %d undecodable", len(alone), undecodable)
		}
		for _, frame := range alone {
			if frame.Payload < 0 {
				t.Errorf("%d bytes of payload", frame.Payload)
			}
			if !frame.Src.Addr().IsValid() || frame.Src.Addr().BitLen() != frame.Dst.Addr().BitLen() {
				t.Errorf("from %v to %v", frame.Src, frame.Dst)
			}
		}

		// One parser decodes all packets: none may change what the next one becomes.
		wantKnown, _ := Decode([]Packet{known})
		wantKnown[0].Number = 2
		among, _ := Decode([]Packet{fuzzed, known, fuzzed})
		want := append(alone, wantKnown...)
		for _, frame := range alone {
			frame.Number = 3
			want = append(want, frame)
		}
		if diff := cmp.Diff(want, among, compareAddrPorts); diff != "" {
			t.Errorf("decoded beside another packet (-alone +among):\n%s", diff)
		}
	})
}
