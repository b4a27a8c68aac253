package evidence

import (
	"cmp"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"time"

	"github.com/rpmig/rpmig/capture"
	"github.com/rpmig/rpmig/result"
)

// Files are what a cell leaves behind, not yet written.
type Files struct {
	capture  *capture.Recording // nil: it did not get so far
	comments map[int][]string
	panic    []byte
}

// Files are the capture with its comments, and the stack where the scenario panicked; either may be nil.
func (r *Record) Files(c *Comments, panic []byte) Files {
	f := Files{capture: r.capture, panic: panic}
	if c != nil {
		f.comments = c.Lines
	}
	return f
}

// Keep makes Files of a capture, with comments on its packets by their numbers.
func Keep(c *capture.Recording, comments map[int][]string) Files {
	return Files{capture: c, comments: comments}
}

// Counts is what the ledger says of a capture, of which there is one, in a cell's folder.
func (f Files) Counts(folder string) result.Capture {
	return result.Capture{Packets: len(f.capture.Packets), Lost: f.capture.Lost, File: folder + "/" + CaptureName}
}

// First is the first connection of a capture, of which there is one, and its client's end. Its times are seconds since the beginning.
func (f Files) First(beginning time.Time) (client netip.AddrPort, segments []result.Segment) {
	frames, _ := capture.Decode(f.capture.Packets)
	flows := capture.Flows(frames)
	if len(flows) == 0 {
		return client, nil
	}
	for _, s := range flows[0].Frames[:min(len(flows[0].Frames), mostSegments)] {
		segments = append(segments, segment(s, s.Time.Sub(beginning).Seconds(), f.comments[s.Number]))
	}
	return flows[0].Client, segments
}

// HasCapture tells whether there is one.
func (f Files) HasCapture() bool { return f.capture != nil }

// CaptureName is the file, in a cell's folder, with its capture.
const CaptureName = "capture.pcapng"

// Place is where evidence is kept. The file of that name, a path with slashes, must be closed before the next one is created.
type Place interface {
	Create(name string) (io.WriteCloser, error)
}

// Dir is a folder as a Place.
type Dir string

// Create implements Place. It refuses a name that a link leads out of the folder: others may have made it.
func (d Dir) Create(name string) (io.WriteCloser, error) {
	root, err := os.OpenRoot(string(d))
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	name = filepath.FromSlash(name)
	if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, err
	}
	return root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
}

// Put writes a file.
func Put(to Place, name string, data []byte) error {
	return put(to, name, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

func put(to Place, name string, write func(io.Writer) error) error {
	f, err := to.Create(name)
	if err != nil {
		return err
	}
	return cmp.Or(write(f), f.Close())
}

// Write puts the evidence into the cell's folder. The comment of the capture says what the cell came to.
func (f Files) Write(to Place, c *result.Cell, meta capture.Meta) error {
	if c.Status == result.Skip {
		return nil // it left nothing
	}
	// The folder may travel alone, so the cell's line of the ledger goes with it.
	text, err := result.JSON(c, "  ")
	if err == nil {
		err = Put(to, path.Join(c.Folder(), "cell.json"), text)
	}
	if err == nil && f.panic != nil {
		err = Put(to, path.Join(c.Folder(), "panic.txt"), f.panic)
	}
	if err == nil && f.capture != nil {
		meta.Comment = fmt.Sprintf("%s: %s: %s", c.ID(), c.Status, c.Reason)
		err = put(to, path.Join(c.Folder(), CaptureName), func(w io.Writer) error {
			return capture.WritePcapng(w, f.capture, f.comments, meta)
		})
	}
	if err != nil {
		return fmt.Errorf("write evidence: %w", err)
	}
	return nil
}
