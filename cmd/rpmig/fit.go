//go:build linux

package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/kernel"
)

// What the runtime wants of the address space, in MiB. It reserves 600 before main, and without 600 it never gets here. It ends
// the process where it is refused more, and so do workers.
const (
	leastAddressSpace = 2048
	leastData         = 512
)

// fit makes rpmig as small as the limits on this process want, or says that it cannot be so small. Where the runtime gets no
// thread or no memory it prints a stack and ends the process, so nothing of this can wait until it happens.
func fit(o harness.Options) error {
	space, data := kernel.AddressSpace()
	for _, l := range []struct {
		kernel.Limit
		need int
	}{{space, leastAddressSpace}, {data, leastData}} {
		if l.Left < l.need {
			return &hintedError{fmt.Errorf("a run needs %d MiB, and %s is %d MiB", l.need, l.Name, l.Left), l.Raise}
		}
	}
	if err := o.Fits(); err != nil {
		return err
	}
	const plenty = 1000 // threads, and MiB
	// A cell blocks in one system call after another. Go hands the processor of a blocked thread on, and the thread has to
	// queue for one when it comes back. With many more of them than CPUs it is the kernel that decides who runs: 500 cells
	// of quiz2 take 2.2 s on 2 CPUs and not 3.
	if kernel.Threads().Left < plenty {
		runtime.GOMAXPROCS(2)
	} else if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(16 * runtime.NumCPU())
	}
	if left := kernel.Memory().Left; left < plenty {
		debug.SetGCPercent(100)
		debug.SetMemoryLimit(int64(left) << 20 / 3) // the rest is for the kernel's buffers, and for workers
	}
	return nil
}
