//go:build linux

package main

import (
	"context"
	"io"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/rpmig/rpmig/reports"
	"github.com/rpmig/rpmig/result"
)

// streaming is the report of a run that is written to stdout while the run lasts: whatever ends rpmig, all cells that have ended
// are there. The nil one writes nothing.
type streaming struct {
	reports.Stream
	options reports.Options
	begun   bool
}

// newStreaming returns nil where the format needs the whole run, and where the run has no end: nobody knows its plan.
func newStreaming(e *env, c *cli.Context, format reports.Format) *streaming {
	if format.Stream == nil || c.Bool("until-fail") && format.Name != "jsonl" {
		return nil
	}
	return &streaming{
		Stream:  format.Stream(&patientWriter{e: e, ctx: c.Context, w: e.stdout}),
		options: reports.Options{Verbose: c.Bool("v")},
	}
}

func (s *streaming) begin(h *result.Header) error {
	if s == nil {
		return nil
	}
	s.begun = true
	return reportError(s.Begin(h))
}

// end writes what is left, if the run has begun.
func (s *streaming) end(run *result.Run) error {
	if !s.begun {
		return nil
	}
	return reportError(s.End(run))
}

// cell writes a cell of the run whose folder is dir, if it has one.
func (s *streaming) cell(c *result.Cell, dir string) error {
	if s == nil {
		return nil
	}
	o := s.options
	o.Dir = dir
	return reportError(s.Cell(c, o))
}

// patientWriter waits for a reader that does not read until a signal comes, and then for as long as env.afterwards gives a
// report.
type patientWriter struct {
	e   *env
	ctx context.Context
	w   io.Writer
	err error // of the write that was given up: part of it may be written, and its goroutine still be at it
}

func (p *patientWriter) Write(b []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	b = slices.Clone(b)
	var n int
	done := make(chan error, 1)
	go func() {
		var err error
		n, err = p.w.Write(b)
		done <- err
	}()
	select {
	case err := <-done:
		return n, err
	case <-p.ctx.Done():
	}
	ctx, end := p.e.afterwards(p.ctx)
	defer end()
	select {
	case err := <-done:
		return n, err
	case <-ctx.Done():
		p.err = context.Cause(ctx)
		return 0, p.err
	}
}
