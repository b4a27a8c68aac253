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
		{"a stall, with the traces of processors", "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\nNMI backtrace for cpu 0\nCall Trace:\n </TASK>\n" +
			"rcu: rcu_preempt kthread starved for 5250 jiffies!\nCall Trace:\n </TASK>\nWARNING: CPU: 0 at b\nCall Trace:",
			[]string{"rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", "WARNING: CPU: 0 at b"}},
		{"a lockup", "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [rpmig:77]\nCall Trace:\n </TASK>", []string{"watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [rpmig:77]"}},
		{"BUG", "------------[ cut here ]------------\nkernel BUG at net/ipv4/tcp.c:1!\ninvalid opcode: 0000 [#1] PREEMPT SMP PTI\nCall Trace:\n </TASK>",
			[]string{"kernel BUG at net/ipv4/tcp.c:1!"}},
		{"a fault", "general protection fault, probably for non-canonical address 0xdead000000000122: 0000 [#1] PREEMPT SMP\nCall Trace:",
			[]string{"general protection fault, probably for non-canonical address 0xdead000000000122: 0000 [#1] PREEMPT SMP"}},
		{"a reference count, since 6.19", "------------[ cut here ]------------\nrefcount_t: underflow; use-after-free.\nWARNING: lib/refcount.c:28 at refcount_warn_saturate+0x1/0x2, CPU#0: rpmig/1\nCall Trace:",
			[]string{"refcount_t: underflow; use-after-free."}},
		{"on arm64, where a trace has no end", "UBSAN: shift-out-of-bounds in a\nCall trace:\n dump_backtrace\n------------[ cut here ]------------\nWARNING: CPU: 0 PID: 1 at b\nCall trace:\n b\nCall trace:\n c",
			[]string{"UBSAN: shift-out-of-bounds in a", "WARNING: CPU: 0 PID: 1 at b", "Call trace:"}},
		// What accuses nobody.
		{"memory that is short", "rpmig invoked oom-killer: gfp_mask=0x1100cca(GFP_HIGHUSER_MOVABLE), order=0, oom_score_adj=0\nCPU: 0 PID: 77 Comm: rpmig\nCall Trace:\n <TASK>\n </TASK>\n" +
			"Mem-Info:\nOut of memory: Killed process 77 (rpmig)", nil},
		{"a page that is not to be had", "rpmig: page allocation failure: order:5, mode:0x40dc0(GFP_KERNEL|__GFP_COMP|__GFP_ZERO), nodemask=(null),cpuset=/,mems_allowed=0\nCall Trace:\n <TASK>\n </TASK>\nMem-Info:", nil},
		{"memory that is short, and then a trace", "a invoked oom-killer: order=0\nCall Trace:\n </TASK>\nCall Trace:\n </TASK>", []string{"Call Trace:"}},
		{"a process that crashes", "traps: worker[77] general protection fault ip:401000 sp:7ffc error:0 in worker[401000+1000]", nil},
		{"lockdep's full tables", "BUG: MAX_LOCKDEP_CHAINS too low!\nturning off the locking correctness validator.\nCall Trace:\n </TASK>", nil},
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

// TestIsStall: stalls are reports like others, but where the clock is the machine's.
func TestIsStall(t *testing.T) {
	for line, want := range map[string]bool{
		"rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:":                                 true,
		"rcu: INFO: rcu_sched self-detected stall on CPU":                                       true,
		"watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [rpmig:77]":                          true,
		"BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 35s!":            true,
		"INFO: task kworker/0:1:12 blocked for more than 120 seconds.":                          true,
		"Kernel panic - not syncing: softlockup: hung tasks":                                    true,
		"rcu: RCU CPU stall warnings timeout set to 60 (rcu_cpu_stall_timeout).":                false,
		"BUG: KASAN: slab-use-after-free in reqsk_timer_handler":                                false,
		"Kernel panic - not syncing: Fatal exception in interrupt":                              false,
		"WARNING: CPU: 0 PID: 77 at net/core/sock_reuseport.c:1 reuseport_migrate_sock+0x1/0x2": false,
		"WARNING: possible circular locking dependency detected":                                false,
	} {
		if got := IsStall(line); got != want {
			t.Errorf("%q: %v", line, got)
		}
		if want && !strings.HasPrefix(line, "Kernel panic") && !IsTitle(line) {
			t.Errorf("%q is no title", line)
		}
	}
}
