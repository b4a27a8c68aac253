package kernel

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// TestExplainBPF: a clear no says what to do, and speaks of a container only where that may be the cause. What is no clear no is
// none.
func TestExplainBPF(t *testing.T) {
	p := BPFProgram{Name: "a program", Since: "Linux 6.5", Instead: "boot Linux 6.5"}
	for _, tt := range []struct {
		err  error
		hint string // empty: it is not known
	}{
		{fmt.Errorf("map: %w", ebpf.ErrNotSupported), "boot Linux 6.5"},
		{unix.ENOSYS, "boot Linux 6.5; in a container: docker run --security-opt seccomp=unconfined"},
		{&ebpf.VerifierError{Cause: unix.EINVAL, Log: []string{"calling kernel function", "processed 3 insns"}}, "boot Linux 6.5"},
		{unix.EIO, ""},
	} {
		err := p.Explain(tt.err)
		var no *NotSupportedError
		if errors.As(err, &no) != (tt.hint != "") || no != nil && no.Hint() != tt.hint || !strings.Contains(err.Error(), "a program") {
			t.Errorf("%v: %v; want the hint %q", tt.err, err, tt.hint)
		}
	}
}
