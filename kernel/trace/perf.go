package trace

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
)

// perf is the backend that records with perf events on tracepoints (perf_event_open(2)). It needs neither BPF nor BTF, and
// writes nothing into tracefs. An event has the fields of the tracepoint's format file, which are fewer than the programs
// read: no network namespace, no sequence numbers, and not whether a file refers to the socket; for a drop, no addresses
// and nothing of the segment. Reasons have the names in print fmt.
//
// The perf events also count, so that the number of lost events is exact. PERF_RECORD_LOST comes only with the next record.
// It matters: in a virtual machine (Linux 6.18), up to half of what the timers of an idle CPU did was counted but not
// recorded, by perf(1) too, without a PERF_RECORD_LOST.
type perf struct {
	missing  []string
	decoders map[uint16]*decoder // by the ID of the tracepoint
	cpus     []*perfCPU
	waker    sync.WaitGroup

	mu      sync.Mutex // guards what follows, and the reading of the rings
	current *perfWatch // nil: nothing is recorded
	closed  bool
}

// perfCPU is the perf events of one CPU and the ring that they share.
type perfCPU struct {
	fds    []int // of the perf events; the ring belongs to the first
	ring   []byte
	wakeup *os.File // becomes readable when the ring is half full
}

// perfWatch is one watch of the host.
type perfWatch struct {
	offset  time.Duration
	before  uint64 // what the perf events had counted
	records []byte
}

const (
	defaultPerfRing = 512 << 10 // bytes for each CPU: space for four thousand events
	// mostRecords is how many bytes of records a watch keeps on a busy host. Further ones are lost, and counted.
	mostRecords = 64 << 20
)

// openPerf opens a perf event for each tracepoint on each CPU, and enables none. A CPU that comes up later is not recorded.
func openPerf(o Options) (_ *perf, err error) {
	p := &perf{decoders: map[uint16]*decoder{}}
	defer func() {
		if err != nil {
			_ = p.Close()
		}
	}()
	if err := p.learn(o.Without); err != nil {
		return nil, err
	}
	cpus, err := onlineCPUs()
	if err != nil {
		return nil, err
	}
	for _, cpu := range cpus {
		if err := p.openCPU(cpu, cmp.Or(o.Ring, defaultPerfRing)); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// learn reads the formats of the tracepoints.
func (p *perf) learn(without []string) error {
	dir, done, err := tracefs()
	if err != nil {
		return err
	}
	defer done()
	for k := ResetSent; k < kinds; k++ {
		path := filepath.Join(dir, "events", strings.ReplaceAll(k.String(), ":", "/"), "format")
		if slices.Contains(without, k.String()) {
			path += "_rpmig_without"
		}
		text, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) {
			p.missing = append(p.missing, k.String())
			continue
		} else if err != nil {
			return fmt.Errorf("read the format of %s: %w", k, err)
		}
		f, err := parseFormat(text)
		if err != nil {
			return fmt.Errorf("read the format of %s: %w", k, err)
		}
		if p.decoders[f.id], err = newDecoder(k, f); err != nil {
			return err
		}
	}
	if len(p.decoders) == 0 {
		return &kernel.NotSupportedError{
			Reason: "this kernel has none of the tracepoints of TCP, or does not tell of them (CONFIG_FTRACE)", Next: "boot a distribution's kernel"}
	}
	return nil
}

// tracefs returns a folder in which tracefs is mounted until done is called. That is the usual place, or else a new mount in
// no mount namespace, which no other process can see and which goes with its descriptor (fsmount(2), Linux 5.2). The new
// mount is the second choice, because it can reset the permissions of the root of an existing one (mount_single).
func tracefs() (dir string, done func(), err error) {
	const usual = "/sys/kernel/tracing"
	if _, err := os.ReadDir(usual + "/events/tcp"); err == nil {
		return usual, func() {}, nil
	}
	fs, err := unix.Fsopen("tracefs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return "", nil, explainPerf("mount tracefs", "CAP_SYS_ADMIN", err)
	}
	defer unix.Close(fs)
	if err := unix.FsconfigCreate(fs); err != nil {
		return "", nil, explainPerf("mount tracefs", "CAP_SYS_ADMIN", err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return "", nil, explainPerf("mount tracefs", "CAP_SYS_ADMIN", err)
	}
	return "/proc/self/fd/" + strconv.Itoa(fd), func() { unix.Close(fd) }, nil
}

// explainPerf tells a clear "no" from a failure to find out.
func explainPerf(what, capability string, err error) error {
	err = kernel.Explain(fmt.Errorf("%s: %w", what, err), true, capability)
	var denied *kernel.DeniedError
	switch {
	case errors.As(err, &denied):
		return &kernel.NotSupportedError{Reason: denied.Error(), Next: denied.Hint(), Denied: denied}
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENOSYS):
		return &kernel.NotSupportedError{
			Reason: "this kernel cannot (CONFIG_FTRACE, CONFIG_PERF_EVENTS): " + err.Error(), Next: "boot a distribution's kernel"}
	}
	return err
}

// onlineCPUs lists the CPUs that are up, from /sys/devices/system/cpu/online, or from /proc/stat where /sys is hidden.
func onlineCPUs() (cpus []int, err error) {
	text, err := os.ReadFile("/sys/devices/system/cpu/online")
	parse := parseOnline
	if errors.Is(err, os.ErrNotExist) {
		text, err = os.ReadFile("/proc/stat")
		parse = parseStat
	}
	if err == nil {
		cpus, err = parse(string(text))
	}
	if err != nil {
		return nil, fmt.Errorf("list the CPUs: %w", err)
	}
	return cpus, nil
}

// parseOnline reads a list such as "0-3,5".
func parseOnline(text string) (cpus []int, err error) {
	for part := range strings.SplitSeq(strings.TrimSpace(text), ",") {
		from, to, several := strings.Cut(part, "-")
		if !several {
			to = from
		}
		first, err := strconv.Atoi(from)
		last, err2 := strconv.Atoi(to)
		if err := errors.Join(err, err2); err != nil {
			return nil, err
		}
		for cpu := first; cpu <= last; cpu++ {
			cpus = append(cpus, cpu)
		}
	}
	return cpus, nil
}

// parseStat reads the lines of /proc/stat that begin with "cpu" and a number: there is one for each CPU that is up.
func parseStat(text string) (cpus []int, err error) {
	for line := range strings.Lines(text) {
		name, _, _ := strings.Cut(line, " ")
		if number, ok := strings.CutPrefix(name, "cpu"); ok && number != "" {
			cpu, err := strconv.Atoi(number)
			if err != nil {
				return nil, err
			}
			cpus = append(cpus, cpu)
		}
	}
	if len(cpus) == 0 {
		return nil, errors.New("there is none in /proc/stat")
	}
	return cpus, nil
}

// openCPU opens the perf events of one CPU.
func (p *perf) openCPU(cpu, size int) error {
	c := &perfCPU{}
	p.cpus = append(p.cpus, c)
	for id, d := range p.decoders {
		fd, err := unix.PerfEventOpen(&unix.PerfEventAttr{
			Type: unix.PERF_TYPE_TRACEPOINT, Size: uint32(unsafe.Sizeof(unix.PerfEventAttr{})), Config: uint64(id),
			Sample: 1, Sample_type: sampleType, Wakeup: uint32(size / 2), // sample every event
			Bits:    unix.PerfBitDisabled | unix.PerfBitWatermark | unix.PerfBitUseClockID,
			Clockid: unix.CLOCK_MONOTONIC, // of the clocks that perf takes, the one that cannot be set
		}, -1, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
		if err != nil {
			return explainPerf(fmt.Sprintf("perf_event_open of %s on CPU %d", d.kind, cpu), "CAP_PERFMON", err)
		}
		c.fds = append(c.fds, fd)
		if len(c.fds) == 1 {
			err = c.openRing(size)
		} else if err = unix.IoctlSetInt(fd, unix.PERF_EVENT_IOC_SET_OUTPUT, c.fds[0]); err != nil {
			err = fmt.Errorf("have events share a ring: %w", err)
		}
		if err != nil {
			return err
		}
	}
	conn, err := c.wakeup.SyscallConn()
	if err != nil {
		return fmt.Errorf("wait for the ring of CPU %d: %w", cpu, err)
	}
	p.waker.Go(func() {
		// It returns an error when the file is closed.
		_ = conn.Read(func(uintptr) bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.drain(c)
			return false
		})
	})
	return nil
}

func (c *perfCPU) openRing(size int) (err error) {
	c.ring, err = unix.Mmap(c.fds[0], 0, os.Getpagesize()+size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map a ring of %d bytes: %w", size, err)
	}
	fd, err := unix.FcntlInt(uintptr(c.fds[0]), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the ring: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // so that os.NewFile uses the poller, as for a socket
		unix.Close(fd)
		return fmt.Errorf("open the ring: %w", err)
	}
	c.wakeup = os.NewFile(uintptr(fd), "ring")
	return nil
}

// read moves all that is in the ring to the end of records.
func (c *perfCPU) read(records []byte) []byte {
	page := (*unix.PerfEventMmapPage)(unsafe.Pointer(&c.ring[0]))
	data := c.ring[os.Getpagesize():]
	tail := page.Data_tail // only this process writes it
	for left := c.filled(); left > 0; {
		at := tail % uint64(len(data))
		n := min(left, uint64(len(data))-at)
		records = append(records, data[at:at+n]...)
		tail, left = tail+n, left-n
	}
	atomic.StoreUint64(&page.Data_tail, tail)
	return records
}

// filled returns how many bytes are in the ring.
func (c *perfCPU) filled() uint64 {
	page := (*unix.PerfEventMmapPage)(unsafe.Pointer(&c.ring[0]))
	return atomic.LoadUint64(&page.Data_head) - page.Data_tail
}

// drain empties a ring into the current watch.
func (p *perf) drain(c *perfCPU) {
	if p.closed {
		return
	}
	if w := p.current; w == nil || len(w.records) > mostRecords {
		c.read(nil)
	} else {
		w.records = c.read(w.records)
	}
}

// counted returns how often the tracepoints were hit while the perf events were enabled.
func (p *perf) counted() (n uint64, err error) {
	var b [8]byte
	for fd := range p.events() {
		if got, err := unix.Read(fd, b[:]); err != nil || got != len(b) {
			return 0, fmt.Errorf("read how many events there were: %d bytes, %w", got, err)
		}
		n += binary.NativeEndian.Uint64(b[:])
	}
	return n, nil
}

// events yields the descriptors of all perf events.
func (p *perf) events() func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for _, c := range p.cpus {
			for _, fd := range c.fds {
				if !yield(fd) {
					return
				}
			}
		}
	}
}

// switchTo enables or disables all perf events: PERF_EVENT_IOC_ENABLE or PERF_EVENT_IOC_DISABLE.
func (p *perf) switchTo(request uint) error {
	for fd := range p.events() {
		if err := unix.IoctlSetInt(fd, request, 0); err != nil {
			return fmt.Errorf("switch an event on or off: %w", err)
		}
	}
	return nil
}

func (p *perf) begin(uint64) (stop func() (*Recording, error), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed:
		return nil, ErrClosed
	case p.current != nil:
		return nil, errors.New("it is watched already")
	}
	w := &perfWatch{}
	if w.offset, err = wallOffset(unix.CLOCK_MONOTONIC); err != nil {
		return nil, err
	}
	if w.before, err = p.counted(); err != nil {
		return nil, err
	}
	p.current = w
	if err := p.switchTo(unix.PERF_EVENT_IOC_ENABLE); err != nil {
		p.current = nil
		return nil, errors.Join(err, p.switchTo(unix.PERF_EVENT_IOC_DISABLE))
	}
	return func() (*Recording, error) { return p.stop(w) }, nil
}

func (p *perf) stop(w *perfWatch) (*Recording, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	if p.current != w {
		return nil, errors.New("it is stopped already")
	}
	defer func() { p.current = nil }()
	if err := p.switchTo(unix.PERF_EVENT_IOC_DISABLE); err != nil {
		return nil, err
	}
	counted, err := p.counted()
	if err != nil {
		return nil, err
	}
	offset, err := sameOffset(unix.CLOCK_MONOTONIC, w.offset)
	if err != nil {
		return nil, err
	}
	happened := int(counted - w.before)
	r := &Recording{Missing: p.missing, HostWide: true}
	// An event is counted a moment before it is in the ring, and another CPU may be between the two.
	const moment = 10 * time.Millisecond
	for limit := time.Now().Add(moment); ; runtime.Gosched() {
		for _, c := range p.cpus {
			p.drain(c)
		}
		records := w.records
		w.records = nil
		if err := parseRecords(records, func(s sample) error {
			e, err := p.decode(s, offset)
			r.host = append(r.host, e)
			return err
		}); err != nil {
			return nil, err
		}
		if len(r.host) >= happened || time.Now().After(limit) {
			break
		}
	}
	r.Lost = max(happened-len(r.host), 0)
	slices.SortStableFunc(r.host, func(a, b hostEvent) int { return a.Time.Compare(b.Time) })
	return r, nil
}

// decode reads a sample of any tracepoint. A record begins with its common_type (struct trace_entry), the tracepoint's ID.
func (p *perf) decode(s sample, offset time.Duration) (hostEvent, error) {
	if len(s.raw) < 2 {
		return hostEvent{}, fmt.Errorf("a tracepoint's record of %d bytes", len(s.raw))
	}
	d := p.decoders[binary.NativeEndian.Uint16(s.raw)]
	if d == nil {
		return hostEvent{}, fmt.Errorf("a record of tracepoint %d, which was not asked for", binary.NativeEndian.Uint16(s.raw))
	}
	return d.decode(s, offset)
}

// Close closes the perf events, which ends the recording.
func (p *perf) Close() error {
	p.mu.Lock()
	closed := p.closed
	p.closed = true
	p.mu.Unlock()
	if closed {
		return nil
	}
	var errs []error
	for _, c := range p.cpus {
		if c.wakeup != nil {
			errs = append(errs, c.wakeup.Close())
		}
	}
	p.waker.Wait()
	for _, c := range p.cpus {
		if c.ring != nil {
			errs = append(errs, unix.Munmap(c.ring))
		}
		for _, fd := range c.fds {
			unix.Close(fd)
		}
	}
	return errors.Join(errs...)
}
