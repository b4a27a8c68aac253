package foreign

import "github.com/rpmig/rpmig/capture"

// Kind is what became of a connection, as far as its own packets tell.
type Kind int

// The kinds, those first of which there is most to say.
const (
	Queued     Kind = iota // reset by the server by its own account, before it had sent a byte: as a closing listener does
	Stray                  // its segment was answered with a bare RST in or right after the handshake
	Refused                // its SYN was answered with a reset
	Aborted                // reset by the server by its own account, once it had sent something
	Gone                   // a later segment was answered with a bare RST: the server's socket was gone
	Unanswered             // its SYNs were answered with nothing
	Unfinished             // its SYN was answered, and the handshake not done
	ByClient               // reset by the client
	Served                 // both sides sent, or ended it in order
	Silent                 // the handshake was done, and the server has sent nothing by the end of the capture
	Partial                // its beginning is not in the capture, and it was not reset
	kinds
)

// kindOf tells the kind of a connection.
func kindOf(f *capture.Followed) Kind {
	if len(f.Resets) > 0 {
		return kindOfReset(f, &f.Resets[0])
	}
	served := f.Bytes[1] > 0 || f.FIN[0] || f.FIN[1]
	switch {
	case !f.Complete:
		return Partial
	case served:
		return Served
	case f.HandshakeDone:
		return Silent
	case answered(f):
		return Unfinished
	default:
		return Unanswered
	}
}

func answered(f *capture.Followed) bool {
	for _, s := range f.Frames {
		if s.Role == capture.RoleSYNACK {
			return true
		}
	}
	return false
}

// kindOfReset looks at the first reset: what comes after it answers what was still on its way.
func kindOfReset(f *capture.Followed, r *capture.Reset) Kind {
	spoken := f.Bytes[1] > 0 || f.FIN[1] // the server's application has
	switch {
	case r.FromClient:
		return ByClient
	case r.Flavour == capture.ResetWithACK && r.Trigger > 0: // what it answers has no ACK: a SYN
		return Refused
	case r.Flavour == capture.ResetWithACK && (spoken || !f.Complete):
		return Aborted
	case r.Flavour == capture.ResetWithACK:
		return Queued
	case f.Complete && !spoken && r.Trigger > 0 && !acknowledged(f, r):
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
