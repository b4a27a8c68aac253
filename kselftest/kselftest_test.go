// Package kselftest tests the files beside it: rpmig as a collection of the kernel's selftests.
package kselftest

import (
	"bytes"
	"cmp"
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rpmig/rpmig/result"
)

// kernelVariable names a kernel's source, or the part of it that runs its selftests.
const kernelVariable = "RPMIG_KERNEL_SOURCE"

// booting is what the kernels of bench/kernels have that is not for rpmig's sake: what boots in QEMU, and what every program
// needs. Whoever runs selftests has it.
var booting = strings.Fields(`64BIT X86_64 CC_OPTIMIZE_FOR_PERFORMANCE PRINTK TTY SERIAL_8250 SERIAL_8250_CONSOLE BLK_DEV_INITRD RD_GZIP
	BINFMT_ELF BINFMT_SCRIPT MULTIUSER PROC_FS PROC_SYSCTL SYSFS DEVTMPFS TMPFS SHMEM FUTEX EPOLL SIGNALFD TIMERFD EVENTFD POSIX_TIMERS
	AIO MEMBARRIER FILE_LOCKING ADVISE_SYSCALLS HIGH_RES_TIMERS NO_HZ_IDLE PID_NS UTS_NS ACPI PCI NETDEVICES NET_CORE VETH DUMMY
	VIRTIO_MENU VIRTIO_PCI VIRTIO_CONSOLE PANIC_TIMEOUT KERNEL_GZIP IKCONFIG IKCONFIG_PROC CRYPTO IP_NF_IPTABLES IP_NF_FILTER
	IP6_NF_IPTABLES IP6_NF_FILTER`)

// beyond is what the kernels of bench/kernels lack, which are to be built in seconds, and why rpmig wants it.
var beyond = map[string]string{
	"BPF_STREAM_PARSER":                  "the programs of the types sk_lookup and tc that name a socket, by a map of sockets",
	"CGROUP_BPF":                         "BPF_STREAM_PARSER depends on it",
	"CRYPTO_HMAC":                        "TCP-AO, which selects no algorithm",
	"CRYPTO_SHA1":                        "TCP-AO, which selects no algorithm",
	"DEBUG_INFO_BTF":                     "the trace by BPF, and SOCK_DESTROY by a program",
	"DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT": "DEBUG_INFO_BTF depends on it",
	"DEBUG_KERNEL":                       "DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT depends on it",
	"FTRACE":                             "the trace by perf events",
	"INET_DIAG_DESTROY":                  "close-by-sock-destroy",
	"NET_XGRESS":                         "the tc program; BPF_SYSCALL selects it",
	"PERF_EVENTS":                        "the trace by perf events",
}

// optional is what rpmig names and a kernel need not have.
var optional = map[string]string{
	"DEBUG_ATOMIC_SLEEP": "it makes a kernel slow, and only one scenario hears what it says",
}

// TestConfig: the fragment has what rpmig tells people to boot a kernel with, and what the kernels have in which the catalogue is known
// to pass; and nothing without a reason.
func TestConfig(t *testing.T) {
	config, err := os.ReadFile("config")
	if err != nil {
		t.Fatal(err)
	}
	bench, err := os.ReadFile("../bench/kernels/fragment.config")
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range wrong(options(config), options(bench), named(t)) {
		t.Error(problem)
	}
	lines := strings.Split(strings.TrimSpace(string(config)), "\n")
	for _, line := range lines {
		if !regexp.MustCompile(`^CONFIG_[A-Z0-9_]+=y$`).MatchString(line) {
			t.Errorf("%q: want CONFIG_NAME=y", line)
		}
	}
	if !slices.IsSorted(options(config)) || len(slices.Compact(options(config))) != len(lines) {
		t.Error("it is not sorted, or names something twice")
	}
}

// TestConfigFails: what TestConfig looks for, it finds.
func TestConfigFails(t *testing.T) {
	all := append(slices.Clone(booting), "NET")
	full := slices.Concat([]string{"NET"}, slices.Collect(maps.Keys(beyond)))
	if said := wrong(full, all, []string{"NET"}); said != nil {
		t.Fatalf("nothing is wrong: %q", said)
	}
	for name, said := range map[string][]string{
		"an option that rpmig names is lacking":      wrong(full, all, []string{"NEW"}),
		"an option of the kernels is lacking":        wrong(full, append(all, "NEW"), nil),
		"an option that nothing asks for":            wrong(append(full, "NEW"), all, nil),
		"a reason for what the fragment has not":     wrong([]string{"NET"}, all, nil),
		"a reason for what the kernels have already": wrong(full, append(all, "FTRACE"), nil),
	} {
		if said == nil {
			t.Errorf("%s: it is not noticed", name)
		}
	}
}

// wrong says what is wrong with a fragment, given that of bench/kernels and what rpmig names in its words.
func wrong(config, bench, named []string) (problems []string) {
	for _, o := range named {
		if !slices.Contains(config, o) && optional[o] == "" {
			problems = append(problems, o+": rpmig tells people to boot a kernel with it, and the fragment has it not")
		}
	}
	for _, o := range bench {
		if !slices.Contains(config, o) && !slices.Contains(booting, o) {
			problems = append(problems, o+": the kernels of bench/kernels have it, and the fragment has it not")
		}
	}
	for _, o := range config {
		if slices.Contains(bench, o) == (beyond[o] != "") {
			problems = append(problems, o+": want either bench/kernels to have it too, or the reason why it has it not")
		}
	}
	for o := range beyond {
		if !slices.Contains(config, o) {
			problems = append(problems, o+": there is a reason for it, and the fragment has it not")
		}
	}
	return problems
}

var option = regexp.MustCompile(`CONFIG_([A-Z0-9_]+)`)

// options are those that a text names, in its order.
func options(text []byte) (names []string) {
	for _, m := range option.FindAllSubmatch(text, -1) {
		names = append(names, string(m[1]))
	}
	return names
}

// named are the options that rpmig names to a person: in the strings of what plays cells.
func named(t *testing.T) (names []string) {
	t.Helper()
	for _, pkg := range []string{"capture", "cmd/rpmig", "evidence", "harness", "kernel", "lab", "migrate", "netns", "scenarios", "tcp", "worker"} {
		err := filepath.WalkDir(filepath.Join("..", pkg), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if s, ok := n.(*ast.BasicLit); ok && s.Kind == token.STRING {
					names = append(names, options([]byte(s.Value))...)
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(names)
	if names = slices.Compact(names); len(names) < 8 {
		t.Fatalf("rpmig names %q only: they are looked for in the wrong place", names)
	}
	return names
}

// TestRunner plays a few cells by the kernel's own runner, from the folder in the kernel's tree and as it is installed.
func TestRunner(t *testing.T) {
	tree := kernelTree(t)
	rpmig := build(t)
	selftests := filepath.Join(tree, "tools", "testing", "selftests")
	args := []string{"-s", "-C", selftests, "TARGETS=rpmig", "RPMIG=" + rpmig}
	run := func(scenarios string, want string, name string, args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Env = append(os.Environ(), "KSELFTEST_RPMIG_SH_ARGS="+scenarios)
		out, _ := cmd.CombinedOutput() // runners differ in what they end with: the lines tell
		if !bytes.Contains(out, []byte(want+"\n")) {
			t.Fatalf("%s %s: no line %q:\n%s", name, scenarios, want, out)
		}
		return string(out)
	}
	said := run("quiz1 --migrate=off --migrate=sysctl --family=ipv4", "ok 1 selftests: rpmig: rpmig.sh", "make", append(args, "run_tests")...)
	nested(t, said, 2)
	installed := t.TempDir()
	if out, err := exec.Command("make", append(args, "install", "KSFT_INSTALL_PATH="+installed)...).CombinedOutput(); err != nil {
		t.Fatalf("install: %v: %s", err, out)
	}
	for _, file := range []string{"rpmig.sh", "rpmig", "config", "settings"} {
		if _, err := os.Stat(filepath.Join(installed, "rpmig", file)); err != nil {
			t.Error(err)
		}
	}
	script := filepath.Join(installed, "run_kselftest.sh")
	if out, err := exec.Command(script, "--list").Output(); err != nil || string(out) != "rpmig:rpmig.sh\n" {
		t.Errorf("--list: %q, %v", out, err)
	}
	said = run("quiz1 --migrate=off --migrate=sysctl --family=ipv4", "ok 1 selftests: rpmig: rpmig.sh", script, "-c", "rpmig")
	nested(t, said, 2)
	// What is wrong is a failure, and what cannot be played is a SKIP.
	run("no-such-scenario", "not ok 1 selftests: rpmig: rpmig.sh # exit=64", script, "-c", "rpmig")
	cannot := exec.Command(rpmig, append([]string{"run"}, strings.Fields(unplayable)...)...)
	if _ = cannot.Run(); cannot.ProcessState.ExitCode() != result.ExitSkip {
		t.Skipf("rest skipped: run %s ends with %v here, and there is nothing else that most kernels cannot", unplayable, cannot.ProcessState)
	}
	run(unplayable, "ok 1 selftests: rpmig: rpmig.sh # SKIP", script, "-c", "rpmig")
}

// unplayable is a cell that kernels cannot which are older than Linux 6.7, or have no CONFIG_TCP_AO.
const unplayable = "ao-none-quiz1 --migrate=off --family=ipv4"

// nested checks that the runner shows a KTAP of so many tests, each of them passed, in its comments.
func nested(t *testing.T, said string, tests int) {
	t.Helper()
	if !regexp.MustCompile(`(?m)^# KTAP version 1$`).MatchString(said) {
		t.Errorf("no KTAP in it:\n%s", said)
	}
	if n := len(regexp.MustCompile(`(?m)^# ok \d+ quiz1\.ipv4\.`).FindAllString(said, -1)); n != tests {
		t.Errorf("%d tests passed in it, want %d:\n%s", n, tests, said)
	}
}

// kernelTree is a folder with what runs the kernel's selftests, as it is in the kernel's source, and the files beside this one in
// their place there.
func kernelTree(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skip(err)
	}
	source := cmp.Or(os.Getenv(kernelVariable), filepath.Join(cache, "rpmig", "kselftest"))
	if _, err := os.Stat(filepath.Join(source, "tools", "testing", "selftests", "lib.mk")); err != nil {
		t.Skipf("needs the kernel's runner of selftests, which make kselftest fetches; or %s=/usr/src/linux: %v", kernelVariable, err)
	}
	for _, name := range []string{"make", "rsync"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("%v: make deps-kselftest", err)
		}
	}
	tree := t.TempDir()
	copies := map[string]string{
		filepath.Join(source, "scripts", "subarch.include"): "scripts",
		".": "tools/testing/selftests/rpmig",
	}
	for _, name := range []string{"Makefile", "lib.mk", "run_kselftest.sh", "kselftest"} {
		copies[filepath.Join(source, "tools", "testing", "selftests", name)] = "tools/testing/selftests"
	}
	for from, to := range copies {
		to = filepath.Join(tree, to)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		if from != "." {
			if err := os.MkdirAll(to, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if out, err := exec.Command("cp", "-r", from, to).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	return tree
}

// build builds rpmig as it is shipped.
func build(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "rpmig")
	cmd := exec.Command("go", "build", "-tags", "urfave_cli_no_docs", "-buildvcs=false", "-o", file, "../cmd/rpmig")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return file
}
