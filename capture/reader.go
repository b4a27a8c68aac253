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
	Fragments   int       // of IP; they are not put together
	Dropped     uint64    // packets that the capture lost, as far as a pcapng says so
	Start, End  time.Time // of the first packet and of the last

	source interface {
		ZeroCopyReadPacketData() ([]byte, gopacket.CaptureInfo, error)
	}
	link  layers.LinkType // of a pcap
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
	c := &Reader{Format: "pcap", bound: bound, known: map[layers.LinkType]bool{}}
	if binary.BigEndian.Uint32(magic) == sectionHeader {
		c.Format = "pcapng"
		ng, err := pcapgo.NewNgReader(in, pcapgo.NgReaderOptions{
			WantMixedLinkType: true, SkipUnknownVersion: true,
			StatisticsCallback: func(_ int, s pcapgo.NgInterfaceStatistics) {
				if s.PacketsDropped != pcapgo.NgNoValue64 {
					c.Dropped += s.PacketsDropped
				}
			},
		})
		if err != nil {
			return nil, fmt.Errorf("read pcapng: %w", err)
		}
		c.source, c.Comment = ng, ng.SectionInfo().Comment
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
		c.note(info.Timestamp)
		link := c.link
		if len(info.AncillaryData) > 0 {
			link, _ = info.AncillaryData[0].(layers.LinkType)
		}
		if !c.knows(link) {
			continue
		}
		frame, kind, ok := c.plain.decode(data, link, info)
		if !ok {
			frame, kind = decodeAny(data, link, info)
		}
		switch kind {
		case isTCP:
			frame.Number, frame.Time = c.Packets, info.Timestamp
			return frame, nil
		case isUndecodable:
			c.Undecodable++
		case isFragment:
			c.Fragments++
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

func (c *Reader) note(at time.Time) {
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

// decodeAny decodes a packet of any link type: the outermost TCP, with the IP that carries it.
func decodeAny(data []byte, link layers.LinkType, info gopacket.CaptureInfo) (Frame, kind) {
	p := gopacket.NewPacket(data, link, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
	var src, dst, head []byte // head is the TCP header, as far as it was captured
	var segment int           // TCP header and payload, in bytes
	for _, l := range p.Layers() {
		isLast := true
		switch l := l.(type) {
		case *layers.IPv4:
			src, dst = l.SrcIP, l.DstIP
			if len(l.Contents) == 0 { // gopacket keeps a header that it refuses, too
				isLast = false
				break
			}
			segment = int(binary.BigEndian.Uint16(l.Contents[2:])) - len(l.Contents)
			isLast = l.Protocol == layers.IPProtocolTCP && l.FragOffset == 0 && l.Flags&layers.IPv4MoreFragments == 0
		case *layers.IPv6:
			src, dst = l.SrcIP, l.DstIP
			segment = int(l.Length)
			isLast = l.NextHeader == layers.IPProtocolTCP
		case *layers.IPv6HopByHop:
			segment -= len(l.Contents)
			isLast = l.NextHeader == layers.IPProtocolTCP
		case *layers.IPv6Routing:
			segment -= len(l.Contents)
			isLast = l.NextHeader == layers.IPProtocolTCP
		case *layers.IPv6Destination:
			segment -= len(l.Contents)
			isLast = l.NextHeader == layers.IPProtocolTCP
		default:
			isLast = false
		}
		if isLast {
			head = l.LayerPayload()
			break
		}
	}
	switch {
	case head != nil:
		return segmentFrame(src, dst, head, segment, max(info.Length-len(data), 0))
	case p.Layer(gopacket.LayerTypeFragment) != nil:
		return Frame{}, isFragment
	case src == nil && p.ErrorLayer() != nil && mayBeIP(p):
		return Frame{}, isUndecodable
	default:
		return Frame{}, isOther
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

// mayBeIP tells whether a packet that could not be decoded as a whole was announced as IP.
func mayBeIP(p gopacket.Packet) bool {
	all := p.Layers()
	if len(all) < 2 { // the error layer alone: the link's own header is broken
		return true
	}
	eth, ok := all[len(all)-2].(*layers.Ethernet)
	return !ok || eth.EthernetType == layers.EthernetTypeIPv4 || eth.EthernetType == layers.EthernetTypeIPv6
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
