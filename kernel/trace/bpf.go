package trace

import (
	"cmp"
	"errors"
	"fmt"
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

// defaultRing has space for ten thousand events. The ring is read when a watch stops, and when it is half full.
const defaultRing = 1 << 20

// programs is the backend that records with BPF programs on raw tracepoints.
type programs struct {
	missing []string
	objs    objects
	links   []link.Link
	clock   int32 // the clock of the events
	count   bool  // Options.misses
	names   names
	stacks  map[uint32]*Stack // Event.Stack, by number; nil without Options.Stacks; guarded by mu
	wakeup  *os.File          // becomes readable when the ring is half full
	waker   sync.WaitGroup

	mu       sync.Mutex // guards what follows, and the reading of the ring
	ring     *ringbuf.Reader
	record   ringbuf.Record
	watching map[uint32]*bpfWatch
	lastID   uint32
	err      error // why nothing more can be read
}

// objects are the programs and maps without the variables, which are set before. To return them too, the library would map
// their memory, and so keep it in the kernel until the next garbage collection.
type objects struct {
	probePrograms
	probeMaps
}

func (o *objects) Close() error { return errors.Join(o.probePrograms.Close(), o.probeMaps.Close()) }

func openPrograms(o Options) (_ *programs, err error) {
	types, err := btf.LoadKernelSpec()
	if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, os.ErrNotExist) || o.noBTF {
		return nil, errNoBTF
	} else if err != nil {
		return nil, fmt.Errorf("read the kernel's BTF: %w", err)
	}
	if _, err := namespace(); errors.Is(err, unix.ENOPROTOOPT) { // a watch needs it
		return nil, &kernel.NotSupportedError{Reason: "this kernel's network namespaces have no cookie (Linux 5.14 gives them one)", Next: tracing.Instead}
	} else if err != nil {
		return nil, err
	}
	kernel.RaiseMemlock()
	t := &programs{watching: map[uint32]*bpfWatch{}, count: o.misses}
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
	if o.Stacks {
		t.stacks = map[uint32]*Stack{}
		if err := spec.Variables[probeVarWithStacks].Set(true); err != nil {
			return nil, err
		}
	}
	if err := spec.LoadAndAssign(&t.objs, &ebpf.CollectionOptions{
		Programs: ebpf.ProgramOptions{KernelTypes: types},
	}); err != nil {
		return nil, tracing.Explain(err)
	}
	if err := t.openRing(); err != nil {
		return nil, err
	}
	if err := t.attachAll(o.Without); err != nil {
		return nil, err
	}
	return t, nil
}

// fit sets what the programs need to know about this kernel, and reads the names of its reasons.
func (t *programs) fit(spec *ebpf.CollectionSpec, types *btf.Spec, tai bool) error {
	// A program that reads more arguments than its tracepoint has cannot be attached, so they are counted.
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
	// CLOCK_TAI differs from the clock of the capture's timestamps by whole seconds: when the time is set, both jump, and a
	// time namespace shifts neither. Before Linux 6.1 there is only CLOCK_MONOTONIC.
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
		// dev_t in the kernel's own encoding, which stat(2) does not use.
		v[probeVarPidnsDev].Set(uint64(unix.Major(pidns.Dev))<<20|uint64(unix.Minor(pidns.Dev))),
		v[probeVarPidnsIno].Set(pidns.Ino),
		v[probeVarWakeAt].Set(uint64(spec.Maps[probeMapEvents].MaxEntries)/2),
	)
}

// arguments counts the arguments of a tracepoint. It returns 0 if the kernel has no such tracepoint.
func arguments(types *btf.Spec, tracepoint string) int {
	var def *btf.Typedef // a pointer to a function; its first argument is not the tracepoint's
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

// tracing is what to say where the programs cannot be loaded.
var tracing = kernel.BPFProgram{
	Name: "the tracing programs", Needs: []string{"CAP_BPF", "CAP_PERFMON"},
	Since: "Linux 5.14", Instead: "rpmig run quiz1 --trace=tracefs, which does without BPF; or boot Linux 5.14 or later",
}

func (t *programs) openRing() (err error) {
	if t.ring, err = ringbuf.NewReader(t.objs.Events); err != nil {
		return fmt.Errorf("open the ring: %w", err)
	}
	t.ring.SetDeadline(time.Unix(1, 0)) // reading never waits
	fd, err := unix.FcntlInt(uintptr(t.objs.Events.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the ring: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // so that os.NewFile uses the poller, as for a socket
		unix.Close(fd)
		return fmt.Errorf("open the ring: %w", err)
	}
	t.wakeup = os.NewFile(uintptr(fd), "ring")
	conn, err := t.wakeup.SyscallConn()
	if err != nil {
		return fmt.Errorf("wait for the ring: %w", err)
	}
	t.waker.Go(func() {
		// It returns an error when the file is closed.
		_ = conn.Read(func(uintptr) bool {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.drain()
			return false
		})
	})
	return nil
}

// attachAll attaches the programs. Those of the softirqs come first, because the others depend on them.
func (t *programs) attachAll(without []string) error {
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

// attach attaches a program to a tracepoint. name is for messages, raw is the kernel's name for raw tracepoints.
func (t *programs) attach(name, raw string, program *ebpf.Program) error {
	l, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: raw, Program: program})
	switch {
	case errors.Is(err, unix.ENOENT):
		t.missing = append(t.missing, name)
	case errors.Is(err, unix.EPERM):
		return tracing.Explain(err)
	case err != nil:
		return fmt.Errorf("attach to %s: %w", name, err)
	default:
		t.links = append(t.links, l)
	}
	return nil
}

// Close detaches the programs. The kernel frees them some time later. Watches that are not stopped return ErrClosed.
func (t *programs) Close() error {
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

// drain empties the ring, and appends each record to its watch.
func (t *programs) drain() {
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
		if w := t.watching[id]; w != nil { // otherwise its watch has been stopped
			w.records = append(w.records, t.record.RawSample...)
		}
	}
}

// bpfWatch records the events of one network namespace.
type bpfWatch struct {
	tracer  *programs
	cookie  uint64
	id      uint32
	misses  uint64
	offset  time.Duration
	records []byte // guarded by tracer.mu
}

// spare is room for the records of watches to come.
var spare sync.Pool

// explainLost explains why the kernel refuses what it allowed to Open. A process may lose its capabilities, which kernels
// before 5.19 require for every use of a map, or get a seccomp filter. The attached programs keep running.
func explainLost(err error) error {
	if !errors.Is(err, unix.EPERM) {
		return err
	}
	return fmt.Errorf("the right to use BPF was lost since the trace was opened (--trace=off does without it): %w", err)
}

func (t *programs) begin(cookie uint64) (stop func() (*Recording, error), err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w, err := t.watch(cookie)
	if err != nil {
		return nil, explainLost(err)
	}
	return func() (*Recording, error) {
		r, records, err := w.stop()
		if err == nil {
			r.Events, err = w.events(records)
			spare.Put(&records)
		}
		if err != nil {
			return nil, explainLost(err)
		}
		return r, nil
	}, nil
}

func (t *programs) watch(cookie uint64) (w *bpfWatch, err error) {
	if t.err != nil {
		return nil, t.err
	}
	// Records carry a number instead of the cookie: those of an earlier watch may still be in the ring.
	t.lastID++
	w = &bpfWatch{tracer: t, cookie: cookie, id: t.lastID}
	if room, ok := spare.Get().(*[]byte); ok {
		w.records = (*room)[:0]
	}
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

// stop returns the recording without its events, and the records of these.
func (w *bpfWatch) stop() (r *Recording, records []byte, err error) {
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
	// Read last, so that every event up to here that found the ring full is counted.
	var counted probeWatch
	misses, err := t.misses()
	if err := errors.Join(err, t.objs.Watches.Lookup(w.cookie, &counted), t.objs.Watches.Delete(w.cookie)); err != nil {
		return nil, nil, err
	}
	return &Recording{Lost: int(counted.Lost), missed: int(misses - w.misses), Missing: t.missing}, w.records, nil
}

// misses counts the events for which the kernel did not run a program (Linux 5.12; 0 before). It is 0 unless
// Options.misses is set.
func (t *programs) misses() (n uint64, err error) {
	if !t.count {
		return 0, nil
	}
	for _, p := range []*ebpf.Program{
		t.objs.SendReset, t.objs.ReceiveReset, t.objs.Retransmit, t.objs.RetransmitSynack, t.objs.SetState, t.objs.Drop,
	} {
		stats, err := p.Stats()
		if err != nil {
			return 0, fmt.Errorf("ask for missed events: %w", err)
		}
		n += stats.RecursionMisses
	}
	return n, nil
}

// events parses records.
func (w *bpfWatch) events(records []byte) ([]Event, error) {
	offset, err := sameOffset(w.tracer.clock, w.offset)
	if err != nil {
		return nil, err
	}
	stacks, err := w.tracer.stacksOf(records)
	if err != nil {
		return nil, err
	}
	events := make([]Event, 0, len(records)/recordSize)
	for record := range slices.Chunk(records, recordSize) {
		e, err := parse(record, w.tracer.names, offset)
		if err != nil {
			return nil, err
		}
		if id, ok := stackOf(record); ok {
			e.Stack = stacks[id]
		}
		events = append(events, e)
	}
	// Events of two CPUs may be in the ring out of order.
	slices.SortStableFunc(events, func(a, b Event) int { return a.Time.Compare(b.Time) })
	return events, nil
}
