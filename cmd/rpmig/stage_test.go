//go:build linux

package main

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/netns"
)

// nobody is an ordinary user.
const nobody = 65534

// stage is a command of the test binary: it changes what its words say about the place in which it stands, and then
// becomes the command behind "--". Nothing of it reaches the host: mounts are made in a mount namespace of its own, and
// the limits of a user namespace are written by a stage that was started in one.
func stage() {
	runtime.LockOSThread() // unshare is for this thread, from which execve makes the process
	if err := setStage(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "stage:", err)
		os.Exit(99)
	}
}

func setStage(words []string) error {
	for i, word := range words {
		var err error
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "private-mounts":
			if err = unix.Unshare(unix.CLONE_NEWNS); err == nil {
				err = unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
			}
		case "new-net":
			err = unix.Unshare(unix.CLONE_NEWNET)
		case "migrate-req": // the value of the sysctl, of that namespace
			err = netns.Sysctl{Name: netns.MigrateReq, Value: value}.Set()
		case "tiny-disk": // of this name
			if err = os.Mkdir(value, 0o755); err == nil {
				err = unix.Mount("tmpfs", value, "tmpfs", 0, "size=64k")
			}
		case "read-only": // the path
			if err = unix.Mount(value, value, "", unix.MS_BIND, ""); err == nil {
				err = unix.Mount("none", value, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
			}
		case "hidden": // the path, below an empty folder
			err = unix.Mount("tmpfs", value, "tmpfs", 0, "")
		case "only-processes": // are in /proc, as under systemd's ProcSubset=pid
			err = unix.Mount("proc", "/proc", "proc", 0, "subset=pid")
		case "damaged": // the path, a file
			if err = os.WriteFile("damaged", bytes.Repeat([]byte("damaged "), 1<<12), 0o644); err == nil {
				err = unix.Mount("damaged", value, "", unix.MS_BIND, "")
			}
		case "max-user-namespaces", "max-net-namespaces":
			err = os.WriteFile("/proc/sys/user/"+strings.ReplaceAll(name, "-", "_"), []byte(value), 0)
		case "cgroup": // of that path
			err = os.WriteFile(filepath.Join(value, "cgroup.procs"), []byte("0"), 0)
		case "open-files", "address-space", "data", "processes":
			err = setLimit(name, value)
		case "image": // the folder
			err = enterImage(value)
		case "bare": // the folder
			err = enterBare(value)
		case "chroot": // the folder
			err = cmp.Or(unix.Chroot(value), os.Chdir("/"))
		case "docker-capabilities": // and these
			err = keepDockers(value)
		case "without": // a capability
			err = dropCapability(value)
		case "refused": // by a seccomp filter
			err = refuse(value)
		case "nobody":
			if err = syscall.Setgroups(nil); err == nil {
				if err = syscall.Setresgid(nobody, nobody, nobody); err == nil {
					err = syscall.Setresuid(nobody, nobody, nobody)
				}
			}
		case "--":
			path, lerr := exec.LookPath(words[i+1])
			if lerr != nil {
				return lerr
			}
			return syscall.Exec(path, words[i+1:], os.Environ())
		default:
			err = unix.EINVAL
		}
		if err != nil {
			return fmt.Errorf("%s: %w", word, err)
		}
	}
	return unix.EINVAL
}

// setLimit sets a limit, of sizes in MiB.
func setLimit(name, value string) error {
	n, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		return err
	}
	resource := map[string]int{
		"open-files": unix.RLIMIT_NOFILE, "address-space": unix.RLIMIT_AS, "data": unix.RLIMIT_DATA, "processes": unix.RLIMIT_NPROC,
	}[name]
	if resource == unix.RLIMIT_AS || resource == unix.RLIMIT_DATA {
		n <<= 20
	}
	return unix.Setrlimit(resource, &unix.Rlimit{Cur: n, Max: n})
}

// dropCapability takes a capability out of what root gets when it executes a program (capabilities(7)).
func dropCapability(name string) error {
	number, known := map[string]uintptr{
		"CAP_NET_BIND_SERVICE": unix.CAP_NET_BIND_SERVICE, "CAP_NET_ADMIN": unix.CAP_NET_ADMIN, "CAP_NET_RAW": unix.CAP_NET_RAW,
		"CAP_SYS_ADMIN": unix.CAP_SYS_ADMIN, "CAP_BPF": unix.CAP_BPF, "CAP_PERFMON": unix.CAP_PERFMON,
	}[name]
	if !known {
		return unix.EINVAL
	}
	return unix.Prctl(unix.PR_CAPBSET_DROP, number, 0, 0, 0)
}

// refuse has a seccomp filter refuse a system call from now on, in this thread and in what it executes.
func refuse(call string) error {
	type refusal struct {
		number, arg, value uint32 // only where that argument has that value
		err                unix.Errno
	}
	r, known := map[string]refusal{
		"bpf":             {unix.SYS_BPF, anyValue, 0, unix.EPERM},
		"unshare":         {unix.SYS_UNSHARE, anyValue, 0, unix.EPERM},
		"perf_event_open": {unix.SYS_PERF_EVENT_OPEN, anyValue, 0, unix.EPERM},
		// What a kernel without inet_diag, and one without tcp_diag, answers: the latter to a request of this size.
		"inet_diag": {unix.SYS_SOCKET, 2, unix.NETLINK_INET_DIAG, unix.EPROTONOSUPPORT},
		"tcp_diag":  {unix.SYS_SENDTO, 2, 72, unix.ENOENT},
	}[call]
	if !known {
		return unix.EINVAL
	}
	// struct seccomp_data has the number at its start, and 64-bit arguments from byte 16 on.
	program := []bpf.Instruction{
		bpf.LoadAbsolute{Off: 0, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: r.number, SkipTrue: 3},
		bpf.LoadAbsolute{Off: 16 + 8*min(r.arg, 5), Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: r.value, SkipTrue: 1},
		bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(r.err)},
		bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW},
	}
	if r.arg == anyValue {
		program = slices.Delete(program, 2, 4)
		program[1] = bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: r.number, SkipTrue: 1}
	}
	raw, err := bpf.Assemble(program)
	if err != nil {
		return err
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, ins := range raw {
		filter[i] = unix.SockFilter{Code: ins.Op, Jt: ins.Jt, Jf: ins.Jf, K: ins.K}
	}
	fprog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&fprog)), 0, 0)
}

// anyValue stands for no argument.
const anyValue = 6

// limitedCgroup makes a cgroup for this test alone, with that in a file of the controller: the first that is there, since the
// versions of cgroups have different ones.
func limitedCgroup(t *testing.T, controller, limit string, files ...string) string {
	t.Helper()
	for _, root := range []string{"/sys/fs/cgroup/" + controller, "/sys/fs/cgroup"} {
		if _, err := os.Stat(filepath.Join(root, "cgroup.procs")); err != nil {
			continue
		}
		made, err := os.MkdirTemp(root, "rpmig-test-")
		if err != nil {
			continue
		}
		t.Cleanup(func() {
			until(t, "the cgroup is empty", func() bool { return unix.Rmdir(made) == nil })
		})
		for _, file := range files {
			path := filepath.Join(made, file)
			if _, err := os.Stat(path); err == nil && os.WriteFile(path, []byte(limit), 0) == nil {
				return made
			}
		}
	}
	t.Skipf("needs the %s controller of cgroups, and the right to make a cgroup", controller)
	return ""
}

// userNS puts a stage into a user namespace in which it is root. The other users are there too.
func userNS() *syscall.SysProcAttr {
	all := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1 << 16}}
	return &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER, UidMappings: all, GidMappings: all, GidMappingsEnableSetgroups: true,
	}
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: go test -exec sudo ./cmd/rpmig")
	}
}

// users are all by whom a test is played: who runs the tests, and who has no rights.
func users() []int {
	if os.Geteuid() != 0 {
		return []int{os.Geteuid()}
	}
	return []int{0, nobody}
}

// ordinary is a user who is not root.
func ordinary() int { return slices.Max(users()) }

// needUserNS is for the tests of what a user namespace limits.
func needUserNS(t *testing.T) {
	t.Helper()
	needRoot(t)
	if err := netns.ProbeUserNS(); err != nil {
		t.Skipf("needs user namespaces: sudo sysctl -w user.max_user_namespaces=10000: %v", err)
	}
}

func needPlay(t *testing.T) {
	t.Helper()
	if !canPlay() {
		t.Skip("needs network namespaces: run as root, or allow user namespaces: sudo sysctl -w user.max_user_namespaces=10000")
	}
}

// patience is after how long something is taken to hang. What has to be there sooner is timed by its test.
const patience = time.Minute

// process is a command under test, in a folder of its own that every user may write to.
type process struct {
	*exec.Cmd
	t              *testing.T
	dir            string
	stdout, stderr bytes.Buffer
	ended          chan struct{} // closed when it has ended
}

// command makes a process of a command of the test binary or of PATH. It gets a minute.
func command(t *testing.T, name string, args ...string) *process {
	t.Helper()
	dir, err := os.MkdirTemp("", "rpmig-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: exec.Command(name, args...), t: t, dir: dir, ended: make(chan struct{})}
	p.Dir, p.Stdout, p.Stderr = dir, &p.stdout, &p.stderr
	p.Env = append(os.Environ(), "TMPDIR="+dir, p.mark())
	return p
}

// mark is in the environment of the process and of all that it starts.
func (p *process) mark() string { return "RPMIG_TEST_DIR=" + p.dir }

// as makes it run as the user; another one than the test's own needs root.
func (p *process) as(uid int) *process {
	if uid != os.Geteuid() {
		p.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	}
	return p
}

func (p *process) in(attr *syscall.SysProcAttr) *process {
	p.SysProcAttr = attr
	return p
}

func (p *process) start() *process {
	p.t.Helper()
	if err := p.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() {
		_ = p.Wait()
		close(p.ended)
	}()
	p.t.Cleanup(func() {
		_ = p.Process.Kill()
		<-p.ended
		for _, pid := range p.marked() { // what a failing test leaves
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	})
	return p
}

func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// status waits for the process and returns its exit status.
func (p *process) status() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		_ = p.Process.Signal(unix.SIGQUIT) // its stacks tell where it hangs
		<-p.ended
		p.t.Fatalf("%v did not end in %v\n%s", p.Args, patience, &p.stderr)
	}
	return p.ProcessState.ExitCode()
}

// want runs the process, and fails the test when its exit status or its output is another. Patterns are of lines; one
// that begins with "!" must not match; an empty one means that there is no output.
func (p *process) want(status int, stdout, stderr []string) *process {
	p.t.Helper()
	if p.Process == nil {
		p.start()
	}
	bad := ""
	if got := p.status(); got != status {
		bad = fmt.Sprintf("exit status %d, want %d", got, status)
	}
	for _, c := range []struct {
		name, text string
		patterns   []string
	}{{"stdout", p.stdout.String(), stdout}, {"stderr", p.stderr.String(), append(stderr, "!^goroutine ", "!DATA RACE")}} {
		for _, pattern := range c.patterns {
			not := strings.HasPrefix(pattern, "!")
			switch {
			case pattern == "" && c.text != "":
				bad += fmt.Sprintf("\nthere is something on %s", c.name)
			case pattern != "" && matches("(?m)"+strings.TrimPrefix(pattern, "!"), c.text) == not:
				bad += fmt.Sprintf("\n%s: %q", c.name, pattern)
			}
		}
	}
	if bad != "" {
		p.t.Fatalf("%v: %s\n--- stdout\n%s--- stderr\n%s", p.Args, bad, &p.stdout, &p.stderr)
	}
	return p
}

// until polls a condition.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	if err := eventually(what, holds); err != nil {
		t.Fatal(err)
	}
}

// eventually is until on a thread that may not end the test.
func eventually(what string, holds func() bool) error {
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("waited %v until %s", patience, what)
		}
	}
	return nil
}

// lines waits until the ledger of the running process has n lines.
func (p *process) lines(n int) {
	p.t.Helper()
	until(p.t, fmt.Sprintf("the ledger has %d lines", n), func() bool {
		b, _ := os.ReadFile(filepath.Join(p.dir, "out", ledgerName))
		if bytes.Count(b, []byte("\n")) >= n {
			return true
		}
		select {
		case <-p.ended:
			p.t.Fatalf("%v ended early\n%s%s", p.Args, &p.stdout, &p.stderr)
		default:
		}
		return false
	})
}

// marked returns the processes that this one has started, and itself.
func (p *process) marked() []int {
	var pids []int
	all, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, name := range all {
		env, err := os.ReadFile(name)
		if err == nil && slices.Contains(strings.Split(string(env), "\x00"), p.mark()) {
			pid, _ := strconv.Atoi(strings.Split(name, "/")[2])
			pids = append(pids, pid)
		}
	}
	return pids
}

// leftovers is a command of the test binary, for a user namespace in which there may be only so many network
// namespaces: it kills one rpmig after another in its midst. One that left its namespaces behind would take them away
// from those that come after. The kernel takes its time to free them, so that one may try again.
func leftovers() {
	deadline := time.Now().Add(25 * time.Second)
	for killed := 0; killed < 4; {
		if killInMidst() {
			killed++
		}
		if time.Now().After(deadline) {
			fmt.Fprintf(os.Stderr, "the namespaces of %d killed processes are still there\n", killed)
			os.Exit(1)
		}
	}
	for exec.Command("rpmig", "run", "quiz2", "--migrate=off", "--parallel=6", "--repeat=6").Run() != nil {
		if time.Now().After(deadline) {
			fmt.Fprintln(os.Stderr, "the namespaces of the killed processes are still there")
			os.Exit(1)
		}
	}
	fmt.Println("all are free")
}

// killInMidst kills an rpmig once it has played some cells, and tells whether it had namespaces for all of them.
func killInMidst() bool {
	ledger := filepath.Join("out", ledgerName)
	_ = os.RemoveAll("out")
	cmd := exec.Command("rpmig", "run", "quiz2", "--migrate=off", "--parallel=6", "--repeat=100000", "--out=out")
	if err := cmd.Start(); err != nil {
		return false
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	for {
		b, _ := os.ReadFile(ledger)
		if bytes.Contains(b, []byte(`"ERROR"`)) || bytes.Count(b, []byte("\n")) > 6 {
			_ = cmd.Process.Kill()
			<-ended
			return !bytes.Contains(b, []byte(`"ERROR"`))
		}
		select {
		case <-ended:
			return false
		case <-time.After(5 * time.Millisecond):
		}
	}
}
