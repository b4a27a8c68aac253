package lab_test

import (
	"errors"
	"testing"
	"time"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/kernel/trace"
	"github.com/rpmig/rpmig/lab"
)

// TestKeptFromPlaying: where cells are played one at a time, the time in which others are played is no time of the cell's.
func TestKeptFromPlaying(t *testing.T) {
	lab.NeedNamespace(t)
	tr, err := trace.OpenWith(trace.Options{Tracefs: true})
	if errors.Is(err, kernel.ErrNotSupported) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	})
	const kept = 2 * time.Second
	c, took := lab.PlayKept(t, scenario(t, "quiz1"), modes(t, "off")[0], func() (*trace.Tracer, error) { return tr, nil }, kept)
	if c.Elapsed > (took - kept/2).Seconds() {
		t.Errorf("%s: took %.1f s of %v, in which others were waited for", c.ID(), c.Elapsed, took)
	}
}
