package lab

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/tcp"
	"github.com/rpmig/rpmig/verdict"
)

// How long the kernel may take to free what is closed.
const (
	freeing = 2 * time.Second // it waits for RCU grace periods, and for workers
	// lazily is for the netlink socket of a program that has ended, which is freed by call_rcu (netlink_release): a kernel with
	// CONFIG_RCU_LAZY and rcu_nocbs= puts that off for ten seconds (LAZY_FLUSH_JIFFIES, kernel/rcu/tree_nocb.h).
	lazily = 10*time.Second + freeing
)

// maxFreeing is how often that time is given again where the machine has held the cell up meanwhile.
const maxFreeing = 5

// closeSockets closes every TCP socket of the cell, here and in its workers.
func (l *Lab) closeSockets() {
	for _, w := range l.workers {
		w.process.Kill()
	}
	for _, fd := range l.fds {
		tcp.NoLinger(fd)
		_ = unix.Close(fd)
	}
	l.fds = nil
}

// checkFreed closes all that is left of the case, and sees whether the kernel frees it: a request that is never freed holds its
// listener, and that the namespace, for ever.
func (l *Lab) checkFreed() error {
	l.closeSockets()
	limit := freeing
	if len(l.rules) > 0 && l.cfg.Dropper.RunsProgram() {
		limit = lazily
	}
	return l.countUnfreed(l.obs.PostCheck, limit, l.until)
}

// countUnfreed waits until all sockets are freed, and else says how many are not.
func (l *Lab) countUnfreed(said *verdict.PostCheck, limit time.Duration, wait until) error {
	said.Unfreed = verdict.NotCounted
	for range maxFreeing {
		delays, before := len(l.obs.Delays), -1
		err := wait(limit, "all sockets are freed", func() (bool, error) {
			used, err := l.used()
			if err != nil || used == before { // nothing has been freed since, and the tables are costly
				return false, err
			}
			before = used
			n, err := l.unfreed(used)
			return n == 0, err
		})
		if err == nil {
			said.Unfreed = 0
		}
		if !errors.Is(err, errTimeout) {
			return err
		}
		if len(l.obs.Delays) == delays {
			used, err := l.used()
			if err == nil {
				said.Unfreed, err = l.unfreed(used)
			}
			return err
		}
	}
	said.HeldUp = true // the machine never gave it the time
	return nil
}

// used is how many sockets the kernel has not freed, without those of rings that are being closed.
func (l *Lab) used() (int, error) {
	n, err := kernel.UsedSockets()
	return n - int(l.closing.Load()), err
}

// unfreed is how many TCP sockets, of those that are used, are in no table and not freed; verdict.NotCounted where some may be for a
// good reason.
func (l *Lab) unfreed(used int) (int, error) {
	if used <= 1 { // that of sock_diag
		return 0, nil
	}
	local, err := kernel.LocalSockets()
	if err != nil {
		return 0, err
	}
	shown, err := l.diag.Sockets(l.cfg.Port, l.cfg.Family.socketFamilies()) // both ends
	if err != nil {
		return 0, err
	}
	if len(shown) > count(shown, kernel.TimeWait) {
		// One that ends by itself, as in FIN_WAIT1, or a request, which holds its listener until its timer has fired.
		return verdict.NotCounted, nil
	}
	return max(used-local, 0), nil
}
