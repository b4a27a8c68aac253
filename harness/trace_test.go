package harness_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/kernel/trace"
	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// TestTraceIsNotWhole: what the trace cannot tell is said, is held against nobody, and changes no verdict.
func TestTraceIsNotWhole(t *testing.T) {
	needNamespace(t)
	const sendReset, entry, exit = "tcp:tcp_send_reset", "irq:softirq_entry", "irq:softirq_exit"
	for _, tt := range []struct {
		name        string
		trace       trace.Options
		scenario    string
		connections int
		loses       bool         // events
		checks      bool         // the trace is held against the wire and what was expected
		owner       result.Owner // of the off cell's resets
		reason      string
	}{
		{name: "whole", scenario: "quiz1", checks: true, owner: result.ClosingListener, reason: "TCP_STATE"},
		{name: "whole", scenario: "quiz2", checks: true, owner: result.SurvivingListener, reason: "TCP_FLAGS"},
		// One page is room for forty events, and one close() makes hundreds of them before anybody can read.
		{name: "a ring that overflows", trace: trace.Options{Ring: os.Getpagesize()}, scenario: "quiz1", connections: 1000, loses: true},
		{name: "no " + sendReset, trace: trace.Options{Without: []string{sendReset}}, scenario: "quiz1"},
		{name: "no " + entry, trace: trace.Options{Without: []string{entry}}, scenario: "quiz1", reason: "TCP_STATE"},
		{name: "no " + exit, trace: trace.Options{Without: []string{exit}}, scenario: "quiz1", reason: "TCP_STATE"},
		{name: "no " + entry, trace: trace.Options{Without: []string{entry}}, scenario: "quiz2", owner: result.SurvivingListener, reason: "TCP_FLAGS"},
		{name: "nothing else than resets", trace: trace.Options{Without: []string{
			"tcp:tcp_receive_reset", "tcp:tcp_retransmit_skb", "tcp:tcp_retransmit_synack", "sock:inet_sock_set_state",
			"skb:kfree_skb",
		}}, scenario: "quiz2", checks: true, owner: result.SurvivingListener, reason: "TCP_FLAGS"},
		{name: "by tracefs", trace: trace.Options{Tracefs: true}, scenario: "quiz1", checks: true, owner: result.ClosingListener, reason: "TCP_STATE"},
		{name: "by tracefs", trace: trace.Options{Tracefs: true}, scenario: "quiz2", checks: true, owner: result.SurvivingListener, reason: "TCP_FLAGS"},
		{name: "by tracefs, a ring that overflows", trace: trace.Options{Tracefs: true, Ring: os.Getpagesize()}, scenario: "quiz1", connections: 1000, loses: true},
		{name: "by tracefs, no tcp:tcp_destroy_sock", trace: trace.Options{Tracefs: true, Without: []string{"tcp:tcp_destroy_sock"}},
			scenario: "quiz1", checks: true, owner: result.ClosingListener, reason: "TCP_STATE"},
	} {
		t.Run(tt.name+"/"+tt.scenario, func(t *testing.T) {
			cells := run(t, harness.Options{
				Scenarios: []lab.Scenario{scenario(t, tt.scenario)}, Families: lab.Families()[:1],
				Modes: modes(t, "off,sysctl"), Connections: max(tt.connections, 1),
				Settings: lab.Settings{Tracer: tracer(t, tt.trace)},
			})
			for _, c := range cells {
				if c.Status != result.Pass || c.Trace == nil {
					t.Fatalf("%s: %s: %s: trace %+v", c.ID(), c.Status, c.Reason, c.Trace)
				}
				if !slices.Equal(c.Trace.Missing, tt.trace.Without) {
					t.Errorf("%s: missing: got %v, want %v", c.ID(), c.Trace.Missing, tt.trace.Without)
				}
				if c.Trace.HostWide != tt.trace.Tracefs {
					t.Errorf("%s: of the whole host: %t", c.ID(), c.Trace.HostWide)
				}
				off := c.Mode == "off"
				if off && tt.loses && c.Trace.Lost == 0 {
					t.Errorf("%s: no events were lost", c.ID())
				}
				// A kernel that is silent for a moment is noticed, and is not this test's matter.
				silent := !tt.loses && c.Trace.Lost > 0
				if silent && slices.Contains(c.Trace.Missing, sendReset) {
					t.Errorf("%s: %d events that the kernel has no tracepoint for are counted as lost", c.ID(), c.Trace.Lost)
				}
				checks := slices.ContainsFunc(c.Checks, func(k result.Check) bool {
					return k.Witness == result.TraceSaid || strings.HasPrefix(k.Name, "trace ")
				})
				if want := tt.checks && c.Trace.Lost == 0; off && checks != want {
					t.Errorf("%s: checked against the trace: %t, want %t", c.ID(), checks, want)
				}
				for _, r := range c.Resets {
					if !tt.loses && !silent && (r.Owner != tt.owner || r.Reason != tt.reason) {
						t.Errorf("%s: a reset of %q, reason %q; want %q, %q", c.ID(), r.Owner, r.Reason, tt.owner, tt.reason)
					}
				}
			}
		})
	}
}

// TestTracefsTells: the trace by tracefs says of both quizzes what the other one does, and marks what it is not sure of.
func TestTracefsTells(t *testing.T) {
	needNamespace(t)
	for _, tt := range []struct {
		scenario string
		owner    result.Owner
		reason   string
		dropped  int // segments, by the rule
	}{
		{"quiz1", result.ClosingListener, "TCP_STATE", 0},
		{"quiz2", result.SurvivingListener, "TCP_FLAGS", 2},
	} {
		for _, family := range lab.Families() {
			t.Run(tt.scenario+"/"+family.Name, func(t *testing.T) {
				tr := tracer(t, trace.Options{Tracefs: true})
				var c result.Cell
				for n := 0; n < 30; n++ { // the kernel leaves something out now and then, and says so
					c = run(t, harness.Options{
						Scenarios: []lab.Scenario{scenario(t, tt.scenario)}, Families: []lab.Family{family}, Modes: modes(t, "off"),
						Settings: lab.Settings{Tracer: tr, Detail: lab.StoryDetail},
					})[0]
					if c.Status != result.Pass || c.Trace == nil || !c.Trace.HostWide {
						t.Fatalf("%s: %s: %s: trace %+v", c.ID(), c.Status, c.Reason, c.Trace)
					}
					if c.Trace.Lost == 0 {
						break
					}
				}
				if c.Trace.Lost > 0 {
					t.Fatal("no recording is whole")
				}
				if len(c.Resets) != 1 || c.Resets[0].Owner != tt.owner || c.Resets[0].Reason != tt.reason {
					t.Errorf("resets %+v, want one of the %s, %s", c.Resets, tt.owner, tt.reason)
				}
				dropped := 0
				for _, e := range c.Events {
					switch {
					case e.Reason == "NETFILTER_DROP":
						dropped++
						if e.By != "thread" {
							t.Errorf("%+v: the doubt is not told", e)
						}
					case e.Kind == "tcp:tcp_send_reset" && (e.By != "" || e.From != c.Resets[0].From || e.To != c.Resets[0].To):
						t.Errorf("%+v: want that of the wire, for sure", e)
					}
				}
				if dropped != tt.dropped {
					t.Errorf("%d segments dropped by the rule, want %d", dropped, tt.dropped)
				}
			})
		}
	}
}

// TestTracefsOneAtATime: cells that could not be told apart are not played side by side, whatever is asked for.
func TestTracefsOneAtATime(t *testing.T) {
	needNamespace(t)
	sideBySide := func(tracer func() (*trace.Tracer, error)) int32 {
		// It waits for a timer, so that others would be played meanwhile.
		s, most := counted(scenario(t, "quiz2"))
		for _, c := range run(t, harness.Options{
			Scenarios: []lab.Scenario{s}, Families: lab.Families()[:1], Modes: modes(t, "off"), Repeat: 6, Parallel: 6,
			Settings: lab.Settings{Tracer: tracer},
		}) {
			if c.Status != result.Pass {
				t.Errorf("%s: %s: %s", c.ID(), c.Status, c.Reason)
			}
		}
		return most()
	}
	if n := sideBySide(tracer(t, trace.Options{Tracefs: true})); n != 1 {
		t.Errorf("%d cells at a time", n)
	}
	if n := sideBySide(nil); n < 2 {
		t.Errorf("without a trace %d cells are played at a time, so this test proves nothing", n)
	}
}

// TestRightsAreLost: in the midst of a cell, the kernel begins to refuse what it granted. The cell is an ERROR that says
// so, and no other cell suffers.
func TestRightsAreLost(t *testing.T) {
	needNamespace(t)
	tr := tracer(t, trace.Options{})
	s := scenario(t, "quiz1")
	honest, plays := s.Play, 0
	s.Play = func(l *lab.Lab) {
		if plays++; plays == 2 {
			if err := forbidBPF(); err != nil { // on the cell's thread, which ends with it
				t.Error(err)
			}
		}
		honest(l)
	}
	cells := run(t, harness.Options{
		Scenarios: []lab.Scenario{s}, Families: lab.Families()[:1], Modes: modes(t, "off"), Repeat: 3, Parallel: 1,
		Settings: lab.Settings{Tracer: tr},
	})
	for i, want := range []result.Status{result.Pass, result.Error, result.Pass} {
		c := cells[i]
		if c.Status != want || want == result.Error && !strings.Contains(c.Reason, "the right to use BPF was lost") {
			t.Errorf("%s: %s: %s; want %s", c.ID(), c.Status, c.Reason, want)
		}
	}
}

// tracer opens a tracer for a test, as harness.Options want it.
func tracer(t *testing.T, o trace.Options) func() (*trace.Tracer, error) {
	t.Helper()
	tr, err := trace.OpenWith(o)
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
	if !slices.Equal(tr.Missing, o.Without) {
		t.Skipf("this kernel lacks %v", tr.Missing)
	}
	return func() (*trace.Tracer, error) { return tr, nil }
}

// forbidBPF has the kernel refuse bpf(2) to the calling thread, as a service manager's filter does.
func forbidBPF() error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // seccomp_data.nr
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_BPF, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&prog)), 0, 0)
}

// TestStory: what happened in a cell is told to who asks, and wherever something went wrong.
func TestStory(t *testing.T) {
	needNamespace(t)
	right := scenario(t, "quiz1")
	wrong := right
	wrong.Expect = func(lab.Mode) verdict.Expectation { return verdict.Expectation{Lives: true} }
	for _, tt := range []struct {
		scenario lab.Scenario
		detail   lab.Detail
		status   result.Status
		told     bool
	}{
		{right, lab.VerdictDetail, result.Pass, false},
		{right, lab.StoryDetail, result.Pass, true},
		{wrong, lab.VerdictDetail, result.Fail, true},
	} {
		c := run(t, harness.Options{
			Scenarios: []lab.Scenario{tt.scenario}, Families: lab.Families()[:1], Modes: modes(t, "off"),
			Settings: lab.Settings{Detail: tt.detail, Tracer: func() (*trace.Tracer, error) { return nil, nil }},
		})[0]
		if told := len(c.Tables) > 0 && len(c.Flow) > 0; c.Status != tt.status || told != tt.told || (len(c.Tables) > 0) != told {
			t.Errorf("detail %d: %s, %d tables and %d segments; want %s, told %t", tt.detail, c.Status, len(c.Tables), len(c.Flow), tt.status, tt.told)
		}
	}
}
