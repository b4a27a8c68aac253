package vm

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// kind is what a frame of the control channel carries.
type kind byte

// What the guest sends. Its process 1 sends some kinds and its run the others, each straight to the channel, so that what was
// sent before the kernel died has arrived.
const (
	kindHello  kind = 'H' // Hello: the guest is up; before it nothing else
	kindAlive  kind = 'A' // nothing: the guest's process 1 still runs
	kindStdout kind = 'O' // what the run printed
	kindStderr kind = 'E'
	kindEnd    kind = 'Z' // end: the run has ended, and the guest powers off

	kindBegan  kind = 'B' // a cell's ID: it is being played
	kindEnded  kind = 'D' // a cell's ID: it is not any more
	kindFile   kind = 'F' // the name of a file: its content follows, up to the next one or the next line
	kindData   kind = 'C' // some of its content
	kindLedger kind = 'L' // a line of the ledger; the files before it are the cell's
)

// What the host sends.
const (
	kindOrder  kind = 'R' // Order: what to run; once
	kindSignal kind = 'S' // a signal for the run, as a number
)

// A frame is its kind, whether the next of this kind goes on with it, the length of its payload, and the payload. It is written
// by one write(2) of no more than maxFrame: the virtio port takes that as one buffer (drivers/char/virtio_console.c,
// port_fops_write), and a terminal under its lock, so that two processes of the guest may write.
const (
	frameHead = 6
	maxFrame  = 32 << 10
	// maxMessage is far more than any message has: the longest are lines of a ledger.
	maxMessage = 64 << 20
)

// writeMessage writes a message in as many frames as it takes.
func writeMessage(w io.Writer, k kind, payload []byte) error {
	for {
		part := payload[:min(len(payload), maxFrame-frameHead)]
		payload = payload[len(part):]
		frame := make([]byte, frameHead, frameHead+len(part))
		frame[0] = byte(k)
		if len(payload) > 0 {
			frame[1] = 1
		}
		binary.BigEndian.PutUint32(frame[2:], uint32(len(part)))
		if _, err := w.Write(append(frame, part...)); err != nil {
			return fmt.Errorf("write to the control channel: %w", err)
		}
		if len(payload) == 0 {
			return nil
		}
	}
}

// writeJSON writes a message that is JSON.
func writeJSON(w io.Writer, k kind, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeMessage(w, k, text)
}

// errFrame says that what came over the control channel is no frame.
var errFrame = errors.New("what came over the control channel is no frame")

// messages reads the messages of a channel.
type messages struct {
	r    io.Reader
	head [frameHead]byte
	part map[kind]*bytes.Buffer // what has come of messages in several frames
}

func newMessages(r io.Reader) *messages { return &messages{r: r, part: map[kind]*bytes.Buffer{}} }

// next returns the next message. io.EOF means that the channel has ended between two frames.
func (m *messages) next() (kind, []byte, error) {
	for {
		if _, err := io.ReadFull(m.r, m.head[:]); err != nil {
			return 0, nil, err
		}
		k, more, n := kind(m.head[0]), m.head[1], binary.BigEndian.Uint32(m.head[2:])
		if k < 'A' || k > 'Z' || more > 1 || n > maxFrame-frameHead {
			return 0, nil, errFrame
		}
		payload := make([]byte, n)
		if _, err := io.ReadFull(m.r, payload); err != nil {
			return 0, nil, err
		}
		before := m.part[k]
		if before == nil && more == 0 {
			return k, payload, nil
		}
		if before == nil {
			before = &bytes.Buffer{}
			m.part[k] = before
		}
		if before.Len()+len(payload) > maxMessage {
			return 0, nil, errFrame
		}
		before.Write(payload)
		if more == 0 {
			delete(m.part, k)
			return k, before.Bytes(), nil
		}
	}
}

// Order is what a guest is told to run.
type Order struct {
	Args []string `json:"args"` // of rpmig, without its name
	Env  []string `json:"env"`  // what is set beside the guest's own environment
}

// Hello is what a guest says of itself when it is up.
type Hello struct {
	Release string   `json:"release"` // as uname -r
	Machine string   `json:"machine"` // as uname -m
	Words   []string `json:"words"`   // what did not go as it should, such as a module that would not load
}

// end is the last that a guest says.
type end struct {
	Status int    `json:"status"` // of the run
	Err    string `json:"err"`    // why it could not be run; empty: it was
}
