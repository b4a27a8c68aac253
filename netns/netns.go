// Package netns creates the network namespaces in which scenarios are played, with fixed sysctls, the rule that drops
// packets in them, and the user namespace that gives an unprivileged user the rights for both. Nothing here outlives the
// process: namespaces have no name and no mount, so the kernel frees them with the last thread or socket inside.
package netns

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
)

// Do runs f on a new thread in a new network namespace whose lo is up, and waits for it. The thread ends with f, so
// whatever f does to it (namespaces, signal masks) ends there too. f must not start goroutines that need the namespace.
// Sockets that f opens stay in the namespace, whichever thread uses them.
func Do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the runtime ends the thread with the goroutine
		if err := enter(); err != nil {
			done <- err
			return
		}
		defer left()
		done <- f()
	}()
	return <-done
}

func enter() error {
	from, err := parentNS()
	if err != nil {
		return err
	}
	if from >= 0 {
		if err := unix.Setns(from, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter the parent namespace: %w", err)
		}
	}
	if err := unshare(); err != nil {
		return &UnshareError{Err: kernel.Explain(err, false, "CAP_SYS_ADMIN")}
	}
	// To capture on a device that is down fails with ENETDOWN, so lo comes up first.
	if err := setUp("lo"); err != nil {
		left()
		return kernel.Explain(fmt.Errorf("set lo up: %w", err), false, "CAP_NET_ADMIN")
	}
	return nil
}

// ours are the namespaces of this process.
var ours struct {
	sync.Mutex
	inside int        // how many threads are in one
	left   time.Time  // when the last one left
	full   sync.Mutex // held by the one thread that waits for room
}

// unshare makes a network namespace. Where there may be no more of them (user.max_net_namespaces) it waits for others of this
// process to go, if there are any.
func unshare() error {
	err := unix.Unshare(unix.CLONE_NEWNET)
	if errors.Is(err, unix.ENOSPC) {
		ours.full.Lock()
		defer ours.full.Unlock()
		for errors.Is(err, unix.ENOSPC) && mayGetRoom() {
			time.Sleep(time.Millisecond)
			err = unix.Unshare(unix.CLONE_NEWNET)
		}
	}
	if err == nil {
		ours.Lock()
		defer ours.Unlock()
		ours.inside++
	}
	return err
}

// mayGetRoom tells whether a namespace of this process is still to be freed. That takes the kernel some time after it is left.
func mayGetRoom() bool {
	const freeing = 2 * time.Second // on a busy machine
	ours.Lock()
	defer ours.Unlock()
	return ours.inside > 0 || time.Since(ours.left) < freeing
}

func left() {
	ours.Lock()
	defer ours.Unlock()
	ours.inside--
	ours.left = time.Now()
}

// setUp brings a device up (netdevice(7)). Over netlink that would cost ten times as much.
func setUp(device string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(device)
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
}

// parentNS is a namespace from which all others are made, so that each gets its own hash table of connections. Otherwise
// every sock_diag dump would walk the host's table with its quarter of a million buckets. The kernel reads
// tcp_child_ehash_entries from the namespace of the thread that makes the new one (Linux 6.1, commit d1e5e6408b30). An
// older kernel has no such sysctl, and fd is -1. The namespace goes with the process.
var parentNS = sync.OnceValues(func() (fd int, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		fd = -1
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			err = &UnshareError{Err: kernel.Explain(err, false, "CAP_SYS_ADMIN")}
			return
		}
		entries := Sysctl{"net.ipv4.tcp_child_ehash_entries", "512"}
		if entries.Set() != nil {
			return // it only saves time
		}
		if fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			err = fmt.Errorf("open the parent namespace: %w", err)
		}
	}()
	<-done
	return fd, err
})

// UnshareError says that the kernel refused a new network namespace.
type UnshareError struct{ Err error }

func (e *UnshareError) Error() string { return "unshare network namespace: " + e.Err.Error() }

func (e *UnshareError) Unwrap() error { return e.Err }

// NotAllowed tells whether the kernel did not let this user, which it may do in a user namespace.
func (e *UnshareError) NotAllowed() bool { return errors.Is(e.Err, unix.EPERM) }

// containerHint is for root that lacks what root has elsewhere, which is root of a container. ci/Dockerfile is tried so.
const containerHint = "in a container: docker run --security-opt systempaths=unconfined --cap-add SYS_ADMIN --cap-add NET_ADMIN, " +
	"or docker run --privileged"

// procHint is for a process that cannot start itself again.
const procHint = "mount -t proc proc /proc"

// Hint returns what to do next; unshare(2) lists the errors.
func (e *UnshareError) Hint() string {
	var denied *kernel.DeniedError
	switch {
	case errors.As(e.Err, &denied) && len(denied.Missing) == 0: // a user namespace would be refused as well
		return denied.Hint()
	case errors.Is(e.Err, unix.ENOENT): // /proc/self/exe
		return procHint
	case errors.Is(e.Err, unix.EPERM) && os.Geteuid() == 0:
		return containerHint
	case errors.Is(e.Err, unix.EPERM):
		return "run it as root, or allow user namespaces: sudo sysctl -w user.max_user_namespaces=10000"
	case errors.Is(e.Err, unix.ENOSPC):
		return "the limit on namespaces is reached: sudo sysctl -w user.max_net_namespaces=10000"
	case errors.Is(e.Err, unix.ENOMEM):
		return "the machine is out of memory: use a smaller --parallel"
	case errors.Is(e.Err, unix.EINVAL):
		return "boot a kernel that has CONFIG_NET_NS"
	case errors.Is(e.Err, unix.ENOSYS):
		return "a seccomp filter may do that: docker run --security-opt seccomp=unconfined"
	default:
		return ""
	}
}

// Probe tells whether this process may make network namespaces now.
func Probe() error { return Do(func() error { return nil }) }
