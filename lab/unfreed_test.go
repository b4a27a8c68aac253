package lab

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/verdict"
)

// watched is a packet-drop backend that counts which of its rules are closed.
type watched struct {
	netns.Dropper
	runs   bool
	closed int
}

func (d *watched) RunsProgram() bool { return d.runs }

func (d *watched) Drop(v6 bool, port uint16) (netns.Rule, error) {
	r, err := d.Dropper.Drop(v6, port)
	return watchedRule{r, d}, err
}

type watchedRule struct {
	netns.Rule
	by *watched
}

func (r watchedRule) Close() {
	r.by.closed++
	r.Rule.Close()
}

// played plays a cell whose rules are of it.
func (d *watched) played(t *testing.T, mul float64, do func(*Lab)) Played {
	t.Helper()
	NeedNamespace(t)
	s := named("rules")[0]
	s.Play = do
	cfg := config(t, s, Families()[0], migrate.Off(), 1)
	d.Dropper, cfg.Dropper, cfg.TimeoutMul = cfg.Dropper, d, mul
	return Play(cfg, testHost{})
}

// TestRulesAreClosedLast: a rule's netlink socket is in no table and not freed for a while once it is closed, and that counts as
// a socket that is never freed.
func TestRulesAreClosedLast(t *testing.T) {
	var d watched
	p := d.played(t, 1, func(l *Lab) {
		for range 2 {
			l.DropACKs()
			l.StopDropping()
		}
		if d.closed != 0 {
			t.Errorf("%d rules are closed before the sockets are counted", d.closed)
		}
	})
	if d.closed != 2 {
		t.Errorf("%d rules of 2 are closed in the end: %s: %s", d.closed, p.Verdict.Status, p.Verdict.Reason)
	}
}

// TestFreedLazily: the kernel may take longer for what a program that was run in the namespace has closed.
func TestFreedLazily(t *testing.T) {
	for runs, want := range map[bool]bool{false: false, true: true} {
		d := watched{runs: runs}
		var p Played
		for range 10 {
			p = d.played(t, 0.25, func(l *Lab) {
				l.DropACKs()
				l.StopDropping()
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
				l.must(err)
				time.AfterFunc(time.Second, func() { _ = unix.Close(fd) })
			})
			if len(p.obs.Delays) == 0 {
				break
			}
			t.Logf("it waits for longer where it is held up: %+v", p.obs.Delays)
		}
		if c := found(t, p, "closed sockets that are never freed"); c.OK != want {
			t.Errorf("a program was run: %t: %+v: %s: %s", runs, c, p.Verdict.Status, p.Verdict.Reason)
		}
	}
}

// TestFreeingHeldUp: where the machine is late each time, it is not known whether sockets are freed, and that is said.
func TestFreeingHeldUp(t *testing.T) {
	for name, tt := range map[string]struct {
		late  int // how often
		frees bool
		want  verdict.PostCheck
	}{
		"never late, and freed":    {0, true, verdict.PostCheck{}},
		"never late, and some not": {0, false, verdict.PostCheck{Unfreed: 1}},
		"late once, and freed":     {1, true, verdict.PostCheck{}},
		"late once, and some not":  {1, false, verdict.PostCheck{Unfreed: 1}},
		"late each time":           {maxFreeing, false, verdict.PostCheck{Unfreed: verdict.NotCounted, HeldUp: true}},
	} {
		var said verdict.PostCheck
		var d watched
		d.played(t, 1, func(l *Lab) {
			l.must(l.countUnfreed(&said, time.Second, func(_ time.Duration, _ string, holds func() (bool, error)) error {
				if tt.late--; tt.late >= 0 {
					l.delayed("a test", time.Second)
					return errTimeout
				}
				if tt.frees {
					return nil
				}
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
				l.must(err)
				t.Cleanup(func() { _ = unix.Close(fd) })
				return errTimeout
			}))
		})
		if said.Unfreed = min(said.Unfreed, 1); said.Unfreed != tt.want.Unfreed || said.HeldUp != tt.want.HeldUp {
			t.Errorf("%s: %+v, want %+v", name, said, tt.want)
		}
	}
}
