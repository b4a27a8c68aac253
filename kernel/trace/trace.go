// Package trace records what the kernel itself says of TCP: which resets it sends and why, what it drops and why, what it
// retransmits, and how sockets change state. It does so for the network namespaces that are watched, and no other.
//
// There are two backends. As a rule the kernel tells it to BPF programs on raw tracepoints, which all namespaces share:
// they are attached once, and throw away in the kernel what belongs to no watched namespace. Where a kernel does not
// describe its types to them, perf events on the same tracepoints tell, in the layout that tracefs gives (see perf). That
// is less, and of the whole host: see Recording.Claim.
//
// Either is no more than file descriptors, so the kernel takes all away with the process, however it ends.
package trace

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
)

// Tracer is what the kernel tells its doings to. Its methods, and those of its watches, may be called from any thread.
type Tracer struct {
	// Missing are the tracepoints that this kernel lacks, as "tcp:tcp_send_reset". Without irq:softirq_entry or
	// irq:softirq_exit, nobody knows of what was done in a softirq.
	Missing []string
	// HostWide says that the events do not tell their namespace. There can be one watch at a time then, and its recording
	// has no events before Claim.
	HostWide bool

	backend backend
}

// backend is a way to get at the kernel's tracepoints.
type backend interface {
	// begin starts a watch of the network namespace with that cookie, and returns what stops it.
	begin(cookie uint64) (stop func() (*Recording, error), err error)
	Close() error
}

// ErrClosed is returned by what is asked of a Tracer after Close.
var ErrClosed = errors.New("the tracer is closed")

// Options ask for a tracer that is not as usual: where it has too little room, or a kernel too few tracepoints, whoever
// leans on it has to notice.
type Options struct {
	Ring int // bytes, a power of two of pages, with Tracefs for each CPU; 0: as usual
	// Without are tracepoints, as "tcp:tcp_send_reset", that are asked for by a name which no kernel has.
	Without []string
	Tracefs bool // perf events, though BPF may work
	misses  bool // count Recording.Missed, which costs a watch a dozen system calls
	noTAI   bool // events use the clock that kernels before 6.1 have
	noBTF   bool // as if the kernel did not describe its types
}

// Open loads the programs and attaches them; from then on every softirq and every dropped segment of the host costs some
// tens of nanoseconds more. Where the kernel has no BTF for them it opens perf events, which cost next to nothing but
// while there is a watch. It wraps kernel.ErrNotSupported where this kernel or this user cannot have that.
func Open() (*Tracer, error) { return OpenWith(Options{}) }

// OpenWith is Open with options.
func OpenWith(o Options) (*Tracer, error) {
	t, err := open(o)
	if err != nil {
		return nil, fmt.Errorf("trace the kernel: %w", err)
	}
	return t, nil
}

// errNoBTF is what BPF programs lack that perf events can do without.
var errNoBTF = &kernel.NotSupportedError{
	Reason: "this kernel does not describe its types: no /sys/kernel/btf/vmlinux (CONFIG_DEBUG_INFO_BTF)",
	Next:   "boot a distribution's kernel, or one built with CONFIG_DEBUG_INFO_BTF=y",
}

func open(o Options) (*Tracer, error) {
	if !o.Tracefs {
		p, err := openPrograms(o)
		if err == nil {
			return &Tracer{Missing: p.missing, backend: p}, nil
		}
		if !errors.Is(err, errNoBTF) {
			return nil, err
		}
	}
	p, err := openPerf(o)
	var no *kernel.NotSupportedError
	if errors.As(err, &no) && !o.Tracefs {
		return nil, &kernel.NotSupportedError{Reason: errNoBTF.Reason + "; and without: " + no.Reason, Next: no.Next}
	} else if err != nil {
		return nil, err
	}
	return &Tracer{Missing: p.missing, HostWide: true, backend: p}, nil
}

// Close ends it all; the kernel takes its time over freeing programs. Watches that are not stopped by then return
// ErrClosed.
func (t *Tracer) Close() error { return t.backend.Close() }

// Watch records the events of one network namespace.
type Watch struct {
	cookie uint64
	stop   func() (*Recording, error)
}

// Namespace returns the cookie of the calling thread's network namespace (Linux 5.14).
func Namespace() (cookie uint64, err error) {
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
	if t.HostWide { // which works where there are no cookies, too
		return t.Watch(0)
	}
	cookie, err := Namespace()
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

// A Recording is what a Watch saw.
type Recording struct {
	Events []Event // in the order of their time
	// Lost is how many events found the ring full, of the namespace; or where the Tracer is HostWide, how many the kernel
	// has counted and not recorded for whatever reason, of the host. With any, that something is not among the events is no
	// evidence.
	Lost int
	// Missed is how many events of the whole host the kernel kept from the programs, because it was running the same
	// program on the same CPU already, as when a timer interrupts a system call in its midst. Nobody can tell which
	// namespace they were of, and most are strangers'; Untraced tells for resets and retransmissions. So it is for tests alone
	// that they are counted.
	Missed int
	// Missing and HostWide are the Tracer's.
	Missing  []string
	HostWide bool

	host []hostEvent // all that happened on the host meanwhile, if HostWide
}

// Untraced returns how many resets and retransmissions the namespace's counters saw, over the time of a watch, that are
// not among its events though the kernel has tracepoints for them. In a virtual machine on a busy host (Linux 6.18), all
// raw tracepoint programs of a CPU, in whatever process, were seen to be left out for up to some hundreds of
// microseconds, mostly in a softirq's timers, and no miss to be counted; perf counters on the same tracepoints went on.
// Only what has a counter gives such a gap away.
func (r *Recording) Untraced(during kernel.Counters) int {
	told := [kinds]int{}
	for _, e := range r.Events {
		told[e.Kind]++
	}
	untold := func(counter string, by ...Kind) int {
		n := int(during[counter])
		for _, k := range by {
			if slices.Contains(r.Missing, k.String()) {
				return 0
			}
			n -= told[k]
		}
		return max(n, 0)
	}
	return untold(kernel.OutRsts, ResetSent) + untold("RetransSegs", Retransmit, SynAckRetransmit)
}

// Stop ends the watch. All events that happened before the call are in the recording, or among the lost and missed.
func (w *Watch) Stop() (*Recording, error) {
	r, err := w.stop()
	if err != nil {
		return nil, watchError(w.cookie, err)
	}
	return r, nil
}

// wallOffset returns what CLOCK_REALTIME, the clock of the capture's timestamps, is ahead of another clock. It reads the
// one between two readings of the other and takes the closest of some tries: it errs by some tens of nanoseconds.
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

// sameOffset returns the wallOffset of a clock that had one before, unless somebody has set the clock meanwhile.
func sameOffset(clock int32, before time.Duration) (offset time.Duration, err error) {
	if offset, err = wallOffset(clock); err != nil {
		return 0, err
	}
	if moved := (offset - before).Abs(); moved > 500*time.Microsecond {
		return 0, fmt.Errorf("the clock was set by %v meanwhile: the times of events would be wrong", moved)
	}
	return offset, nil
}
