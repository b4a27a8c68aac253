// Package netns creates the network namespaces in which scenarios are played, with fixed sysctls, the rule that drops
// packets in them, and the user namespace that gives an unprivileged user the rights for both. Nothing here outlives the
// process: namespaces have no name and no mount, so the kernel frees them with the last thread or socket inside.
package netns

import (
	"errors"
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
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
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return &UnshareError{Err: err}
	}
	// To capture on a device that is down fails with ENETDOWN, so lo comes up first.
	if err := setUp("lo"); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
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
			err = &UnshareError{Err: err}
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

// NotAllowed tells whether CAP_SYS_ADMIN is missing, which a user namespace would give.
func (e *UnshareError) NotAllowed() bool { return errors.Is(e.Err, unix.EPERM) }

// Hint returns what to do next; unshare(2) lists the errors.
func (e *UnshareError) Hint() string {
	switch {
	case errors.Is(e.Err, unix.EPERM):
		return "run it as root, or allow user namespaces: sudo sysctl -w user.max_user_namespaces=10000"
	case errors.Is(e.Err, unix.ENOSPC):
		return "the limit on namespaces is reached: sudo sysctl -w user.max_net_namespaces=10000"
	case errors.Is(e.Err, unix.ENOMEM):
		return "the machine is out of memory: use a smaller --parallel"
	default:
		return "rpmig doctor"
	}
}

// Probe tells whether this process may make network namespaces now.
func Probe() error { return Do(func() error { return nil }) }
