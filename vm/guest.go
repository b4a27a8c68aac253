package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// guestVariable marks a guest's process 1. The kernel gives init as environment what it does not know of its command line
// (Documentation/admin-guide/kernel-parameters.rst), and no container has it.
const guestVariable = "RPMIG_GUEST"

// RunIfGuest turns this process into the process 1 of a guest if it was started as one, and does not return then: the guest
// powers off. It must be among the first that main, or a test's TestMain, does.
func RunIfGuest() {
	if os.Getpid() != 1 || os.Getenv(guestVariable) == "" {
		return
	}
	if err := runGuest(); err != nil {
		fmt.Fprintln(os.Stderr, "rpmig: process 1:", err)
	}
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_HALT) // where there is no ACPI
	select {}
}

// mounts are what a run wants to find. What a kernel lacks is left out, and missed by whoever needs it.
var mounts = []struct{ source, target, kind string }{
	{"devtmpfs", "/dev", "devtmpfs"},
	{"proc", "/proc", "proc"},
	{"sysfs", "/sys", "sysfs"},
	{"tmpfs", "/run", "tmpfs"}, // of the lock of iptables-legacy
	{"tmpfs", "/tmp", "tmpfs"},
	{"debugfs", "/sys/kernel/debug", "debugfs"},
	{"tracefs", "/sys/kernel/tracing", "tracefs"},
	{"bpf", "/sys/fs/bpf", "bpf"},
}

// runGuest makes a machine of a kernel and an initramfs, and runs there what it is told to over the control channel.
func runGuest() error {
	for _, m := range mounts {
		if !strings.HasPrefix(m.target, "/sys/") {
			_ = os.MkdirAll(m.target, 0o755)
		}
		_ = unix.Mount(m.source, m.target, m.kind, 0, "")
	}
	var words []string
	note := func(err error) {
		if err != nil {
			words = append(words, err.Error())
		}
	}
	note(loadModules())
	note(upLoopback())
	note(unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}))
	// Before Linux 5.11 BPF counts as locked memory, of which process 1 may have 64 KiB.
	note(unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}))
	channel, err := openChannel()
	if err != nil {
		return err
	}
	var u unix.Utsname
	note(unix.Uname(&u))
	// From here on the console shows all that the kernel says: it is the guest's time now, and not that of its boot.
	note(os.WriteFile("/proc/sys/kernel/printk", []byte("7"), 0))
	err = writeJSON(channel, kindHello, Hello{
		Release: unix.ByteSliceToString(u.Release[:]), Machine: unix.ByteSliceToString(u.Machine[:]), Words: words,
	})
	if err != nil {
		return err
	}
	return obey(channel)
}

// loadModules loads those that ModulesLoad names, in its order.
func loadModules() error {
	list, err := os.ReadFile(ModulesLoad)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	var failed error
	for _, name := range strings.Fields(string(list)) {
		if err := loadModule(name); err != nil {
			failed = errors.Join(failed, fmt.Errorf("load the module %s: %w", filepath.Base(name), err))
		}
	}
	return failed
}

func loadModule(name string) error {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = unix.FinitModule(fd, "", 0)
	if errors.Is(err, unix.EEXIST) { // it is built in
		return nil
	}
	return err
}

// upLoopback sets lo up, in the first namespace: cells have their own.
func upLoopback() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}

// channelWait is how long the channel's device may take to appear, in the guest's time: the driver asks the host for its ports
// in the background.
const channelWait = 2 * time.Second

// openChannel opens the virtio port; where there is no such device or no driver, the second serial port.
func openChannel() (*os.File, error) {
	virtio, _ := filepath.Glob("/sys/bus/virtio/drivers/virtio_console/virtio*")
	for deadline := time.Now().Add(channelWait); len(virtio) > 0 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		// Not through the runtime's poller: a write is one system call, and it has arrived when it returns.
		fd, err := unix.Open("/dev/vport0p1", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err == nil {
			return os.NewFile(uintptr(fd), "/dev/vport0p1"), nil
		}
	}
	const serial = "/dev/ttyS1"
	fd, err := unix.Open(serial, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("there is neither a virtio port nor a second serial port: open %s: %w", serial, err)
	}
	raw, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", serial, err)
	}
	// As cfmakeraw(3) does.
	raw.Iflag, raw.Oflag, raw.Lflag = 0, 0, 0
	raw.Cflag = raw.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8 | unix.CLOCAL
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, raw); err != nil {
		return nil, fmt.Errorf("%s: %w", serial, err)
	}
	return os.NewFile(uintptr(fd), serial), nil
}

// aliveEvery is how often a guest says that it lives, in its own time.
const aliveEvery = time.Second

// obey runs what the host says, and tells how it ended. It returns when the guest is to power off.
func obey(channel *os.File) error {
	in := newMessages(channel)
	k, payload, err := in.next()
	if err != nil {
		return fmt.Errorf("wait for what to run: %w", err)
	}
	var order Order
	if k != kindOrder {
		return fmt.Errorf("told %q before what to run", k)
	}
	if err := json.Unmarshal(payload, &order); err != nil {
		return fmt.Errorf("read what to run: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		every := time.NewTicker(aliveEvery)
		defer every.Stop()
		for {
			select {
			case <-every.C:
				_ = writeMessage(channel, kindAlive, nil)
			case <-ctx.Done():
				return
			}
		}
	}()
	status, err := runOrder(order, channel, in)
	said := end{Status: status}
	if err != nil {
		said.Err = err.Error()
	}
	return writeJSON(channel, kindEnd, said)
}

// homeVariable tells the run of a guest which descriptor is its way home.
const homeVariable = "RPMIG_GUEST_CHANNEL"

// homeFD is that descriptor: the first of exec.Cmd.ExtraFiles.
const homeFD = 3

// runOrder runs rpmig as it is told to, and passes signals on. It ends the guest at once when the host is gone.
func runOrder(order Order, channel *os.File, in *messages) (status int, err error) {
	cmd := exec.Command("/proc/self/exe", order.Args...)
	cmd.Args[0] = "rpmig"
	cmd.Env = append([]string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/", "TMPDIR=/tmp",
		homeVariable + "=" + strconv.Itoa(homeFD),
	}, order.Env...)
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{channel}
	var pipes [2]*os.File
	var relay sync.WaitGroup
	for i, k := range []kind{kindStdout, kindStderr} {
		r, w, err := os.Pipe()
		if err != nil {
			return 0, err
		}
		pipes[i] = w
		relay.Go(func() { relayTo(channel, k, r) })
	}
	cmd.Stdout, cmd.Stderr = pipes[0], pipes[1]
	err = cmd.Start()
	for _, w := range pipes {
		_ = w.Close()
	}
	if err != nil {
		return 0, fmt.Errorf("start the run: %w", err)
	}
	go func() {
		for {
			k, payload, err := in.next()
			if err != nil { // nobody is left to hear of anything
				_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
				return
			}
			if n, err := strconv.Atoi(string(payload)); k == kindSignal && err == nil {
				_ = cmd.Process.Signal(syscall.Signal(n))
			}
		}
	}()
	err = cmd.Wait()
	relay.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return 0, fmt.Errorf("the run in the guest was killed: %s", ws.Signal())
		}
		return exit.ExitCode(), nil
	}
	return 0, err
}

// relayTo sends what comes out of a pipe home, until it ends.
func relayTo(channel io.Writer, k kind, r io.ReadCloser) {
	defer func() { _ = r.Close() }()
	buf := make([]byte, maxFrame-frameHead)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			_ = writeMessage(channel, k, buf[:n])
		}
		if err != nil {
			return
		}
	}
}
