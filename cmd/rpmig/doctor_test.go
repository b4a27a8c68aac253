//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/kernel/trace"
	"github.com/rpmig/rpmig/netns"
)

// TestWorthIt: what slows a run down has to be asked for, but for one scenario.
func TestWorthIt(t *testing.T) {
	for _, tt := range []struct {
		want          string
		hostWide, one bool
		worth         bool
	}{
		{"auto", false, false, true}, {"auto", false, true, true}, {"auto", true, true, true}, {"auto", true, false, false},
		{"on", true, false, true}, {"tracefs", true, false, true},
	} {
		if got := worthIt(tt.want, tt.hostWide, tt.one); got != tt.worth {
			t.Errorf("--trace=%s, of the whole host: %t, one scenario: %t: got %t", tt.want, tt.hostWide, tt.one, got)
		}
	}
}

func TestWhatTheTraceTells(t *testing.T) {
	reset := trace.Event{Kind: trace.ResetSent, Reason: "NO_SOCKET"}
	mute := trace.Event{Kind: trace.ResetSent}
	for _, tt := range []struct {
		name   string
		said   trace.Recording
		detail string
		err    string
		no     bool // a clear one
	}{
		{name: "all", said: trace.Recording{Events: []trace.Event{{Kind: trace.Drop}, reset}}, detail: "it says why it resets and drops, to BPF programs"},
		{name: "by tracefs", said: trace.Recording{Events: []trace.Event{reset}, HostWide: true},
			detail: "it says why it resets and drops; by tracefs and not to BPF, so of the whole host: cells are played one at a time"},
		{name: "no reasons", said: trace.Recording{Events: []trace.Event{mute}}, detail: "it tells of resets, and not why (Linux 6.10 does), to BPF programs"},
		{name: "a tracepoint less", said: trace.Recording{Events: []trace.Event{reset}, Missing: []string{"skb:kfree_skb"}},
			detail: "it says why it resets and drops, to BPF programs; it has no skb:kfree_skb"},
		{name: "no resets", said: trace.Recording{Missing: []string{"tcp:tcp_send_reset"}},
			err: "this kernel has no tracepoint tcp:tcp_send_reset", no: true},
		{name: "silence", said: trace.Recording{Events: []trace.Event{{Kind: trace.Drop}}},
			err: "the kernel told nothing of a reset that it sent"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			detail, err := whatItTells(&tt.said)
			if detail != tt.detail || err == nil && tt.err != "" || err != nil && err.Error() != tt.err {
				t.Fatalf("got %q, %v; want %q, %q", detail, err, tt.detail, tt.err)
			}
			if errors.Is(err, kernel.ErrNotSupported) != tt.no {
				t.Errorf("a clear no: %t, want %t", !tt.no, tt.no)
			}
			var hinted interface{ Hint() string }
			if err != nil && (!errors.As(err, &hinted) || hinted.Hint() == "") {
				t.Errorf("%v: no hint", err)
			}
		})
	}
}

// TestRunChecks: what this kernel cannot is a no, what could not be asked is unknown, and some answers end the questions.
func TestRunChecks(t *testing.T) {
	answer := func(detail string, err error) func() (string, error) {
		return func() (string, error) { return detail, err }
	}
	no := &kernel.NotSupportedError{Reason: "too old", Next: "boot another"}
	got := runChecks([]check{
		{name: "a", needed: true, first: true, ask: answer("well", nil)},
		{name: "b", ask: answer("half", no)},
		{name: "c", needed: true, ask: answer("", errors.New("busy"))},
		{name: "d", first: true, ask: answer("", no)},
		{name: "e", ask: answer("never asked", nil)},
	})
	want := []checked{
		{Name: "a", Answer: "yes", Detail: "well", Needed: true},
		{Name: "b", Answer: "no", Detail: no.Error(), Hint: no.Hint()},
		{Name: "c", Answer: "unknown", Detail: "busy", Needed: true},
		{Name: "d", Answer: "no", Detail: no.Error(), Hint: no.Hint()},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestDoctorTellsWhetherItIsOn: of the namespace in which it was started, also where it goes on in another, and it leaves it so.
func TestDoctorTellsWhetherItIsOn(t *testing.T) {
	t.Parallel()
	needRoot(t)
	needPlay(t)
	if has, err := netns.HasSysctl(netns.MigrateReq); !has {
		t.Skipf("needs %s (Linux 5.14): %v", netns.MigrateReq, err)
	}
	for _, tt := range []struct {
		value, answer string
		uid           int
	}{{"0", "no", 0}, {"1", "yes", 0}, {"0", "no", nobody}, {"1", "yes", nobody}} {
		t.Run(tt.value+"/"+fmt.Sprint(tt.uid), func(t *testing.T) {
			t.Parallel()
			if tt.uid != 0 {
				needUserNS(t)
			}
			words := []string{"new-net", "migrate-req=" + tt.value}
			if tt.uid != 0 {
				words = append(words, "nobody")
			}
			p := command(t, "stage", append(words, "--", "sh", "-c", `rpmig doctor --json; cat /proc/sys/net/ipv4/tcp_migrate_req >after`)...)
			p.start().status()
			var got []checked
			if err := json.Unmarshal(p.stdout.Bytes(), &got); err != nil {
				t.Fatalf("%v: %s%s", err, &p.stdout, &p.stderr)
			}
			i := slices.IndexFunc(got, func(c checked) bool { return c.Name == "migration is on here" })
			if i < 0 {
				t.Fatalf("it does not say: %s", &p.stdout)
			}
			detail := "net.ipv4.tcp_migrate_req is " + tt.value + " in the network namespace in which rpmig was started. " +
				"A new namespace, as of a container, begins with 0. "
			if c := got[i]; c.Answer != tt.answer || !strings.HasPrefix(c.Detail, detail) || c.Needed || (c.Hint == "") != (tt.value == "1") {
				t.Errorf("got %+v", c)
			}
			if after, err := os.ReadFile(filepath.Join(p.dir, "after")); err != nil || string(after) != tt.value+"\n" {
				t.Errorf("it is %q afterwards, %v", after, err)
			}
		})
	}
}
