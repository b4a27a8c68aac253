package kernel

import (
	"fmt"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// uname is what the running kernel says of itself; empty where it cannot be asked.
var uname = sync.OnceValue(func() (u unix.Utsname) {
	_ = unix.Uname(&u)
	return u
})

// Release is the running kernel's, as uname -r prints it; empty where it cannot be asked.
func Release() string {
	u := uname()
	return unix.ByteSliceToString(u.Release[:])
}

// before tells whether the running kernel's release is before a version. It is for what no probe can find out, since
// distributions backport. A release that cannot be read is before none.
func before(major, minor int) bool { return running().before(major, minor) }

var running = sync.OnceValue(func() version { return parseRelease(Release()) })

// version is a release's two first numbers; nil: it cannot be read.
type version []int

func parseRelease(release string) version {
	m := numbers.FindStringSubmatch(release)
	if m == nil {
		return nil
	}
	v := make(version, 2)
	for i := range v {
		v[i], _ = strconv.Atoi(m[i+1]) // digits
	}
	return v
}

func (v version) before(major, minor int) bool {
	return v != nil && slices.Compare(v, version{major, minor}) < 0
}

// SetNice gives the calling thread a nice value (setpriority(2), C library/kernel differences), where the user may do that.
//
// Before Linux 6.5 (commit d15121be7485) all of them are 10 more, and none is below 0: once ksoftirqd is runnable on a CPU
// no softirq runs anywhere else on it (ksoftirqd_running), and ksoftirqd has the nice value 0. Threads that go before it keep
// packets and TCP's timers waiting.
func SetNice(nice int) error {
	if before(6, 5) {
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
