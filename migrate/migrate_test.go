package migrate

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/netns"
)

func TestParse(t *testing.T) {
	for list, want := range map[string][]string{
		"bpf":             {"bpf"},
		"bpf,off":         {"off", "bpf"},
		"sysctl, bpf,bpf": {"sysctl", "bpf"},
		"all":             Names(),
		"":                nil,
		"bgp":             nil,
		"off,":            nil,
		"off,all":         nil,
	} {
		var got []string
		modes, err := Parse(list)
		for _, m := range modes {
			got = append(got, m.Name)
		}
		if !slices.Equal(got, want) || (err == nil) != (want != nil) {
			t.Errorf("Parse(%q) = %q, %v; want %q", list, got, err, want)
		}
	}
}

// TestModes: what migrates in a mode with a program migrates because of the program, and a mode's program answers in the way
// that the mode is named after.
func TestModes(t *testing.T) {
	for _, m := range Modes() {
		if m.HasProgram() && m.Sysctl != Off().Sysctl {
			t.Errorf("%s has a program, and %s=%s", m.Name, netns.MigrateReq, m.Sysctl)
		}
		if p := m.Policy(); m.HasProgram() && p.Arrive == p.Migrate {
			t.Errorf("%s has one slot for what arrives and for what migrates", m.Name)
		}
		if asks := m.Sysctl == "1" || m.Attach == ebpf.AttachSkReuseportSelectOrMigrate; m.Asks != asks || m.Migrates != (asks && m.Answer != Refuse) {
			t.Errorf("%s asks: %t, and migrates: %t", m.Name, m.Asks, m.Migrates)
		}
	}
	for name, want := range map[string]Answer{"bpf": Select, "bpf-pass": Pass, "bpf-drop": Refuse, "bpf-select": Select} {
		m, err := Parse(name)
		if err != nil || m[0].Answer != want {
			t.Errorf("%s: %v, %v; want to %v", name, m, err, want)
		}
	}
}

// TestProbe: this kernel and this user can have each mode, or a probe says clearly that they cannot.
func TestProbe(t *testing.T) {
	if err := netns.Probe(); err != nil {
		t.Skipf("needs network namespaces (run as root, or under unshare -Urn): %v", err)
	}
	for _, m := range Modes() {
		err := netns.Do(m.Probe)
		var no *kernel.NotSupportedError
		switch {
		case errors.As(err, &no):
			t.Logf("%s: %s: %s", m.Name, no.Reason, no.Next)
			if no.Reason == "" || no.Next == "" {
				t.Errorf("%s: a skip without a reason or a next move", m.Name)
			}
		case err != nil:
			t.Errorf("%s: %v", m.Name, err)
		}
	}
}

// TestExplainLoad: only a clear "no" wraps ErrNotSupported, and the library's advice about MEMLOCK is dropped.
func TestExplainLoad(t *testing.T) {
	// As Linux 5.10 says it.
	old := &ebpf.VerifierError{Cause: unix.EACCES, Log: []string{
		"0: (79) r6 = *(u64 *)(r1 +48)", "invalid bpf_context access off=48 size=8",
		"processed 1 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0", "",
	}}
	for _, tt := range []struct {
		err  error
		no   bool
		says string
	}{
		{unix.EPERM, true, "load the migrate program: bpf(2): operation not permitted: "},
		{ebpf.ErrNotSupported, true, "this kernel cannot load the migrate program"},
		{old, true, "this kernel's verifier refuses the migrate program (Linux 5.14 accepts it): permission denied: invalid bpf_context access off=48 size=8"},
		{&ebpf.VerifierError{Cause: errors.New("bad")}, true, "this kernel's verifier refuses the migrate program (Linux 5.14 accepts it): bad"},
		{unix.EACCES, false, "load the migrate program: permission denied"},
		{errors.New("out of memory"), false, "load the migrate program: out of memory"},
	} {
		err := explain(tt.err)
		if errors.Is(err, kernel.ErrNotSupported) != tt.no || !strings.HasPrefix(err.Error(), tt.says) {
			t.Errorf("%v became %v", tt.err, err)
		}
		var hinted interface{ Hint() string }
		if errors.As(err, &hinted) && (hinted.Hint() == "" || strings.Contains(hinted.Hint(), "doctor")) {
			t.Errorf("%v: hint %q, which leads nowhere", tt.err, hinted.Hint())
		}
	}
}

// TestInspect: the kernel's own log is there whether it accepts the program or not.
func TestInspect(t *testing.T) {
	if c, object := Source(); !strings.Contains(string(c), "choose_listener") || !strings.HasPrefix(string(object), "\x7fELF") {
		t.Errorf("the program is %d bytes of C and %d of object", len(c), len(object))
	}
	if s := Off().Inspect(); s != "" {
		t.Errorf("off has a program: %s", s)
	}
	bpf, err := Parse("bpf,bpf-select")
	if err != nil {
		t.Fatal(err)
	}
	if err := bpf[0].Probe(); errors.Is(err, kernel.ErrNotSupported) {
		if s := bpf[0].Inspect(); !strings.Contains(s, "kernel: refused: "+err.Error()) {
			t.Errorf("it cannot be had:\n%s", s)
		}
		t.Skip(err)
	}
	for i, attach := range []string{"SkReuseportSelectOrMigrate", "SkReuseportSelect\n"} {
		s := bpf[i].Inspect()
		for _, want := range []string{"attach type " + attach, "kernel: accepted", "call bpf_sk_select_reuseport", "processed "} {
			if !strings.Contains(s, want) {
				t.Errorf("%s lacks %q:\n%s", bpf[i].Name, want, s)
			}
		}
	}
	// A program that the verifier refuses: R5 was never written.
	spec, err := loadChoose()
	if err != nil {
		t.Fatal(err)
	}
	p := spec.Programs[chooseProgChooseListener]
	unwritten := asm.Mov.Reg(asm.R0, asm.R5)
	unwritten.Metadata = p.Instructions[0].Metadata // the symbol, and the line of the source
	p.Instructions[0] = unwritten
	s := bpf[0].inspect(spec)
	for _, want := range []string{"kernel: refused: this kernel's verifier refuses", "R5 !read_ok"} {
		if !strings.Contains(s, want) {
			t.Errorf("what is refused lacks %q:\n%s", want, s)
		}
	}
}

// TestSet: the program has the policy that it was given, from the start and from then on.
func TestSet(t *testing.T) {
	modes, err := Parse("bpf,bpf-pass,bpf-drop")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range modes {
		p, err := m.Load()
		if errors.Is(err, kernel.ErrNotSupported) {
			t.Skip(err)
		} else if err != nil {
			t.Fatal(err)
		}
		has := func(want Policy) {
			t.Helper()
			var answer uint32
			var got Policy
			err := errors.Join(
				p.objs.Answer.Get(&answer), p.objs.ArriveSlot.Get(&got.Arrive), p.objs.MigrateSlot.Get(&got.Migrate), p.objs.Spread.Get(&got.Spread),
			)
			if got.Answer = Answer(answer); err != nil || got != want {
				t.Errorf("%s: the program has %+v, %v; want %+v", m.Name, got, err, want)
			}
		}
		has(m.Policy())
		other := Policy{Answer: Refuse, Arrive: 3, Migrate: 4, Spread: 5}
		if err := p.Set(other); err != nil {
			t.Error(err)
		}
		has(other)
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}
}
