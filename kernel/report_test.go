package kernel

import (
	"strings"
	"testing"
)

func TestReports(t *testing.T) {
	for _, tt := range []struct {
		name, log string
		want      []string
	}{
		{"a warning", "------------[ cut here ]------------\nWARNING: CPU: 0 PID: 77 at net/core/sock_reuseport.c:1\nModules linked in:\nCall Trace:\n <TASK>\n </TASK>\n---[ end trace 0 ]---",
			[]string{"WARNING: CPU: 0 PID: 77 at net/core/sock_reuseport.c:1"}},
		{"a reference count", "refcount_t: underflow; use-after-free.\nWARNING: CPU: 0 PID: 1 at lib/refcount.c:28\nCall Trace:\n </TASK>\n---[ end trace 0 ]---",
			[]string{"refcount_t: underflow; use-after-free."}},
		{"KASAN", "BUG: KASAN: slab-use-after-free in reqsk_timer_handler\nRead of size 8\nCall Trace:\n <IRQ>\n </TASK>", []string{"BUG: KASAN: slab-use-after-free in reqsk_timer_handler"}},
		{"UBSAN", "UBSAN: array-index-out-of-bounds in net/ipv4/x.c:1:2\nCall Trace:\n </TASK>", []string{"UBSAN: array-index-out-of-bounds in net/ipv4/x.c:1:2"}},
		{"lockdep", "WARNING: possible circular locking dependency detected\nCall Trace:\n </TASK>", []string{"WARNING: possible circular locking dependency detected"}},
		{"kmemleak", "unreferenced object 0xffff888 (size 256):", []string{"unreferenced object 0xffff888 (size 256):"}},
		{"RCU", "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", []string{"rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:"}},
		{"a hung task", "INFO: task rpmig:77 blocked for more than 120 seconds.", []string{"INFO: task rpmig:77 blocked for more than 120 seconds."}},
		{"a trace alone", "sysrq: Show backtrace of all active CPUs\nCall Trace:\n </TASK>", []string{"Call Trace:"}},
		{"two", "WARNING: CPU: 0 at a\nCall Trace:\n </TASK>\nWARNING: CPU: 0 at b\nCall Trace:\n </TASK>", []string{"WARNING: CPU: 0 at a", "WARNING: CPU: 0 at b"}},
		{"none", "TCP: request_sock_TCP: Possible SYN flooding on port 0.0.0.0:80. Sending cookies.\nrandom: crng init done\nrcu: Hierarchical SRCU implementation.", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r reports
			var got []string
			for line := range strings.SplitSeq(tt.log, "\n") {
				if r.line(line) {
					got = append(got, line)
				}
			}
			if strings.Join(got, "\n") != strings.Join(tt.want, "\n") {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
