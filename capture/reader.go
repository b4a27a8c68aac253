package capture

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// A Reader reads the TCP frames of a capture file, whoever made it: pcap or pcapng, of any link type that gopacket decodes. Its
// exported fields say what came before the last frame.
type Reader struct {
	Format      string    // pcap or pcapng
	Comment     string    // on the whole file; a pcap has none
	Links       []string  // the names of the link types, as they came
	Packets     int       // all of them
	Undecodable int       // may carry TCP, and cannot be read: malformed, or cut too short
	Fragments   int       // of IP, but the first of each TCP segment; they are not put together
	Unknown     int       // of link types that are not known here
	Datagrams   int       // of UDP, but for the tunnels that are looked into
	Timeless    int       // of which the capture does not say when they were there
	Inexact     int       // whose times are not read exactly
	Dropped     uint64    // packets that the capture lost, as far as a pcapng says so
	Start, End  time.Time // of the first packet and of the last
	// Unseen counts those that may carry TCP and are not looked into, by what they are instead.
	Unseen map[string]int

	source interface {
		ZeroCopyReadPacketData() ([]byte, gopacket.CaptureInfo, error)
	}
	link  layers.LinkType  // of a pcap
	ng    *pcapgo.NgReader // nil: it is a pcap
	bound *boundedGap
	known map[layers.LinkType]bool
	plain plain
}

// ErrNoCapture says that a file does not begin as a capture does.
var ErrNoCapture = errors.New("neither pcap nor pcapng")

// ErrLinkType says that all packets of a capture are of link types that cannot be decoded.
var ErrLinkType = errors.New("a link type that is not known here")

// mostBetween is how many bytes may come before the next packet is whole. A packet has no more than 256 kB (MAXIMUM_SNAPLEN of
// tcpdump), and a file that says otherwise must not fill the memory.
const mostBetween = 16 << 20

// NewReader reads the head of a capture file.
func NewReader(r io.Reader) (*Reader, error) {
	bound := &boundedGap{r: r, left: mostBetween}
	in := bufio.NewReaderSize(bound, 64<<10)
	magic, _ := in.Peek(4)
	if !IsCapture(magic) {
		return nil, ErrNoCapture
	}
	c := &Reader{Format: "pcap", bound: bound, known: map[layers.LinkType]bool{}, Unseen: map[string]int{}}
	if binary.BigEndian.Uint32(magic) == sectionHeader {
		c.Format = "pcapng"
		lost := map[int]uint64{} // by an interface of this section, as it has said last: it counts on from there
		ng, err := pcapgo.NewNgReader(in, pcapgo.NgReaderOptions{
			WantMixedLinkType: true, SkipUnknownVersion: true,
			StatisticsCallback: func(id int, s pcapgo.NgInterfaceStatistics) {
				if s.PacketsDropped != pcapgo.NgNoValue64 && s.PacketsDropped > lost[id] {
					c.Dropped += s.PacketsDropped - lost[id]
					lost[id] = s.PacketsDropped
				}
			},
			SectionEndCallback: func([]pcapgo.NgInterface, pcapgo.NgSectionInfo) { clear(lost) },
		})
		if err != nil {
			return nil, fmt.Errorf("read pcapng: %w", err)
		}
		c.source, c.ng, c.Comment = ng, ng, ng.SectionInfo().Comment
		return c, nil
	}
	plain, err := pcapgo.NewReader(in)
	if err != nil {
		return nil, fmt.Errorf("read pcap: %w", err)
	}
	c.source, c.link = plain, plain.LinkType()
	return c, nil
}

// The first bytes of captures (draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng). That of pcapng is a palindrome.
const (
	sectionHeader = 0x0a0d0d0a
	microseconds  = 0xa1b2c3d4
	nanoseconds   = 0xa1b23c4d
)

// IsCapture tells whether a file that begins with these four bytes is a capture.
func IsCapture(magic []byte) bool {
	if len(magic) < 4 {
		return false
	}
	for _, order := range []binary.ByteOrder{binary.BigEndian, binary.LittleEndian} {
		switch order.Uint32(magic) {
		case sectionHeader, microseconds, nanoseconds:
			return true
		}
	}
	return false
}

// Next returns the next frame that carries TCP, without its payload, and io.EOF behind the last. Any other error says that the rest
// cannot be read: io.ErrUnexpectedEOF that the file was cut short.
func (c *Reader) Next() (Frame, error) {
	for {
		c.bound.left = mostBetween
		data, info, err := c.source.ZeroCopyReadPacketData()
		if errors.Is(err, io.EOF) {
			return Frame{}, c.end()
		} else if err != nil {
			return Frame{}, fmt.Errorf("read %s: packet %d: %w", c.Format, c.Packets+1, err)
		}
		c.Packets++
		if info.Timestamp.IsZero() { // a simple packet block has none
			c.Timeless++
			info.Timestamp = c.End
		} else {
			c.note(info)
		}
		link := c.link
		if len(info.AncillaryData) > 0 {
			link, _ = info.AncillaryData[0].(layers.LinkType)
		}
		if link == layers.LinkTypeIPv4 || link == layers.LinkTypeIPv6 { // raw IP, whose header says which it is
			link = layers.LinkTypeRaw
		}
		if !c.knows(link) {
			c.Unknown++
			continue
		}
		var what string
		frame, kind, ok := c.plain.decode(data, link, info)
		if !ok {
			frame, kind, what = decodeAny(data, link, info)
		}
		switch kind {
		case isTCP:
			frame.Number, frame.Time = c.Packets, info.Timestamp
			return frame, nil
		case isUndecodable:
			c.Undecodable++
		case isFragment:
			c.Fragments++
		case isDatagram:
			c.Datagrams++
		case isUnseen:
			c.Unseen[what]++
		}
	}
}

func (c *Reader) end() error {
	for _, known := range c.known {
		if known {
			return io.EOF
		}
	}
	if len(c.known) > 0 {
		return fmt.Errorf("read %s: %w: %s", c.Format, ErrLinkType, c.Links)
	}
	return io.EOF
}

// note takes down when a packet was there. gopacket scales fractions of a second by whole numbers: those of 2^-10 s and finer ones
// come out wrong, by less than a millisecond or, from 2^-30 s on, by up to 74.
func (c *Reader) note(info gopacket.CaptureInfo) {
	at := info.Timestamp
	if c.ng != nil {
		if of, err := c.ng.Interface(info.InterfaceIndex); err == nil && of.TimestampResolution.Binary() && of.TimestampResolution.Exponent() > 9 {
			c.Inexact++
		}
	}
	if c.Start.IsZero() || at.Before(c.Start) {
		c.Start = at
	}
	if at.After(c.End) {
		c.End = at
	}
}

// knows tells whether a link type can be decoded.
func (c *Reader) knows(link layers.LinkType) bool {
	known, ok := c.known[link]
	if !ok {
		known = int(link) < len(layers.LinkTypeMetadata) && layers.LinkTypeMetadata[link].DecodeWith != nil
		name := fmt.Sprintf("%d", link)
		if known {
			name = layers.LinkTypeMetadata[link].Name
		}
		c.known[link], c.Links = known, append(c.Links, name)
	}
	return known
}

// decodeAny decodes a packet of any link type: the outermost TCP, with the IP that carries it. Of what is not looked into it says
// what that is.
func decodeAny(data []byte, link layers.LinkType, info gopacket.CaptureInfo) (f Frame, k kind, what string) {
	p := gopacket.NewPacket(data, link, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
	var src, dst, head []byte // head is the TCP header, as far as it was captured
	var segment int           // TCP header and payload, in bytes
	for _, l := range p.Layers() {
		next := layers.IPProtocolNoNextHeader
		switch l := l.(type) {
		case *layers.IPv4:
			if len(l.Contents) == 0 { // gopacket keeps a header that it refuses, too
				break
			}
			src, dst = l.SrcIP, l.DstIP
			segment = int(binary.BigEndian.Uint16(l.Contents[2:])) - len(l.Contents)
			if l.FragOffset == 0 { // the first fragment of a segment has its header, and is read as far as it goes
				next = l.Protocol
			}
		case *layers.IPv6:
			src, dst, next = l.SrcIP, l.DstIP, l.NextHeader
			segment = int(l.Length)
		case *layers.IPv6HopByHop:
			segment, next = segment-len(l.Contents), l.NextHeader
		case *layers.IPv6Routing:
			segment, next = segment-len(l.Contents), l.NextHeader
		case *layers.IPv6Destination:
			segment, next = segment-len(l.Contents), l.NextHeader
		case *layers.IPv6Fragment:
			segment -= len(l.Contents)
			if l.FragmentOffset == 0 {
				next = l.NextHeader
			}
		case *layers.IPSecAH:
			segment, next = segment-len(l.Contents), l.NextHeader
		}
		if next == layers.IPProtocolTCP {
			head = l.LayerPayload()
			break
		}
	}
	switch {
	case head != nil:
		f, k = segmentFrame(src, dst, head, segment, max(info.Length-len(data), 0))
		return f, k, ""
	case p.Layer(gopacket.LayerTypeFragment) != nil:
		return Frame{}, isFragment, ""
	default:
		k, what = carried(p)
		return Frame{}, k, what
	}
}

func init() {
	layers.EthernetTypeMetadata[oldQinQ] = layers.EthernetTypeMetadata[layers.EthernetTypeDot1Q]
	layers.EthernetTypeMetadata[layers.EthernetTypeRaw] = layers.EnumMetadata{} // 0xffff is reserved (RFC 1701); gopacket takes it for IPv4
	layers.RegisterUDPPortLayerType(oldVXLAN, layers.LayerTypeVXLAN)
}

// What was in use before there was a standard, and still is.
const (
	oldQinQ  layers.EthernetType = 0x9100
	oldVXLAN layers.UDPPort      = 8472 // the kernel's own choice (drivers/net/vxlan), and flannel's
)

// carried tells what a packet without TCP is, by the innermost header that announces another. What announces something that is
// not there was cut, or is malformed.
func carried(p gopacket.Packet) (k kind, what string) {
	if p.ErrorLayer() != nil || len(p.Layers()) == 0 {
		k = isUndecodable
	}
	for _, l := range p.Layers() {
		switch l := l.(type) {
		case *layers.Ethernet:
			k, what = ofEtherType(l.EthernetType)
		case *layers.Dot1Q:
			k, what = ofEtherType(l.Type)
		case *layers.LinuxSLL:
			k, what = ofEtherType(l.EthernetType)
		case *layers.LinuxSLL2:
			k, what = ofEtherType(l.ProtocolType)
		case *layers.SNAP:
			k, what = ofEtherType(l.Type)
		case *layers.GRE:
			k, what = ofEtherType(l.Protocol)
		case *layers.Geneve:
			k, what = ofEtherType(l.Protocol)
		case *layers.IPv4:
			k, what = ofProtocol(l.Protocol)
		case *layers.IPv6:
			k, what = ofProtocol(l.NextHeader)
		case *layers.IPv6HopByHop:
			k, what = ofProtocol(l.NextHeader)
		case *layers.IPv6Routing:
			k, what = ofProtocol(l.NextHeader)
		case *layers.IPv6Destination:
			k, what = ofProtocol(l.NextHeader)
		case *layers.IPSecAH:
			k, what = ofProtocol(l.NextHeader)
		case *layers.PPP:
			k, what = ofPPP(l.PPPType)
		case *layers.UDP:
			k, what = isDatagram, ""
			switch l.NextLayerType() {
			case layers.LayerTypeVXLAN, layers.LayerTypeGeneve, layers.LayerTypeGTPv1U, layers.LayerTypeMPLS:
				k = isUndecodable
			}
		case *layers.GTPv1U:
			if l.MessageType != 255 { // G-PDU, which alone carries a packet (3GPP TS 29.281)
				k = isOther
			}
		case *layers.Dot11WEP:
			k, what = isUnseen, "802.11 that is encrypted"
		}
	}
	return k, what
}

// ofEtherType tells what a packet is of which no more can be read than what is announced as this.
func ofEtherType(t layers.EthernetType) (k kind, what string) {
	const (
		mostLength = 0x600 // below, it is the length of an LLC frame, or one of Linux's own numbers (if_ether.h)
		rarp       = 0x8035
		slow       = 0x8809 // LACP
		ptp        = 0x88f7
		cfm        = 0x8902
	)
	switch t {
	case layers.EthernetTypeIPv4, layers.EthernetTypeIPv6, layers.EthernetTypeDot1Q, layers.EthernetTypeQinQ, oldQinQ, layers.EthernetTypeMPLSUnicast,
		layers.EthernetTypeMPLSMulticast, layers.EthernetTypePPP, layers.EthernetTypePPPoESession, layers.EthernetTypeTransparentEthernetBridging,
		layers.EthernetTypeERSPAN:
		return isUndecodable, ""
	case layers.EthernetTypeARP, layers.EthernetTypeLinkLayerDiscovery, layers.EthernetTypeEAPOL, layers.EthernetTypeEthernetCTP,
		layers.EthernetTypePPPoEDiscovery, layers.EthernetTypeCiscoDiscovery, layers.EthernetTypeNortelDiscovery,
		layers.EthernetTypeMerakiDiscoveryProtocol, rarp, slow, ptp, cfm:
		return isOther, ""
	}
	if t < mostLength {
		return isOther, ""
	}
	return isUnseen, fmt.Sprintf("EtherType %#04x", uint16(t))
}

// ofProtocol does the same for what is announced by IP.
func ofProtocol(p layers.IPProtocol) (k kind, what string) {
	const (
		rsvp  = 46
		eigrp = 88
		pim   = 103
	)
	switch p {
	case layers.IPProtocolTCP, layers.IPProtocolIPv4, layers.IPProtocolIPv6, layers.IPProtocolIPIP, layers.IPProtocolGRE, layers.IPProtocolAH,
		layers.IPProtocolEtherIP, layers.IPProtocolMPLSInIP, layers.IPProtocolIPv6HopByHop, layers.IPProtocolIPv6Routing,
		layers.IPProtocolIPv6Fragment, layers.IPProtocolIPv6Destination:
		return isUndecodable, ""
	case layers.IPProtocolUDP:
		return isDatagram, ""
	case layers.IPProtocolICMPv4, layers.IPProtocolICMPv6, layers.IPProtocolIGMP, layers.IPProtocolSCTP, layers.IPProtocolOSPF, layers.IPProtocolVRRP,
		layers.IPProtocolUDPLite, layers.IPProtocolRUDP, layers.IPProtocolNoNextHeader, rsvp, eigrp, pim:
		return isOther, ""
	case layers.IPProtocolESP:
		return isUnseen, "ESP"
	default:
		return isUnseen, fmt.Sprintf("IP protocol %d", uint8(p))
	}
}

// ofPPP does the same for PPP: below 0x8000 are what it carries, above what it says for itself (RFC 1661, section 2).
func ofPPP(t layers.PPPType) (k kind, what string) {
	switch {
	case layers.PPPTypeMetadata[t].DecodeWith != nil:
		return isUndecodable, ""
	case t < 0x8000:
		return isUnseen, fmt.Sprintf("PPP protocol %#04x", uint16(t))
	default:
		return isOther, ""
	}
}

// segmentFrame builds a Frame from a TCP header, as far as it was captured, and the length of its segment. missing is how many bytes the
// capture left out at the packet's end.
func segmentFrame(src, dst, head []byte, segment, missing int) (Frame, kind) {
	// gopacket wants all of a header's options, and tcpdump -s cuts in their midst.
	const fixed = 20
	if len(head) < fixed {
		return Frame{}, isUndecodable
	}
	length := int(head[12]>>4) * 4
	payload := segment - length
	if segment < length { // what the sender has not cut yet has no length (BIG TCP, segmentation offload)
		payload = len(head) - length + missing
	}
	if length < fixed || payload < 0 {
		return Frame{}, isUndecodable
	}
	return Frame{
		Src: addrPort(src, layers.TCPPort(binary.BigEndian.Uint16(head))), Dst: addrPort(dst, layers.TCPPort(binary.BigEndian.Uint16(head[2:]))),
		Seq: binary.BigEndian.Uint32(head[4:]), Ack: binary.BigEndian.Uint32(head[8:]), Flags: Flags(head[13]),
		Window: binary.BigEndian.Uint16(head[14:]), Payload: payload,
	}, isTCP
}

// plain decodes TCP in IP in Ethernet, as decodeAny does and without its garbage: most captures hold little else.
type plain struct {
	ip4 layers.IPv4
	ip6 layers.IPv6
}

// decode is false of a packet that is left to decodeAny: all that is not TCP right behind an IP header that is whole.
func (p *plain) decode(data []byte, link layers.LinkType, info gopacket.CaptureInfo) (Frame, kind, bool) {
	const header = 14 // of Ethernet
	if link != layers.LinkTypeEthernet || len(data) < header {
		return Frame{}, isOther, false
	}
	var src, dst, head []byte
	var segment int
	switch ip := data[header:]; layers.EthernetType(binary.BigEndian.Uint16(data[12:])) {
	case layers.EthernetTypeIPv4:
		if p.ip4.DecodeFromBytes(ip, gopacket.NilDecodeFeedback) != nil || p.ip4.NextLayerType() != layers.LayerTypeTCP {
			return Frame{}, isOther, false
		}
		src, dst, head = p.ip4.SrcIP, p.ip4.DstIP, p.ip4.Payload
		segment = int(binary.BigEndian.Uint16(ip[2:])) - len(p.ip4.Contents)
	case layers.EthernetTypeIPv6:
		if p.ip6.DecodeFromBytes(ip, gopacket.NilDecodeFeedback) != nil || p.ip6.NextHeader != layers.IPProtocolTCP {
			return Frame{}, isOther, false
		}
		src, dst, head, segment = p.ip6.SrcIP, p.ip6.DstIP, p.ip6.Payload, int(p.ip6.Length)
	default:
		return Frame{}, isOther, false
	}
	frame, kind := segmentFrame(src, dst, head, segment, max(info.Length-len(data), 0))
	return frame, kind, true
}

// boundedGap ends a file that would have too much read for one packet.
type boundedGap struct {
	r    io.Reader
	left int
}

func (b *boundedGap) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("more than %d MiB, and no packet yet", mostBetween>>20)
	}
	n, err := b.r.Read(p)
	b.left -= n
	return n, err
}
