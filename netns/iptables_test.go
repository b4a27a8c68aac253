package netns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// scripted makes scripts the iptables and ip6tables that are found.
func scripted(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"iptables", "ip6tables"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\nname="+name+"\n"+script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// says is a script that tells its version and is silent otherwise.
const says = `case "$*" in --version) echo "$name v1.8.9 (%s)"; exit;; esac` + "\n"

// TestBrokenIPTables: one that does not do what it should is found out before it is used, and "auto" does without it.
func TestBrokenIPTables(t *testing.T) {
	needNamespace(t)
	heading := "echo 'Chain INPUT (policy ACCEPT 0 packets, 0 bytes)'; echo ' pkts bytes target prot opt in out source destination'\n"
	for _, test := range []struct{ name, script, want string }{
		{"nothing is printed", "", `--version: it says ""`},
		{"garbage for a version", "head -c 4000 /dev/zero", `--version: it says "\x00`},
		{"no end to what is printed", "yes", "exit status 1"},
		{"it fails", "echo 'no such table'; echo 'modprobe it' >&2; exit 3", "exit status 3: modprobe it"},
		{"legacy, and no list", fmt.Sprintf(says, "legacy"), `lists no chain: ""`},
		{"legacy, and garbage for a list", fmt.Sprintf(says, "legacy") + "echo x; echo y; echo z", `lists no chain: "x\ny\nz\n"`},
		{"legacy, and no rule", fmt.Sprintf(says, "legacy") + heading, "0 rules in INPUT, want 1"},
		{"legacy, and half a rule", fmt.Sprintf(says, "legacy") + heading + "echo '0 0 DROP'", `lists no rule: "0 0 DROP"`},
		{"legacy, and no number", fmt.Sprintf(says, "legacy") + heading + "echo 'x 0 DROP 6 -- * * 0.0.0.0/0 0.0.0.0/0 tcp'", "lists no rule: \"x 0 DROP"},
		{"legacy, and a counter that counts without packets", fmt.Sprintf(says, "legacy") + heading + "echo '17 0 DROP 6 -- * * 0.0.0.0/0 0.0.0.0/0 tcp'", "17, of a rule that no packet has met"},
		{"nf_tables, and no rule", fmt.Sprintf(says, "nf_tables"), "read the drop rule's counter: "},
		{"it hangs", fmt.Sprintf(says, "legacy") + "sleep 1000", "-j DROP --wait 3: it did not end in 5s"},
	} {
		t.Run(test.name, func(t *testing.T) {
			scripted(t, test.script)
			_, err := NewDropper(t.Context(), "iptables")
			if !errors.Is(err, ErrNoIPTables) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
			if test.name == "it hangs" {
				return // once is enough
			}
			if d, why := Auto(t.Context()); d.Name() != "nftables" || !errors.Is(why, ErrNoIPTables) {
				t.Errorf("auto: %s, because of %v", d.Name(), why)
			}
		})
	}
}

// TestIPTablesEnds: what is still running ends with the run, and so does what it has started.
func TestIPTablesEnds(t *testing.T) {
	needNamespace(t)
	started := filepath.Join(t.TempDir(), "started")
	scripted(t, "echo >"+started+"; sleep 1000; :")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var cancelled time.Time
	go func() {
		for ; t.Context().Err() == nil; time.Sleep(time.Millisecond) {
			if _, err := os.Stat(started); err == nil {
				break
			}
		}
		cancelled = time.Now()
		cancel()
	}()
	// It returns once nobody has the other end of its pipes any more.
	ended := make(chan error, 1)
	go func() {
		_, err := NewDropper(ctx, "iptables")
		ended <- err
	}()
	select {
	case err := <-ended:
		if took := time.Since(cancelled); !errors.Is(err, ErrInterrupted) || took > 4*time.Second {
			t.Errorf("%v, %v after the end of the run", err, took)
		}
	case <-time.After(20 * time.Second):
		t.Error("what iptables has started goes on after the end of the run")
	}
}

func FuzzRulesOf(f *testing.F) {
	f.Add("Chain INPUT (policy ACCEPT 0 packets, 0 bytes)\n    pkts      bytes target     prot opt in     out     source               destination\n" +
		"       2      104 DROP       6    --  *      *       0.0.0.0/0            0.0.0.0/0            tcp dpt:80 flags:0x12/0x10\n")
	f.Add("Chain INPUT (policy ACCEPT 0 packets, 0 bytes)\n pkts bytes target prot opt in out source destination\n" +
		"2 104 DROP tcp    *      *       ::/0                 ::/0                 tcp dpt:80 flags:0x12/0x10\n")
	f.Add("# Warning\nChain INPUT\n\n\n")
	f.Fuzz(func(t *testing.T, out string) { _, _ = rulesOf(out) })
}

// TestRulesOf: ip6tables leaves a field empty in some versions.
func TestRulesOf(t *testing.T) {
	for _, row := range []string{
		"2 104 DROP 6 -- * * 0.0.0.0/0 0.0.0.0/0 tcp dpt:80 flags:0x12/0x10",
		"2 104 DROP 6 -- * * ::/0 ::/0 tcp dpt:80 flags:0x12/0x10",
		"2 104 DROP 6    * * ::/0 ::/0 tcp dpt:80 flags:0x12/0x10",
	} {
		rules, err := rulesOf("# a warning\nChain INPUT (policy ACCEPT)\n pkts bytes target\n" + row + "\n")
		if err != nil || len(rules) != 1 || rules[0].Packets != 2 || rules[0].Target != "DROP" || rules[0].Options != "tcp dpt:80 flags:0x12/0x10" {
			t.Errorf("%q: %+v, %v", row, rules, err)
		}
	}
}
