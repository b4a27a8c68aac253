package harness

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/rpmig/rpmig/capture"
	"github.com/rpmig/rpmig/result"
)

// Evidence is what a cell leaves behind, not yet written.
type Evidence struct {
	rec   *capture.Recording
	notes map[int][]string
	panic []byte
}

func (p *played) evidence() Evidence { return Evidence{p.rec, p.notes, p.panic} }

// Write puts the evidence into cells/ under dir, in the folder that the cell's ID names, and notes in the cell where it
// is. The capture's comments tell the cell's story.
func (e Evidence) Write(dir string, c *result.Cell, meta capture.Meta) error {
	if c.Status == result.Skip {
		return nil // it left nothing
	}
	folder := filepath.Join("cells", filepath.FromSlash(c.ID()))
	full := filepath.Join(dir, folder)
	if err := os.MkdirAll(full, 0o755); err != nil {
		return fmt.Errorf("write evidence: %w", err)
	}
	if e.panic != nil {
		if err := os.WriteFile(filepath.Join(full, "panic.txt"), e.panic, 0o644); err != nil {
			return fmt.Errorf("write evidence: %w", err)
		}
	}
	if e.rec != nil {
		meta.Comment = fmt.Sprintf("%s: %s: %s", c.ID(), c.Status, c.Reason)
		if err := writeCapture(filepath.Join(full, "capture.pcapng"), e, meta); err != nil {
			return fmt.Errorf("write evidence: %w", err)
		}
		c.Capture.File = filepath.Join(folder, "capture.pcapng")
	}
	c.Evidence = full
	// The folder may travel alone, so the cell's line of the ledger goes with it.
	line, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("write evidence: %w", err)
	}
	if err := os.WriteFile(filepath.Join(full, "cell.json"), append(line, '\n'), 0o644); err != nil {
		return fmt.Errorf("write evidence: %w", err)
	}
	return nil
}

func writeCapture(name string, e Evidence, meta capture.Meta) (err error) {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	return capture.WritePcapng(f, e.rec, e.notes, meta)
}
