package reload

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/rpmig/rpmig/capture"
	"github.com/rpmig/rpmig/evidence"
)

const (
	framesKept = 12       // of a connection: the last ones
	flowsKept  = 50_000   // connections at a time, most of which are about to be forgotten
	lostKept   = 2_000    // connections that were reset, or have ended without a byte of the server's
	ringFrames = 64 << 10 // what comes while the reader does not run: most of a second at full speed
	readEvery  = 10 * time.Millisecond
)

// ends are those of a connection.
type ends struct{ client, server netip.AddrPort }

// flow is what is kept of a connection.
type flow struct {
	frames         []capture.Packet // the last ones
	clientFIN      bool
	serverFIN      bool
	reset, replied bool
}

// packets keeps the last frames of each connection until that has ended well.
type packets struct {
	port  uint16
	live  *capture.Live
	stop  chan struct{}
	done  sync.WaitGroup
	flows map[ends]*flow
	free  []*flow
	lost  map[ends][]*flow
	kept  int // of lost
}

// KeepPackets does what Config.Packets does, for those who measure what it costs: it returns the function that ends it.
func KeepPackets(port uint16) (end func() (received, lost int, err error), err error) {
	p, err := keepPackets(port)
	if err != nil {
		return nil, err
	}
	return p.end, nil
}

func keepPackets(port uint16) (*packets, error) {
	live, err := capture.OpenLive("lo", ringFrames)
	if err != nil {
		return nil, err
	}
	p := &packets{port: port, live: live, stop: make(chan struct{}), flows: map[ends]*flow{}, lost: map[ends][]*flow{}}
	p.done.Go(func() {
		ticker := time.NewTicker(readEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				live.Read(p.add)
			case <-p.stop:
				live.Read(p.add)
				return
			}
		}
	})
	return p, nil
}

// end stops the recording, and says how much it lost.
func (p *packets) end() (received, lost int, err error) {
	close(p.stop)
	p.done.Wait()
	defer p.live.Close()
	for key, f := range p.flows { // what has not ended, or in a way of which nothing is known
		p.keep(key, f)
	}
	return p.live.Recorded()
}

// add sorts a frame in.
func (p *packets) add(frame capture.Packet) {
	s, ok := parseFrame(frame.Data)
	if !ok {
		return
	}
	key, fromServer := ends{s.src, s.dst}, false
	if s.src.Port() == p.port {
		key, fromServer = ends{s.dst, s.src}, true
	} else if s.dst.Port() != p.port {
		return
	}
	f := p.flows[key]
	begins := s.flags.Has(capture.SYN) && !s.flags.Has(capture.ACK)
	if begins && f != nil && (f.clientFIN || f.serverFIN || f.reset) {
		p.keep(key, f) // the ports are in use again
		f = nil
	}
	if f == nil {
		if !begins || len(p.flows) >= flowsKept { // the last ACK of one that has been forgotten
			return
		}
		f = p.place()
		p.flows[key] = f
	}
	f.add(frame)
	f.replied = f.replied || fromServer && s.payload > 0
	f.reset = f.reset || s.flags.Has(capture.RST)
	if s.flags.Has(capture.FIN) {
		f.serverFIN, f.clientFIN = f.serverFIN || fromServer, f.clientFIN || !fromServer
	}
	if f.clientFIN && f.serverFIN && f.replied && !f.reset {
		delete(p.flows, key)
		p.free = append(p.free, f)
	}
}

// place is a flow that holds nothing, if possible one that has been forgotten.
func (p *packets) place() *flow {
	last := len(p.free) - 1
	if last < 0 {
		return &flow{frames: make([]capture.Packet, 0, framesKept)}
	}
	f := p.free[last]
	p.free = p.free[:last]
	*f = flow{frames: f.frames[:0]}
	return f
}

// add copies a frame to where an earlier one was, if there was one.
func (f *flow) add(frame capture.Packet) {
	n := len(f.frames)
	if n < framesKept {
		f.frames = f.frames[:n+1]
	} else {
		n--
		first := f.frames[0]
		copy(f.frames, f.frames[1:])
		f.frames[n] = first
	}
	frame.Data = append(f.frames[n].Data[:0], frame.Data...)
	f.frames[n] = frame
}

// keep keeps a connection that may have been lost.
func (p *packets) keep(key ends, f *flow) {
	delete(p.flows, key)
	if p.kept < lostKept {
		p.kept++
		p.lost[key] = append(p.lost[key], f)
	}
}

// of is what was kept of a connection that ended at a time; nil: nothing.
func (p *packets) of(key ends, at time.Time) []capture.Packet {
	const apart = 2 * time.Second
	for _, f := range p.lost[key] {
		if last := f.frames[len(f.frames)-1]; last.Time.Sub(at).Abs() < apart {
			return f.frames
		}
	}
	return nil
}

// Files are the last frames of the lost connections of a mode, in the order of their time, with a comment on the first of each;
// none without Config.Packets, and where none was lost.
func (o *Outcome) Files(t Terms, mode string) evidence.Files {
	if o.packets == nil {
		return evidence.Files{}
	}
	type noted struct {
		capture.Packet
		note string
	}
	var all []noted
	for _, l := range o.losses(t.Untraced == "") {
		if o.Cycles[l.cycle].Mode.Name != mode {
			continue
		}
		note := fmt.Sprintf("cycle %d, %s: %s (%s): %s", l.cycle+1, mode, l.End, l.Phase, l.name)
		if l.by != "" {
			note += ", by " + l.by
		}
		for i, frame := range o.packets.of(ends{l.Local, l.Remote}, time.Unix(0, int64(l.Ended+o.Offset))) {
			if i > 0 {
				note = ""
			}
			all = append(all, noted{frame, note})
		}
	}
	slices.SortStableFunc(all, func(a, b noted) int { return a.Time.Compare(b.Time) })
	var list []capture.Packet
	comments := map[int][]string{}
	for i, n := range all {
		list = append(list, n.Packet)
		if n.note != "" {
			comments[i+1] = []string{n.note}
		}
	}
	if list == nil {
		return evidence.Files{}
	}
	return evidence.Keep(o.packets.live.Keep(list, o.frames, o.framesLost), comments)
}

// Beginning is when the load began, by the wall clock.
func (o *Outcome) Beginning() time.Time { return time.Unix(0, int64(o.Load.From+o.Offset)) }

// segment is what there is to know of a frame here.
type segment struct {
	src, dst netip.AddrPort
	flags    capture.Flags
	payload  int // bytes, as far as the headers tell
}

// parseFrame reads the headers of an Ethernet frame that carries TCP. It refuses any other one, and one that was cut within its
// headers. It is for the many frames a second of which few are kept; capture.Decode reads those.
func parseFrame(b []byte) (s segment, ok bool) {
	const ethernet, ipv4, ipv6, tcp = 14, 0x0800, 0x86dd, 6
	if len(b) < ethernet {
		return s, false
	}
	kind := binary.BigEndian.Uint16(b[12:])
	b = b[ethernet:]
	var src, dst netip.Addr
	var length int // of TCP's header and payload
	switch {
	case kind == ipv4 && len(b) >= 20 && b[9] == tcp:
		header := int(b[0]&15) * 4
		if header < 20 || len(b) < header {
			return s, false
		}
		src, dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
		length, b = int(binary.BigEndian.Uint16(b[2:]))-header, b[header:]
	case kind == ipv6 && len(b) >= 40 && b[6] == tcp:
		src, dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		length, b = int(binary.BigEndian.Uint16(b[4:])), b[40:]
	default:
		return s, false
	}
	if len(b) < 20 {
		return s, false
	}
	s.src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(b))
	s.dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2:]))
	s.flags, s.payload = capture.Flags(b[13]), length-int(b[12]>>4)*4
	return s, true
}
