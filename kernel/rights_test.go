package kernel

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestExplain: an EPERM says which capability is missing, or else what refuses.
func TestExplain(t *testing.T) {
	const all = 1<<41 - 1
	bpf := []string{"CAP_BPF", "CAP_NET_ADMIN"}
	for _, tt := range []struct {
		name      string
		have      rights
		outside   bool
		needs     []string
		why, hint string
		missing   int
	}{
		{"an ordinary user", rights{uid: 1000}, true, bpf, "it takes CAP_BPF and CAP_NET_ADMIN", "sudo rpmig", 2},
		{"root of a user namespace", rights{effective: all, child: true}, true, bpf, "it takes CAP_BPF and CAP_NET_ADMIN outside any user namespace", "sudo rpmig", 2},
		{"and what counts there", rights{effective: all, child: true, filtered: true}, false, []string{"CAP_NET_RAW"}, "a seccomp filter", "seccomp=unconfined", 0},
		{"root without one", rights{effective: all &^ (1 << unix.CAP_NET_RAW)}, false, []string{"CAP_NET_RAW"}, "it takes CAP_NET_RAW, which this root has not", "docker run --cap-add=NET_RAW", 1},
		{"CAP_SYS_ADMIN is good for CAP_BPF", rights{effective: 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_NET_ADMIN, filtered: true}, true, bpf, "a seccomp filter", "seccomp=unconfined", 0},
		{"not for CAP_NET_ADMIN", rights{effective: 1 << unix.CAP_SYS_ADMIN}, true, bpf, "it takes CAP_NET_ADMIN, ", "--cap-add=NET_ADMIN", 1},
		{"lockdown", rights{effective: all, lockdown: "confidentiality"}, true, bpf, "locked down: confidentiality", "lockdown", 0},
		{"lockdown does not touch namespaces", rights{effective: all, lockdown: "integrity"}, false, []string{"CAP_SYS_ADMIN"}, "a security module", "/sys/kernel/security/lsm", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := tt.have.explain(fmt.Errorf("do it: %w", unix.EPERM), tt.outside, tt.needs)
			if !strings.HasPrefix(e.Error(), "do it: operation not permitted: ") || !strings.Contains(e.Error(), tt.why) || !strings.Contains(e.Hint(), tt.hint) ||
				len(e.Missing) != tt.missing || !errors.Is(e, unix.EPERM) {
				t.Errorf("got %q, hint %q, missing %q", e, e.Hint(), e.Missing)
			}
		})
	}
	for _, err := range []error{nil, unix.ENOENT, errors.New("busy")} {
		if got := Explain(err, false, "CAP_NET_RAW"); got != err {
			t.Errorf("%v became %v", err, got)
		}
	}
	// Any thread may do without a capability.
	if got := Explain(unix.EPERM, false); !errors.Is(got, unix.EPERM) || got == error(unix.EPERM) {
		t.Errorf("EPERM became %v", got)
	}
}

func TestParseRights(t *testing.T) {
	r, err := parseRights([]byte("Name:\tx\nCapEff:\t000001ffffffffff\nCapBnd:\t0\nSeccomp:\t2\nSeccomp_filters:\t1\n"))
	if err != nil || r.effective != 1<<41-1 || !r.filtered {
		t.Errorf("got %+v, %v", r, err)
	}
	if r, err := parseRights([]byte("CapEff:\t0\nSeccomp:\t0\n")); err != nil || r.effective != 0 || r.filtered || r.has("CAP_NET_RAW") {
		t.Errorf("got %+v, %v", r, err)
	}
	for _, bad := range []string{"", "CapEff:\tx\n", "Seccomp:\t2\n"} {
		if _, err := parseRights([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	for text, want := range map[string]string{"[none] integrity confidentiality\n": "", "none [integrity] confidentiality\n": "integrity", "": ""} {
		if got := parseLockdown(text); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// TestExplainDiag: a kernel without the modules is told from one that refuses.
func TestExplainDiag(t *testing.T) {
	for err, no := range map[error]bool{unix.ENOENT: true, unix.EPROTONOSUPPORT: true, unix.EPERM: false, unix.ENOBUFS: false} {
		if got := explainDiag(fmt.Errorf("sock_diag: %w", err)); errors.Is(got, ErrNotSupported) != no {
			t.Errorf("%v became %v", err, got)
		}
	}
	if err := ProbeDiag([]uint8{unix.AF_INET}); err != nil {
		t.Errorf("here: %v", err)
	}
}
