package capture

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// Flags are the control bits of a TCP header, with their values on the wire (RFC 9293, section 3.1).
type Flags uint8

const (
	FIN Flags = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
	ECE
	CWR
)

// Has reports whether all of want are set.
func (f Flags) Has(want Flags) bool { return f&want == want }

// String returns the flags in tcpdump's notation: "S", "S.", "P.", "R".
func (f Flags) String() string {
	if f == 0 {
		return "none"
	}
	const letters = "FSRP.UEW"
	var set []byte
	for bit := range len(letters) {
		if f.Has(1 << bit) {
			set = append(set, letters[bit])
		}
	}
	return string(set)
}

// A Frame is a packet that carries TCP.
type Frame struct {
	Number  int // place in the recording, from 1, as Wireshark counts
	Time    time.Time
	Src     netip.AddrPort
	Dst     netip.AddrPort
	Flags   Flags
	Seq     uint32 // as on the wire
	Ack     uint32 // as on the wire; undefined without ACK
	Window  uint16 // as on the wire, not scaled
	Payload int    // bytes of TCP payload on the wire, even if the packet was cut
}

// end returns the sequence number after the frame's last one. SYN and FIN take one each.
func (f Frame) end() uint32 {
	end := f.Seq + uint32(f.Payload)
	if f.Flags.Has(SYN) {
		end++
	}
	if f.Flags.Has(FIN) {
		end++
	}
	return end
}

// Decode returns the packets that carry TCP, and the number of those that may carry it but cannot be read: malformed
// packets, fragments, TCP after an IPv6 extension header or a VLAN tag, and packets too long for the length field of IP
// (BIG TCP). All others are left out, but are counted in Number.
func Decode(packets []Packet) (frames []Frame, undecodable int) {
	d := newDecoder()
	frames = make([]Frame, 0, len(packets))
	for i, p := range packets {
		frame, kind := d.decode(p)
		switch kind {
		case isTCP:
			frame.Number = i + 1
			frames = append(frames, frame)
		case isUndecodable:
			undecodable++
		}
	}
	return frames, undecodable
}

// kind is what a packet is.
type kind int

const (
	isOther kind = iota
	isTCP
	isUndecodable
	isFragment // of IP, where those are told apart
	isDatagram // UDP, where it is told apart
	isUnseen   // may carry TCP, and is not looked into
)

// decoder holds the layers that its parser fills, for one packet after the other.
type decoder struct {
	parser  *gopacket.DecodingLayerParser
	decoded []gopacket.LayerType
	eth     layers.Ethernet
	ip4     layers.IPv4
	ip6     layers.IPv6
	tcp     layers.TCP
}

func newDecoder() *decoder {
	d := &decoder{parser: gopacket.NewDecodingLayerParser(layers.LayerTypeEthernet)}
	d.parser.SetDecodingLayerContainer(gopacket.DecodingLayerArray(nil).Put(&d.eth).Put(&d.ip4).Put(&d.ip6).Put(&d.tcp))
	d.parser.IgnoreUnsupported = true // such as the payload of TCP
	return d
}

func (d *decoder) decode(p Packet) (Frame, kind) {
	if err := d.parser.DecodeLayers(p.Data, &d.decoded); err != nil {
		return Frame{}, isUndecodable
	}
	if cut := p.Length > len(p.Data); d.parser.Truncated && !cut {
		return Frame{}, isUndecodable // the IP header claims more bytes than there are
	}
	var next gopacket.LayerType // the layer that the last one announces
	switch d.decoded[len(d.decoded)-1] {
	case layers.LayerTypeTCP:
		return d.frame(p)
	case layers.LayerTypeIPv4:
		next = d.ip4.NextLayerType()
	case layers.LayerTypeIPv6:
		next = d.ip6.NextLayerType()
	default:
		next = d.eth.NextLayerType()
	}
	switch next {
	case layers.LayerTypeIPv4, layers.LayerTypeIPv6, layers.LayerTypeTCP, // announced, but no byte follows
		layers.LayerTypeDot1Q, gopacket.LayerTypeFragment:
		return Frame{}, isUndecodable
	}
	if layers.LayerClassIPv6Extension.Contains(next) {
		return Frame{}, isUndecodable
	}
	return Frame{}, isOther
}

// frame builds a Frame from a packet whose last layer is TCP.
func (d *decoder) frame(p Packet) (Frame, kind) {
	var src, dst []byte
	var segment int // TCP header and payload, in bytes
	if d.decoded[len(d.decoded)-2] == layers.LayerTypeIPv4 {
		src, dst = d.ip4.SrcIP, d.ip4.DstIP
		// Not ip4.Length: gopacket sets it to the captured length if the field is 0.
		segment = int(binary.BigEndian.Uint16(d.ip4.Contents[2:])) - len(d.ip4.Contents)
	} else {
		src, dst = d.ip6.SrcIP, d.ip6.DstIP
		if d.ip6.HopByHop == nil {
			segment = int(d.ip6.Length)
		}
	}
	payload := segment - len(d.tcp.Contents)
	if payload < 0 {
		return Frame{}, isUndecodable
	}
	return Frame{
		Time:    p.Time,
		Src:     addrPort(src, d.tcp.SrcPort),
		Dst:     addrPort(dst, d.tcp.DstPort),
		Flags:   Flags(d.tcp.Contents[13]),
		Seq:     d.tcp.Seq,
		Ack:     d.tcp.Ack,
		Window:  d.tcp.Window,
		Payload: payload,
	}, isTCP
}

// addrPort returns the address of 4 or 16 bytes with a port.
func addrPort(ip []byte, port layers.TCPPort) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(addr, uint16(port))
}
