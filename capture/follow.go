package capture

import (
	"container/list"
	"net/netip"
	"time"
)

// Bounds of a Follower. Of a flow that has more frames those in its middle are let go of: its beginning tells what was asked for,
// and its end how it ended.
const (
	mostFollowed = 10_000 // flows at a time
	FirstFrames  = 12     // of a flow whose middle was let go of: so many are before the gap
	lastFrames   = 28
	mostResets   = 4 // of a flow
)

// Followed is a flow as a Follower has seen it. Its Frames are the first and the last of it.
type Followed struct {
	Flow
	Count  int // of all its frames
	Copies int // of frames, as another interface sees them too; they are not among the others
	Late   int // frames that are older than the one before them: the file is not in the order of time
	LetGo  bool
	Resets []Reset // the first of them
	// Of each side, the client's first: bytes of payload, and whether it has sent its FIN.
	Bytes [2]uint64
	FIN   [2]bool
	// Sent again: SYN, SYN+ACK, and other segments of each side.
	SYNs, SYNACKs int
	Again         [2]int
	HandshakeDone bool // on the wire
}

// side is the index of the side that has sent a segment.
func side(fromClient bool) int {
	if fromClient {
		return 0
	}
	return 1
}

// A Follower sorts frames into flows as Flows does, in bounded memory: it hands each flow over once another has its ends, once it is
// the one that was quiet for longest of more than mostFollowed, and at the end.
type Follower struct {
	// Server tells which end of a flow is the server where no SYN was seen; nil, and where it says neither: the one that was sent the
	// first frame.
	Server func(netip.AddrPort) bool
	Ended  func(*Followed)
	Most   int // 0: mostFollowed

	open  map[[2]netip.AddrPort]*list.Element
	quiet list.List // of *followed, those that were quiet for longest first
}

type followed struct {
	tracker
	Followed
	ends  [2]netip.AddrPort
	acked uint32 // by the answer to its SYN: what that carried, too (TCP Fast Open)
}

// Add takes the next frame.
func (f *Follower) Add(frame Frame) {
	if f.open == nil {
		f.open = map[[2]netip.AddrPort]*list.Element{}
	}
	ends := endsOf(frame)
	e := f.open[ends]
	if e != nil && (e.Value.(*followed).startsAnew(frame) || e.Value.(*followed).answersAnother(frame)) {
		f.end(e)
		e = nil
	}
	if e == nil {
		if most := f.Most; len(f.open) >= max(most, 1) && most > 0 || len(f.open) >= mostFollowed {
			oldest := f.quiet.Front()
			oldest.Value.(*followed).LetGo = !oldest.Value.(*followed).over()
			f.end(oldest)
		}
		e = f.quiet.PushBack(f.begin(frame, ends))
		f.open[ends] = e
	}
	f.quiet.MoveToBack(e)
	e.Value.(*followed).take(frame)
}

func (f *Follower) begin(frame Frame, ends [2]netip.AddrPort) *followed {
	flow := &followed{tracker: *newTracker(frame), ends: ends}
	t := &flow.flow
	if f.Server != nil && !t.Complete && !frame.Flags.Has(SYN) && f.Server(t.Client) && !f.Server(t.Server) {
		t.Client, t.Server = t.Server, t.Client
	}
	return flow
}

// Close hands over what is left, in the order of its last frames.
func (f *Follower) Close() {
	for f.quiet.Len() > 0 {
		f.end(f.quiet.Front())
	}
}

func (f *Follower) end(e *list.Element) {
	flow := f.quiet.Remove(e).(*followed)
	delete(f.open, flow.ends)
	flow.Flow = flow.flow
	f.Ended(&flow.Followed)
}

// over tells whether nothing more is to come.
func (f *followed) over() bool { return len(f.Resets) > 0 || f.FIN == [2]bool{true, true} }

// answersAnother tells whether a frame answers a SYN that is not in the capture, and is not the one that the flow began with: by
// the number that it acknowledges. While a connection whose SYN is there lasts, it may answer an old one, too.
func (f *followed) answersAnother(frame Frame) bool {
	answers := frame.Flags&(SYN|ACK|RST) == SYN|ACK || frame.Flags.Has(RST|ACK) && frame.Seq == 0
	return answers && (!f.flow.Complete || f.over()) && frame.Src == f.flow.Server && f.client.known && frame.Ack != f.client.isn+1 &&
		frame.Ack != f.acked
}

func (f *followed) take(frame Frame) {
	if f.isCopy(frame) {
		f.Copies++
		return
	}
	if n := len(f.flow.Frames); n > 0 && frame.Time.Before(f.flow.Frames[n-1].Time) {
		f.Late++
	}
	f.add(frame)
	f.Count++
	frames := f.flow.Frames
	s := frames[len(frames)-1]
	from := side(s.FromClient)
	f.Bytes[from] += uint64(s.Payload)
	switch s.Role {
	case RoleSYNRetransmission:
		f.SYNs++
	case RoleSYNACK:
		f.acked = s.Ack
	case RoleSYNACKRetransmission:
		f.SYNACKs++
	case RoleDataRetransmission:
		f.Again[from]++
	case RoleReset:
		f.reset(s, frames[:len(frames)-1])
	}
	f.FIN[from] = f.FIN[from] || s.Flags.Has(FIN)
	// The client has answered a SYN+ACK, though that may not be in the capture.
	f.HandshakeDone = f.HandshakeDone || f.flow.Complete && s.FromClient && s.Flags&(ACK|RST) == ACK && !before(s.RelAck, 1)
	if len(frames) > FirstFrames+2*lastFrames { // seldom
		f.flow.Frames = append(frames[:FirstFrames:FirstFrames], frames[len(frames)-lastFrames:]...)
	}
}

func (f *followed) reset(s Segment, earlier []Segment) {
	if len(f.Resets) == mostResets {
		return
	}
	f.Resets = append(f.Resets, newReset(s, earlier, f.FIN == [2]bool{true, true}))
}

// isCopy tells whether a frame is one that was there already, seen again where it went on: a capture of all interfaces has what
// goes over loopback twice. What a timer sends again does not come as soon (TCP_RTO_MIN is 200 ms). A duplicate ACK may, and what is
// sent again for those: they are taken for copies, too. Times need not be in order.
func (f *followed) isCopy(frame Frame) bool {
	const soon = time.Millisecond
	frames := f.flow.Frames
	for i := len(frames) - 1; i >= 0; i-- { // dumpcap writes what it has of one interface behind what it has of another
		s := frames[i].Frame
		if s.Src == frame.Src && s.Flags == frame.Flags && s.Seq == frame.Seq && s.Ack == frame.Ack && s.Payload == frame.Payload &&
			s.Window == frame.Window && frame.Time.Sub(s.Time).Abs() < soon {
			return true
		}
	}
	return false
}
