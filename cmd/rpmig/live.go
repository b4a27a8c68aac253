//go:build linux

package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/rpmig/rpmig/harness"
)

// drawnLine is one line on a terminal, drawn over and over while something lasts. What is over within a second draws none, and in
// the end it is gone.
type drawnLine struct {
	w       io.Writer
	columns func() int    // of the terminal, now
	stop    chan struct{} // nil: it has not begun, or has ended
	drawer  sync.WaitGroup
}

// liveLine is that of a run: what is done, what failed, what is left and for how long. The nil line draws nothing.
type liveLine struct {
	drawnLine
	progress harness.Progress

	mu                    sync.Mutex
	planned, done, failed int
}

// When the line is first drawn, and how often it is drawn anew: nobody could read it if it changed faster.
const (
	liveAfter = time.Second
	liveEvery = 200 * time.Millisecond
)

// estimate is what the harness has to keep up to date for the line to tell how long the run still takes; nil: nothing.
func (l *liveLine) estimate() *harness.Progress {
	if l == nil {
		return nil
	}
	return &l.progress
}

// begin starts to draw; planned is the number of cells, 0 where there is no end.
func (l *liveLine) begin(planned int) {
	if l == nil {
		return
	}
	l.planned = planned
	l.draw(l.text)
}

// draw begins to draw what text says, in no more columns than it is told.
func (l *drawnLine) draw(text func(now time.Time, width int) string) {
	l.stop = make(chan struct{})
	l.drawer.Go(func() {
		drawn := false
		next := time.NewTimer(liveAfter)
		defer next.Stop()
		for {
			select {
			case <-l.stop:
				if drawn {
					_, _ = io.WriteString(l.w, "\r\x1b[K")
				}
				return
			case <-next.C:
				// A line that reaches the last column would wrap in some terminals, and leave its first half behind.
				_, _ = fmt.Fprintf(l.w, "\r\x1b[K%s", text(time.Now(), l.columns()-1))
				drawn = true
				next.Reset(liveEvery)
			}
		}
	})
}

// cell counts a cell that has ended.
func (l *liveLine) cell(bad bool) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done++
	if bad {
		l.failed++
	}
}

// end takes the line away.
func (l *liveLine) end() {
	if l != nil {
		l.drawnLine.end()
	}
}

func (l *drawnLine) end() {
	if l.stop == nil {
		return
	}
	close(l.stop)
	l.drawer.Wait()
	l.stop = nil
}

// text is the line in no more columns than width: what does not fit is left out.
func (l *liveLine) text(now time.Time, width int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	parts := []string{fmt.Sprintf("%d done", l.done), fmt.Sprintf("%d failing", l.failed)}
	if l.planned > 0 {
		parts = append(parts, fmt.Sprintf("%d left", l.planned-l.done))
	}
	if left, known := l.progress.Left(now); known {
		parts = append(parts, "about "+rough(left)+" to go")
	}
	line, comma := "", ""
	for _, p := range parts {
		if len(line)+len(comma)+len(p) > width {
			break
		}
		line += comma + p
		comma = ", "
	}
	return line
}

// rough is a duration in words, rounded up.
func rough(d time.Duration) string {
	switch s := int(d.Seconds()) + 1; {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 60*60:
		return fmt.Sprintf("%d min", (s+59)/60)
	default:
		return fmt.Sprintf("%d h %d min", s/3600, s%3600/60)
	}
}
