package kernel

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// capabilities are those that rpmig uses, by name.
var capabilities = map[string]int{
	"CAP_NET_BIND_SERVICE": unix.CAP_NET_BIND_SERVICE,
	"CAP_NET_ADMIN":        unix.CAP_NET_ADMIN,
	"CAP_NET_RAW":          unix.CAP_NET_RAW,
	"CAP_SYS_ADMIN":        unix.CAP_SYS_ADMIN,
	"CAP_PERFMON":          unix.CAP_PERFMON,
	"CAP_BPF":              unix.CAP_BPF,
}

// rights are what a thread may do, as /proc tells it (proc_pid_status(5)).
type rights struct {
	effective uint64 // CapEff
	filtered  bool   // Seccomp: 2, SECCOMP_MODE_FILTER
	child     bool   // in another user namespace than the first
	lockdown  string // the mode in force: integrity or confidentiality; empty: none
	uid       int
}

// readRights asks for the rights of the calling thread.
func readRights() (rights, error) {
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return rights{}, fmt.Errorf("read what this process may do: %w", err)
	}
	r, err := parseRights(status)
	if err != nil {
		return rights{}, fmt.Errorf("read what this process may do: %w", err)
	}
	r.uid = unix.Geteuid()
	if ns, err := os.Readlink("/proc/thread-self/ns/user"); err == nil {
		r.child = ns != firstUserNS
	}
	if text, err := os.ReadFile("/sys/kernel/security/lockdown"); err == nil {
		r.lockdown = parseLockdown(string(text))
	}
	return r, nil
}

// firstUserNS is the user namespace that the kernel starts with (PROC_USER_INIT_INO in include/linux/proc_ns.h).
const firstUserNS = "user:[4026531837]"

func parseRights(status []byte) (rights, error) {
	var r rights
	caps := false
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch name {
		case "CapEff":
			var err error
			if r.effective, err = strconv.ParseUint(value, 16, 64); err != nil {
				return rights{}, fmt.Errorf("CapEff: %w", err)
			}
			caps = true
		case "Seccomp":
			r.filtered = value == "2"
		}
	}
	if !caps {
		return rights{}, errors.New("no CapEff in /proc/thread-self/status")
	}
	return r, nil
}

// parseLockdown returns what is in brackets, as in "none [integrity] confidentiality".
func parseLockdown(text string) string {
	_, text, _ = strings.Cut(text, "[")
	mode, _, _ := strings.Cut(text, "]")
	if mode == "none" {
		return ""
	}
	return mode
}

// has tells whether the thread has a capability. CAP_SYS_ADMIN is good for CAP_BPF and CAP_PERFMON, which were split off it
// (bpf_capable and perfmon_capable in include/linux/capability.h).
func (r rights) has(name string) bool {
	number, known := capabilities[name]
	if name == "CAP_BPF" || name == "CAP_PERFMON" {
		if r.has("CAP_SYS_ADMIN") {
			return true
		}
	}
	return known && r.effective&(1<<number) != 0
}

// DeniedError says that the kernel did not allow something, and what stood in the way.
type DeniedError struct {
	Err     error
	Missing []string // capabilities; empty: those that are needed are there, so something else has refused
	why     string
	hint    string
}

func (e *DeniedError) Error() string { return e.Err.Error() + ": " + e.why }

func (e *DeniedError) Unwrap() error { return e.Err }

// Hint returns what to do next.
func (e *DeniedError) Hint() string { return e.hint }

// Explain adds to an EPERM or EACCES what stood in the way of something that needs those capabilities: that they are missing,
// a seccomp filter, or the kernel's lockdown. It returns any other error as it is. With outside they count outside of any user
// namespace alone, as those for BPF and tracing do. It must be called on the thread that was refused.
func Explain(err error, outside bool, needs ...string) error {
	if !errors.Is(err, unix.EPERM) && !errors.Is(err, unix.EACCES) {
		return err
	}
	r, rerr := readRights()
	if rerr != nil {
		return err
	}
	return r.explain(err, outside, needs)
}

func (r rights) explain(err error, outside bool, needs []string) *DeniedError {
	e := &DeniedError{Err: err}
	for _, name := range needs {
		if !r.has(name) || outside && r.child {
			e.Missing = append(e.Missing, name)
		}
	}
	short := strings.ReplaceAll(strings.Join(e.Missing, ","), "CAP_", "")
	switch {
	case len(e.Missing) > 0 && outside && r.child:
		e.why = "it takes " + and(e.Missing) + " outside any user namespace"
		e.hint = "run it as root: sudo rpmig …; in a container: docker run --privileged"
	case len(e.Missing) > 0 && r.uid != 0:
		e.why = "it takes " + and(e.Missing)
		e.hint = "run it as root: sudo rpmig …"
	case len(e.Missing) > 0:
		e.why = "it takes " + and(e.Missing) + ", which this root has not"
		e.hint = "docker run --cap-add=" + short + "; under systemd: CapabilityBoundingSet=" + strings.Join(e.Missing, " ")
	case r.filtered:
		e.why = "a seccomp filter refuses it; no capability is missing"
		e.hint = "docker run --security-opt seccomp=unconfined; under systemd: SystemCallFilter="
	case r.lockdown != "" && outside:
		e.why = "no capability is missing, and the kernel is locked down: " + r.lockdown
		e.hint = "cat /sys/kernel/security/lockdown; boot without lockdown=" + r.lockdown + ", or with Secure Boot off"
	default:
		e.why = "no capability is missing, and there is no seccomp filter: a security module, or the container"
		e.hint = "cat /sys/kernel/security/lsm; in a container: docker run --privileged"
	}
	return e
}

// and joins words as a person would.
func and(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " and " + words[last]
}
