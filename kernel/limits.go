package kernel

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Limit is how much of something this process may still have.
type Limit struct {
	Left  int    // of memory in MiB; math.MaxInt: no limit is known
	Name  string // what sets it
	Raise string // a command that raises it
}

// none is a limit that is not known to be there.
var none = Limit{Left: math.MaxInt}

func tighter(a, b Limit) Limit {
	if b.Left < a.Left {
		return b
	}
	return a
}

// Threads is how many threads and processes this process could start when that was first asked: as pids.max of its cgroups and
// RLIMIT_NPROC leave it, as far as both can be read.
var Threads = sync.OnceValue(func() Limit {
	return tighter(cgroupLeft("pids", 1, "pids.max", "pids.current"), processesLeft())
})

const mib = 1 << 20

// Memory is how much memory this process could have when that was first asked, before the kernel kills one of its cgroup.
var Memory = sync.OnceValue(func() Limit {
	return tighter(
		cgroupLeft("", mib, "memory.max", "memory.current"),
		cgroupLeft("memory", mib, "memory.limit_in_bytes", "memory.usage_in_bytes"))
})

// AddressSpace is what RLIMIT_AS and RLIMIT_DATA allow in MiB, of which this process has some already.
func AddressSpace() (all, data Limit) {
	for _, l := range []struct {
		resource int
		name     string
		raise    string
		to       *Limit
	}{
		{unix.RLIMIT_AS, "the limit on address space (RLIMIT_AS)", "ulimit -v unlimited, or sudo prlimit --pid $$ --as=unlimited", &all},
		{unix.RLIMIT_DATA, "the limit on data (RLIMIT_DATA)", "ulimit -d unlimited, or sudo prlimit --pid $$ --data=unlimited", &data},
	} {
		*l.to = none
		var lim unix.Rlimit
		if unix.Getrlimit(l.resource, &lim) == nil && lim.Cur < math.MaxInt {
			*l.to = Limit{Left: int(lim.Cur / mib), Name: l.name, Raise: l.raise}
		}
	}
	return all, data
}

// Take is what something takes of what may be scarce.
type Take struct{ Threads, MiB int }

// Room tells how many parts of a work there may be at a time, as the limits on threads and memory go: whole is what the work
// takes, and each what a part takes on top. With less room than for the least that is wanted it returns a LimitError.
func Room(part string, least int, whole, each Take) (int, error) {
	fit := math.MaxInt
	for _, s := range []struct {
		what        string
		left        Limit
		whole, each int
	}{
		{"threads and processes", Threads(), whole.Threads, each.Threads},
		{"MiB of memory", Memory(), whole.MiB, each.MiB},
	} {
		if need := s.whole + least*s.each; need > s.left.Left {
			e := &LimitError{Parts: least, Part: part, Need: need, What: s.what, Raise: s.left.Raise,
				But: fmt.Sprintf("%s leaves %d", s.left.Name, s.left.Left)}
			if least > 1 {
				e.Raise += ", or a smaller --parallel"
			}
			return 0, e
		}
		fit = min(fit, (s.left.Left-s.whole)/s.each)
	}
	return fit, nil
}

// LimitError says that a limit has no room for so many parts of a work at a time.
type LimitError struct {
	Parts     int
	Part      string // what one is
	Need      int
	What, But string // what is scarce, and how much there is
	Raise     string // what to type next
}

func (e *LimitError) Error() string {
	who := fmt.Sprintf("%d %ss side by side need", e.Parts, e.Part)
	if e.Parts == 1 {
		who = "one " + e.Part + " needs"
	}
	return fmt.Sprintf("%s %d %s, and %s", who, e.Need, e.What, e.But)
}

// Hint returns what to do next.
func (e *LimitError) Hint() string { return e.Raise }

// cgroupLeft is what the cgroups of this process leave of a resource. Of version 1 it takes the hierarchy of that
// controller; "" is none.
func cgroupLeft(controller string, unit int, most, current string) Limit {
	groups, err := os.ReadFile("/proc/self/cgroup")
	mounts, err2 := os.ReadFile("/proc/self/mountinfo")
	if cmp.Or(err, err2) != nil {
		return none
	}
	left := none
	for _, dirs := range cgroupDirs(string(groups), string(mounts), controller) {
		for _, dir := range dirs {
			left = tighter(left, dirLeft(dir, unit, most, current))
		}
	}
	return left
}

// dirLeft is what one cgroup leaves.
func dirLeft(dir string, unit int, most, current string) Limit {
	path := filepath.Join(dir, most)
	limit, err := readNumber(path) // "max" is no number: there is no limit
	if err != nil {
		return none
	}
	used, err := readNumber(filepath.Join(dir, current))
	if err != nil {
		return none
	}
	if stat, err := os.ReadFile(filepath.Join(dir, "memory.stat")); err == nil {
		used -= pageCache(string(stat))
	}
	return Limit{
		Left: max(limit-used, 0) / unit, Name: path,
		Raise: fmt.Sprintf("echo %s | sudo tee %s", map[bool]string{true: "max", false: "-1"}[strings.HasSuffix(most, ".max")], path),
	}
}

// pageCache is how much memory of a cgroup and those below it the kernel uses for files, and gives back when it is wanted.
// Version 1 has a total beside what belongs to the cgroup alone.
func pageCache(stat string) int {
	sum := map[string]int{}
	for line := range strings.Lines(stat) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if kind, ok := strings.CutSuffix(name, "active_file"); ok { // active and inactive
			n, _ := strconv.Atoi(value)
			sum[strings.TrimSuffix(kind, "in")] += n
		}
	}
	return cmp.Or(sum["total_"], sum[""])
}

func readNumber(path string) (int, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// cgroupDirs returns the folders of the cgroups that /proc/self/cgroup lists, each with those above it, as far as they are
// mounted (cgroups(7), proc_pid_mountinfo(5)): those of version 2, and those of a controller of version 1.
func cgroupDirs(groups, mounts, controller string) [][]string {
	var all [][]string
	for line := range strings.Lines(groups) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3) // hierarchy:controllers:path
		if len(part) != 3 {
			continue
		}
		fstype := "cgroup"
		if part[1] == "" {
			fstype = "cgroup2"
		} else if controller == "" || !slices.Contains(strings.Split(part[1], ","), controller) {
			continue
		}
		if dir, top, ok := mounted(mounts, fstype, controller, part[2]); ok {
			dirs := []string{dir}
			for dir != top && dir != "/" {
				dir = filepath.Dir(dir)
				dirs = append(dirs, dir)
			}
			all = append(all, dirs)
		}
	}
	return all
}

// mounted finds the folder of a cgroup, and the mount below which it is.
func mounted(mounts, fstype, controller, group string) (dir, top string, ok bool) {
	for line := range strings.Lines(mounts) {
		left, right, _ := strings.Cut(strings.TrimSpace(line), " - ")
		mount, fs := strings.Fields(left), strings.Fields(right)
		if len(mount) < 5 || len(fs) < 3 || fs[0] != fstype {
			continue
		}
		if fstype == "cgroup" && !slices.Contains(strings.Split(fs[2], ","), controller) {
			continue
		}
		// A container may see its own cgroup as the root of the mount.
		if below, err := filepath.Rel(mount[3], group); err == nil && below != ".." && !strings.HasPrefix(below, "../") {
			return filepath.Join(mount[4], below), mount[4], true
		}
	}
	return "", "", false
}

// fewProcesses is a limit on processes below which it is worth the time to count them.
const fewProcesses = 1 << 14

// processesLeft is what RLIMIT_NPROC leaves. It counts the threads of all processes of the user, in this PID namespace, and
// does not bind root nor who has CAP_SYS_ADMIN or CAP_SYS_RESOURCE (kernel/fork.c:copy_process).
func processesLeft() Limit {
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NPROC, &lim) != nil || lim.Cur > fewProcesses {
		return none
	}
	r, err := readRights()
	if err != nil || !r.child && (unix.Getuid() == 0 || r.has("CAP_SYS_ADMIN") || r.effective&(1<<unix.CAP_SYS_RESOURCE) != 0) {
		return none
	}
	all, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		return none
	}
	used := 0
	for _, path := range all {
		if status, err := os.ReadFile(path); err == nil {
			uid, threads := parseProcess(string(status))
			if uid == unix.Getuid() {
				used += threads
			}
		}
	}
	return Limit{
		Left: max(int(lim.Cur)-used, 0), Name: "the limit on processes (RLIMIT_NPROC)", Raise: "ulimit -u unlimited, or sudo prlimit --pid $$ --nproc=unlimited",
	}
}

// parseProcess returns the real user of a process and how many threads it has.
func parseProcess(status string) (uid, threads int) {
	uid = -1
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(line, ":")
		words := strings.Fields(value)
		if len(words) == 0 {
			continue
		}
		switch name {
		case "Uid":
			if n, err := strconv.Atoi(words[0]); err == nil {
				uid = n
			}
		case "Threads":
			threads, _ = strconv.Atoi(words[0])
		}
	}
	return uid, threads
}
