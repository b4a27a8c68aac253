package harness

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/result"
)

// PlacesPerCPU is placesPerCPU.
const PlacesPerCPU = placesPerCPU

// Fault breaks a cell, to see the judge notice.
type Fault func(*faults)

func NoRule(f *faults)   { f.noRule = true }
func TinyRing(f *faults) { f.tinyRing = true }

// KernelOf makes the kernel behave as in another mode than the one that is judged.
func KernelOf(m Mode) Fault { return func(f *faults) { f.other = &m } }

// Play plays one cell for a test and returns what it came to.
func Play(t *testing.T, s Scenario, f Family, m Mode, connections int, broken ...Fault) result.Cell {
	t.Helper()
	cfg := config(t, s, f, m, connections)
	for _, b := range broken {
		b(&cfg.faults)
	}
	return play(cfg, func(wait func()) { wait() }, nil).cell
}

// Observe plays one cell for a test and returns how it would be judged by any expectation.
func Observe(t *testing.T, s Scenario, f Family, m Mode) func(Expectation) Verdict {
	t.Helper()
	l := &Lab{cfg: config(t, s, f, m, max(s.Connections, 1)), start: time.Now()}
	l.later = func(wait func()) { wait() }
	err := netns.Do(func() error { return l.play(&played{}) })
	if err != nil {
		t.Errorf("%s/%s/%s: %v", s.Name, f.Name, m.Name, err)
		return nil
	}
	if most := sockets(&s, l.cfg.Connections); l.held > most {
		t.Errorf("%s/%s/%s: held %d sockets, and says that it needs %d", s.Name, f.Name, m.Name, l.held, most)
	}
	return func(e Expectation) Verdict { return judge(m, e, &l.obs, nil, false) }
}

func config(t *testing.T, s Scenario, f Family, m Mode, connections int) cellConfig {
	t.Helper()
	dropper, err := netns.NewDropper("nftables")
	if err != nil {
		t.Fatal(err)
	}
	never, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(never) })
	return cellConfig{
		Scenario: &s, Family: f, Mode: m, Repeat: 1, Port: 80, Connections: connections, TimeoutMul: 4,
		Dropper: dropper, cancelled: never, Story: true,
	}
}

// Listening returns the listeners as their own descriptors tell of them, and as sock_diag lists them.
func Listening(l *Lab) (own, listed []kernel.Socket) {
	own, err := l.listening()
	l.must(err)
	listed, err = l.diag.Sockets(l.cfg.Port, l.cfg.Family.socketFamilies(), kernel.Listen)
	l.must(err)
	return own, listed
}
