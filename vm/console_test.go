package vm

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
)

func isTitle(line string) bool {
	return strings.Contains(line, "BUG: ") || strings.Contains(line, "Oops: ") || strings.Contains(line, "WARNING: ")
}

func TestDeath(t *testing.T) {
	for _, tt := range []struct {
		name, console, want string
	}{
		{"it lives", "[    1.0] WARNING: CPU: 0 PID: 1 at net/ipv4/tcp.c:1\n[    1.0] Call Trace:\n[    1.0]  </TASK>", ""},
		{"it said nothing", "", ""},
		{"a panic by itself", "[    1.0] Kernel panic - not syncing: sysrq triggered crash\n[    1.0] Call Trace:", "Kernel panic - not syncing: sysrq triggered crash"},
		{"a panic after a report", "[    3.5] BUG: kernel NULL pointer dereference, address: 0000000000000012\n[    3.5] #PF: supervisor read access in kernel mode\n" +
			"[    3.5] Oops: 0000 [#1] PREEMPT SMP\n[    3.5] Call Trace:\n[    3.5]  reuseport_migrate_sock+0x1/0x2\n[    3.5] ---[ end trace 0000000000000000 ]---\n" +
			"[    3.6] Kernel panic - not syncing: Fatal exception in interrupt", "BUG: kernel NULL pointer dereference, address: 0000000000000012"},
		{"a panic long after a report", "[    3.5] WARNING: CPU: 0 at x\n" + strings.Repeat("[    4.0] fine\n", nearPanic) +
			"[    9.0] Kernel panic - not syncing: Attempted to kill init!", "Kernel panic - not syncing: Attempted to kill init!"},
		{"a panic for want of memory, after a report", "[    3.5] WARNING: CPU: 0 at x\n[    3.6] Kernel panic - not syncing: System is deadlocked on memory",
			"Kernel panic - not syncing: System is deadlocked on memory"},
		{"a panic for want of memory, to its last line", "[    3.5] WARNING: CPU: 0 at x\n[    3.6] Kernel panic - not syncing: Out of memory: system-wide panic_on_oom is enabled\n" +
			"[    3.7] Call Trace:\n[    3.7] ---[ end Kernel panic - not syncing: Out of memory: system-wide panic_on_oom is enabled ]---",
			"Kernel panic - not syncing: Out of memory: system-wide panic_on_oom is enabled"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			why, died := death(strings.Split(tt.console, "\n"), isTitle)
			if why != tt.want || died != (tt.want != "") {
				t.Errorf("%q, %v; want %q", why, died, tt.want)
			}
		})
	}
}

// TestShort: a guest that was given too little is no fault of its kernel, but one that dies of a report of its own is.
func TestShort(t *testing.T) {
	for why, want := range map[string]bool{
		"Kernel panic - not syncing: System is deadlocked on memory":                         true,
		"Kernel panic - not syncing: Out of memory: compulsory panic_on_oom is enabled":      true,
		"Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000009":            true,
		"Kernel panic - not syncing: Fatal exception in interrupt":                           false,
		"BUG: kernel NULL pointer dereference, address: 0000000000000012: Out of memory was": false,
	} {
		if got := short(why); got != want {
			t.Errorf("%q: %v", why, got)
		}
	}
}

// TestConsole: only what comes once the guest is up is of the run, and a kernel that complains without end is kept in part.
func TestConsole(t *testing.T) {
	r, w := io.Pipe()
	c := watchConsole(r)
	say := func(text string) {
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	say("BUG: at boot\r\n")
	say("") // the reader has taken what came before
	c.up()
	say("fine\r\n")
	for i := range 3 * consoleMost / 1000 {
		say(fmt.Sprintf("%07d%s\n", i, bytes.Repeat([]byte("."), 992)))
	}
	say("the end\n")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	<-c.ended
	lines := c.lines()
	if lines[0] != "fine" || lines[len(lines)-1] != "the end" {
		t.Errorf("lines from %q to %q", lines[0], lines[len(lines)-1])
	}
	if n := len(c.whole()); n > consoleMost || n < consoleMost/2 {
		t.Errorf("%d bytes are kept, want up to %d", n, consoleMost)
	}
	if got := tail(lines); len(got) != lastLines {
		t.Errorf("%d last lines, want %d", len(got), lastLines)
	}
}

func TestLighten(t *testing.T) {
	signed := append([]byte("module"), bytes.Repeat([]byte("s"), 300)...)
	signed = append(signed, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 44)
	signed = append(signed, signatureMagic...)
	for name, tt := range map[string]struct{ in, want string }{
		"signed":       {string(signed), "module"},
		"not signed":   {"module", "module"},
		"a lie":        {"m\xff\xff\xff\xff" + signatureMagic, "m\xff\xff\xff\xff" + signatureMagic},
		"another lie":  {strings.Repeat("x", 12) + "\xff\xff\xff\xff" + signatureMagic, strings.Repeat("x", 12) + "\xff\xff\xff\xff" + signatureMagic},
		"nothing else": {signatureMagic, signatureMagic},
	} {
		if got := string(lighten([]byte(tt.in))); got != tt.want {
			t.Errorf("%s: got %d bytes, want %d", name, len(got), len(tt.want))
		}
	}
}
