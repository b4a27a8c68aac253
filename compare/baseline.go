package compare

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/rpmig/rpmig/result"
)

// BaselineSchema is the version of the baselines that this package writes; readers refuse a newer one.
const BaselineSchema = 1

// A baseline is JSON lines, sorted, so that a diff shows what changed: a header, and a line a cell. It has no times, no dates, no
// machine and no release of a kernel.
type (
	baselineHeader struct {
		Schema int `json:"rpmig_baseline"`
	}
	baselineLine struct {
		Run    string                `json:"run,omitempty"` // of runs in several kernels
		Cell   string                `json:"cell"`
		Status result.Status         `json:"status"`
		Plays  map[result.Status]int `json:"plays,omitempty"` // where there were several
		Reason string                `json:"reason,omitempty"`
		Bug    string                `json:"bug,omitempty"`
		Failed []string              `json:"failed,omitempty"` // checks
	}
)

// What a baseline may hold.
const (
	maxBaselineLine  = 1 << 20
	maxBaselineCells = 1_000_000
)

// ErrNoBaseline says that what was read does not begin as a baseline does.
var ErrNoBaseline = errors.New("no baseline")

// IsBaseline tells whether a file is meant to be a baseline, by its first bytes.
func IsBaseline(head []byte) bool { return bytes.HasPrefix(head, []byte(`{"rpmig_baseline":`)) }

// BaselineHead is how many bytes IsBaseline looks at.
const BaselineHead = len(`{"rpmig_baseline":`)

// WriteBaseline writes what is known of the cells of some runs. Those of one name are taken together: a cell that worked in one and
// not in another has plays of both. What came to no conclusion is left out, as nobody is to know it for a failure.
func WriteBaseline(w io.Writer, sides []*Side) (cells int, err error) {
	runs := map[string]*Side{}
	for _, s := range sides {
		if runs[s.Run] == nil {
			runs[s.Run] = NewSide("", s.Run)
		}
		runs[s.Run].merge(s)
	}
	var b bytes.Buffer
	write := func(v any) error {
		line, err := result.JSON(v, "")
		b.Write(line)
		return err
	}
	if err := write(baselineHeader{BaselineSchema}); err != nil {
		return 0, err
	}
	for _, run := range slices.Sorted(maps.Keys(runs)) {
		ofRun := runs[run].cells
		for _, k := range slices.SortedFunc(maps.Keys(ofRun), Key.compare) {
			o := ofRun[k]
			if o.state() != concluded && o.state() != skipped {
				continue
			}
			known := *o
			known.plays[rank(result.Error)] = 0
			line := baselineLine{Run: run, Cell: k.String(), Status: known.status(), Plays: known.several()}
			if s := o.worst; s != nil && s.status != result.Error {
				line.Reason, line.Bug, line.Failed = s.lasting, s.bug, s.failed
			}
			if err := write(line); err != nil {
				return 0, err
			}
			cells++
		}
	}
	_, err = w.Write(b.Bytes())
	return cells, err
}

// merge adds what is known of another run.
func (s *Side) merge(other *Side) {
	for k, o := range other.cells {
		mine := s.cells[k]
		if mine == nil {
			mine = &outcome{}
			s.cells[k] = mine
		}
		for i, n := range o.plays {
			mine.plays[i] += n
		}
		if o.worst != nil && (mine.worst == nil || severity(o.worst.status) > severity(mine.worst.status)) {
			mine.worst = o.worst
		}
	}
}

// ReadBaseline reads a baseline, as one side for each run that it names, sorted. It refuses
//   - what does not begin as a baseline, and a newer one;
//   - a line that is no cell, that has an unknown status, or counts that make no sense with it;
//   - a cell that is there twice.
func ReadBaseline(r io.Reader, path string) ([]*Side, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxBaselineLine)
	runs := map[string]*Side{}
	n := 0
	for lines.Scan() {
		n++
		if n == 1 {
			if err := readBaselineHeader(lines.Bytes()); err != nil {
				return nil, err
			}
			continue
		}
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		if n > maxBaselineCells {
			return nil, fmt.Errorf("read baseline: more than %d lines", maxBaselineCells)
		}
		if err := readBaselineLine(lines.Bytes(), path, runs); err != nil {
			return nil, fmt.Errorf("read baseline: line %d: %w", n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read baseline: line %d: %w", n+1, err)
	}
	if n == 0 {
		return nil, fmt.Errorf("read baseline: %w: the file is empty", ErrNoBaseline)
	}
	if len(runs) == 0 { // of a run in which nothing was played
		return []*Side{NewSide(path, "")}, nil
	}
	var sides []*Side
	for _, run := range slices.Sorted(maps.Keys(runs)) {
		sides = append(sides, runs[run])
	}
	return sides, nil
}

func readBaselineHeader(line []byte) error {
	var h baselineHeader
	if err := json.Unmarshal(line, &h); err != nil || h.Schema < 1 {
		return fmt.Errorf("read baseline: line 1: %w", ErrNoBaseline)
	}
	if h.Schema > BaselineSchema {
		return fmt.Errorf("read baseline: it has schema %d; this rpmig reads up to %d; use a newer rpmig", h.Schema, BaselineSchema)
	}
	return nil
}

func readBaselineLine(text []byte, path string, runs map[string]*Side) error {
	var line baselineLine
	if err := json.Unmarshal(text, &line); err != nil {
		return err
	}
	k, err := parseKey(line.Cell)
	if err != nil {
		return err
	}
	o := &outcome{}
	if line.Plays == nil {
		line.Plays = map[result.Status]int{line.Status: 1}
	}
	for s, count := range line.Plays {
		switch {
		case rank(s) < 0:
			return fmt.Errorf("%s: unknown status %q", line.Cell, s)
		case count < 1 || count > mostRepeats:
			return fmt.Errorf("%s: %d plays are not between 1 and %d", line.Cell, count, mostRepeats)
		}
		o.plays[rank(s)] = count
	}
	if line.Status != o.status() {
		return fmt.Errorf("%s: its status is %q, and its plays say %s", line.Cell, line.Status, o.status())
	}
	if line.Status != result.Pass || line.Reason != "" {
		slices.Sort(line.Failed)
		o.worst = &story{line.Status, 1, line.Reason, line.Bug, line.Failed, line.Reason}
	}
	side := runs[line.Run]
	if side == nil {
		side = NewSide(path, line.Run)
		runs[line.Run] = side
	}
	if side.cells[k] != nil {
		return fmt.Errorf("%s is there twice", line.Cell)
	}
	side.cells[k] = o
	return nil
}
