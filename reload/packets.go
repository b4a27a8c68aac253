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
	"github.com/rpmig/rpmig/reload/load"
)

// PacketsOf is of how many lost connections Config.Packets keeps the packets: the first.
const PacketsOf = 2_000

const (
	framesKept = 12       // of a connection: the last ones
	flowsKept  = 50_000   // connections at a time, most of which are about to be forgotten
	freeKept   = 1_000    // places for connections to come: more are taken only while the reader is late
	sortEvery  = 1024     // frames, so that those that came while the reader did not run take no more room than others
	ringSize   = 16 << 20 // for what comes while the reader does not run: a second at full speed
	readEvery  = 10 * time.Millisecond

	// When it is known whether a connection was lost. The load says so before it closes its end; what follows that is over soon. Of
	// one that the server has reset it may not know yet.
	afterClient = readEvery
	afterServer = 200 * time.Millisecond
)

// ends are those of a connection.
type ends struct{ client, server netip.AddrPort }

// flow is what is kept of a connection.
type flow struct {
	ends
	frames                   []capture.Packet // the last ones
	clientEnded, serverEnded bool             // by a FIN or a reset
	over                     time.Time
}

// about tells whether one of its frames is of about a time.
func (f *flow) about(at time.Time) bool {
	const apart = 2 * time.Second // the client may have been kept from looking
	return slices.ContainsFunc(f.frames, func(frame capture.Packet) bool { return frame.Time.Sub(at).Abs() < apart })
}

// packets keeps the last frames of each connection until it is known that it was not lost. The frames do not tell: one that was
// served ends by a reset as well, where its client or its server closes with something unread.
type packets struct {
	port   uint16
	live   *capture.Live
	losses func(from int) []load.Lost // of the load
	offset time.Duration              // how far the wall clock is ahead of theirs
	stop   chan struct{}
	done   sync.WaitGroup
	err    error

	flows  map[ends]*flow
	over   []*flow // in the order in which they ended
	free   []*flow
	since  int                  // the last sort, in frames
	told   int                  // how many losses are known
	losing map[ends][]time.Time // and when these were
	lost   map[ends][]*flow
	kept   int // of lost

	without int // lost after PacketsOf others
}

// KeepPackets does what Config.Packets does, for those who measure what it costs. It returns the function that ends it, once the load
// has stopped.
func KeepPackets(port uint16, e *load.Engine) (end func() (received, lost int, err error), err error) {
	p, err := keepPackets(port, e.Lost)
	if err != nil {
		return nil, err
	}
	return p.end, nil
}

func keepPackets(port uint16, losses func(from int) []load.Lost) (*packets, error) {
	offset, err := wallOffset()
	if err != nil {
		return nil, err
	}
	live, err := capture.OpenLive("lo", ringSize)
	if err != nil {
		return nil, err
	}
	p := newPackets(port, losses, offset)
	p.live = live
	p.done.Go(func() {
		ticker := time.NewTicker(readEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				live.Read(p.add)
				p.sort(time.Now())
			case <-p.stop:
				p.err = p.readAll(ticker.C)
				return
			}
		}
	})
	return p, nil
}

func newPackets(port uint16, losses func(from int) []load.Lost, offset time.Duration) *packets {
	return &packets{
		port: port, losses: losses, offset: offset, stop: make(chan struct{}),
		flows: map[ends]*flow{}, losing: map[ends][]time.Time{}, lost: map[ends][]*flow{},
	}
}

// readAll reads what has come so far, the last of which the kernel has not handed over yet.
func (p *packets) readAll(tick <-chan time.Time) error {
	const patience = time.Second
	for deadline := time.Now().Add(patience); ; <-tick {
		whole, err := p.live.Whole() // counted before it is read
		p.live.Read(p.add)
		if whole || err != nil || time.Now().After(deadline) {
			return err
		}
	}
}

// end stops the recording, when the load has stopped, and says how much it lost.
func (p *packets) end() (received, lost int, err error) {
	close(p.stop)
	p.done.Wait()
	defer p.live.Close()
	p.sortAll()
	if p.err != nil {
		return 0, 0, p.err
	}
	return p.live.Recorded()
}

// add adds a frame to its connection.
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
	if begins && f != nil && (!f.over.IsZero() || f.clientEnded || f.serverEnded) { // the ports are in use again
		p.finish(f, frame.Time)
		f = nil
	}
	if f == nil {
		if !begins || len(p.flows) >= flowsKept { // the last ACK of one that has been forgotten
			return
		}
		f = p.place(key)
		p.flows[key] = f
	}
	f.add(frame)
	reset := s.flags.Has(capture.RST)
	if reset || s.flags.Has(capture.FIN) {
		f.serverEnded, f.clientEnded = f.serverEnded || fromServer, f.clientEnded || !fromServer
	}
	if reset || f.clientEnded && f.serverEnded {
		p.finish(f, frame.Time)
	}
	if p.since++; p.since >= sortEvery {
		p.sort(frame.Time)
	}
}

// finish takes a connection for one that has come to its end; what still comes belongs to it.
func (p *packets) finish(f *flow, at time.Time) {
	if f.over.IsZero() {
		f.over = at
		p.over = append(p.over, f)
	}
}

// place is a flow that holds nothing, if possible one that has been forgotten.
func (p *packets) place(key ends) *flow {
	last := len(p.free) - 1
	if last < 0 {
		return &flow{ends: key, frames: make([]capture.Packet, 0, framesKept)}
	}
	f := p.free[last]
	p.free = p.free[:last]
	*f = flow{ends: key, frames: f.frames[:0]}
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

// sort keeps, of the connections that are over, those that were lost, and forgets the others.
func (p *packets) sort(now time.Time) {
	p.since = 0
	for _, l := range p.losses(p.told) {
		p.told++
		key := ends{l.Local, l.Remote}
		p.losing[key] = append(p.losing[key], time.Unix(0, int64(l.Ended+p.offset)))
	}
	p.over = slices.DeleteFunc(p.over, func(f *flow) bool {
		after := afterServer
		if f.clientEnded {
			after = afterClient
		}
		known := now.Sub(f.over) > after
		if known {
			p.keepIfLost(f)
		}
		return known
	})
}

// sortAll does so with all that there are.
func (p *packets) sortAll() {
	now := time.Now()
	for _, f := range p.flows {
		p.finish(f, now)
	}
	p.sort(now.Add(time.Hour))
}

func (p *packets) keepIfLost(f *flow) {
	if p.flows[f.ends] == f {
		delete(p.flows, f.ends)
	}
	lost := slices.ContainsFunc(p.losing[f.ends], f.about)
	if lost && p.kept >= PacketsOf {
		lost = false
		p.without++
	}
	if !lost {
		if len(p.free) < freeKept {
			p.free = append(p.free, f)
		}
		return
	}
	p.kept++
	p.lost[f.ends] = append(p.lost[f.ends], f)
}

// of is what was kept of a connection that ended at a time; nil: nothing.
func (p *packets) of(key ends, at time.Time) []capture.Packet {
	for _, f := range p.lost[key] {
		if f.about(at) {
			return f.frames
		}
	}
	return nil
}

// Without is how many connections were lost after PacketsOf others, so that their packets are not kept.
func (o *Outcome) Without() int {
	if o.packets == nil {
		return 0
	}
	return o.packets.without
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

// BeganAfter is how long after a moment the load began. By the wall clock, if the time has no monotonic reading (package time).
func (o *Outcome) BeganAfter(t time.Time) time.Duration {
	return time.Since(t) - (load.Now() - o.Load.From)
}

// segment is what there is to know of a frame here.
type segment struct {
	src, dst netip.AddrPort
	flags    capture.Flags
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
	switch {
	case kind == ipv4 && len(b) >= 20 && b[9] == tcp:
		header := int(b[0]&15) * 4
		if header < 20 || len(b) < header {
			return s, false
		}
		src, dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
		b = b[header:]
	case kind == ipv6 && len(b) >= 40 && b[6] == tcp:
		src, dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		b = b[40:]
	default:
		return s, false
	}
	if len(b) < 20 {
		return s, false
	}
	s.src = netip.AddrPortFrom(src, binary.BigEndian.Uint16(b))
	s.dst = netip.AddrPortFrom(dst, binary.BigEndian.Uint16(b[2:]))
	s.flags = capture.Flags(b[13])
	return s, true
}
