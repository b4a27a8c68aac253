//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/vm"
)

// The values of --accel and --time.
var (
	accels = []string{"auto", "tcg", "kvm"}
	times  = []string{"virtual", "real"}
)

// machineFlags are about the kernel that a command is run in. A guest is not told of them.
func machineFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "kernel", Usage: "boot `K` in QEMU and run there: an image, a build tree, .deb packages or the folder " +
			"that they were unpacked to, host, debian:VERSION, @FILE with one a line; several by a comma list, or by more --kernel"},
		&cli.PathFlag{Name: "modules", DefaultText: "where a distribution has them", Usage: "the modules of K are in `DIR`"},
		&cli.StringFlag{Name: "accel", Value: "auto", Usage: "emulate K by `HOW`: " + strings.Join(accels, ", ") + "; auto is kvm where a boot has proved it"},
		&cli.IntFlag{Name: "memory", Value: vm.DefaultMemory, Usage: "give K so many `MiB`"},
		&cli.IntFlag{Name: "smp", DefaultText: "1, or 2 in real time", Usage: "give K `N` processors"},
		&cli.StringFlag{Name: "time", DefaultText: "virtual, but real with kvm", Usage: "K's `CLOCK`: virtual, of the instructions it runs, in which waiting costs nothing; or real"},
		&cli.DurationFlag{Name: "boot-timeout", Value: vm.DefaultBootTimeout, Usage: "give up on a K that has not come up after a `TIME` such as 90s"},
	}
}

// checkMachine refuses what cannot be of any guest.
func checkMachine(c *cli.Context) error {
	help := c.Command.HelpName + " --help"
	if c.IsSet("kernel") && slices.ContainsFunc(c.StringSlice("kernel"), func(k string) bool { return strings.TrimSpace(k) == "" }) || c.IsSet("kernel") && len(c.StringSlice("kernel")) == 0 {
		return &usageError{"--kernel: which?", "rpmig run quiz2 --kernel host, or: " + help}
	}
	for _, f := range machineFlags() {
		if name := f.Names()[0]; c.IsSet(name) && !c.IsSet("kernel") {
			return &usageError{fmt.Sprintf("--%s: of which --kernel?", name), help}
		}
	}
	for _, w := range []struct {
		flag  string
		known []string
	}{{"accel", accels}, {"time", times}} {
		if c.IsSet(w.flag) {
			if err := notOneOf(c, w.flag, w.known, help); err != nil {
				return err
			}
		}
	}
	for _, n := range []struct {
		name     string
		min, max int
	}{{"memory", 32, 1 << 20}, {"smp", 1, 255}} {
		if v := c.Int(n.name); c.IsSet(n.name) && (v < n.min || v > n.max) {
			return &usageError{fmt.Sprintf("--%s: %d is not between %d and %d", n.name, v, n.min, n.max), help}
		}
	}
	switch {
	case c.Duration("boot-timeout") < time.Second:
		return &usageError{fmt.Sprintf("--boot-timeout: %v is less than a second", c.Duration("boot-timeout")), help}
	case c.String("accel") == "kvm" && c.String("time") == "virtual":
		return &usageError{"--time=virtual is for --accel=tcg: with kvm the clock is real", help}
	default:
		return nil
	}
}

// guests are the kernels that a command line names, and how they are to be run.
type guests struct {
	kernels []*vm.Kernel
	machine vm.Machine
	cache   *vm.Cache
	extra   []vm.File
	env     []string
}

// findGuests finds what --kernel names.
func (e *env) findGuests(c *cli.Context) (*guests, error) {
	cache, err := vm.OpenCache()
	if err != nil {
		return nil, err
	}
	g := &guests{cache: cache}
	g.kernels, err = findKernels(c.Context, c.StringSlice("kernel"), vm.Options{
		Modules: c.Path("modules"), Cache: cache,
		Words: func(format string, args ...any) {
			if !c.Bool("q") {
				fmt.Fprintf(e.stderr, "rpmig: %s\n", printable(fmt.Sprintf(format, args...)))
			}
		},
	})
	if c.Err() != nil {
		return nil, &interruptedError{}
	}
	if err != nil {
		return nil, err
	}
	g.machine = vm.Machine{
		Accel: c.String("accel"), Memory: c.Int("memory"), CPUs: c.Int("smp"), Real: c.String("time") == "real", BootTimeout: c.Duration("boot-timeout"),
	}
	if s := os.Getenv(vm.ProvokeVariable); s != "" {
		g.env = append(g.env, vm.ProvokeVariable+"="+s)
	}
	if c.String("drop") == "iptables" {
		if g.extra, err = iptablesFiles(); err != nil {
			return nil, err
		}
		for _, k := range g.kernels {
			k.Want = append(k.Want, vm.IPTablesModules...)
		}
	}
	return g, g.chooseAccel(c.Context, c.String("time") == "virtual")
}

// findKernels finds what was named. Where that is nothing, it asks whether one of vm.Find's words was meant.
func findKernels(ctx context.Context, specs []string, o vm.Options) ([]*vm.Kernel, error) {
	found, err := vm.Find(ctx, specs, o)
	var bad *vm.Error
	if errors.As(err, &bad) && bad.Bad && errors.Is(err, fs.ErrNotExist) {
		for spec := range strings.SplitSeq(strings.Join(specs, ","), ",") {
			_, version, _ := strings.Cut(spec, ":")
			if meant := didYouMean(spec, []string{"host", "debian:" + version}); meant != "" {
				return nil, &usageError{bad.Error(), meant + bad.Hint()}
			}
		}
	}
	return found, err
}

// kvmProof is how long a kernel may take to come up under KVM: some ten times what it does.
const kvmProof = 5 * time.Second

// chooseAccel makes kvm of auto where a boot proves it: that the device opens proves nothing.
func (g *guests) chooseAccel(ctx context.Context, virtual bool) error {
	if g.machine.Accel != "auto" {
		return nil
	}
	g.machine.Accel = "tcg"
	if virtual || slices.ContainsFunc(g.kernels, func(k *vm.Kernel) bool { return k.Arch != runtime.GOARCH }) || unix.Access("/dev/kvm", unix.R_OK|unix.W_OK) != nil {
		return nil
	}
	m := g.machine
	m.Accel, m.BootTimeout = "kvm", kvmProof
	guest, err := g.guest(g.kernels[0], vm.Order{Args: []string{"version"}})
	if err != nil {
		return err
	}
	guest.Machine = m
	if ended, err := vm.Run(ctx, guest, vm.Deaf{}); err == nil && ended.Why == "" && ended.Status == 0 {
		g.machine.Accel = "kvm"
	}
	return nil
}

// guest is a kernel that is to run something.
func (g *guests) guest(k *vm.Kernel, o vm.Order) (vm.Guest, error) {
	init, err := staticSelf(k.Arch)
	if err != nil {
		return vm.Guest{}, err
	}
	initramfs, err := k.Initramfs(g.cache, init, g.extra...)
	if err != nil {
		return vm.Guest{}, err
	}
	boots := *k
	if boots.Image, err = k.Unpacked(g.cache); err != nil {
		return vm.Guest{}, err
	}
	o.Env = append(o.Env, g.env...)
	silence, _ := time.ParseDuration(os.Getenv(vm.SilenceVariable)) // of a test, or none
	return vm.Guest{Kernel: &boots, Machine: g.machine, Initramfs: initramfs, Order: o, IsTitle: kernel.IsTitle, IsStall: kernel.IsStall, Silence: silence}, nil
}

// staticSelf is the rpmig that is the first process of a guest: this one, or for another architecture the one beside it.
func staticSelf(arch string) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find rpmig itself: %w", err)
	}
	if arch == runtime.GOARCH {
		return self, nil
	}
	other := self + "-" + arch
	if _, err := os.Stat(other); err != nil {
		return "", &hintedError{
			fmt.Errorf("a kernel for %s needs an rpmig for %s: %w", arch, arch, err),
			fmt.Sprintf("CGO_ENABLED=0 GOARCH=%s go build -o %s ./cmd/rpmig", arch, quote(other)),
		}
	}
	return other, nil
}

// sideBySide is how many guests are run at a time: each has its processors and its memory, and QEMU takes some beside that.
func (g *guests) sideBySide() int {
	const beside = 160 // MiB
	n := max(1, runtime.NumCPU()/max(1, g.machine.CPUs))
	if free := availableMemory(); free > 0 {
		n = min(n, max(1, free/(g.machine.Memory+beside)))
	}
	return min(n, len(g.kernels))
}

// availableMemory is how many MiB of memory there are for new programs (proc_meminfo(5)); 0: it is not known.
func availableMemory() int {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte("MemAvailable:")); ok {
			kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(string(rest)), " kB"))
			if err == nil {
				return kib >> 10
			}
		}
	}
	return 0
}

// iptablesFiles are this machine's iptables, and all that it needs to run, for a guest.
func iptablesFiles() ([]vm.File, error) {
	var files []vm.File
	for _, name := range []string{"iptables", "ip6tables"} {
		path, err := exec.LookPath(name)
		if errors.Is(err, exec.ErrNotFound) {
			return nil, &hintedError{fmt.Errorf("--drop=iptables takes this machine's %s along, and there is none", name), "apt-get install iptables, or: --drop=nftables"}
		} else if err != nil {
			return nil, err
		}
		found, err := vm.Program(path)
		if err != nil {
			return nil, err
		}
		files = append(files, found...)
	}
	return vm.WithPlugins(files, "xtables", "libxt_tcp.so", "libxt_standard.so")
}
