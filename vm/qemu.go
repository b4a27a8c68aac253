package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Machine is what a guest is given. The zero value of a field is what suits it.
type Machine struct {
	Accel       string        // tcg or kvm; empty: tcg
	Memory      int           // MiB
	CPUs        int           // 0: one in virtual time, else two as far as there are as many
	Real        bool          // its clock is the host's, though it is emulated
	BootTimeout time.Duration // until it says hello
	// Append is more of the kernel's command line.
	Append []string
}

// DefaultMemory is enough for the whole catalogue, which needs a third of it on the largest kernel that was tried.
const DefaultMemory = 768

// DefaultBootTimeout is ten times what the slowest kernel takes on a machine that has nothing else to do.
const DefaultBootTimeout = time.Minute

// Virtual tells whether the guest's clock is that of the instructions it runs. An idle guest then skips to its next timer, so that
// the kernel's timers cost nothing, and no time of it is a figure of a machine.
func (m *Machine) Virtual() bool { return m.Accel != "kvm" && !m.Real }

// Filled is the machine with what suits it.
func (m Machine) Filled() Machine {
	if m.Accel == "" {
		m.Accel = "tcg"
	}
	if m.Memory == 0 {
		m.Memory = DefaultMemory
	}
	if m.BootTimeout == 0 {
		m.BootTimeout = DefaultBootTimeout
	}
	if m.CPUs == 0 {
		m.CPUs = 1
		if !m.Virtual() {
			m.CPUs = min(2, runtime.NumCPU())
		}
	}
	return m
}

// The descriptors of QEMU's ends of the sockets: exec.Cmd.ExtraFiles begin with 3.
const (
	consoleFD = 3 + iota
	channelFD
	serialFD
)

// emulatedCPU is all that QEMU can emulate but fast strings (ERMS): where a processor has them, the kernel and Go's runtime clear and
// copy memory by rep movsb and rep stosb, and QEMU does each byte as an instruction of its own. A quarter of what a run took was
// spent in clear_page_erms alone.
const emulatedCPU = "max,-erms,-fsrm"

// instructionShift is that an instruction takes 2^0 ns of a guest's virtual time, the least that QEMU knows. On a slower processor
// what a cell has to do takes longer beside the kernel's timers, which then fire too early for its case; and as many more ticks are
// served. An idle guest costs nothing either way.
const instructionShift = "0"

// arguments are QEMU's.
func (m *Machine) arguments(k *Kernel, initramfs string) []string {
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-m", strconv.Itoa(m.Memory), "-smp", strconv.Itoa(m.CPUs),
		"-kernel", k.Image, "-initrd", initramfs,
		"-chardev", fmt.Sprintf("socket,id=console,fd=%d", consoleFD), "-serial", "chardev:console",
		"-chardev", fmt.Sprintf("socket,id=channel,fd=%d", channelFD),
		// Without ioeventfd what the guest writes is taken before it runs on.
		"-device", "virtio-serial-pci,max_ports=2,ioeventfd=off", "-device", "virtserialport,nr=1,chardev=channel,name=rpmig",
	}
	console := "ttyS0"
	switch k.Arch {
	case "arm64":
		args = append(args, "-M", "virt", "-cpu", map[bool]string{true: "host", false: "max,pauth-impdef=on"}[m.Accel == "kvm"])
		console = "ttyAMA0" // and there is no other serial port
	default:
		args = append(args, "-M", "pc", "-cpu", map[bool]string{true: "host", false: emulatedCPU}[m.Accel == "kvm"],
			"-chardev", fmt.Sprintf("socket,id=serial,fd=%d", serialFD), "-serial", "chardev:serial")
	}
	switch {
	case m.Accel == "kvm":
		args = append(args, "-accel", "kvm")
	case m.Virtual():
		args = append(args, "-accel", "tcg,thread=single", "-icount", "shift="+instructionShift+",sleep=off")
	default:
		args = append(args, "-accel", "tcg,thread=multi")
	}
	skip := jitterInitcall
	if k.Modules == "" || k.takesUnsigned() {
		skip += "," + keyInitcall
	}
	line := []string{
		"console=" + console, "panic=-1", "oops=panic", "rdinit=/init",
		// The boot says what is wrong and no more: each letter costs the emulator as much as a thousand instructions.
		"loglevel=5",
		// A report comes each time, and not once a boot, so that a cell can be played again.
		"kasan_multi_shot",
		"initcall_blacklist=" + skip,
		cryptoUntested,
		guestVariable + "=1",
	}
	if k.Arch == "amd64" && m.Virtual() && m.CPUs == 1 {
		line = append(line, clockUntested...)
	}
	return append(args, "-append", strings.Join(append(line, m.Append...), " "))
}

// emulator is a running QEMU.
type emulator struct {
	console, channel, serial *os.File // our ends; serial is nil where the machine has one port alone
	stderr                   *bytes.Buffer
	pid                      int
	ended                    chan struct{} // closed when it has ended
	err                      error         // how, once it has
}

// start starts QEMU. It ends when this process does, in whatever way.
func start(path string, m *Machine, k *Kernel, initramfs string) (*emulator, error) {
	e := &emulator{stderr: &bytes.Buffer{}, ended: make(chan struct{})}
	var theirs []*os.File
	closeTheirs := func() {
		for _, f := range theirs {
			_ = f.Close()
		}
	}
	for _, ours := range []**os.File{&e.console, &e.channel, &e.serial} {
		mine, its, err := socketpair()
		if err != nil {
			closeTheirs()
			e.close()
			return nil, err
		}
		*ours = mine
		theirs = append(theirs, its)
	}
	cmd := exec.Command(path, m.arguments(k, initramfs)...)
	cmd.ExtraFiles = theirs
	cmd.Stderr = e.stderr
	cmd.Dir = "/" // nothing of it is anybody's
	// Of its own group: a Ctrl-C is for rpmig, which ends the guest.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: unix.SIGKILL}
	started := make(chan error)
	go func() {
		// PR_SET_PDEATHSIG fires when the thread that forked ends (prctl(2)): this one waits for as long as QEMU runs.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			e.err = cmd.Wait()
			close(e.ended)
		}
	}()
	err := <-started
	closeTheirs()
	if err != nil {
		e.close()
		return nil, failed(err, "", "start %s", path)
	}
	e.pid = cmd.Process.Pid
	return e, nil
}

// kill ends QEMU and waits for it.
func (e *emulator) kill() {
	select {
	case <-e.ended:
	default:
		_ = unix.Kill(e.pid, unix.SIGKILL) // it is a child that nobody has waited for
		<-e.ended
	}
}

func (e *emulator) close() {
	for _, f := range []*os.File{e.console, e.channel, e.serial} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// how is how QEMU ended, in words for behind "QEMU".
func (e *emulator) how() string {
	said := lastLine(e.stderr.String())
	var exit *exec.ExitError
	switch {
	case errors.As(e.err, &exit) && exit.Sys().(syscall.WaitStatus).Signaled():
		how := "was killed: " + exit.Sys().(syscall.WaitStatus).Signal().String()
		if said != "" {
			how += ": " + said
		}
		return how
	case e.err != nil && said != "":
		return "failed: " + said
	case e.err != nil:
		return "failed: " + e.err.Error()
	default:
		return "ended"
	}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

// socketBuffer is how much a guest may have sent that is not read yet, before it has to wait. The kernel gives no more than
// net.core.wmem_max.
const socketBuffer = 4 << 20

func socketpair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	for _, fd := range fds {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, socketBuffer)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil { // for the runtime's poller, which Close ends
		unix.Close(fds[0])
		unix.Close(fds[1])
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "guest"), os.NewFile(uintptr(fds[1]), "qemu"), nil
}

var versionPattern = regexp.MustCompile(`version ([0-9][^ \n]*)`)

// versions are what emulators say of themselves, by their paths.
var versions sync.Map

// emulatorVersion is what an emulator is, as "QEMU 7.2.22".
func emulatorVersion(ctx context.Context, path string) string {
	ask, _ := versions.LoadOrStore(path, sync.OnceValue(func() string {
		out, err := exec.CommandContext(ctx, path, "--version").Output()
		if m := versionPattern.FindSubmatch(out); err == nil && m != nil {
			return "QEMU " + string(m[1])
		}
		return "QEMU"
	}))
	return ask.(func() string)()
}
