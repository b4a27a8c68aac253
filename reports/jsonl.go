package reports

import (
	"bufio"
	"fmt"
	"io"

	"github.com/rpmig/rpmig/result"
)

// renderJSONL writes the ledger again, its cells in the order in which they ended.
func renderJSONL(w io.Writer, run *result.Run, _ Options) error {
	return writeLedgers(w, []*result.Run{run})
}

// renderLedgers writes the ledgers one after another, as result.ReadAll reads them.
func renderLedgers(w io.Writer, all []*kernelRun, _ Options) error {
	return writeLedgers(w, runsOf(all))
}

func writeLedgers(w io.Writer, runs []*result.Run) error {
	buf := bufio.NewWriterSize(w, 64<<10)
	for _, run := range runs {
		lw, err := result.NewWriter(buf, run.Header)
		if err != nil {
			return err
		}
		if err := run.Each(lw.Write); err != nil {
			return err
		}
		if run.Ending != nil {
			if err := lw.End(*run.Ending); err != nil {
				return err
			}
		}
	}
	if err := buf.Flush(); err != nil {
		return fmt.Errorf("write jsonl: %w", err)
	}
	return nil
}

// streamJSONL writes the ledger as the run goes.
func streamJSONL(w io.Writer) Stream { return &jsonlStream{w: w} }

type jsonlStream struct {
	w      io.Writer
	ledger *result.Writer
}

func (s *jsonlStream) Begin(h *result.Header) (err error) {
	s.ledger, err = result.NewWriter(s.w, *h)
	return err
}

func (s *jsonlStream) Cell(c *result.Cell, _ Options) error { return s.ledger.Write(c) }

func (s *jsonlStream) End(run *result.Run) error {
	if run.Ending == nil {
		return nil
	}
	return s.ledger.End(*run.Ending)
}
