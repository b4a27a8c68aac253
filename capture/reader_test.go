package capture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// linked is a packet of a link type.
type linked struct {
	link layers.LinkType
	data []byte
}

// capturePcap writes a pcap, whose packets are a millisecond apart.
func capturePcap(tb testing.TB, link layers.LinkType, packets ...[]byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := pcapgo.NewWriterNanos(&b)
	if err := w.WriteFileHeader(262144, link); err != nil {
		tb.Fatal(err)
	}
	for i, data := range packets {
		if err := w.WritePacket(info(i, data), data); err != nil {
			tb.Fatal(err)
		}
	}
	return b.Bytes()
}

func info(i int, data []byte) gopacket.CaptureInfo {
	return gopacket.CaptureInfo{Timestamp: epoch.Add(time.Duration(i) * time.Millisecond), CaptureLength: len(data), Length: len(data)}
}

// captureNg writes a pcapng with an interface for each packet, that says it has lost one.
func captureNg(tb testing.TB, packets ...linked) []byte {
	tb.Helper()
	var b bytes.Buffer
	w, err := pcapgo.NewNgWriter(&b, packets[0].link)
	if err != nil {
		tb.Fatal(err)
	}
	for i, p := range packets {
		id := 0
		if i > 0 {
			if id, err = w.AddInterface(pcapgo.NgInterface{LinkType: p.link, SnapLength: 262144}); err != nil {
				tb.Fatal(err)
			}
		}
		ci := info(i, p.data)
		ci.InterfaceIndex = id
		if err := w.WritePacket(ci, p.data); err != nil {
			tb.Fatal(err)
		}
		if err := w.WriteInterfaceStats(id, pcapgo.NgInterfaceStatistics{LastUpdate: epoch, PacketsReceived: 1, PacketsDropped: 1}); err != nil {
			tb.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func readAll(r *Reader) (frames []Frame, err error) {
	for {
		f, err := r.Next()
		if err != nil {
			return frames, err
		}
		frames = append(frames, f)
	}
}

// links wraps an Ethernet packet in each link type that people capture.
func links(eth []byte, v6 bool) []linked {
	ip, kind, family := eth[14:], []byte{0x08, 0x00}, []byte{2, 0, 0, 0}
	if v6 {
		kind, family = []byte{0x86, 0xdd}, []byte{10, 0, 0, 0}
	}
	wrap := func(link layers.LinkType, head ...[]byte) linked {
		return linked{link, append(bytes.Join(head, nil), ip...)}
	}
	return []linked{
		{layers.LinkTypeEthernet, eth},
		wrap(layers.LinkTypeEthernet, eth[:12], []byte{0x81, 0, 0, 7}, kind),                   // VLAN 7
		wrap(layers.LinkTypeEthernet, eth[:12], []byte{0x88, 0xa8, 0, 7, 0x81, 0, 0, 8}, kind), // QinQ
		wrap(layers.LinkTypeRaw),                                                               // tun, WireGuard
		wrap(12),                                                                               // the same, as BSD says it
		wrap(layers.LinkTypeNull, family),                                                      // loopback of BSD
		wrap(layers.LinkTypeLinuxSLL, []byte{0, 0, 3, 4, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0}, kind),              // tcpdump -i any
		wrap(layers.LinkTypeLinuxSLL2, kind, []byte{0, 0, 0, 0, 0, 1, 3, 4, 4, 6, 0, 0, 0, 0, 0, 0, 0, 0}), // the same, newer
		wrap(layers.LinkTypePPP, map[bool][]byte{false: {0x00, 0x21}, true: {0x00, 0x57}}[v6]),             // PPP
	}
}

// TestReaderLinkTypes: a frame is read alike from whatever carries it, in both formats.
func TestReaderLinkTypes(t *testing.T) {
	for _, want := range []Frame{
		{Src: client4, Dst: server4, Flags: PSH | ACK, Seq: 1, Ack: 1, Window: 7, Payload: 11},
		{Src: server6, Dst: client6, Flags: RST, Seq: 1},
	} {
		all := links(packet(t, want).Data, want.Src.Addr().Is6())
		want.Number, want.Time = 1, epoch
		for i, l := range all {
			t.Run(fmt.Sprintf("%v/%d/%v", want.Src.Addr(), i, l.link), func(t *testing.T) {
				for format, file := range map[string][]byte{"pcap": capturePcap(t, l.link, l.data), "pcapng": captureNg(t, l)} {
					r, err := NewReader(bytes.NewReader(file))
					if err != nil {
						t.Fatal(err)
					}
					frames, err := readAll(r)
					if diff := cmp.Diff([]Frame{want}, frames, compareAddrPorts); diff != "" || !errors.Is(err, io.EOF) || r.Format != format {
						t.Errorf("%s: %v (-want +got):\n%s", r.Format, err, diff)
					}
				}
			})
		}
		r, err := NewReader(bytes.NewReader(captureNg(t, all...)))
		if err != nil {
			t.Fatal(err)
		}
		if frames, err := readAll(r); len(frames) != len(all) || !errors.Is(err, io.EOF) || r.Dropped != uint64(len(all)) || r.Undecodable != 0 {
			t.Errorf("all in one: %d frames of %d, %d dropped, %d undecodable: %v", len(frames), len(all), r.Dropped, r.Undecodable, err)
		}
	}
}

// within is a TCP packet in each of what carries such packets, and what cannot be looked into.
func within(tcp []byte) map[string][]byte {
	ip4 := func(protocol byte, payload ...[]byte) []byte {
		body := bytes.Join(payload, nil)
		head := []byte{0x45, 0, 0, 0, 0, 1, 0, 0, 64, protocol, 0, 0, 192, 168, 0, 1, 192, 168, 0, 2}
		binary.BigEndian.PutUint16(head[2:], uint16(len(head)+len(body)))
		return append(head, body...)
	}
	ip6 := func(next byte, payload ...[]byte) []byte {
		body := bytes.Join(payload, nil)
		head := append([]byte{0x60, 0, 0, 0, 0, 0, next, 64}, make([]byte, 32)...)
		binary.BigEndian.PutUint16(head[4:], uint16(len(body)))
		return append(head, body...)
	}
	udp := func(port uint16, payload ...[]byte) []byte {
		body := bytes.Join(payload, nil)
		head := make([]byte, 8)
		binary.BigEndian.PutUint16(head, 50_000)
		binary.BigEndian.PutUint16(head[2:], port)
		binary.BigEndian.PutUint16(head[4:], uint16(len(head)+len(body)))
		return ip4(17, head, body)
	}
	eth := func(kind uint16, payload ...[]byte) []byte {
		return slices.Concat(make([]byte, 12), []byte{byte(kind >> 8), byte(kind)}, bytes.Join(payload, nil))
	}
	whole := ip4(6, tcp)
	vxlan := []byte{8, 0, 0, 0, 0, 0, 5, 0}
	ah := []byte{6, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	length := binary.BigEndian.AppendUint16(nil, uint16(len(whole)+2))
	return map[string][]byte{
		"VLAN as of old":              eth(0x9100, []byte{0, 7, 0x81, 0, 0, 8, 8, 0}, whole),
		"GRE":                         eth(0x800, ip4(47, []byte{0, 0, 8, 0}, whole)),
		"GRE with a key":              eth(0x800, ip4(47, []byte{0x20, 0, 8, 0, 0, 0, 0, 9}, whole)),
		"gretap":                      eth(0x800, ip4(47, []byte{0, 0, 0x65, 0x58}, eth(0x800, whole))),
		"IPIP":                        eth(0x800, ip4(4, whole)),
		"IPv4 in IPv6":                eth(0x86dd, ip6(4, whole)),
		"VXLAN":                       eth(0x800, udp(4789, vxlan, eth(0x800, whole))),
		"VXLAN, Linux's":              eth(0x800, udp(8472, vxlan, eth(0x800, whole))),
		"Geneve":                      eth(0x800, udp(6081, []byte{0, 0, 0x65, 0x58, 0, 0, 5, 0}, eth(0x800, whole))),
		"MPLS":                        eth(0x8847, []byte{0, 6, 0x40, 64, 0, 7, 0x41, 64}, whole),
		"PPPoE":                       eth(0x8864, []byte{0x11, 0, 0, 5}, length, []byte{0, 0x21}, whole),
		"AH":                          eth(0x800, ip4(51, ah, tcp)),
		"AH in IPv6":                  eth(0x86dd, ip6(51, ah, tcp)),
		"hop by hop":                  eth(0x86dd, ip6(0, []byte{6, 0, 5, 2, 0, 0, 1, 0}, tcp)),
		"two options":                 eth(0x86dd, ip6(0, []byte{60, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0}, tcp)),
		"an atomic fragment":          eth(0x86dd, ip6(44, []byte{6, 0, 0, 0, 0, 0, 0, 1}, tcp)),
		"no length":                   eth(0x86dd, []byte{0x60, 0, 0, 0, 0, 0, 6, 64}, make([]byte, 32), tcp), // BIG TCP, without its option
		"unseen: ESP":                 eth(0x800, ip4(50, make([]byte, 8), tcp)),
		"unseen: IP protocol 135":     eth(0x86dd, ip6(135, []byte{6, 0, 5, 2, 0, 0, 1, 0}, tcp)),
		"unseen: EtherType 0x88e5":    eth(0x88e5, tcp),
		"unseen: PPP protocol 0x00fd": eth(0x8864, []byte{0x11, 0, 0, 5}, length, []byte{0, 0xfd}, whole),
		"datagram: L2TP":              eth(0x800, udp(1701, tcp)),
		"unseen: EtherType 0x1234":    eth(0x800, udp(6081, []byte{0, 0, 0x12, 0x34, 0, 0, 5, 0}, tcp)),
		"GTP":                         eth(0x800, udp(2152, []byte{0x30, 255, 0, byte(len(whole)), 0, 0, 0, 7}, whole)),
	}
}

// TestReaderWithin: TCP is read in what carries it; what cannot be looked into is named, and what was cut is counted, at whatever
// length: no packet is as if it had not been there.
func TestReaderWithin(t *testing.T) {
	want := Frame{Number: 1, Time: epoch, Flags: PSH | ACK, Seq: 1, Ack: 1, Window: 7, Payload: 11}
	tcp := packet(t, Frame{Src: client4, Dst: server4, Flags: want.Flags, Seq: 1, Ack: 1, Window: 7, Payload: 11}).Data[14+20:]
	for name, data := range within(tcp) {
		t.Run(name, func(t *testing.T) {
			what, unseen := strings.CutPrefix(name, "unseen: ")
			datagram := strings.HasPrefix(name, "datagram: ")
			for snap := range len(data) + 1 {
				var b bytes.Buffer
				w := pcapgo.NewWriterNanos(&b)
				ci := info(0, data)
				ci.CaptureLength = snap
				if err := errors.Join(w.WriteFileHeader(uint32(len(data)), layers.LinkTypeEthernet), w.WritePacket(ci, data[:snap])); err != nil {
					t.Fatal(err)
				}
				r, err := NewReader(&b)
				if err != nil {
					t.Fatal(err)
				}
				frames, err := readAll(r)
				if told := len(frames) + r.Undecodable + r.Datagrams + r.Unseen[what]; told != 1 || !errors.Is(err, io.EOF) {
					t.Errorf("of %d bytes: %d frames, %d undecodable, %d datagrams, unseen %v: %v", snap, len(frames), r.Undecodable, r.Datagrams, r.Unseen, err)
				}
				if snap < len(data) {
					continue
				}
				if unseen != (r.Unseen[what] == 1) || datagram != (r.Datagrams == 1) {
					t.Errorf("unseen %v, %d datagrams", r.Unseen, r.Datagrams)
				}
				if unseen || datagram {
					continue
				}
				want.Src, want.Dst = frames[0].Src, frames[0].Dst
				if diff := cmp.Diff([]Frame{want}, frames, compareAddrPorts); diff != "" || want.Src.Port() != client4.Port() {
					t.Errorf("-want +got:\n%s", diff)
				}
			}
		})
	}
}

// TestReaderFirstFragment: the first fragment of a segment has its header, and is read as far as it goes.
func TestReaderFirstFragment(t *testing.T) {
	data := packet(t, frame(client4, server4, PSH|ACK, 1, 1, 11)).Data
	first, second := bytes.Clone(data), bytes.Clone(data[:14+20+8])
	first[14+6] |= 0x20 // more fragments
	second[14+7] = 5
	r, err := NewReader(bytes.NewReader(capturePcap(t, layers.LinkTypeEthernet, first, second)))
	if err != nil {
		t.Fatal(err)
	}
	frames, _ := readAll(r)
	if len(frames) != 1 || frames[0].Payload != 11 || frames[0].Flags != PSH|ACK || r.Fragments != 1 {
		t.Errorf("%d fragments, and %+v", r.Fragments, frames)
	}
}

// TestReaderInterfaces: of a pcapng what one interface says does not change what was read of another. Interfaces count on what they
// have lost, and those of a new section begin anew; their times may be inexact, or not there.
func TestReaderInterfaces(t *testing.T) {
	good := packet(t, frame(client4, server4, ACK, 1, 1, 11)).Data
	block := func(kind uint32, body ...[]byte) []byte {
		b := bytes.Join(body, nil)
		b = append(b, make([]byte, -len(b)&3)...)
		n := binary.LittleEndian.AppendUint32(nil, uint32(len(b)+12))
		return slices.Concat(binary.LittleEndian.AppendUint32(nil, kind), n, b, n)
	}
	words := func(all ...uint32) (b []byte) {
		for _, w := range all {
			b = binary.LittleEndian.AppendUint32(b, w)
		}
		return b
	}
	section := block(sectionHeader, words(0x1a2b3c4d, 1, 0xffffffff, 0xffffffff))
	of := func(link uint32, resolution byte) []byte {
		return block(1, words(link, 0), words(9|1<<16), []byte{resolution, 0, 0, 0}, words(0))
	}
	n := uint32(len(good))
	at := func(id uint32) []byte { return block(6, words(id, 1<<20, 0, n, n), good) }
	simple := block(3, words(n), good)
	lost := func(id, n uint32) []byte { return block(5, words(id, 0, 0, 5|8<<16, n, 0, 0)) }
	r, err := NewReader(bytes.NewReader(slices.Concat(
		section, of(1, 6), of(147, 6), of(1, 0x80|32), at(0), at(1), at(1), at(2), simple, lost(0, 5), lost(0, 9), lost(1, 1),
		section, of(1, 9), at(0), lost(0, 2),
	)))
	if err != nil {
		t.Fatal(err)
	}
	frames, err := readAll(r)
	got := [...]int{len(frames), r.Packets, r.Unknown, r.Inexact, r.Timeless, int(r.Dropped)}
	if want := [...]int{4, 6, 2, 1, 1, 12}; got != want || !errors.Is(err, io.EOF) {
		t.Errorf("want %v frames, packets, of unknown links, inexact, timeless, lost; got %v, and %v", want, got, err)
	}
	if r.Start.Year() < 1970 || frames[2].Time.Before(r.Start) {
		t.Errorf("it starts at %v, and what has no time was there at %v", r.Start, frames[2].Time)
	}
}

// TestReaderOdd: what is cut, foreign or not TCP is told.
func TestReaderOdd(t *testing.T) {
	good := packet(t, frame(client4, server4, ACK, 1, 1, 11)).Data
	arp := append(make([]byte, 12), 0x08, 0x06)
	fragment := bytes.Clone(good)
	fragment[14+7] |= 1 // not the first
	short := good[:14+20+4]
	broken := bytes.Clone(good)
	broken[14] = 0x40 // the IP header has no length
	for _, tt := range []struct {
		name                                   string
		file                                   []byte
		frames, packets, undecodable, fragment int
		err                                    error
	}{
		{"nothing in it", capturePcap(t, layers.LinkTypeEthernet), 0, 0, 0, 0, io.EOF},
		{"no TCP", capturePcap(t, layers.LinkTypeEthernet, append(arp, make([]byte, 28)...)), 0, 1, 0, 0, io.EOF},
		{"a fragment", capturePcap(t, layers.LinkTypeEthernet, fragment, good), 1, 2, 0, 1, io.EOF},
		{"a broken IP header", capturePcap(t, layers.LinkTypeEthernet, broken, good), 1, 2, 1, 0, io.EOF},
		{"cut by -s", capturePcap(t, layers.LinkTypeEthernet, short, good), 1, 2, 1, 0, io.EOF},
		{"of a user of its own", capturePcap(t, 147, good), 0, 1, 0, 0, ErrLinkType},
		{"a number that nobody has", capturePcap(t, 9999, good), 0, 1, 0, 0, ErrLinkType},
		{"cut in a packet", capturePcap(t, layers.LinkTypeEthernet, good, good)[:24+16+len(good)+16+3], 1, 1, 0, 0, io.ErrUnexpectedEOF},
		{"cut in a head", capturePcap(t, layers.LinkTypeEthernet, good, good)[:24+16+len(good)+3], 1, 1, 0, 0, io.ErrUnexpectedEOF},
		{"pcapng cut", captureNg(t, linked{layers.LinkTypeEthernet, good})[:120], 0, 0, 0, 0, io.ErrUnexpectedEOF},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := NewReader(bytes.NewReader(tt.file))
			if err != nil {
				t.Fatal(err)
			}
			frames, err := readAll(r)
			got := [4]int{len(frames), r.Packets, r.Undecodable, r.Fragments}
			if want := [4]int{tt.frames, tt.packets, tt.undecodable, tt.fragment}; got != want || !errors.Is(err, tt.err) {
				t.Errorf("want %v and %v, got %v and %v", want, tt.err, got, err)
			}
		})
	}
	for _, text := range []string{"", "PK", "{}\n{}\n", "\x1f\x8b\x08\x00"} {
		if _, err := NewReader(bytes.NewReader([]byte(text))); !errors.Is(err, ErrNoCapture) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestReaderBounded: a packet that is said to be huge, and is, does not fill the memory.
func TestReaderBounded(t *testing.T) {
	head := capturePcap(t, layers.LinkTypeEthernet)
	head[16], head[17], head[18], head[19] = 0xff, 0xff, 0xff, 0x7f // snap length
	huge := append(head, make([]byte, 8)...)
	huge = append(huge, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff, 0x7f)
	r, err := NewReader(io.MultiReader(bytes.NewReader(huge), endless{}))
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := r.Next(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("got %v", err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 8*mostBetween {
		t.Errorf("it took %d MiB", used>>20)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// checkPlain holds the decoder of plain packets against that of any: what it takes, it reads alike.
func checkPlain(t *testing.T, p *plain, data []byte, link layers.LinkType, info gopacket.CaptureInfo) (took bool) {
	t.Helper()
	got, gotKind, took := p.decode(data, link, info)
	if !took {
		return false
	}
	want, wantKind, _ := decodeAny(data, link, info)
	if diff := cmp.Diff(want, got, compareAddrPorts); diff != "" || gotKind != wantKind {
		t.Errorf("% x: kind %d, want %d (-any +plain):\n%s", data, gotKind, wantKind, diff)
	}
	return true
}

// TestReaderPlain: plain packets are read without gopacket's decoder of all layers, as it would read them, wherever they are cut and
// whatever any of their header's bytes is; others are left to it.
func TestReaderPlain(t *testing.T) {
	var p plain
	for _, f := range []Frame{frame(client4, server4, PSH|ACK, 1, 1, 11), frame(client6, server6, RST, 1, 0, 0)} {
		data := packet(t, f).Data
		for i, l := range links(data, f.Src.Addr().Is6()) {
			if took := checkPlain(t, &p, l.data, l.link, info(1, l.data)); took != (i == 0) {
				t.Errorf("%v: %v/%d: taken: %v", f.Src, l.link, i, took)
			}
		}
		for at := range data {
			cut := info(1, data)
			cut.CaptureLength = at
			checkPlain(t, &p, data[:at], layers.LinkTypeEthernet, cut)
			edited := bytes.Clone(data)
			for b := range 256 {
				edited[at] = byte(b)
				checkPlain(t, &p, edited, layers.LinkTypeEthernet, info(1, edited))
			}
		}
	}
}

// FuzzReader: whatever a capture holds, reading it ends, and no frame is more than the packet that it came in.
func FuzzReader(f *testing.F) {
	good := packet(f, frame(client4, server4, PSH|ACK, 1, 1, 11)).Data
	for _, l := range links(good, false) {
		f.Add(capturePcap(f, l.link, l.data, l.data))
		f.Add(captureNg(f, l, l))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := NewReader(bytes.NewReader(data))
		if err != nil {
			return
		}
		frames, err := readAll(r)
		if err == nil {
			t.Fatal("it has no end")
		}
		last := 0
		for _, frame := range frames {
			if frame.Number <= last || frame.Number > r.Packets || !frame.Src.IsValid() || frame.Payload < 0 {
				t.Errorf("%+v", frame)
			}
			last = frame.Number
		}

		if r, err = NewReader(bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		var p plain
		for {
			data, info, err := r.source.ZeroCopyReadPacketData()
			if err != nil {
				return
			}
			checkPlain(t, &p, data, layers.LinkTypeEthernet, info)
		}
	})
}

// followAll follows frames, no more than most flows at a time.
func followAll(frames []Frame, most int, server func(netip.AddrPort) bool) (flows []*Followed) {
	f := &Follower{Most: most, Server: server, Ended: func(f *Followed) { flows = append(flows, f) }}
	for _, frame := range frames {
		f.Add(frame)
	}
	f.Close()
	return flows
}

// TestFollower: it comes to what Flows comes to, keeps both ends of a long flow, and lets go of what was quiet for longest.
func TestFollower(t *testing.T) {
	at := func(ms int, f Frame) Frame {
		f.Time = epoch.Add(time.Duration(ms) * time.Millisecond)
		return f
	}
	const c, s = 100, 900
	out := func(ms int, flags Flags, seq, ack uint32, n int) Frame {
		return at(ms, frame(client4, server4, flags, seq, ack, n))
	}
	in := func(ms int, flags Flags, seq, ack uint32, n int) Frame {
		return at(ms, frame(server4, client4, flags, seq, ack, n))
	}
	begin := []Frame{out(0, SYN, c, 0, 0), in(1, SYN|ACK, s, c+1, 0), out(2, ACK, c+1, s+1, 0)}

	frames := begin
	for i := range 500 {
		frames = append(frames, out(10+i*2, PSH|ACK, c+1+uint32(i), s+1, 1), in(11+i*2, ACK, s+1, c+2+uint32(i), 0))
	}
	frames = append(frames, out(5000, PSH|ACK, c+500, s+1, 1), in(5001, RST, s+1, 0, 0), in(5001, RST, s+1, 0, 0))
	flows := followAll(numbered(frames...), 0, nil)
	if len(flows) != 1 {
		t.Fatalf("%d flows", len(flows))
	}
	f := flows[0]
	if f.Count != len(frames)-1 || f.Copies != 1 || f.Bytes != [2]uint64{501, 0} || f.Again != [2]int{1, 0} || !f.HandshakeDone || f.LetGo {
		t.Errorf("%+v", f)
	}
	if len(f.Resets) != 1 || f.Resets[0].Trigger != len(frames)-2 || f.Resets[0].Flavour != BareReset {
		t.Errorf("resets: %+v", f.Resets)
	}
	if n := len(f.Frames); n > FirstFrames+2*lastFrames || f.Frames[0].Number != 1 || f.Frames[FirstFrames-1].Number != FirstFrames || f.Frames[n-1].Number != len(frames)-1 {
		t.Errorf("%d frames are kept", n)
	}

	// Two interfaces, and what the second saw is behind all that the first saw, in the file alone.
	twice := append(slices.Clone(begin), out(3, PSH|ACK, c+1, s+1, 9), in(4, ACK, s+1, c+10, 0), in(5, PSH|ACK, s+1, c+10, 9), out(6, ACK, c+10, s+10, 0),
		out(7, PSH|ACK, c+10, s+10, 9), in(8, PSH|ACK, s+10, c+19, 9), in(9, RST|ACK, s+19, c+19, 0))
	for _, f := range slices.Clone(twice) {
		f.Time = f.Time.Add(2 * time.Microsecond)
		twice = append(twice, f)
	}
	flows = followAll(numbered(twice...), 0, nil)
	if f := flows[0]; len(flows) != 1 || f.Copies != len(twice)/2 || f.SYNs+f.SYNACKs+f.Again[0]+f.Again[1] > 0 || len(f.Resets) != 1 {
		t.Errorf("of what two interfaces saw: %+v", f)
	}

	other := func(port uint16, flags Flags) Frame {
		return frame(netip.AddrPortFrom(client4.Addr(), port), server4, flags, c, 0, 0)
	}
	flows = followAll(numbered(other(1, SYN), other(2, SYN), other(3, SYN), other(2, SYN), other(1, ACK)), 2, nil)
	var ports []uint16
	var let []bool
	for _, f := range flows {
		ports, let = append(ports, f.Client.Port()), append(let, f.LetGo)
	}
	if diff := cmp.Diff([]uint16{1, 3, 2, 1}, ports); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if diff := cmp.Diff([]bool{true, true, false, false}, let); diff != "" {
		t.Errorf("let go: -want +got:\n%s", diff)
	}

	flows = followAll(numbered(in(0, ACK, 5, 5, 3)), 0, func(a netip.AddrPort) bool { return a == server4 })
	if flows[0].Client != client4 || flows[0].Bytes != [2]uint64{0, 3} {
		t.Errorf("the server was taken for the client: %+v", flows[0])
	}
}
