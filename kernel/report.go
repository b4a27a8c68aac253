package kernel

import (
	"slices"
	"strings"
)

// reportTitles are in the first line of a report that the kernel prints of a fault of its own: of WARN and BUG, KASAN, KCSAN and
// lockdep (which begin with one of these), UBSAN, kmemleak, and reference counts.
var reportTitles = []string{"BUG: ", "kernel BUG at ", "WARNING: ", "UBSAN: ", "unreferenced object 0x", "refcount_t: ", "ref_tracker: "}

// exceptions are in the title of one in the kernel, which is numbered: "Oops: 0002 [#1]", "invalid opcode: 0000 [#1]". One of a
// process is not: "traps: rpmig[77] general protection fault ip:…".
var exceptions = []string{"Oops: ", " [#"}

// fullTables are in what looks like a report, and tells that the tables of lockdep are full (kernel/locking/lockdep.c).
var fullTables = []string{"BUG: MAX_LOCKDEP_", "BUG: MAX_STACK_TRACE_ENTRIES"}

// IsTitle tells whether a line of the kernel's log begins a report of a fault of its own. A trace without such a line is a report too.
func IsTitle(line string) bool {
	return (contains(line, reportTitles) || contains(line, exceptions) || IsStall(line)) && !contains(line, fullTables)
}

// isTrace tells whether a trace begins with a line: on x86 "Call Trace:", on arm64 "Call trace:".
func isTrace(line string) bool { return contains(line, []string{"Call Trace:", "Call trace:"}) }

// stalls are in what the kernel's watchdogs say, and in what it dies of where it is to.
var stalls = []string{" blocked for more than ", "soft lockup", "hard LOCKUP", "Hard LOCKUP", "workqueue lockup", "softlockup: hung tasks", "hung_task: blocked tasks", "RCU Stall"}

// IsStall tells whether a line begins a report that something has not gone on for long. Where the clock is the machine's, that may
// be a guest's that was not run.
func IsStall(line string) bool {
	// "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks", "INFO: rcu_sched self-detected stall on CPU"
	return contains(line, stalls) || strings.Contains(line, "rcu") && strings.Contains(line, "INFO: ") && strings.Contains(line, "stall")
}

// isShortage tells whether the kernel says that memory is short, and shows a trace with it: mm/oom_kill.c, dump_header, and
// mm/page_alloc.c, warn_alloc. That is for whoever gave it the memory.
func isShortage(line string) bool {
	return strings.Contains(line, " invoked oom-killer: ") || strings.Contains(line, ", mode:0x") && strings.Contains(line, "nodemask=")
}

func contains(line string, words []string) bool {
	return slices.ContainsFunc(words, func(s string) bool { return strings.Contains(line, s) })
}

// reports finds the reports among the lines of a log, as they come. The zero value is ready.
type reports struct {
	open    bool // a title has come, and its trace has not
	excused bool // the next trace is of no report
	stalled bool // the last title is a stall's, which shows a trace of each processor, and of RCU's thread
}

// line takes a line, and tells whether a report begins with it.
func (r *reports) line(text string) bool {
	switch {
	case strings.Contains(text, "---[ cut here ]---"):
		r.open = false
		return false
	case isShortage(text), contains(text, fullTables):
		r.excused = true
		return false
	case IsTitle(text):
		// "refcount_t: …" stands above the "WARNING: … at …" that it brings, and "BUG: …" above "Oops: … [#1]".
		follows := r.open && (contains(text, exceptions) || strings.Contains(text, "WARNING: ") && strings.Contains(text, " at "))
		*r = reports{open: true, stalled: IsStall(text)}
		return !follows
	case isTrace(text):
		its := r.open || r.excused || r.stalled
		r.open, r.excused = false, false
		return !its
	default:
		return false
	}
}
