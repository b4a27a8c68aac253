package evidence

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

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

// HasCapture tells whether there is one.
func (f Files) HasCapture() bool { return f.capture != nil }

// CaptureName is the file, in a cell's folder, with its capture.
const CaptureName = "capture.pcapng"

// Write puts the evidence into the cell's folder below dir. The comment of the capture says what the cell came to.
func (f Files) Write(dir string, c *result.Cell, meta capture.Meta) error {
	if c.Status == result.Skip {
		return nil // it left nothing
	}
	folder := filepath.Join(dir, filepath.FromSlash(c.Folder()))
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("write evidence: %w", err)
	}
	if f.panic != nil {
		if err := os.WriteFile(filepath.Join(folder, "panic.txt"), f.panic, 0o644); err != nil {
			return fmt.Errorf("write evidence: %w", err)
		}
	}
	if f.capture != nil {
		meta.Comment = fmt.Sprintf("%s: %s: %s", c.ID(), c.Status, c.Reason)
		if err := writeCapture(filepath.Join(folder, CaptureName), f, meta); err != nil {
			return fmt.Errorf("write evidence: %w", err)
		}
	}
	// The folder may travel alone, so the cell's line of the ledger goes with it.
	line, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("write evidence: %w", err)
	}
	if err := os.WriteFile(filepath.Join(folder, "cell.json"), append(line, '\n'), 0o644); err != nil {
		return fmt.Errorf("write evidence: %w", err)
	}
	return nil
}

func writeCapture(name string, files Files, meta capture.Meta) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	return capture.WritePcapng(f, files.capture, files.comments, meta)
}
