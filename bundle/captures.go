package bundle

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/rpmig/rpmig/capture"
	"github.com/rpmig/rpmig/result"
)

// seen is what a capture has, as far as a ledger speaks of it. It takes six bytes a frame.
type seen struct {
	packets int
	comment string
	frames  []seenFrame // by their number, from 1; one that is no TCP is zero
	err     error       // why it could not be read to its end
}

type seenFrame struct {
	src, dst uint16 // ports
	flags    capture.Flags
}

// readCapture reads a capture as far as it goes.
func readCapture(r io.Reader) *seen {
	in, err := capture.NewReader(r)
	if err != nil {
		return &seen{err: err}
	}
	s := &seen{comment: in.Comment}
	for {
		f, err := in.Next()
		if err != nil {
			if !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				s.err = err
			}
			s.packets = in.Packets
			return s
		}
		for len(s.frames) < f.Number-1 {
			s.frames = append(s.frames, seenFrame{})
		}
		s.frames = append(s.frames, seenFrame{f.Src.Port(), f.Dst.Port(), f.Flags})
	}
}

// holds tells whether a cell's capture is what the ledger says of it: so many packets, and the frames that are named, by their flags
// and ports.
func (s *seen) holds(c *result.Cell) error {
	switch {
	case s.err != nil:
		return fmt.Errorf("cannot be read: %w", s.err)
	case s.comment != "" && !strings.HasPrefix(s.comment, c.ID()+":"):
		return fmt.Errorf("is not that of its cell: its comment is %.60q", s.comment)
	case s.packets != c.Capture.Packets:
		return fmt.Errorf("is not that of its cell: want %s, got %d", result.Plural(c.Capture.Packets, "packet", "packets"), s.packets)
	}
	for _, r := range c.Resets {
		got := s.frame(r.Frame)
		want := seenFrame{r.From.Port(), r.To.Port(), capture.RST}
		if r.Flavour == result.RSTACK {
			want.flags |= capture.ACK
		}
		if got.flags &= capture.RST | capture.ACK; got != want {
			return fmt.Errorf("is not that of its cell: frame %d is not the reset (%s) from port %d to %d that the ledger names", r.Frame, r.Flavour, want.src, want.dst)
		}
	}
	for _, f := range c.Flow {
		got := s.frame(f.Frame)
		client := got.dst
		if f.FromClient {
			client = got.src
		}
		flags, _, _ := strings.Cut(f.Text, " ")
		if got == (seenFrame{}) || got.flags.String() != flags || c.Client.IsValid() && client != c.Client.Port() {
			return fmt.Errorf("is not that of its cell: frame %d is not the %.40q that the ledger names", f.Frame, f.Text)
		}
	}
	return nil
}

// frame returns a frame by its number; the zero one where there is none.
func (s *seen) frame(number int) seenFrame {
	if number < 1 || number > len(s.frames) {
		return seenFrame{}
	}
	return s.frames[number-1]
}
