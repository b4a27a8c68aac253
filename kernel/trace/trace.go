// Package trace records what the kernel itself says of TCP: which resets it sends and why, what it drops and why, what it
// retransmits, and how sockets change state. It does so for the network namespaces that are watched, and no other.
//
// The kernel tells it to BPF programs on raw tracepoints, which all namespaces share: they are attached once, and throw
// away in the kernel what belongs to no watched namespace. The attachments are file descriptors, so the kernel takes the
// programs away with the process, however it ends.
package trace

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
)

//go:generate go tool bpf2go -target bpfel -type event -type watch probe trace.bpf.c

// defaultRing is room for ten thousand events. The ring is read when a watch stops, and when it is half full.
const defaultRing = 1 << 20

// Tracer holds the attached programs. Its methods, and those of its watches, may be called from any thread.
type Tracer struct {
	// Missing are the tracepoints that this kernel lacks, as "tcp:tcp_send_reset". Without irq:softirq_entry or
	// irq:softirq_exit, nobody knows of what was done in a softirq.
	Missing []string

	objs   objects
	links  []link.Link
	clock  int32 // the clock of the events
	names  names
	wakeup *os.File // becomes readable when the ring is half full
	waker  sync.WaitGroup

	mu       sync.Mutex // guards what follows, and the reading of the ring
	ring     *ringbuf.Reader
	record   ringbuf.Record
	watching map[uint32]*Watch
	lastID   uint32
	err      error // why there is nothing more to read
}

// objects are the programs and maps, without the variables: those are set before, and to have them the library would map
// their memory, and so keep it in the kernel until the garbage collector comes by.
type objects struct {
	probePrograms
	probeMaps
}

func (o *objects) Close() error { return errors.Join(o.probePrograms.Close(), o.probeMaps.Close()) }

// ErrClosed is returned by what is asked of a Tracer after Close.
var ErrClosed = errors.New("the tracer is closed")

// Options ask for a tracer that is not as usual: where it has too little room, or a kernel too few tracepoints, whoever
// leans on it has to notice.
type Options struct {
	Ring int // bytes, a power of two of pages; 0: one MiB
	// Without are tracepoints, as "tcp:tcp_send_reset", that are asked for by a name which no kernel has.
	Without []string
	noTAI   bool // events use the clock that kernels before 6.1 have
}

// Open loads the programs and attaches them; from then on every softirq and every dropped segment of the host costs some
// tens of nanoseconds more. It wraps kernel.ErrNotSupported where this kernel or this user cannot have that.
func Open() (*Tracer, error) { return OpenWith(Options{}) }

// OpenWith is Open with options.
func OpenWith(o Options) (*Tracer, error) {
	t, err := open(o)
	if err != nil {
		return nil, fmt.Errorf("trace the kernel: %w", err)
	}
	return t, nil
}

func open(o Options) (_ *Tracer, err error) {
	types, err := btf.LoadKernelSpec()
	if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, os.ErrNotExist) {
		return nil, &kernel.NotSupportedError{
			Reason: "this kernel does not describe its types: no /sys/kernel/btf/vmlinux (CONFIG_DEBUG_INFO_BTF)",
			Next:   "boot a distribution's kernel, or one built with CONFIG_DEBUG_INFO_BTF=y",
		}
	} else if err != nil {
		return nil, fmt.Errorf("read the kernel's BTF: %w", err)
	}
	t := &Tracer{watching: map[uint32]*Watch{}}
	defer func() {
		if err != nil {
			_ = t.Close()
		}
	}()
	spec, err := loadProbe()
	if err != nil {
		return nil, err
	}
	spec.Maps[probeMapEvents].MaxEntries = uint32(cmp.Or(o.Ring, defaultRing))
	if err := t.fit(spec, types, !o.noTAI); err != nil {
		return nil, err
	}
	if err := spec.LoadAndAssign(&t.objs, &ebpf.CollectionOptions{
		Programs: ebpf.ProgramOptions{KernelTypes: types},
	}); err != nil {
		return nil, explainLoad(err)
	}
	if err := t.openRing(); err != nil {
		return nil, err
	}
	if err := t.attachAll(o.Without); err != nil {
		return nil, err
	}
	return t, nil
}

// fit sets what the programs have to know of this kernel, and learns the names of its reasons.
func (t *Tracer) fit(spec *ebpf.CollectionSpec, types *btf.Spec, tai bool) error {
	// A program that reads more arguments than a tracepoint has is not attached, so they are counted.
	resetArgs, dropArgs := arguments(types, "tcp_send_reset"), arguments(types, "kfree_skb")
	var err error
	if resetArgs >= 3 {
		if t.names.reset, err = reasons(types, "sk_rst_reason", "SK_RST_REASON_"); err != nil {
			return err
		}
	}
	if dropArgs >= 3 {
		if t.names.drop, err = reasons(types, "skb_drop_reason", "SKB_DROP_REASON_", "SKB_"); err != nil {
			return err
		}
	}
	// CLOCK_TAI is the clock of the capture's timestamps but for a whole number of seconds: when someone sets the time,
	// both jump, and no time namespace shifts it. CLOCK_MONOTONIC is what there is before Linux 6.1.
	t.clock = unix.CLOCK_MONOTONIC
	if tai = tai && hasHelper(types, "BPF_FUNC_ktime_get_tai_ns"); tai {
		t.clock = unix.CLOCK_TAI
	}
	var pidns unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &pidns); err != nil {
		return fmt.Errorf("find our PID namespace: %w", err)
	}
	v := spec.Variables
	return errors.Join(
		v[probeVarClockIsTai].Set(tai),
		v[probeVarSendResetArgs].Set(uint32(resetArgs)),
		v[probeVarKfreeSkbArgs].Set(uint32(dropArgs)),
		// dev_t as the kernel has it, which is not as stat(2) gives it.
		v[probeVarPidnsDev].Set(uint64(unix.Major(pidns.Dev))<<20|uint64(unix.Minor(pidns.Dev))),
		v[probeVarPidnsIno].Set(pidns.Ino),
		v[probeVarWakeAt].Set(uint64(spec.Maps[probeMapEvents].MaxEntries)/2),
	)
}

// arguments counts the arguments of a tracepoint; 0: there is none.
func arguments(types *btf.Spec, tracepoint string) int {
	var def *btf.Typedef // of a pointer to a function, whose first argument is the probe's own
	if err := types.TypeByName("btf_trace_"+tracepoint, &def); err != nil {
		return 0
	}
	pointer, ok := def.Type.(*btf.Pointer)
	if !ok {
		return 0
	}
	f, ok := pointer.Target.(*btf.FuncProto)
	if !ok {
		return 0
	}
	return len(f.Params) - 1
}

func hasHelper(types *btf.Spec, name string) bool {
	var helpers *btf.Enum
	if err := types.TypeByName("bpf_func_id", &helpers); err != nil {
		return false
	}
	return slices.ContainsFunc(helpers.Values, func(v btf.EnumValue) bool { return v.Name == name })
}

// explainLoad tells a clear "no" from a failure to find out.
func explainLoad(err error) error {
	var verifier *ebpf.VerifierError
	switch {
	case errors.Is(err, unix.EPERM): // and not EACCES, which is the verifier's word
		return &kernel.NotSupportedError{
			Reason: "tracing needs CAP_BPF and CAP_PERFMON outside any user namespace",
			Next:   "run it as root: sudo rpmig …",
		}
	case errors.As(err, &verifier):
		return &kernel.NotSupportedError{
			Reason: "this kernel's verifier refuses the tracing programs: " + verifier.Cause.Error(),
			Next:   "rpmig doctor",
		}
	case errors.Is(err, unix.ENOSYS), errors.Is(err, ebpf.ErrNotSupported):
		return &kernel.NotSupportedError{Reason: "this kernel cannot trace with BPF: " + err.Error(), Next: "rpmig doctor"}
	default:
		return fmt.Errorf("load BPF programs: %w", err)
	}
}

func (t *Tracer) openRing() (err error) {
	if t.ring, err = ringbuf.NewReader(t.objs.Events); err != nil {
		return fmt.Errorf("open the ring: %w", err)
	}
	t.ring.SetDeadline(time.Unix(1, 0)) // a reader never waits
	fd, err := unix.FcntlInt(uintptr(t.objs.Events.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the ring: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // the sign for os.NewFile to wait for it as for a socket
		unix.Close(fd)
		return fmt.Errorf("open the ring: %w", err)
	}
	t.wakeup = os.NewFile(uintptr(fd), "ring")
	conn, err := t.wakeup.SyscallConn()
	if err != nil {
		return fmt.Errorf("wait for the ring: %w", err)
	}
	t.waker.Go(func() {
		// Ends with an error, when the file is closed.
		_ = conn.Read(func(uintptr) bool {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.drain()
			return false
		})
	})
	return nil
}

// attachAll attaches the programs. Those of the softirqs come first, for the others lean on them.
func (t *Tracer) attachAll(without []string) error {
	for _, at := range []struct {
		name    string
		program *ebpf.Program
	}{
		{"irq:softirq_entry", t.objs.EnterSoftirq},
		{"irq:softirq_exit", t.objs.ExitSoftirq},
		{"tcp:tcp_send_reset", t.objs.SendReset},
		{"tcp:tcp_receive_reset", t.objs.ReceiveReset},
		{"tcp:tcp_retransmit_skb", t.objs.Retransmit},
		{"tcp:tcp_retransmit_synack", t.objs.RetransmitSynack},
		{"sock:inet_sock_set_state", t.objs.SetState},
		{"skb:kfree_skb", t.objs.Drop},
		{"tcp:tcp_destroy_sock", t.objs.DestroySock},
	} {
		_, raw, _ := strings.Cut(at.name, ":")
		if slices.Contains(without, at.name) {
			raw = "rpmig_without_" + raw
		}
		if err := t.attach(at.name, raw, at.program); err != nil {
			return err
		}
	}
	return nil
}

// attach attaches a program to the tracepoint that people know by its name, and the kernel by its raw one.
func (t *Tracer) attach(name, raw string, program *ebpf.Program) error {
	l, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: raw, Program: program})
	switch {
	case errors.Is(err, unix.ENOENT):
		t.Missing = append(t.Missing, name)
	case errors.Is(err, unix.EPERM):
		return explainLoad(err)
	case err != nil:
		return fmt.Errorf("attach to %s: %w", name, err)
	default:
		t.links = append(t.links, l)
	}
	return nil
}

// Close detaches the programs and frees them; the kernel takes its time over it. Watches that are not stopped by then
// return ErrClosed.
func (t *Tracer) Close() error {
	t.mu.Lock()
	closed := errors.Is(t.err, ErrClosed)
	t.err = ErrClosed
	t.mu.Unlock()
	if closed {
		return nil
	}
	var errs []error
	for _, l := range t.links {
		errs = append(errs, l.Close())
	}
	if t.wakeup != nil {
		errs = append(errs, t.wakeup.Close())
	}
	t.waker.Wait()
	if t.ring != nil {
		errs = append(errs, t.ring.Close())
	}
	errs = append(errs, t.objs.Close())
	return errors.Join(errs...)
}

// drain hands out what is in the ring, until it is empty.
func (t *Tracer) drain() {
	for t.err == nil {
		err := t.ring.ReadInto(&t.record)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err != nil {
			t.err = fmt.Errorf("read the ring: %w", err)
			return
		}
		id, ok := watchOf(t.record.RawSample)
		if !ok {
			t.err = fmt.Errorf("read the ring: a record of %d bytes, want %d", len(t.record.RawSample), recordSize)
			return
		}
		if w := t.watching[id]; w != nil { // else it came while its watch was stopped
			w.records = append(w.records, t.record.RawSample...)
		}
	}
}

// Watch records the events of one network namespace.
type Watch struct {
	tracer  *Tracer
	cookie  uint64
	id      uint32
	misses  uint64
	offset  time.Duration
	records []byte // guarded by tracer.mu
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
	t.mu.Lock()
	defer t.mu.Unlock()
	w, err := t.watch(cookie)
	if err != nil {
		return nil, fmt.Errorf("watch network namespace %d: %w", cookie, explainLost(err))
	}
	return w, nil
}

// explainLost says what it means that the kernel refuses what it granted to Open. A process may lose its capabilities, of
// which kernels before 5.19 ask for every use of a map, or get a seccomp filter; what is attached goes on.
func explainLost(err error) error {
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	return fmt.Errorf("the right to use BPF was lost since the trace was opened (--trace=off does without it): %w", err)
}

func (t *Tracer) watch(cookie uint64) (w *Watch, err error) {
	if t.err != nil {
		return nil, t.err
	}
	// A number of its own, and not the cookie, tells its records from those of an earlier watch that are still in the ring.
	t.lastID++
	w = &Watch{tracer: t, cookie: cookie, id: t.lastID}
	if w.offset, err = wallOffset(t.clock); err != nil {
		return nil, err
	}
	if w.misses, err = t.misses(); err != nil {
		return nil, err
	}
	err = t.objs.Watches.Update(cookie, probeWatch{Id: w.id}, ebpf.UpdateNoExist)
	if errors.Is(err, ebpf.ErrKeyExist) {
		return nil, errors.New("it is watched already")
	} else if err != nil {
		return nil, err
	}
	t.watching[w.id] = w
	return w, nil
}

// A Recording is what a Watch saw.
type Recording struct {
	Events []Event // in the order of their time
	// Lost is how many events of the namespace found the ring full. With any, that something is not among the events is
	// no evidence.
	Lost int
	// Missed is how many events of the whole host the kernel kept from the programs, because it was running the same
	// program on the same CPU already, as when a timer interrupts a system call in its midst. Nobody can tell which
	// namespace they were of, and most are strangers'; Untraced tells for resets and retransmissions.
	Missed int
	// Missing is the Tracer's.
	Missing []string
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
	r, records, err := w.stop()
	if err == nil {
		r.Events, err = w.events(records)
	}
	if err != nil {
		return nil, fmt.Errorf("watch network namespace %d: %w", w.cookie, explainLost(err))
	}
	return r, nil
}

// stop returns a recording without events, and their records.
func (w *Watch) stop() (r *Recording, records []byte, err error) {
	t := w.tracer
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.watching[w.id] != w {
		return nil, nil, errors.New("it is stopped already")
	}
	t.drain()
	delete(t.watching, w.id)
	if t.err != nil {
		return nil, nil, t.err
	}
	// Only now: what found the ring full up to here must be counted.
	var counted probeWatch
	misses, err := t.misses()
	if err := errors.Join(err, t.objs.Watches.Lookup(w.cookie, &counted), t.objs.Watches.Delete(w.cookie)); err != nil {
		return nil, nil, err
	}
	return &Recording{Lost: int(counted.Lost), Missed: int(misses - w.misses), Missing: t.Missing}, w.records, nil
}

// misses counts the events that the kernel has kept from the programs (Linux 5.12; 0 before).
func (t *Tracer) misses() (n uint64, err error) {
	for _, p := range []*ebpf.Program{
		t.objs.SendReset, t.objs.ReceiveReset, t.objs.Retransmit, t.objs.RetransmitSynack, t.objs.SetState, t.objs.Drop,
		t.objs.DestroySock,
	} {
		stats, err := p.Stats()
		if err != nil {
			return 0, fmt.Errorf("ask for missed events: %w", err)
		}
		n += stats.RecursionMisses
	}
	return n, nil
}

// events reads records.
func (w *Watch) events(records []byte) ([]Event, error) {
	offset, err := wallOffset(w.tracer.clock)
	if err != nil {
		return nil, err
	}
	if moved := (offset - w.offset).Abs(); moved > 500*time.Microsecond {
		return nil, fmt.Errorf("the clock was set by %v meanwhile: the times of events would be wrong", moved)
	}
	events := make([]Event, 0, len(records)/recordSize)
	for record := range slices.Chunk(records, recordSize) {
		e, err := parse(record, w.tracer.names, offset)
		if err != nil {
			return nil, err
		}
		events = append(events, e)
	}
	// Two CPUs may put their events into the ring the other way round.
	slices.SortStableFunc(events, func(a, b Event) int { return cmp.Compare(a.Time.UnixNano(), b.Time.UnixNano()) })
	return events, nil
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
