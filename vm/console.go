package vm

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"sync"
)

// console keeps what a guest's console says.
type console struct {
	mu    sync.Mutex
	text  []byte
	hello int // how much had come when the guest was up; -1: it is not
	ended chan struct{}
}

// consoleMost is how much of a console is kept: of a kernel that complains without end, the first and the last half.
const (
	consoleMost = 8 << 20
	consoleHalf = consoleMost / 2
)

func watchConsole(r io.Reader) *console {
	c := &console{hello: -1, ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		buf := make([]byte, 64<<10)
		for {
			n, err := r.Read(buf)
			c.add(buf[:n])
			if err != nil {
				return
			}
		}
	}()
	return c
}

func (c *console) add(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.text = append(c.text, p...)
	if len(c.text) > consoleMost+consoleHalf { // and not each time, since that moves half of it
		c.trim()
	}
}

// trim takes the middle out of more than is kept.
func (c *console) trim() {
	if over := len(c.text) - consoleMost; over > 0 {
		c.text = append(c.text[:consoleHalf], c.text[consoleHalf+over:]...)
		c.hello = min(c.hello, consoleHalf)
	}
}

// up notes that the guest is up: what comes from here on is of the run.
func (c *console) up() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hello = len(c.text)
}

// whole is all of it, without carriage returns.
func (c *console) whole() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trim()
	return bytes.ReplaceAll(c.text, []byte("\r"), nil)
}

// lines are those since the guest was up; all of them if it never was.
func (c *console) lines() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.trim()
	text := strings.ReplaceAll(string(c.text[max(c.hello, 0):]), "\r", "")
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		if line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// lastLines is how many lines of a console go into the ledger.
const lastLines = 40

func tail(lines []string) []string { return lines[max(0, len(lines)-lastLines):] }

// panicWords begin the line with which a kernel gives up (kernel/panic.c).
const panicWords = "Kernel panic - not syncing"

// shortages are panics for want of memory (mm/oom_kill.c), and what follows where process 1, which is rpmig, is killed for it: they
// tell of how much memory the guest was given, and accuse nobody.
var shortages = []string{"System is deadlocked on memory", "Out of memory", "Attempted to kill init"}

// short tells whether a kernel gave up for want of memory.
func short(why string) bool {
	return strings.HasPrefix(why, panicWords) && slices.ContainsFunc(shortages, func(s string) bool { return strings.Contains(why, s) })
}

// How many lines a report has at most before the panic that it brings, and between its first line and another that looks like it.
const (
	nearPanic = 150
	nearTitle = 6
)

// death tells whether the kernel died, by what its console said last, and of what: the first line of the report that brought
// the panic, or the panic's own. isTitle tells the first line of a report.
func death(lines []string, isTitle func(string) bool) (why string, died bool) {
	for at := len(lines) - 1; at >= 0; at-- {
		i := strings.Index(lines[at], panicWords)
		if i < 0 {
			continue
		}
		panicked := strings.TrimSuffix(lines[at][i:], " ]---") // "---[ end Kernel panic - not syncing: … ]---"
		if short(panicked) {
			return panicked, true // whatever was reported before
		}
		for before := at - 1; before >= max(0, at-nearPanic); before-- {
			if !isTitle(lines[before]) {
				continue
			}
			for first := max(0, before-nearTitle); first < before; first++ { // "BUG: …", and then "Oops: …"
				if isTitle(lines[first]) {
					return withoutTime(lines[first]), true
				}
			}
			return withoutTime(lines[before]), true
		}
		return panicked, true
	}
	return "", false
}

// withoutTime is a line of the console without its time: "[    1.234567] ".
func withoutTime(line string) string {
	if strings.HasPrefix(line, "[") {
		if _, rest, ok := strings.Cut(line, "] "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return strings.TrimSpace(line)
}
