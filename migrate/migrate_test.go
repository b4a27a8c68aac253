package migrate

import (
	"errors"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/netns"
)

func TestParse(t *testing.T) {
	for list, want := range map[string][]string{
		"bpf":             {"bpf"},
		"bpf,off":         {"off", "bpf"},
		"sysctl, bpf,bpf": {"sysctl", "bpf"},
		"all":             {"off", "sysctl", "bpf", "bpf-pass", "bpf-drop", "bpf-select"},
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

// TestProbe: on this kernel and for this user each mode can be had, or a probe says clearly that it cannot.
func TestProbe(t *testing.T) {
	if err := netns.Probe(); err != nil {
		t.Skipf("needs network namespaces (run as root, or under unshare -Urn): %v", err)
	}
	for _, m := range Modes() {
		err := netns.Do(m.Probe)
		var no *NotSupportedError
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

// TestExplainLoad: only a clear "no" is a no; the library's advice about MEMLOCK is beside the point.
func TestExplainLoad(t *testing.T) {
	for _, tt := range []struct {
		err error
		no  bool
	}{
		{unix.EPERM, true},
		{ebpf.ErrNotSupported, true},
		{&ebpf.VerifierError{Cause: errors.New("invalid bpf_context access")}, true},
		{unix.EACCES, false},
		{errors.New("out of memory"), false},
	} {
		if err := explainLoad(tt.err); errors.Is(err, ErrNotSupported) != tt.no {
			t.Errorf("%v became %v", tt.err, err)
		}
	}
}
