package kernel

import (
	"fmt"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Release is the running kernel's, as uname -r prints it; empty where it cannot be asked.
var Release = sync.OnceValue(func() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
})

// Before tells whether the running kernel's release is before a version. It is for what no probe can find out, since
// distributions backport. A release that cannot be read is before none.
func Before(major, minor int) bool { return before(Release(), major, minor) }

func before(release string, major, minor int) bool {
	var have [2]int
	if n, _ := fmt.Sscanf(strings.SplitN(release, "-", 2)[0], "%d.%d", &have[0], &have[1]); n < 2 {
		return false
	}
	return have[0] < major || have[0] == major && have[1] < minor
}

// SetNice gives the calling thread a nice value (setpriority(2), C library/kernel differences), where the user may do that.
//
// Before Linux 6.5 (commit d15121be7485) all of them are 10 more, and none is below 0: once ksoftirqd is runnable on a CPU
// no softirq runs anywhere else on it (ksoftirqd_running), and ksoftirqd has the nice value 0. Threads that go before it keep
// packets and TCP's timers waiting.
func SetNice(nice int) error {
	if Before(6, 5) {
		nice = max(nice+10, 0)
	}
	if nice == 0 { // what the thread has from the user
		return nil
	}
	err := unix.Setpriority(unix.PRIO_PROCESS, 0, nice)
	if err == nil || err == unix.EACCES || err == unix.EPERM {
		return nil
	}
	return fmt.Errorf("setpriority: %w", err)
}
