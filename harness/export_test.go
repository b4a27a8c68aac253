package harness

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/capture"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/result"
)

// Fault breaks a cell, to see the judge notice.
type Fault func(*faults)

func NoRule(f *faults)   { f.noRule = true }
func TinyRing(f *faults) { f.tinyRing = true }

// KernelOf makes the kernel behave as in another mode than the one that is judged.
func KernelOf(m Mode) Fault { return func(f *faults) { f.other = &m } }

// Play plays one cell for a test and returns what it came to.
func Play(t *testing.T, s Scenario, f Family, m Mode, connections int, broken ...Fault) result.Cell {
	t.Helper()
	dropper, err := netns.NewDropper("nftables")
	if err != nil {
		t.Fatal(err)
	}
	never, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(never)
	cfg := cellConfig{
		Scenario: &s, Family: f, Mode: m, Repeat: 1, Port: 80, Connections: connections, TimeoutMul: 1,
		Dropper: dropper, cancelled: never,
	}
	for _, b := range broken {
		b(&cfg.faults)
	}
	return play(cfg, (*capture.Ring).Close).cell
}
