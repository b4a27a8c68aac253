//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rpmig/rpmig/result"
)

// oneError is all of stderr where a run cannot be: what is wrong, and what to do next. The race detector complains of its own.
func oneError(is, hint string) []string {
	return []string{`\A(==.*\n)*rpmig: error: [^\n]*` + is + `[^\n]*\nrpmig: hint: [^\n]*` + hint + `[^\n]*\n\z`}
}

// fault is something that the environment lacks.
type fault struct {
	name  string
	stage string // its words
	args  string // of rpmig
	// What the run comes to: its status, and lines of its outputs.
	status         int
	stdout, stderr []string
	// doctor is what it answers; nil: it is not asked.
	doctor []string
}

// try stages the fault for a run, and for doctor.
func (f fault) try(t *testing.T) {
	t.Parallel()
	words := append([]string{"private-mounts"}, strings.Fields(f.stage)...)
	run := append(append(slices.Clone(words), "--", "rpmig"), strings.Fields(f.args)...)
	command(t, "stage", run...).want(f.status, f.stdout, f.stderr)
	if f.doctor != nil {
		answers := f.status
		if answers == result.ExitSoftware {
			answers = result.ExitFail
		}
		// No answer leads back to where it was given.
		command(t, "stage", append(words, "--", "rpmig", "doctor")...).want(answers, append(f.doctor, "!hint: rpmig doctor"), []string{"!rpmig: "})
	}
}

// TestHiddenFiles: a file that is merely hidden does not count as one that this kernel lacks, and no cell is played without its
// sysctls.
func TestHiddenFiles(t *testing.T) {
	t.Parallel()
	needRoot(t)
	notThere := []string{`^unknown +\* sysctls(?s:.*)hint: (?s:.*)ProcSubset=all`, `^unknown +\* sysctl tcp_migrate_req`, "!5.14"}
	for _, f := range []fault{
		{"/proc/sys", "hidden=/proc/sys", "run backlog-full-timer --migrate=bpf", 70, silent,
			oneError(`/proc/sys is not the kernel's: it is not of procfs`, `mount -t proc proc /proc`), notThere},
		{"/proc/sys, by ProcSubset=pid", "only-processes", "run quiz1", 70, silent,
			oneError(`look for /proc/sys: no such file or directory`, `ProcSubset=all`), notThere},
		{"/proc/sys/net", "hidden=/proc/sys/net", "run quiz1", 70, silent, oneError(`/proc/sys/net is not the kernel's`, `mount -t proc proc /proc`), notThere},
		{"/proc", "hidden=/proc", "run quiz1", 70, silent, oneError(`/proc is not the kernel's`, `mount -t proc proc /proc`), notThere},
		{"/proc, for another user", "hidden=/proc nobody", "run quiz1", 70, silent, oneError(`no such file or directory`, `mount -t proc proc /proc`), nil},
		{"/proc/sys is read-only", "read-only=/proc/sys", "run quiz1", 70, silent, oneError(`read-only file system`, `/proc/sys must be writable`), nil},
		{"/sys", "hidden=/sys", "run quiz1", 0, []string{`^3 cells: 3 PASS$`}, []string{"!trace"},
			[]string{`^yes +kernel's trace(?s:.*)by tracefs(?s:.*)because(?s:.*)/sys/kernel/btf/vmlinux`}},
		{"/sys, for many scenarios", "hidden=/sys", "run quiz?", 0, []string{`^18 cells: 18 PASS$`},
			[]string{`^rpmig: there is no trace of the kernel: .*/sys/kernel/btf/vmlinux.*--trace=tracefs`}, nil},
		{"/sys, and nobody wants to know", "hidden=/sys", "run quiz? -q", 0, []string{`^18 cells: 18 PASS$`}, silent, nil},
		{"/dev", "hidden=/dev", "run fd-pass-quiz1,shared-listener-workers,close-by-exit-*,hot-reload-fd-pass --family=ipv4", 0, []string{"!ERROR"}, nil, []string{`^yes +user namespaces`}},
		{"/dev, for another user", "hidden=/dev nobody", "run quiz1 --migrate=off", 0, []string{`^1 cells?: 1 PASS$`}, nil, nil},
		{"a damaged BTF", "damaged=/sys/kernel/btf/vmlinux", "run quiz?", 0, []string{`^18 cells: 18 PASS$`},
			[]string{`^rpmig: there is no trace of the kernel: read the kernel's BTF: .*--trace=tracefs`},
			[]string{`^yes +kernel's trace(?s:.*)by tracefs(?s:.*)BTF`}},
		{"a damaged BTF, for one scenario", "damaged=/sys/kernel/btf/vmlinux", "run quiz1 -v", 0, []string{`^3 cells: 3 PASS$`, "TCP_STATE|TCP_ABORT"}, []string{"!trace"}, nil},
		{"a damaged BTF, where a trace is wanted", "damaged=/sys/kernel/btf/vmlinux", "run quiz1 --trace=on", 0, []string{`^3 cells: 3 PASS$`}, nil, nil},
	} {
		t.Run(f.name, f.try)
	}
}

// TestMissingCapabilities: what needs one that root has not got names it.
func TestMissingCapabilities(t *testing.T) {
	t.Parallel()
	needRoot(t)
	for _, f := range []fault{
		{"CAP_NET_ADMIN", "without=CAP_NET_ADMIN", "run all", 70, silent, oneError(`set lo up: operation not permitted: it takes CAP_NET_ADMIN`, `docker run --cap-add=NET_ADMIN`),
			[]string{`^no +\* network namespaces(?s:.*)CAP_NET_ADMIN(?s:.*)hint: docker run`}},
		{"CAP_NET_RAW", "without=CAP_NET_RAW", "run all", 70, silent, oneError(`packet socket on lo: operation not permitted: it takes CAP_NET_RAW`, `docker run --cap-add=NET_RAW`),
			[]string{`^no +\* capture(?s:.*)CAP_NET_RAW(?s:.*)hint: docker run`}},
		{"CAP_NET_BIND_SERVICE", "without=CAP_NET_BIND_SERVICE", "run all", 70, silent, oneError(`bind to port 80: permission denied: it takes CAP_NET_BIND_SERVICE`, `rpmig run all --port=8080`),
			[]string{`^no +\* listener's port(?s:.*)CAP_NET_BIND_SERVICE(?s:.*)hint: rpmig run all --port=8080`}},
		{"CAP_NET_BIND_SERVICE, and another port", "without=CAP_NET_BIND_SERVICE", "run quiz1 --port=8080", 0, []string{`^3 cells: 3 PASS$`}, nil, nil},
		{"CAP_BPF and CAP_PERFMON, which CAP_SYS_ADMIN includes", "without=CAP_BPF without=CAP_PERFMON", "run quiz1", 0, []string{`^3 cells: 3 PASS$`}, nil, []string{`^yes +kernel's trace`}},
	} {
		t.Run(f.name, f.try)
	}
	// A user namespace gives all but the BPF modes and the trace.
	t.Run("CAP_SYS_ADMIN", func(t *testing.T) {
		needUserNS(t)
		fault{"", "without=CAP_SYS_ADMIN", "run quiz1 --migrate=all", 0, []string{"PASS", "SKIP", "CAP_BPF(?s:.*)sudo rpmig", "!FAIL", "!ERROR"}, []string{"!trace"}, nil}.try(t)
	})
}

// TestSeccomp: a filter is told from a missing capability.
func TestSeccomp(t *testing.T) {
	t.Parallel()
	needRoot(t)
	const filter = `operation not permitted: a seccomp filter refuses it`
	for _, f := range []fault{
		{"unshare", "refused=unshare", "run all", 70, silent, oneError(`unshare network namespace: `+filter, `docker run --security-opt seccomp=unconfined`), nil},
		{"bpf", "refused=bpf", "run quiz?", 0, []string{"PASS", "SKIP", "!FAIL", "!ERROR", `seccomp\s+filter\s+refuses\s+it`, "seccomp=unconfined", "!sudo"},
			[]string{`^rpmig: there is no trace of the kernel: .*` + filter}, nil},
		{"perf_event_open", "refused=perf_event_open", "run quiz1", 0, []string{`^3 cells: 3 PASS$`}, []string{"!trace"}, []string{`^yes +kernel's trace .*it says why`}},
		{"perf_event_open, where that is wanted", "refused=perf_event_open", "run quiz1 --trace=tracefs", 70, silent, oneError(`perf_event_open of .*: `+filter, `seccomp=unconfined`), nil},
		{"bpf and perf_event_open", "refused=bpf refused=perf_event_open", "run quiz1 --migrate=sysctl", 0, []string{`^2 cells: 2 PASS$`},
			[]string{`^rpmig: there is no trace of the kernel: .*` + filter + `.*tracefs: .*` + filter}, nil},
		{"bpf and perf_event_open, where a trace is wanted", "refused=bpf refused=perf_event_open", "run quiz1 --trace=on", 70, silent, oneError(filter, `seccomp=unconfined`), nil},
		{"sock_diag", "refused=inet_diag", "run all", 70, silent, oneError(`open sock_diag netlink: protocol not supported: .*tcp_diag`, `sudo modprobe tcp_diag`),
			[]string{`^no +\* socket tables(?s:.*)hint: sudo modprobe(?s:\s*)tcp_diag`}},
		{"sock_diag for TCP", "refused=tcp_diag", "run all", 70, silent, oneError(`sock_diag: no such file or directory: .*tcp_diag`, `sudo modprobe tcp_diag`),
			[]string{`^no +\* socket tables(?s:.*)hint: sudo modprobe(?s:\s*)tcp_diag`}},
	} {
		t.Run(f.name, f.try)
	}
	command(t, "stage", "refused=bpf", "--", "rpmig", "doctor").want(1,
		[]string{`^no +\* BPF migrate program(?s:.*)seccomp(?s:.*)hint: docker run`, "!sudo"}, silent)
}

// shipped is rpmig as "make build" builds it, for the tests of what rpmig itself takes: the test binary has cgo's threads, and the
// race detector's terabytes of address space.
func shipped(t testing.TB) string {
	t.Helper()
	bin, err := buildShipped()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// buildShipped builds it where testscript.Main has put the test binary, and removes both in the end.
var buildShipped = sync.OnceValues(func() (string, error) {
	test, err := exec.LookPath("rpmig")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(filepath.Dir(filepath.Dir(test)), "shipped", "rpmig")
	build := exec.Command("go", "build", "-tags", "urfave_cli_no_docs", "-trimpath", "-buildvcs=false", "-o", bin, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return bin, nil
})

// TestFewThreads: where there may be few threads and processes there are fewer cells side by side, and where there may not be
// enough for one, that is said. Otherwise the runtime would end the process with a stack.
func TestFewThreads(t *testing.T) {
	t.Parallel()
	needRoot(t)
	needPlay(t)
	threads := func(most string) string { return limitedCgroup(t, "pids", most, "pids.max") }
	for _, most := range []string{"24", "60", "150"} {
		command(t, "stage", "cgroup="+threads(most), "--", "rpmig", "run", "fd-pass-quiz1,shared-listener-workers,close-by-*,hot-reload-fd-pass,other-group-*",
			"--family=ipv4", "-q").want(0, []string{"^[0-9]+ cells: [0-9]+ PASS"}, silent)
	}
	for _, most := range []string{"8", "12", "16"} {
		dir := threads(most)
		command(t, "stage", "cgroup="+dir, "--", "rpmig", "run", "all").want(70, silent, oneError(
			`one cell needs \d+ threads and processes, and `+dir+`/pids\.max leaves \d+`, `echo max \| sudo tee `+dir+`/pids\.max`))
		command(t, "stage", "cgroup="+dir, "--", "rpmig", "doctor").want(1,
			[]string{`^no +\* limits(?s:.*)threads and processes(?s:.*)hint: echo max`}, silent)
	}
	command(t, "stage", "cgroup="+threads("100"), "--", "rpmig", "run", "quiz1", "--parallel=50").want(70, silent,
		oneError(`50 cells side by side need \d+ threads and processes`, `or a smaller --parallel`))
}

// TestLittleMemory: the same of memory, where the kernel would kill it.
func TestLittleMemory(t *testing.T) {
	t.Parallel()
	needRoot(t)
	needPlay(t)
	rpmig := shipped(t)
	memory := func(mib int) string {
		return limitedCgroup(t, "memory", strconv.Itoa(mib<<20), "memory.max", "memory.limit_in_bytes")
	}
	command(t, "stage", "cgroup="+memory(64), "--", rpmig, "run", "quiz?,shared-listener-workers", "-q").want(0, []string{"^[0-9]+ cells: [0-9]+ PASS"}, silent)
	command(t, "stage", "cgroup="+memory(32), "--", rpmig, "run", "all").want(70, silent,
		oneError(`one cell needs \d+ MiB of memory, and .*/memory\.\S+ leaves \d+`, `echo (max|-1) \| sudo tee .*/memory\.`))
}

// TestProcessLimit: the same by RLIMIT_NPROC, which does not bind root.
func TestProcessLimit(t *testing.T) {
	t.Parallel()
	needUserNS(t)
	command(t, "stage", "processes=8", "nobody", "--", "rpmig", "run", "all").want(70, silent,
		oneError(`threads and processes, and the limit on processes \(RLIMIT_NPROC\) leaves \d+`, `ulimit -u unlimited`))
}

// TestAddressSpace: RLIMIT_AS and RLIMIT_DATA are too small for the runtime to come by its memory, though it has started.
func TestAddressSpace(t *testing.T) {
	t.Parallel()
	rpmig := shipped(t)
	for limit, want := range map[string][]string{
		"address-space=1536": oneError(`a run needs 2048 MiB, and the limit on address space \(RLIMIT_AS\) is 1536 MiB`, `ulimit -v unlimited`),
		"data=200":           oneError(`a run needs 512 MiB, and the limit on data \(RLIMIT_DATA\) is 200 MiB`, `ulimit -d unlimited`),
	} {
		command(t, "stage", limit, "--", rpmig, "run", "quiz1").want(70, silent, want)
		command(t, "stage", limit, "--", rpmig, "doctor").want(1, []string{`^no +\* limits(?s:.*)hint: ulimit`}, silent)
		command(t, "stage", limit, "--", rpmig, "list").want(0, []string{"quiz1"}, silent)
	}
}

// TestFullOutput: no command ends well that could not say what it had to say.
func TestFullOutput(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for _, args := range []string{"", "help", "--help", "run --help", "run quiz1 --help", "list", "explain quiz1", "doctor", "doctor --json", "version", "completion bash", "man", "docs"} {
		p := command(t, "rpmig", strings.Fields(args)...)
		p.Stdout = full
		p.want(70, nil, []string{`\Arpmig: error: .*no space left on device\n`})
	}
}
