//go:build linux

// Command vm measures rpmig run --kernel: each figure beside what it is to be held against, in the same run. It fails when a
// command fails, never because one was slow.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rpmig/rpmig/vm"
)

func main() {
	b := bench{}
	flag.StringVar(&b.rpmig, "rpmig", "bin/rpmig", "the `PROGRAM` that is measured")
	flag.IntVar(&b.turns, "turns", 3, "measure what is short `N` times, in the order ABBA")
	kernels := flag.String("kernels", "debian:6.12.117+deb12-cloud-amd64,debian:6.1.0-56-cloud-amd64,debian:6.1.0-55-cloud-amd64,debian:6.1.0-54-cloud-amd64",
		"the kernels, as --kernel has them: `LIST`. The first is played alone, all are side by side")
	only := flag.String("only", "", "of first, timers, initramfs, catalogue, kernels measure these `PARTS` alone")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	b.ctx, b.kernels = ctx, strings.Split(*kernels, ",")
	err := errors.New("-turns must be 1 or more")
	if b.turns > 0 {
		err = b.measure(*only)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "vm: error: %v\n", err)
		os.Exit(1)
	}
}

type bench struct {
	ctx     context.Context
	rpmig   string
	turns   int
	kernels []string
	dir     string // for what goes away
	cache   *vm.Cache
	kernel  *vm.Kernel // the first
}

func (b *bench) measure(only string) (err error) {
	if b.rpmig, err = filepath.Abs(b.rpmig); err != nil {
		return err
	}
	if b.dir, err = os.MkdirTemp("", "rpmig-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	if b.cache, err = vm.OpenCache(); err != nil {
		return err
	}
	defer b.cache.Close()
	found, err := vm.Find(b.ctx, b.kernels[:1], vm.Options{Cache: b.cache})
	if err != nil {
		return err
	}
	b.kernel = found[0]
	load, _ := os.ReadFile("/proc/loadavg")
	fmt.Printf("rpmig run --kernel: %d CPUs, load average %s; CPU is that of a command and of all that it starts\n", runtime.NumCPU(), strings.TrimSpace(string(load)))
	for _, part := range []struct {
		name    string
		measure func() error
	}{{"first", b.first}, {"timers", b.timers}, {"initramfs", b.initramfs}, {"catalogue", b.catalogue}, {"kernels", b.sideBySide}} {
		if only != "" && !slices.Contains(strings.Split(only, ","), part.name) {
			continue
		}
		if err := part.measure(); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// cost is what a command took.
type cost struct{ wall, cpu time.Duration }

func (c cost) String() string {
	return fmt.Sprintf("%.1f s, CPU %.1f s", c.wall.Seconds(), c.cpu.Seconds())
}

// least is the turn that was disturbed least.
func least(turns []cost) cost {
	return slices.MinFunc(turns, func(a, b cost) int { return cmp.Compare(a.cpu, b.cpu) })
}

func (b *bench) run(name string, args ...string) (cost, error) {
	cmd := exec.CommandContext(b.ctx, name, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	began := time.Now()
	out, err := cmd.CombinedOutput()
	c := cost{wall: time.Since(began)}
	if err != nil {
		return c, fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	c.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return c, nil
}

// play plays scenarios in kernels.
func (b *bench) play(scenarios string, kernels []string, more ...string) (cost, error) {
	return b.run(b.rpmig, append([]string{"run", scenarios, "-q", "--accel=tcg", "--kernel=" + strings.Join(kernels, ",")}, more...)...)
}

// bareInit makes the initramfs of a guest that powers off at once.
func (b *bench) bareInit() (string, error) {
	init := filepath.Join(b.dir, "init")
	build := exec.CommandContext(b.ctx, "go", "build", "-ldflags=-s -w", "-o", init, "github.com/rpmig/rpmig/bench/vm/bare")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+b.kernel.Arch)
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%v: %w\n%s", build.Args, err, out)
	}
	bare := *b.kernel
	bare.Modules = ""
	return bare.Initramfs(b.cache, init)
}

// first is how long the first verdict takes, beside a boot of the same kernel as anybody would boot it, with nothing to do.
func (b *bench) first() error {
	initramfs, err := b.bareInit()
	if err != nil {
		return err
	}
	qemu, err := vm.Emulator(b.kernel.Arch)
	if err != nil {
		return err
	}
	var turns [2][]cost
	for turn := range 2 * b.turns {
		side := (turn + 1) / 2 % 2 // ABBA
		var c cost
		if side == 0 {
			c, err = b.run(qemu, "-nodefaults", "-display", "none", "-no-reboot", "-M", "pc", "-cpu", "max", "-m", "256", "-accel", "tcg",
				"-kernel", b.kernel.Image, "-initrd", initramfs, "-serial", "null", "-append", "console=ttyS0 quiet panic=-1 rdinit=/init")
		} else {
			c, err = b.play("quiz1", b.kernels[:1], "--migrate=off", "--family=ipv4")
		}
		if err != nil {
			return err
		}
		turns[side] = append(turns[side], c)
	}
	bare, ours := least(turns[0]), least(turns[1])
	fmt.Printf("one cell, from the command to its end: %v; a bare boot: %v; ratio %.2f, of CPU %.2f (target <= 1.50)\n",
		ours, bare, ours.wall.Seconds()/bare.wall.Seconds(), ours.cpu.Seconds()/bare.cpu.Seconds())
	return nil
}

// timers is what the longest of the kernel's timers cost in virtual time, beside the same cells with shorter ones.
func (b *bench) timers() error {
	long, err := b.play("bpf-drain", b.kernels[:1], "--migrate=all", "--family=ipv4", "--real-timers")
	if err != nil {
		return err
	}
	short, err := b.play("bpf-drain", b.kernels[:1], "--migrate=all", "--family=ipv4")
	if err != nil {
		return err
	}
	fmt.Printf("bpf-drain --real-timers: %v (target <= 10 s); with short timers: %v\n", long, short)
	return nil
}

// initramfs is how long it takes to make one, beside a run that finds it in the cache.
func (b *bench) initramfs() error {
	path, err := b.kernel.Initramfs(b.cache, b.rpmig)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	var turns [2]cost
	for i := range turns {
		began, before := time.Now(), selfCPU()
		if _, err := b.kernel.Initramfs(b.cache, b.rpmig); err != nil {
			return err
		}
		turns[i] = cost{time.Since(began), selfCPU() - before}
	}
	fmt.Printf("an initramfs: %.2f s, CPU %.2f s (target <= 0.30 s); once it is in the cache: %.2f s, CPU %.2f s\n",
		turns[0].wall.Seconds(), turns[0].cpu.Seconds(), turns[1].wall.Seconds(), turns[1].cpu.Seconds())
	return nil
}

// selfCPU is what this process has taken so far.
func selfCPU() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // it knows of this process
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// catalogue is what the whole of it costs, beside one cell, which is nearly all boot.
func (b *bench) catalogue() error {
	all, err := b.play("all", b.kernels[:1], "--migrate=all", "--family=ipv4")
	if err != nil {
		return err
	}
	one, err := b.play("quiz1", b.kernels[:1], "--migrate=off", "--family=ipv4")
	if err != nil {
		return err
	}
	fmt.Printf("the whole catalogue, every mode, ipv4: %v (target: CPU <= 80 s); one cell: %v\n", all, one)
	return nil
}

// sideBySide is how well kernels are run side by side, beside the slowest of them alone.
func (b *bench) sideBySide() error {
	var slowest cost
	for i := range b.kernels {
		alone, err := b.play("quiz*", b.kernels[i:i+1], "--migrate=all", "--family=all")
		if err != nil {
			return err
		}
		slowest = slices.MaxFunc([]cost{slowest, alone}, func(a, b cost) int { return cmp.Compare(a.wall, b.wall) })
	}
	all, err := b.play("quiz*", b.kernels, "--migrate=all", "--family=all")
	if err != nil {
		return err
	}
	atBest := slowest.wall.Seconds() * float64(len(b.kernels)) / float64(min(len(b.kernels), runtime.NumCPU()))
	fmt.Printf("%d kernels, quiz* in every mode and family: %v; the slowest alone: %v, and so at best %.1f s; ratio %.2f (target <= 1.30)\n",
		len(b.kernels), all, slowest, atBest, all.wall.Seconds()/atBest)
	return nil
}
