package capture

import (
	"net/netip"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

var (
	client4 = netip.MustParseAddrPort("127.0.0.1:39258")
	server4 = netip.MustParseAddrPort("127.0.0.1:80")
	client6 = netip.MustParseAddrPort("[::1]:39258")
	server6 = netip.MustParseAddrPort("[::1]:80")

	epoch = time.Unix(1_700_000_000, 123_456_789)
)

// frame returns a frame with n bytes of payload.
func frame(src, dst netip.AddrPort, flags Flags, seq, ack uint32, n int) Frame {
	return Frame{Src: src, Dst: dst, Flags: flags, Seq: seq, Ack: ack, Payload: n}
}

// numbered numbers frames, from 1.
func numbered(frames ...Frame) []Frame {
	for i := range frames {
		frames[i].Number = i + 1
	}
	return frames
}

// packet builds the packet that would carry f.
func packet(tb testing.TB, f Frame) Packet {
	tb.Helper()
	eth := &layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6)}
	tcp := &layers.TCP{
		SrcPort: layers.TCPPort(f.Src.Port()), DstPort: layers.TCPPort(f.Dst.Port()),
		Seq: f.Seq, Ack: f.Ack, Window: f.Window,
		FIN: f.Flags.Has(FIN), SYN: f.Flags.Has(SYN), RST: f.Flags.Has(RST), PSH: f.Flags.Has(PSH),
		ACK: f.Flags.Has(ACK), URG: f.Flags.Has(URG), ECE: f.Flags.Has(ECE), CWR: f.Flags.Has(CWR),
		Options: []layers.TCPOption{{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{0xff, 0xd7}}},
	}
	src, dst := f.Src.Addr().AsSlice(), f.Dst.Addr().AsSlice()
	payload := gopacket.Payload(make([]byte, f.Payload))
	if f.Src.Addr().Is4() {
		eth.EthernetType = layers.EthernetTypeIPv4
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: src, DstIP: dst}
		return serialize(tb, tcp.SetNetworkLayerForChecksum(ip), eth, ip, tcp, payload)
	}
	eth.EthernetType = layers.EthernetTypeIPv6
	ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: src, DstIP: dst}
	return serialize(tb, tcp.SetNetworkLayerForChecksum(ip), eth, ip, tcp, payload)
}

// serialize builds a packet of layers. The test fails if err says that they do not fit together.
func serialize(tb testing.TB, err error, stack ...gopacket.SerializableLayer) Packet {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
	buf := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buf, options, stack...); err != nil {
		tb.Fatal(err)
	}
	return Packet{Time: epoch, Data: buf.Bytes(), Length: len(buf.Bytes())}
}
