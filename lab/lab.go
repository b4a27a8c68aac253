package lab

import (
	"fmt"
	"math"
	"net/netip"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/capture"
	"github.com/rpmig/rpmig/evidence"
	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/kernel/trace"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
	"github.com/rpmig/rpmig/wait"
)

// Lab is where a scenario is played: a network namespace, its witnesses, and the steps that a scenario is written in, which
// are methods of the Lab, its listeners, its workers and its program. A step that cannot be done ends the scenario; the cell
// is an ERROR then. All of them run on the namespace's own thread.
type Lab struct {
	cfg      Config
	host     Host
	waiter   wait.Waiter
	ring     *capture.Ring // nil: not there yet, or closed
	closing  atomic.Int32  // rings that are being closed
	diag     *kernel.Diag
	counting *kernel.Counting
	program  *migrate.Program
	steering *netns.Steering // nil: clients reach what is bound to the address to which they connect
	rule     netns.Rule      // nil: it is not in

	listeners []*Listener // in the order in which they came up; those that are gone too
	others    []*Listener // beside them, which the program does not choose
	clients   []*client
	// bystanders are clients besides those that the case is about.
	bystanders []*client
	workers    []*Worker
	connected  time.Time // when the first of them began to
	payload    []byte
	setClient  func(fd int, to netip.Addr) error // nil: clients are as they are made
	survivors  []survivor
	talkBuffer []byte
	again      bool  // clients have sent more than once
	fds        []int // every socket, closed at the end unless closed before
	held       int   // the most of them at a time

	sysctls       []Sysctl     // what was set, the latest last
	rules         []netns.Rule // that were in at some time
	before, after kernel.MIB   // the counters around the scenario; before is empty where they were not read

	watch   *trace.Watch // nil: no trace
	waited  time.Duration
	release func() // where the cell is played alone: lets others be played
	noted   []noted
	obs     verdict.Observation
	record  evidence.Record
}

// counters reads those of the namespace.
func (l *Lab) counters() (kernel.Counters, error) {
	c, err := l.counting.Read()
	return l.cfg.faults.hide(c), err
}

// abort carries an error out of Play; only perform recovers it.
type abort struct{ err error }

// must ends the scenario when err is not nil.
func (l *Lab) must(err error) {
	if err != nil {
		panic(abort{fmt.Errorf("%s: %w", l.obs.Steps.Name(len(l.obs.Steps)), err)})
	}
}

func (l *Lab) step(format string, args ...any) {
	l.worked()
	if err := l.snapshot(); err != nil {
		panic(abort{err})
	}
	l.obs.Steps = append(l.obs.Steps, result.Step{Name: fmt.Sprintf(format, args...), At: l.now()})
}

// now is the time in the cell, in seconds.
func (l *Lab) now() float64 { return time.Since(l.record.Start).Seconds() }

// Mode is the cell's mode.
func (l *Lab) Mode() Mode { return l.cfg.Mode }

// SlowMachine tells whether nothing is to be asserted on time.
func (l *Lab) SlowMachine() bool { return l.cfg.Slow }

// RealTimers tells whether the user wants the talk's kernel timers, however long they take.
func (l *Lab) RealTimers() bool { return l.cfg.RealTimers }

// Connections is how many clients the cell has.
func (l *Lab) Connections() int { return l.cfg.Connections }

// DialAddress is where the cell's clients connect to. On loopback it is their own address, too.
func (l *Lab) DialAddress() netip.Addr { return l.cfg.Family.Dial }

// OtherAddress is an address at which the family's clients reach a listener that is not of the usual listeners' group:
// a wildcard of the same family, or of the other where theirs is a wildcard.
func (l *Lab) OtherAddress() netip.Addr {
	if l.v6() {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// SetSysctl writes a sysctl of the namespace.
func (l *Lab) SetSysctl(name, value string) {
	l.step("%s=%s", name, value)
	l.must(Sysctl{Name: name, Value: value}.Set())
	l.sysctls = append(l.sysctls, Sysctl{Name: name, Value: value})
}

// PinCPU keeps the cell's thread on the CPU on which it is, and returns its number. What the thread sends over lo is
// received there too (net/core/dev.c:netif_rx_internal). The thread dies with the cell, and its affinity with it.
func (l *Lab) PinCPU() int {
	var cpu uint32
	_, _, e := unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&cpu)), 0, 0) // x/sys has no function for it
	if e != 0 {
		l.must(wrap("getcpu", e))
	}
	l.step("stay on CPU %d", cpu)
	var set unix.CPUSet
	set.Set(int(cpu))
	l.must(wrap("sched_setaffinity", unix.SchedSetaffinity(0, &set)))
	return int(cpu)
}

// RaisePriority gives the cell's thread precedence over others, where the user may do that: for a case that has to be over when
// the SYN+ACK timer fires, a second after the SYN, on however busy a machine. The thread dies with the cell.
func (l *Lab) RaisePriority() {
	l.step("raise the priority")
	const highest = -20
	l.must(kernel.SetNice(highest))
}

// Fact notes what the scenario has found out; the judge holds it against Expectation.Facts.
func (l *Lab) Fact(name string, got any) {
	number := math.NaN()
	if n, ok := got.(int); ok {
		number = float64(n)
	}
	l.obs.Facts = append(l.obs.Facts, verdict.Fact{Name: name, Got: fmt.Sprint(got), Number: number, Step: len(l.obs.Steps)})
}

// FactNumber notes a number that the scenario has found out, with what explains it to the reader. The judge holds the number
// against a verdict.Range.
func (l *Lab) FactNumber(name string, number float64, explained string) {
	l.obs.Facts = append(l.obs.Facts, verdict.Fact{Name: name, Got: fmt.Sprintf("%.3g (%s)", number, explained), Number: number, Step: len(l.obs.Steps)})
}

// Share says of how many of the connections something is true, without their number where that will do.
func (l *Lab) Share(n int) string {
	switch n {
	case 0:
		return "none"
	case l.cfg.Connections:
		return "all"
	default:
		return fmt.Sprintf("%d of %d", n, l.cfg.Connections)
	}
}

// Now is the time since the cell began.
func (l *Lab) Now() time.Duration { return time.Since(l.record.Start) }

// close frees all that the Lab holds but the ring. It runs on the way out of every cell, when no witness looks any more.
func (l *Lab) close() {
	l.closeSockets()
	if l.steering != nil {
		_ = l.steering.Close()
	}
	if l.ring != nil {
		l.closeRing()
	}
	for _, r := range l.rules {
		l.host.Background(r.Close)
	}
	if l.diag != nil {
		_ = l.diag.Close()
	}
	if l.counting != nil {
		l.counting.Close()
	}
	if l.program != nil {
		_ = l.program.Close()
	}
	if l.watch != nil {
		_, _ = l.watch.Stop()
	}
}

// closeRing closes the capture, which takes a while.
func (l *Lab) closeRing() {
	ring := l.ring
	l.ring = nil
	l.closing.Add(1)
	l.host.Background(func() {
		ring.Close()
		l.closing.Add(-1)
	})
}
