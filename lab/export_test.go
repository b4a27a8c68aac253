package lab

import (
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/kernel/trace"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// NeedNamespace skips a test where cells cannot be played.
func NeedNamespace(t *testing.T) {
	t.Helper()
	if err := netns.Probe(); err != nil {
		t.Skipf("needs network namespaces (run as root, or under unshare -Urn): %v", err)
	}
}

// Fault breaks a cell, to see the judge notice.
type Fault func(*faults)

func NoRule(f *faults)   { f.noRule = true }
func TinyRing(f *faults) { f.tinyRing = true }
func NoChoice(f *faults) { f.noChoice = true }
func KeepRule(f *faults) { f.keepRule = true }

// KernelOf makes the kernel behave as in another mode than the one that is judged.
func KernelOf(m Mode) Fault { return func(f *faults) { f.other = &m } }

// Codeless makes the kernel one that has the sysctl of migration and not its code: it migrates nothing, and lacks the counters.
func Codeless(f *faults) {
	off := migrate.Off()
	f.other, f.lacks = &off, []string{result.MigrateSuccess, result.MigrateFailure}
}

// testHost plays a cell alone.
type testHost struct{}

func (testHost) Background(wait func()) { wait() }
func (testHost) Yield()                 {}
func (testHost) Keeps() bool            { return true }

// PlayOne plays one cell for a test and returns what it came to.
func PlayOne(t *testing.T, s Scenario, f Family, m Mode, connections int, broken ...Fault) result.Cell {
	t.Helper()
	cfg := config(t, s, f, m, connections)
	for _, b := range broken {
		b(&cfg.faults)
	}
	var p Played
	inTime(t, func() (*verdict.Observation, verdict.Verdict) {
		p = Play(cfg, testHost{})
		return &p.obs, p.Verdict
	})
	return p.Cell("", false)
}

// inTime plays a cell, and plays it again while it is an ERROR because the machine was too slow for it. The limit for that is a timer
// of the kernel's, and no setting stretches it.
func inTime(t *testing.T, play func() (*verdict.Observation, verdict.Verdict)) {
	t.Helper()
	for range 10 {
		seen, v := play()
		if seen.OnSlowMachine(v).Status == v.Status {
			return
		}
		t.Logf("%s", v.Reason)
	}
}

// PlayKept plays one cell that is kept from being played for a while because others are, and returns how long it took in all.
func PlayKept(t *testing.T, s Scenario, m Mode, tracer func() (*trace.Tracer, error), kept time.Duration) (c result.Cell, took time.Duration) {
	t.Helper()
	cfg := config(t, s, Families()[0], m, 1)
	cfg.Alone = &sync.Mutex{}
	cfg.Alone.Lock()
	ready := make(chan struct{})
	cfg.Tracer = func() (*trace.Tracer, error) {
		close(ready)
		return tracer()
	}
	go func() {
		defer cfg.Alone.Unlock()
		<-ready
		time.Sleep(kept)
	}()
	began := time.Now()
	p := Play(cfg, testHost{})
	return p.Cell("", false), time.Since(began)
}

// Observe plays one cell for a test and returns how it would be judged by any expectation.
func Observe(t *testing.T, s Scenario, f Family, m Mode) func(verdict.Expectation) verdict.Verdict {
	t.Helper()
	var l *Lab
	judge := func(e verdict.Expectation) verdict.Verdict { return verdict.Judge(e, &l.obs, nil, false) }
	var err error
	inTime(t, func() (*verdict.Observation, verdict.Verdict) {
		l = newLab(config(t, s, f, m, max(s.Connections, 1)), testHost{})
		if err = netns.Do(l.play); err != nil {
			return &l.obs, verdict.Verdict{Status: result.Error, Reason: l.obs.Slowly(err.Error())}
		}
		return &l.obs, judge(s.Expect(m))
	})
	if err != nil {
		t.Errorf("%s/%s/%s: %v", s.Name, f.Name, m.Name, err)
		return nil
	}
	if most := s.Sockets(l.cfg.Connections); l.held > most {
		t.Errorf("%s/%s/%s: held %d sockets, and says that it needs %d", s.Name, f.Name, m.Name, l.held, most)
	}
	return judge
}

func config(t *testing.T, s Scenario, f Family, m Mode, connections int) Config {
	t.Helper()
	dropper, err := netns.NewDropper(t.Context(), "nftables")
	if err != nil {
		t.Fatal(err)
	}
	never, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(never) })
	return Config{
		Settings: Settings{Port: 80, TimeoutMul: 4, Detail: StoryDetail}, Case: Case{Scenario: &s, Family: f, Mode: m},
		Repeat: 1, Connections: connections, Dropper: dropper, Cancelled: never,
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
