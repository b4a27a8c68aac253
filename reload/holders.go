package reload

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
)

// holder is a process that has a descriptor of a listener.
type holder struct {
	pid   int
	inode uint32
}

// holding is who holds the listeners of the port at a moment.
type holding struct {
	inodes  []uint32 // of the listeners, sorted
	holders []holder // sorted
	places  map[uint32]place
}

// place is one of the descriptors of a listener.
type place struct{ pid, fd int }

// same tells whether the same processes hold the same listeners.
func (h *holding) same(o *holding) bool {
	return slices.Equal(h.inodes, o.inodes) && slices.Equal(h.holders, o.holders)
}

// pids are the processes that hold a listener, sorted.
func (h *holding) pids() []int {
	var pids []int
	for _, o := range h.holders {
		pids = append(pids, o.pid)
	}
	slices.Sort(pids)
	return slices.Compact(pids)
}

// newer are the listeners that were not there before.
func (h *holding) newer(before *holding) []uint32 {
	return slices.DeleteFunc(slices.Clone(h.inodes), func(i uint32) bool { return slices.Contains(before.inodes, i) })
}

// looker looks who holds the listeners of the port.
type looker struct {
	port uint16
	diag *kernel.Diag
	cost time.Duration // of the last look at /proc
}

func newLooker(port uint16) (*looker, error) {
	diag, err := kernel.OpenDiag()
	if err != nil {
		return nil, err
	}
	return &looker{port: port, diag: diag}, nil
}

func (l *looker) close() { _ = l.diag.Close() }

// listeners are those of the port, by sock_diag.
func (l *looker) listeners() ([]kernel.Socket, error) {
	all, err := l.diag.Sockets(l.port, []uint8{unix.AF_INET, unix.AF_INET6}, kernel.Listen)
	if err != nil {
		return nil, fmt.Errorf("list the listeners of port %d: %w", l.port, err)
	}
	return all, nil
}

// look finds who holds the listeners now, in the /proc of the sandbox.
func (l *looker) look() (*holding, error) {
	began := time.Now()
	defer func() { l.cost = time.Since(began) }()
	all, err := l.listeners()
	if err != nil {
		return nil, err
	}
	h := &holding{places: map[uint32]place{}}
	for _, s := range all {
		if s.Inode != 0 { // otherwise its last descriptor is closed, and it is about to go
			h.inodes = append(h.inodes, s.Inode)
		}
	}
	slices.Sort(h.inodes)
	h.inodes = slices.Compact(h.inodes)
	if len(h.inodes) == 0 {
		return h, nil
	}
	pids, err := processIDs()
	if err != nil {
		return nil, err
	}
	for _, pid := range pids {
		if err := h.addHolder(pid); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(h.holders, func(a, b holder) int {
		if a.pid != b.pid {
			return a.pid - b.pid
		}
		return int(int64(a.inode) - int64(b.inode))
	})
	h.holders = slices.Compact(h.holders)
	return h, nil
}

// pause is how long to wait before the next look: a few milliseconds, or longer where a look takes long, so that looking takes no
// more than a fifth of a processor.
func (l *looker) pause() time.Duration { return max(6*time.Millisecond, 4*l.cost) }

// processIDs are the processes of the sandbox but this one, sorted.
func processIDs() ([]int, error) {
	names, err := names("/proc")
	if err != nil {
		return nil, fmt.Errorf("list the sandbox's processes: %w", err)
	}
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids, nil
}

func names(dir string) ([]string, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	all, err := f.Readdirnames(-1)
	return all, errors.Join(err, f.Close())
}

// addHolder looks through the descriptors of a process, which may end meanwhile.
func (h *holding) addHolder(pid int) error {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	fds, err := names(dir)
	if gone(err) {
		return nil
	} else if err != nil {
		return fmt.Errorf("look who listens: %w", err)
	}
	var buf [64]byte
	for _, fd := range fds {
		n, err := unix.Readlink(dir+"/"+fd, buf[:])
		if err != nil { // it was closed meanwhile
			continue
		}
		inode, ok := socketInode(string(buf[:n]))
		if !ok || !slices.Contains(h.inodes, inode) {
			continue
		}
		h.holders = append(h.holders, holder{pid, inode})
		number, err := strconv.Atoi(fd)
		if err == nil {
			h.places[inode] = place{pid, number}
		}
	}
	return nil
}

// gone tells whether a file of /proc is not there because its process is not, or is about to go: a zombie has no descriptors
// (ESRCH), and no one may look at one that exits (EACCES, kernel/ptrace.c:__ptrace_may_access).
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EACCES)
}

// socketInode reads what a link in /proc/PID/fd says of a socket: "socket:[1234]".
func socketInode(link string) (uint32, bool) {
	number, ok := strings.CutPrefix(link, "socket:[")
	if !ok {
		return 0, false
	}
	number, ok = strings.CutSuffix(number, "]")
	inode, err := strconv.ParseUint(number, 10, 32)
	return uint32(inode), ok && err == nil
}

// command is the name of a process, as /proc/PID/comm has it; empty where it is gone.
func command(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
