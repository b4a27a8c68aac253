//go:build linux

package main

import (
	"bytes"
	"io"
	"testing"
	"time"
)

// TestLiveLine: the line says what there is room for, and a short run draws none.
func TestLiveLine(t *testing.T) {
	var drawn bytes.Buffer
	l := &liveLine{drawnLine: drawnLine{w: &drawn, columns: func() int { return 80 }}}
	l.begin(3)
	l.cell(false)
	l.cell(true)
	l.end()
	l.end()
	if drawn.Len() > 0 {
		t.Errorf("drawn: %q", &drawn)
	}
	for width, want := range map[int]string{
		79: "2 done, 1 failing, 1 left", 25: "2 done, 1 failing, 1 left", 24: "2 done, 1 failing", 10: "2 done", 5: "", -1: "",
	} {
		if got := l.text(time.Now(), width); got != want {
			t.Errorf("in %d columns: %q, want %q", width, got, want)
		}
	}
	l.planned = 0
	if got := l.text(time.Now(), 79); got != "2 done, 1 failing" {
		t.Errorf("without an end: %q", got)
	}
	for d, want := range map[time.Duration]string{
		0: "1 s", 1500 * time.Millisecond: "2 s", time.Minute: "2 min", 59*time.Minute + time.Second: "60 min", 80 * time.Minute: "1 h 20 min",
	} {
		if got := rough(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
	var none *liveLine
	none.begin(1)
	none.cell(true)
	none.end()
	if none.estimate() != nil {
		t.Error("the line that is none estimates")
	}
}

// TestCountedReader: while a capture is read it is told how much of it was, if there is room.
func TestCountedReader(t *testing.T) {
	for _, tt := range []struct {
		of    int64
		width int
		want  string
	}{{4 << 20, 79, "1.0 MiB of 4.0 MiB read"}, {4 << 20, 22, ""}, {0, 79, "1.0 MiB read"}} {
		read := &countedReader{of: tt.of}
		if _, err := io.CopyN(io.Discard, read.from(neverEnding{}), 1<<20); err != nil {
			t.Fatal(err)
		}
		if got := read.text(time.Now(), tt.width); got != tt.want {
			t.Errorf("of %d in %d columns: %q, want %q", tt.of, tt.width, got, tt.want)
		}
	}
}

// neverEnding is a file without an end.
type neverEnding struct{}

func (neverEnding) Read(p []byte) (int, error) { return len(p), nil }
