package foreign

import (
	"time"

	"github.com/rpmig/rpmig/capture"
)

// Kind is what became of a connection, as far as its own packets tell.
type Kind int

// The kinds, those first of which there is most to say.
const (
	Queued     Kind = iota // reset by the server by its own account, before it had sent a byte: as a closing listener does
	Stray                  // its segment was answered with a bare RST in or right after the handshake
	Refused                // its SYN was answered with a reset
	Aborted                // reset by the server by its own account, once it had sent something, or if the beginning is missing
	Gone                   // a later segment was answered with a bare RST: the server's socket was gone
	Unanswered             // its SYNs were answered with nothing
	Unfinished             // its SYN was answered, and the handshake not done
	ByClient               // reset by the client
	Served                 // the server has sent something, if only its FIN
	Silent                 // the handshake was done, and the server has sent nothing by the end of the capture
	OneWay                 // the packets of one side are there, and acknowledge what is not; it was not reset
	Partial                // its beginning is not in the capture, and it was not reset
	kinds
)

// kindOf tells the kind of a connection.
func kindOf(f *capture.Followed) Kind {
	if len(f.Resets) > 0 && !f.Resets[0].AfterEnd { // one that came when both had sent their FIN took nothing away
		return kindOfReset(f, Deciding(f))
	}
	switch {
	case !begun(f):
		return Partial
	case oneWay(f):
		return OneWay
	case spoken(f):
		return Served
	case f.HandshakeDone:
		return Silent
	case answered(f):
		return Unfinished
	default:
		return Unanswered
	}
}

// begun tells whether a connection began in the capture: with its SYN or, where that is not there, with the answer to it.
func begun(f *capture.Followed) bool { return f.Frames[0].Flags.Has(capture.SYN) }

// spoken tells whether the server's application has: by what is there, and by the numbers of what is not, as the capture has lost
// it or as it was a fragment.
func spoken(f *capture.Followed) bool {
	if f.Bytes[1] > 0 || f.FIN[1] {
		return true
	}
	first := uint32(0) // of the server's bytes
	for _, s := range f.Frames {
		switch {
		case s.Flags.Has(capture.SYN|capture.ACK) && first == 0:
			first = s.Seq + 1
		case s.Flags.Has(capture.SYN|capture.ACK) && first != s.Seq+1:
			return false // two sockets have answered, and it is not known of which the other numbers are
		case first == 0:
		case s.FromClient && s.Flags&(capture.ACK|capture.RST) == capture.ACK && beyond(s.Ack, first),
			!s.FromClient && s.Flags.Has(capture.ACK) && beyond(s.Seq, first):
			return true
		}
	}
	return false
}

// beyond tells whether a number is behind another one, by no more than a window.
func beyond(n, first uint32) bool {
	const mostWindow = 1 << 30
	return n-first-1 < mostWindow
}

// oneWay tells whether one direction of a connection was not captured: an ACK answers something.
func oneWay(f *capture.Followed) bool {
	acks := false
	for _, s := range f.Frames {
		if s.FromClient != f.Frames[0].FromClient {
			return false
		}
		acks = acks || s.Flags.Has(capture.ACK)
	}
	return acks
}

// answered tells whether the server has answered the SYN by a SYN+ACK.
func answered(f *capture.Followed) bool {
	for _, s := range f.Frames {
		if s.Role == capture.RoleSYNACK {
			return true
		}
	}
	return false
}

// Deciding is the reset that tells what became of a connection that was reset: the first, as those after it answer what was still on
// its way. But a socket that is aborted leaves the hash before it sends its reset (tcp_disconnect), and a segment that comes in
// between is answered by another listener, or for no socket. The abort decides then: it answers nothing.
func Deciding(f *capture.Followed) *capture.Reset {
	first := &f.Resets[0]
	if first.FromClient || first.Flavour != capture.BareReset {
		return first
	}
	const soon = time.Second // what comes later does so to a client that has been gone for long
	for i := range f.Resets[1:] {
		if r := &f.Resets[1+i]; !r.FromClient && r.Flavour == capture.ResetWithACK && r.Trigger == 0 && r.Seq != 0 && r.Time.Sub(first.Time) < soon {
			return r
		}
	}
	return first
}

// kindOfReset tells the kind of a connection by the reset that decides.
func kindOfReset(f *capture.Followed, r *capture.Reset) Kind {
	withACK := r.Flavour == capture.ResetWithACK
	open := answered(f) || f.HandshakeDone
	switch {
	case r.FromClient:
		return ByClient
	case withACK && r.Trigger > 0, begun(f) && !open: // what it answers has no ACK: a SYN
		return Refused
	case withACK && r.Seq == 0 && !open: // nothing else has that number; the SYN is not in the capture
		return Refused
	case withACK && (spoken(f) || !begun(f)):
		return Aborted
	case withACK:
		return Queued
	case begun(f) && !spoken(f) && (r.Trigger > 0 || oneWay(f)) && !acknowledged(f, r):
		return Stray
	default:
		return Gone
	}
}

// acknowledged tells whether the server has acknowledged data of the client before the reset: then it had a socket for it, and not
// only a request.
func acknowledged(f *capture.Followed, r *capture.Reset) bool {
	for _, s := range f.Frames {
		if s.Number < r.Number && !s.FromClient && s.Flags.Has(capture.ACK) && int32(s.RelAck-1) > 0 {
			return true
		}
	}
	return false
}
