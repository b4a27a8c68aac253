package kernel

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// RaiseMemlock lifts the limit on locked memory where BPF counts towards it, as far as this user may. Linux 5.11 counts it
// for the memory cgroup (commit d5299b67dd59). It must be called before BPF is loaded.
var RaiseMemlock = sync.OnceFunc(func() {
	if !before(5, 11) {
		return
	}
	if unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}) == nil {
		return
	}
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_MEMLOCK, &lim) == nil {
		_ = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: lim.Max, Max: lim.Max})
	}
})

// BPFProgram is what is to be known about a program where the kernel does not load it.
type BPFProgram struct {
	Name  string   // with an article
	Needs []string // capabilities that it takes
	// Since is the kernel that takes it, as in "Linux 5.14", and Instead is what to do on one that does not.
	Since, Instead string
}

// Explain tells a clear "no", which wraps ErrNotSupported, from a failure to find out. The library answers EPERM with advice
// about MEMLOCK, which is wrong on most kernels.
func (p BPFProgram) Explain(err error) error {
	var verifier *ebpf.VerifierError
	switch {
	case errors.Is(err, unix.EPERM): // EACCES is from the verifier
		return p.denied()
	case errors.As(err, &verifier):
		return &NotSupportedError{
			Reason: fmt.Sprintf("this kernel's verifier refuses %s (%s accepts it): %s", p.Name, p.Since, verifierWords(verifier)),
			Next:   p.Instead,
		}
	case errors.Is(err, unix.ENOSYS): // also by a container's seccomp
		return p.cannot(err, p.Instead+"; in a container: docker run --security-opt seccomp=unconfined")
	case errors.Is(err, ebpf.ErrNotSupported):
		return p.cannot(err, p.Instead)
	default:
		return fmt.Errorf("load %s: %w", p.Name, err)
	}
}

func (p BPFProgram) cannot(err error, next string) error {
	return &NotSupportedError{Reason: "this kernel cannot load " + p.Name + ": " + err.Error(), Next: next}
}

// denied explains an EPERM.
func (p BPFProgram) denied() error {
	err := Explain(fmt.Errorf("load %s: bpf(2): %w", p.Name, unix.EPERM), true, p.Needs...)
	var denied *DeniedError
	if !errors.As(err, &denied) { // it is not known what this thread may do
		return err
	}
	var lim unix.Rlimit
	if len(denied.Missing) == 0 && before(5, 11) && unix.Getrlimit(unix.RLIMIT_MEMLOCK, &lim) == nil && lim.Cur != unix.RLIM_INFINITY {
		return &NotSupportedError{
			Reason: fmt.Sprintf("load %s: it counts as locked memory before Linux 5.11, and the limit is %d KiB", p.Name, lim.Cur>>10),
			Next:   "ulimit -l unlimited",
		}
	}
	return &NotSupportedError{Reason: denied.Error(), Next: denied.Hint(), Denied: denied}
}

// verifierWords are the cause, and the last line of the verifier's log that tells anything.
func verifierWords(v *ebpf.VerifierError) string {
	words := v.Cause.Error()
	for i := len(v.Log) - 1; i >= 0; i-- {
		line := strings.TrimSpace(v.Log[i])
		if line == "" || strings.HasPrefix(line, "processed ") || strings.HasPrefix(line, "verification time ") || strings.HasPrefix(line, "stack depth ") {
			continue // statistics
		}
		return words + ": " + line
	}
	return words
}
