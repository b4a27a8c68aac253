//go:build linux

package main

import (
	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/vm"
)

// keepVariable has the run of a guest send the evidence of every cell home, and not only of FAIL and ERROR.
const keepVariable = "RPMIG_GUEST_EVIDENCE"

// goHome has a run tell the host of its cells as they are played, and answer for what the kernel reports of itself: in a guest
// nothing else makes it do so. What it returns closes the kernel's log.
func (r *request) goHome(home *vm.Home) (done func(), err error) {
	log, err := kernel.OpenLog()
	if err != nil {
		return nil, err
	}
	r.Watch, r.Faults = home, guestLog{log, home.RealTime}
	return log.Close, nil
}

// guestLog is the log of a guest's kernel.
type guestLog struct {
	*kernel.Log
	realTime bool
}

// MayBeHost implements harness.Faults: in real time the machine may be too busy to run a guest for as long as a watchdog waits.
func (l guestLog) MayBeHost(line string) bool { return l.realTime && kernel.IsStall(line) }
