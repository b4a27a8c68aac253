package vm

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Home is the way home of a run that is played in a guest: what is written has left the guest when the call returns, even if the
// kernel dies the moment after. It may be used by several goroutines.
type Home struct {
	mu      sync.Mutex // around a message
	w       io.Writer
	provoke provocation
	// RealTime tells that the clock of the guest is that of the machine.
	RealTime bool
}

// realTimeVariable tells the run of a guest that its clock is the machine's.
const realTimeVariable = "RPMIG_GUEST_REAL_TIME"

// HomeOfRun is the way home of this process if it is the run of a guest; nil: it is not.
func HomeOfRun() *Home {
	fd, err := strconv.Atoi(os.Getenv(homeVariable))
	if err != nil || os.Getppid() != 1 {
		return nil
	}
	unix.CloseOnExec(fd) // it is for no process of a cell
	return &Home{w: os.NewFile(uintptr(fd), "the control channel"), provoke: newProvocation(), RealTime: os.Getenv(realTimeVariable) != ""}
}

func (h *Home) send(k kind, payload []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return writeMessage(h.w, k, payload)
}

// Began tells that a cell is being played.
func (h *Home) Began(id string) {
	_ = h.send(kindBegan, []byte(id)) // where the host is gone, process 1 notices
	h.provoke.at(id)
}

// Ended tells that a cell is not played any more. Its line may come later.
func (h *Home) Ended(id string) { _ = h.send(kindEnded, []byte(id)) }

// Create makes a file of the cell, or the header, whose line comes next. It must be closed before the next one is made.
func (h *Home) Create(name string) (io.WriteCloser, error) {
	return homeFile{h}, h.send(kindFile, []byte(name))
}

// Write takes a line of the ledger.
func (h *Home) Write(line []byte) (int, error) {
	return len(line), h.send(kindLedger, line)
}

type homeFile struct{ h *Home }

func (f homeFile) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		part := rest[:min(len(rest), maxFrame-frameHead)]
		rest = rest[len(part):]
		if err := f.h.send(kindData, part); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

func (homeFile) Close() error { return nil }

// ProvokeVariable has the kernel of a guest misbehave once a cell has begun, for tests: by a letter of
// Documentation/admin-guide/sysrq.rst, such as "c" for a crash and "l" for a backtrace. "l" is for the first cell, and
// "l@quiz1/ipv4/off/1" for that cell, each time that it is played; "hang" instead of a letter is that nothing runs in the guest any
// more. A guest has it from the host.
const ProvokeVariable = "RPMIG_TEST_SYSRQ"

// hang freezes all processes of a guest, the first among them (Documentation/admin-guide/cgroup-v2.rst, cgroup.freeze): its kernel
// lives, and nobody hears of it. It returns, with what is missing, where it cannot be done.
func hang() error {
	const all = "/tmp/cgroup"
	if err := os.MkdirAll(all, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("cgroup2", all, "cgroup2", 0, ""); err != nil {
		return fmt.Errorf("mount cgroup2: %w", err)
	}
	frozen := filepath.Join(all, "frozen")
	if err := os.Mkdir(frozen, 0o755); err != nil {
		return err
	}
	for _, pid := range []int{1, os.Getpid()} {
		if err := os.WriteFile(filepath.Join(frozen, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(frozen, "cgroup.freeze"), []byte("1"), 0)
}

// provocation is what ProvokeVariable asks for.
type provocation struct {
	letter, cell string
	once         *sync.Once
}

func newProvocation() provocation {
	letter, cell, _ := strings.Cut(os.Getenv(ProvokeVariable), "@")
	return provocation{letter, cell, &sync.Once{}}
}

func (p provocation) at(cell string) {
	if p.letter == "" || p.cell != "" && p.cell != cell {
		return
	}
	press := func() { _ = os.WriteFile("/proc/sysrq-trigger", []byte(p.letter), 0) }
	if p.letter == "hang" {
		press = func() {
			if err := hang(); err != nil {
				fmt.Fprintln(os.Stderr, "rpmig: hang, for a test:", err)
			}
		}
	}
	if p.cell == "" {
		p.once.Do(press)
	} else {
		press()
	}
}
