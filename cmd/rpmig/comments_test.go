//go:build linux

package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/kernel/trace"
	"github.com/rpmig/rpmig/result"
)

// commented is a frame as tshark shows it.
type commented struct {
	number   int
	from, to netip.AddrPort
	lines    []string // of its comment
}

// readComments reads a capture with tshark, which must not complain.
func readComments(t *testing.T, file string) []commented {
	t.Helper()
	fields := []string{"frame.number", "ip.src", "ipv6.src", "tcp.srcport", "ip.dst", "ipv6.dst", "tcp.dstport", "frame.comment"}
	args := []string{"-r", file, "-T", "fields", "-E", "aggregator=|"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	cmd := exec.Command("tshark", args...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "LC_ALL=C.UTF-8")
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil || matches(`(?i)cut short|damaged|corrupt|malformed|warn`, complaints.String()) {
		t.Fatalf("tshark -r %s: %v: %s", file, err, &complaints)
	}
	var frames []commented
	for l := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSuffix(l, "\n"), "\t")
		if len(f) != len(fields) {
			t.Fatalf("tshark says %q", l)
		}
		number, err := strconv.Atoi(f[0])
		from, ferr := netip.ParseAddrPort(net.JoinHostPort(f[1]+f[2], f[3]))
		to, terr := netip.ParseAddrPort(net.JoinHostPort(f[4]+f[5], f[6]))
		if err := errors.Join(err, ferr, terr); err != nil {
			t.Fatalf("tshark says %q: %v", l, err)
		}
		c := commented{number: number, from: from, to: to}
		if f[7] != "" {
			c.lines = strings.Split(f[7], "|")
		}
		frames = append(frames, c)
	}
	return frames
}

var kernelLine = regexp.MustCompile(`^kernel: (\w+:\w+)(?: ([A-Z_0-9]+))?(?: → (\w+))?`)

// untold compares the comments of a capture with the ledger, and says what they leave out and what they make up. Changes
// of state need no comment: most have no packet that caused them.
func untold(c *result.Cell, frames []commented) []string {
	var wrong []string
	const change = "sock:inet_sock_set_state"
	left := map[string]int{} // events, by what has to stand on a frame between the same ends
	for _, e := range c.Events {
		if e.Kind == change {
			left[fmt.Sprint(change, " ", e.Old, " ", e.State, " ", e.To, e.From)]++ // the segment came from the other end
		} else {
			left[fmt.Sprint(e.Kind, " ", e.Reason, "  ", e.From, e.To)]++
		}
	}
	steps := map[string]bool{}
	for _, s := range c.Steps {
		steps["step: "+s.Name] = true
	}
	byNumber := map[int]commented{}
	for _, f := range frames {
		byNumber[f.number] = f
		for i, l := range f.lines {
			m := kernelLine.FindStringSubmatch(l)
			switch {
			case i == 1 && !steps[l]:
				wrong = append(wrong, fmt.Sprintf("frame %d: no such step: %q", f.number, l))
			case m != nil:
				what := fmt.Sprint(m[1], " ", m[2], " ", m[3], " ", f.from, f.to)
				if left[what]--; left[what] < 0 {
					wrong = append(wrong, fmt.Sprintf("frame %d: the ledger has no event for %q", f.number, l))
				}
			}
		}
	}
	for what, n := range left {
		if n > 0 && !strings.HasPrefix(what, change) {
			wrong = append(wrong, fmt.Sprintf("no frame has the comment: %s", what))
		}
	}
	for _, s := range c.Flow {
		if head := strings.Join(byNumber[s.Frame].lines[:min(1, len(byNumber[s.Frame].lines))], ""); head != s.Note {
			wrong = append(wrong, fmt.Sprintf("frame %d: %q, and in the ledger %q", s.Frame, head, s.Note))
		}
	}
	for _, r := range c.Resets {
		all := strings.Join(byNumber[r.Frame].lines, "\n")
		for _, want := range []string{r.Flavour.String(), string(r.Owner), r.Reason, r.State} {
			if !strings.Contains(all, want) {
				wrong = append(wrong, fmt.Sprintf("frame %d: no word of %q: %q", r.Frame, want, all))
			}
		}
	}
	return wrong
}

// wantedComment is one that has to be read in each cell whose trace tells of an event like that.
type wantedComment struct {
	cell    string
	event   string // its kind, its reason, or the state after and before it
	comment string
	found   bool
}

// wantedComments are what has to be read where the trace told of it; it may miss something, and then says so.
func wantedComments() []wantedComment {
	return []wantedComment{
		{cell: "quiz1/.*/off", event: "tcp_send_reset", comment: `^this reset ends the connection: RST\+ACK of the closing listener\nstep: close A\nkernel: tcp:tcp_send_reset TCP_STATE, by a socket in CLOSE, inside the close of its listener\n`},
		{cell: "quiz1/.*/off", event: "QUEUE_PURGE", comment: `^the client sends\nstep: 2 clients connect .*\nkernel: skb:kfree_skb QUEUE_PURGE, by a socket in CLOSE, during "close A"$`},
		{cell: "quiz2/.*", event: "NETFILTER_DROP", comment: `^the final ACK of the handshake; dropped by the .* rule in the INPUT hook\nstep: .*\nkernel: skb:kfree_skb NETFILTER_DROP$`},
		{cell: "quiz2/.*/off", event: "tcp_send_reset", comment: `^this reset ends the connection: bare RST of the surviving listener B\nstep: .*\nkernel: tcp:tcp_send_reset TCP_FLAGS, by listener B \(in LISTEN\), in softirq, in answer to frame \d+\n`},
		{cell: "quiz2/.*/off", event: "tcp_send_reset", comment: `^the client retransmits\n.*\n(?s:.*)kernel: answers with the reset of frame \d+\n`},
		{cell: "quiz2/.*", event: "tcp_retransmit_skb", comment: `^the client retransmits\n.*\nkernel: tcp:tcp_retransmit_skb, by a socket in ESTABLISHED`},
		{cell: "quiz2/.*/sysctl", event: "ESTABLISHED SYN_RECV", comment: `^the client retransmits\n.*\n(?s:.*)\nkernel: .* SYN_RECV → ESTABLISHED, of the server's socket\nmoved: the request was made for A, and the handshake is completed on B$`},
		{cell: "synack-timer/.*/sysctl", event: "tcp_retransmit_synack", comment: `^the server retransmits its SYN\+ACK\n.*\nkernel: tcp:tcp_retransmit_synack, for listener B(: the request's SYN\+ACK timer fired)?\nmoved: the request was made for A and is now with B(\n|$)`},
		{cell: "last-listener-quiz2/.*/off", event: "NO_SOCKET", comment: `^this reset ends the connection: bare RST, sent for no socket\n.*\nkernel: tcp:tcp_send_reset NO_SOCKET, by no socket, in softirq, in answer to frame \d+\n`},
	}
}

// TestComments: the story is in the capture, as tshark reads it, and it is the story of the ledger.
func TestComments(t *testing.T) {
	t.Parallel()
	needPlay(t)
	needRoot(t)
	if _, err := exec.LookPath("tshark"); err != nil {
		t.Skip("tshark is not installed: apt-get install tshark")
	}
	tracer, err := trace.Open()
	if errors.Is(err, kernel.ErrNotSupported) {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	defer tracer.Close()
	p := command(t, "rpmig", "run", "quiz?,synack-timer,last-listener-quiz2", "--family=ipv4,ipv6", "--migrate=off,sysctl",
		"--connections=2", "--trace=on", "--out=out", "-q").want(0, nil, silent)
	run, err := readLedger(t.Context(), filepath.Join(p.dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	wants := wantedComments()
	for i := range run.Cells {
		c := &run.Cells[i]
		frames := readComments(t, filepath.Join(p.dir, "out", c.Capture.File))
		for _, w := range untold(c, frames) {
			t.Errorf("%s: %s", c.ID(), w)
		}
		events := fmt.Sprint(c.Events)
		for k := range wants {
			w := &wants[k]
			if !matches("^"+w.cell+"/1$", c.ID()) || !strings.Contains(events, w.event) {
				continue
			}
			read := false
			for _, f := range frames {
				read = read || matches(w.comment, strings.Join(f.lines, "\n"))
			}
			if w.found = true; !read {
				t.Errorf("%s: no comment like %q among", c.ID(), w.comment)
				for _, f := range frames {
					t.Errorf("  %d %q", f.number, f.lines)
				}
			}
		}
		spoil(t, c, frames)
	}
	for _, w := range wants {
		if !w.found {
			t.Errorf("no cell like %s has an event %q", w.cell, w.event)
		}
	}
}

// spoil changes comments, one at a time, which untold has to notice.
func spoil(t *testing.T, c *result.Cell, frames []commented) {
	t.Helper()
	notice := func(what string, i int, lines []string) {
		t.Helper()
		was := frames[i].lines
		frames[i].lines = lines
		if untold(c, frames) == nil {
			t.Errorf("%s: frame %d: it goes unnoticed that %s: %q", c.ID(), i+1, what, was)
		}
		frames[i].lines = was
	}
	for i, f := range frames {
		if len(f.lines) < 2 {
			notice("an event is made up", i, []string{"the client sends", "step: " + c.Steps[0].Name, "kernel: skb:kfree_skb NETFILTER_DROP"})
			continue
		}
		notice("the step is another", i, append([]string{f.lines[0], "step: none"}, f.lines[2:]...))
		for k, l := range f.lines {
			if kernelLine.MatchString(l) {
				notice("the reason is another", i, append(append(f.lines[:k:k], "kernel: skb:kfree_skb NO_REASON"), f.lines[k+1:]...))
				notice("an event is told twice", i, append(f.lines[:len(f.lines):len(f.lines)], l))
			}
		}
	}
}
