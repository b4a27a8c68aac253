package kernel

import "strings"

// reportTitles are in the first line of a report that the kernel prints of a fault of its own: of WARN and BUG, KASAN, KCSAN and
// lockdep (which begin with one of these), UBSAN, kmemleak, reference counts, exceptions, and the watchdogs. A trace without any
// of these is a report too.
var reportTitles = []string{
	"BUG: ", "WARNING: ", "UBSAN: ", "unreferenced object 0x", "refcount_t: ", "ref_tracker: ", "general protection fault", "Oops: ",
	" blocked for more than ", "Call Trace:",
}

// IsReport tells whether a line of the kernel's log begins a report of a fault of its own.
func IsReport(line string) bool {
	for _, title := range reportTitles {
		if strings.Contains(line, title) {
			return true
		}
	}
	// "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks", "INFO: rcu_sched self-detected stall on CPU"
	return strings.Contains(line, "rcu") && strings.Contains(line, "INFO: ") && strings.Contains(line, "stall")
}

// reports finds the reports among the lines of a log, as they come. The zero value is ready.
type reports struct{ open bool }

// line takes a line, and tells whether a report begins with it.
func (r *reports) line(text string) bool {
	switch {
	case strings.Contains(text, "</TASK>"), strings.Contains(text, "---[ end trace"):
		r.open = false
		return false
	case !IsReport(text):
		return false
	// "refcount_t: …" stands above the "WARNING: …" that it brings, "BUG: …" above "Oops: …", and each above its trace.
	case r.open && (strings.Contains(text, "Call Trace:") || strings.Contains(text, "Oops: ") || strings.Contains(text, "WARNING: CPU")):
		return false
	}
	r.open = true
	return true
}
