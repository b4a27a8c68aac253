// Package trace records the kernel's own trace events of TCP: which resets it sends and why, what it drops and why, what it
// retransmits, and how sockets change state. It records only network namespaces that are watched.
//
// There are two backends. The usual one is BPF programs on raw tracepoints. They are attached once, for all namespaces, and
// discard in the kernel what belongs to no watched namespace. They need the kernel's BTF. Where they cannot be had, perf events
// on the same tracepoints record, in the layout that tracefs describes (see perf). They have fewer fields, and see the whole host: see
// Recording.Claim.
//
// Both consist of file descriptors alone, so the kernel removes everything with the process, however it ends.
package trace

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
)

// Tracer records the kernel's events. Its methods, and those of its watches, may be called from any thread.
type Tracer struct {
	// Missing are the tracepoints that this kernel lacks, such as "tcp:tcp_send_reset". Without irq:softirq_entry or
	// irq:softirq_exit, Event.Softirq is unknown.
	Missing []string
	// HostWide says that the events do not have their namespace. Then there can be one watch at a time, and its recording has
	// no events before Claim.
	HostWide bool
	NoBPF    error // why it is HostWide, if that was not asked for

	backend backend
}

// backend is a way to record the kernel's tracepoints.
type backend interface {
	// begin starts a watch of the network namespace with that cookie, and returns a function that stops it.
	begin(cookie uint64) (stop func() (*Recording, error), err error)
	Close() error
}

// ErrClosed is the error of every call after Tracer.Close.
var ErrClosed = errors.New("the tracer is closed")

// Options ask for an unusual tracer. But for Stacks, and for Without where events are not needed, they are for tests: with too small a
// ring or too few tracepoints, the code that depends on the trace has to notice.
type Options struct {
	Ring int // bytes, a power of two of pages, with Tracefs for each CPU; 0: the default
	// Without are tracepoints, such as "tcp:tcp_send_reset", that should be missing. They are asked for by a name that no
	// kernel has.
	Without []string
	Tracefs bool // perf events, even if BPF works
	Stacks  bool // set Event.Stack; not with Tracefs
	misses  bool // count Recording.missed, which costs each watch a dozen system calls
	noTAI   bool // use the clock of kernels before 6.1
	noBTF   bool // as if the kernel had no BTF
}

// Open loads the programs and attaches them. From then on every softirq and every dropped segment of the host costs some
// tens of nanoseconds more. Where they cannot be had it opens perf events, which cost next to nothing while there is no
// watch. It wraps kernel.ErrNotSupported if this kernel or this user can have neither.
func Open() (*Tracer, error) { return OpenWith(Options{}) }

// OpenWith is Open with options.
func OpenWith(o Options) (*Tracer, error) {
	t, err := open(o)
	if err != nil {
		return nil, fmt.Errorf("trace the kernel: %w", err)
	}
	return t, nil
}

// Opening is a tracer that is being opened in the background.
type Opening struct {
	opened chan struct{}
	tracer *Tracer
	err    error
}

// Start calls open on a new thread, and returns at once. To open a tracer takes tens of milliseconds, mostly of waiting for
// the kernel. Wait returns what open returns: a tracer, none, or an error. Close must be called.
func Start(open func() (*Tracer, error)) *Opening {
	o := &Opening{opened: make(chan struct{})}
	go func() {
		defer close(o.opened)
		// A higher priority, so that it need not wait for a CPU. Without the right to raise it, opening only takes longer.
		// The thread is not unlocked, so that it ends with the goroutine.
		runtime.LockOSThread()
		_ = kernel.SetNice(-10)
		o.tracer, o.err = open()
	}()
	return o
}

// Wait returns the tracer once it is open. It may be called from many goroutines.
func (o *Opening) Wait() (*Tracer, error) {
	<-o.opened
	return o.tracer, o.err
}

// Close waits for the tracer, and closes it if there is one.
func (o *Opening) Close() error {
	if t, _ := o.Wait(); t != nil {
		return t.Close()
	}
	return nil
}

// errNoBTF says that the programs cannot be fitted to this kernel.
var errNoBTF = &kernel.NotSupportedError{
	Reason: "this kernel does not describe its types: no /sys/kernel/btf/vmlinux (CONFIG_DEBUG_INFO_BTF)",
	Next:   "mount -t sysfs sysfs /sys; or boot a kernel built with CONFIG_DEBUG_INFO_BTF=y",
}

// open opens the programs, or perf events wherever they cannot be had.
func open(o Options) (*Tracer, error) {
	var noBPF error
	if !o.Tracefs {
		p, err := openPrograms(o)
		if err == nil {
			return &Tracer{Missing: p.missing, backend: p}, nil
		}
		noBPF = err
	}
	p, err := openPerf(o)
	if err != nil && noBPF != nil {
		return nil, neither(noBPF, err)
	} else if err != nil {
		return nil, err
	}
	return &Tracer{Missing: p.missing, HostWide: true, NoBPF: noBPF, backend: p}, nil
}

// neither is the error where there is neither backend. It is a clear no if both are.
func neither(noBPF, noPerf error) error {
	var no, no2 *kernel.NotSupportedError
	if !errors.As(noBPF, &no) || !errors.As(noPerf, &no2) {
		return fmt.Errorf("%w; and by tracefs: %w", noBPF, noPerf)
	}
	if kernel.MayNot(no) {
		return no // who may not use BPF needs not hear of tracefs
	}
	both := &kernel.NotSupportedError{Reason: no.Reason + "; and by tracefs: " + no2.Reason, Next: no.Next}
	if kernel.MayNot(no2) { // the shorter way
		both.Next, both.Denied = no2.Next, no2.Denied
	}
	return both
}

// Close ends the recording. The kernel frees programs some time later. Watches that are not stopped return ErrClosed.
func (t *Tracer) Close() error { return t.backend.Close() }

// Watch records the events of one network namespace.
type Watch struct {
	cookie uint64
	stop   func() (*Recording, error)
}

// namespace returns the cookie of the calling thread's network namespace (Linux 5.14).
func namespace() (cookie uint64, err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("ask for the namespace's cookie: %w", err)
	}
	defer unix.Close(fd)
	if cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE); err != nil {
		return 0, fmt.Errorf("ask for the namespace's cookie: %w", err)
	}
	return cookie, nil
}

// Watch begins to record the events of the network namespace with that cookie. A namespace can have one watch at a time.
func (t *Tracer) Watch(cookie uint64) (*Watch, error) {
	stop, err := t.backend.begin(cookie)
	if err != nil {
		return nil, watchError(cookie, err)
	}
	return &Watch{cookie: cookie, stop: stop}, nil
}

// WatchThread begins to record the events of the calling thread's network namespace.
func (t *Tracer) WatchThread() (*Watch, error) {
	if t.HostWide { // works without cookies, too
		return t.Watch(0)
	}
	cookie, err := namespace()
	if err != nil {
		return nil, err
	}
	return t.Watch(cookie)
}

func watchError(cookie uint64, err error) error {
	if cookie == 0 {
		return fmt.Errorf("watch the host: %w", err)
	}
	return fmt.Errorf("watch network namespace %d: %w", cookie, err)
}

// A Recording is what a Watch recorded.
type Recording struct {
	Events []Event // in the order of their time
	// Lost is how many events of the namespace found the ring full. If the Tracer is HostWide, it is how many events of the
	// host the kernel has counted but not recorded, for whatever reason. If any are lost, the absence of an event is no
	// evidence.
	Lost int
	// missed is how many events of the whole host the kernel did not run a program for, because the same program was running
	// on the same CPU already, as when a timer interrupts a system call. It is unknown which namespaces they belong to, and
	// most belong to others. So they are counted only for tests; Untraced tells about resets and retransmissions.
	missed int
	// Missing and HostWide are the Tracer's.
	Missing  []string
	HostWide bool

	host []hostEvent // all events of the host meanwhile, if HostWide
}

// Untraced returns how many resets and retransmissions the namespace's counters show during a watch that are not among its
// events, although the kernel has tracepoints for them. In a virtual machine on a busy host (Linux 6.18), the kernel was
// seen to skip all raw tracepoint programs on a CPU, of any process, for up to some hundreds of microseconds, mostly in
// a softirq's timers. It counted no miss, and perf counters on the same tracepoints went on. Only events that also have a
// counter show such a gap.
func (r *Recording) Untraced(during kernel.Counters) int {
	traced := [kinds]int{}
	for _, e := range r.Events {
		traced[e.Kind]++
	}
	missing := func(counter string, by ...Kind) int {
		n := int(during[counter])
		for _, k := range by {
			if slices.Contains(r.Missing, k.String()) {
				return 0
			}
			n -= traced[k]
		}
		return max(n, 0)
	}
	return missing("OutRsts", ResetSent) + missing("RetransSegs", Retransmit, SynAckRetransmit)
}

// Stop ends the watch. All events before the call are in the recording, or count as lost or missed.
func (w *Watch) Stop() (*Recording, error) {
	r, err := w.stop()
	if err != nil {
		return nil, watchError(w.cookie, err)
	}
	return r, nil
}

// wallOffset returns how far CLOCK_REALTIME, the clock of the capture's timestamps, is ahead of another clock. It reads it
// between two readings of the other clock, several times, and uses the closest readings. The error is some tens of
// nanoseconds.
func wallOffset(clock int32) (offset time.Duration, err error) {
	closest := int64(math.MaxInt64)
	for range 5 {
		var before, wall, after unix.Timespec
		if err := errors.Join(
			unix.ClockGettime(clock, &before),
			unix.ClockGettime(unix.CLOCK_REALTIME, &wall),
			unix.ClockGettime(clock, &after),
		); err != nil {
			return 0, fmt.Errorf("read the clock: %w", err)
		}
		if apart := after.Nano() - before.Nano(); apart < closest {
			closest = apart
			offset = time.Duration(wall.Nano() - before.Nano() - apart/2)
		}
	}
	return offset, nil
}

// sameOffset returns the wallOffset of a clock again. It is an error if the time was set in between.
func sameOffset(clock int32, before time.Duration) (offset time.Duration, err error) {
	if offset, err = wallOffset(clock); err != nil {
		return 0, err
	}
	if moved := (offset - before).Abs(); moved > 500*time.Microsecond {
		return 0, fmt.Errorf("the clock was set by %v meanwhile: the times of events would be wrong", moved)
	}
	return offset, nil
}
