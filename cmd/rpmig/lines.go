//go:build linux

package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"
)

// guestLines are a line on the terminal for each guest, drawn over and over while they run, and gone in the end. The nil ones draw
// nothing.
type guestLines struct {
	w       io.Writer
	columns func() int
	all     []*guestLine
	stop    chan struct{}
	drawer  sync.WaitGroup
}

// guestLine is what a guest is at. The nil one takes no notice.
type guestLine struct {
	name string

	mu                    sync.Mutex
	at                    string // what it does, where it does not play
	planned, done, failed int
}

// guestLines draws a line for each run, where there is a terminal to draw on.
func (e *env) guestLines(c *cli.Context, runs []*there) *guestLines {
	if c.Bool("q") || e.liveErr == nil || len(runs) == 1 && runs[0].said != nil && e.widthOut != 0 {
		return nil
	}
	l := &guestLines{w: e.stderr, columns: e.liveErr, stop: make(chan struct{})}
	for _, t := range runs {
		t.line = &guestLine{name: t.kernel.Name, at: "waiting"}
		l.all = append(l.all, t.line)
	}
	l.drawer.Go(l.draw)
	return l
}

func (l *guestLines) draw() {
	next := time.NewTimer(liveEvery)
	defer next.Stop()
	drawn := 0
	for {
		select {
		case <-l.stop:
			_, _ = io.WriteString(l.w, up(drawn)+"\r\x1b[J")
			return
		case <-next.C:
			var b strings.Builder
			b.WriteString(up(drawn) + "\r\x1b[J")
			for i, g := range l.all {
				if i > 0 {
					b.WriteString("\n")
				}
				b.WriteString(g.text(l.columns() - 1))
			}
			_, _ = io.WriteString(l.w, b.String())
			drawn = len(l.all)
			next.Reset(liveEvery)
		}
	}
}

// up moves the cursor from the last of so many lines to the first.
func up(lines int) string {
	if lines < 2 {
		return ""
	}
	return fmt.Sprintf("\x1b[%dA", lines-1)
}

func (l *guestLines) end() {
	if l == nil {
		return
	}
	close(l.stop)
	l.drawer.Wait()
}

func (g *guestLine) set(at string) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.at = at
}

// plan notes how many cells are to be played; 0: there is no end of it.
func (g *guestLine) plan(cells int) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.at, g.planned = "playing", cells
}

func (g *guestLine) cell(bad bool) {
	if g == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.done++
	if bad {
		g.failed++
	}
}

// text is the line in no more columns than width.
func (g *guestLine) text(width int) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	said := g.at
	switch {
	case g.done > 0 && g.planned > 0:
		said = fmt.Sprintf("%d of %d cells, %d failing", g.done, g.planned, g.failed)
	case g.done > 0:
		said = fmt.Sprintf("%d cells, %d failing", g.done, g.failed)
	}
	text := g.name + ": " + said
	return text[:min(len(text), max(width, 0))]
}
