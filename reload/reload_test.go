package reload

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/kernel/trace"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/reload/load"
	"github.com/rpmig/rpmig/result"
)

// TestDrain: listeners that come one by one each have a slot of the program, which the kernel gives them once alone, and one that is
// gone leaves its own to the next.
func TestDrain(t *testing.T) {
	modes, err := ParseModes("bpf-drain")
	if err != nil {
		t.Fatal(err)
	}
	s := &switcher{mode: modes[0]}
	defer s.close()
	err = netns.Do(func() error {
		if err := s.load(s.mode); err != nil {
			return err
		}
		var fds []int
		seen := &holding{places: map[uint32]place{}}
		come := func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			var st unix.Stat_t
			err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1),
				unix.Bind(fd, &unix.SockaddrInet4{Port: 80}), unix.Listen(fd, 1), unix.Fstat(fd, &st))
			inode := uint32(st.Ino)
			fds, seen.inodes, seen.places[inode] = append(fds, fd), append(seen.inodes, inode), place{os.Getpid(), fd}
			return errors.Join(err, s.drain(seen, &holding{}))
		}
		defer func() {
			for _, fd := range fds {
				unix.Close(fd)
			}
		}()
		if err := errors.Join(come(), come()); err != nil {
			return err
		}
		first, second := seen.inodes[0], seen.inodes[1]
		if !slices.Equal(s.slots, []uint32{first, second}) {
			return fmt.Errorf("%d and %d have come, and in the slots are %d", first, second, s.slots)
		}
		unix.Close(fds[0])
		fds, seen.inodes = fds[1:], seen.inodes[1:]
		if err := come(); err != nil {
			return err
		}
		if third := seen.inodes[1]; !slices.Equal(s.slots, []uint32{third, second}) {
			return fmt.Errorf("%d has come in the place of %d, and in the slots are %d", third, first, s.slots)
		}
		return s.settle()
	})
	var lacking *notHere
	if denied := new(kernel.DeniedError); errors.As(err, &lacking) || errors.As(err, &denied) || errors.Is(err, unix.EPERM) {
		t.Skip(err)
	} else if err != nil {
		t.Error(err)
	}
}

func TestOrder(t *testing.T) {
	all := Modes()
	names := func(order []Mode) (names []string) {
		for _, m := range order {
			names = append(names, m.Name)
		}
		return names
	}
	order := names(orderOf(all, 50, 1))
	for block := range slices.Chunk(order, len(all)) {
		for _, m := range all {
			if !slices.Contains(block, m.Name) {
				t.Errorf("%v lacks %s", block, m.Name)
			}
		}
	}
	if !slices.Equal(order, names(orderOf(all, 50, 1))) {
		t.Error("the same seed, and another order")
	}
	if slices.Equal(order, names(orderOf(all, 50, 2))) {
		t.Error("another seed, and the same order")
	}
	first := map[string]int{}
	for block := range slices.Chunk(order, len(all)) {
		first[block[0]]++
	}
	if len(first) != len(all) {
		t.Errorf("only %v are ever the first of a round", first)
	}
}

func TestParseStep(t *testing.T) {
	for text, want := range map[string]Step{
		"nginx -s reload": {Command: "nginx -s reload"},
		"signal:HUP":      {Signal: unix.SIGHUP},
		"signal:sigusr2":  {Signal: unix.SIGUSR2},
		"rolling":         {Rolling: true},
		"rolling x":       {Command: "rolling x"},
	} {
		want.Text = text
		if got, err := ParseStep(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "  ", "signal:", "signal:9", "signal:NONE"} {
		if s, err := ParseStep(text); err == nil {
			t.Errorf("%q is %+v", text, s)
		}
	}
}

func FuzzSocketInode(f *testing.F) {
	for _, s := range []string{"socket:[123]", "socket:[]", "pipe:[1]", "socket:[99999999999]", "/dev/null", "socket:[1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, link string) {
		if inode, ok := socketInode(link); ok && !slices.Contains([]string{"socket:[" + itoa(inode) + "]"}, link) && link[8] != '0' {
			t.Errorf("%q is %d", link, inode)
		}
	})
}

func itoa(n uint32) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + string(rune('0'+n%10))
}

func TestKindOf(t *testing.T) {
	for name, tt := range map[string]struct {
		event trace.Event
		want  kind
	}{
		"inet_csk_listen_stop":        {trace.Event{State: "CLOSE", Orphan: true, Reason: "TCP_STATE"}, inQueue},
		"the ACK finds a listener":    {trace.Event{State: "LISTEN", Answer: true, Softirq: true, Reason: "TCP_FLAGS"}, inHandshake},
		"the ACK finds no socket":     {trace.Event{Answer: true, Softirq: true, Reason: "NO_SOCKET"}, inHandshake},
		"inet_csk_complete_hashdance": {trace.Event{State: "CLOSE", Orphan: true, Softirq: true, Reason: "TCP_STATE"}, raceB},
		"its stack":                   {trace.Event{State: "CLOSE", Orphan: true, Softirq: true, Stack: &trace.Stack{"inet_child_forget", "inet_csk_reqsk_queue_add", "inet_csk_complete_hashdance", "tcp_check_req"}}, raceB},
		"another stack in a softirq":  {trace.Event{State: "CLOSE", Orphan: true, Softirq: true, Stack: &trace.Stack{"tcp_write_timeout", "tcp_write_timer"}}, untold},
		"the stack of a close":        {trace.Event{State: "CLOSE", Orphan: true, Softirq: true, Stack: &trace.Stack{"inet_child_forget", "inet_csk_listen_stop", "tcp_close"}}, inQueue},
		"the next one closes, too":    {trace.Event{State: "CLOSE", Orphan: true, Stack: &trace.Stack{"inet_child_forget", "inet_csk_reqsk_queue_add", "inet_csk_listen_stop"}}, raceA},
		"tcp_abort_on_overflow":       {trace.Event{State: "LISTEN", Answer: true, Softirq: true, Reason: "INVALID_SYN"}, overflow},
		"close with unread data":      {trace.Event{State: "CLOSE", Reason: "TCP_ABORT_ON_CLOSE"}, aborted},
		"SO_LINGER of 0":              {trace.Event{State: "CLOSE", Reason: "TCP_STATE"}, aborted},
		"data after the close":        {trace.Event{State: "FIN_WAIT2", Orphan: true, Answer: true, Softirq: true, Reason: "TCP_ABORT_ON_DATA"}, aborted},
	} {
		if got := kindOf(&tt.event); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got.name, tt.want.name)
		}
	}
}

var (
	server = netip.MustParseAddrPort("127.0.0.1:80")
	client = netip.MustParseAddrPort("127.0.1.1:4000")
)

// outcome is one cycle in a mode, in which connections were lost, each with the event of its reset.
func outcome(mode Mode, events ...trace.Event) *Outcome {
	at := 5 * time.Second
	o := &Outcome{Names: map[int]string{7: "nginx"}, Skipped: map[string]string{}}
	o.Cycles = []Cycle{{Mode: mode, First: 1, Last: 2, From: at, To: 2 * at,
		Steps: []Played{{Step: Step{Text: "x"}, At: at, Changed: true, Closed: 1}}, Counters: map[string]int64{}, Asked: migrate.Asked{SYN: 200}}}
	counts := load.Counts{}
	counts[load.OK], counts[load.ResetBefore] = 100, int64(len(events))
	o.Load = load.Report{Intervals: []load.Interval{{}, {Label: load.Label{Name: mode.Name}, Counts: counts}, {}}}
	for i, e := range events {
		c := netip.AddrPortFrom(client.Addr(), client.Port()+uint16(i))
		e.Src, e.Dst, e.Time = server, c, time.Unix(0, int64(at))
		o.Cycles[0].Resets = append(o.Cycles[0].Resets, e)
		o.Load.Lost = append(o.Load.Lost, load.Lost{Local: c, Remote: server, End: load.ResetBefore, Interval: 1, Ended: at})
	}
	return o
}

var (
	queued = trace.Event{State: "CLOSE", Orphan: true, Reason: "TCP_STATE", PID: 7}
	raced  = trace.Event{State: "CLOSE", Orphan: true, Softirq: true, Reason: "TCP_STATE"}
	killed = trace.Event{State: "CLOSE", Reason: "TCP_ABORT_ON_CLOSE", PID: 7}
)

// TestRecord: once the next cycle is over, of the resets of one those of lost connections are kept, as a run would grow with all others.
func TestRecord(t *testing.T) {
	o := outcome(modes[1], queued, raced, killed)
	r := &run{losing: map[ends]bool{}, lost: func(from int) []load.Lost { return o.Load.Lost[:2][from:] }}
	r.record(o.Cycles[0])
	if n := len(r.out.Cycles[0].Resets); n != 3 {
		t.Errorf("%d resets of a cycle whose losses may not be told yet, want 3", n)
	}
	r.record(Cycle{})
	o.Cycles[0] = r.out.Cycles[0]
	var got []kind
	for _, l := range o.losses(true) {
		got = append(got, l.kind)
	}
	if !slices.Equal(got, []kind{inQueue, raceB, untold}) || len(o.Cycles[0].Resets) != 2 {
		t.Errorf("%v, by %d resets", got, len(o.Cycles[0].Resets))
	}
}

func TestCells(t *testing.T) {
	off, sysctl, bpf := modes[0], modes[1], modes[2]
	for name, tt := range map[string]struct {
		mode   Mode
		events []trace.Event
		change func(*Outcome, *Terms)
		err    error
		want   result.Status
		why    string // of the first cause
	}{
		"nothing lost":             {mode: sysctl, want: result.Pass},
		"judged":                   {mode: sysctl, events: []trace.Event{queued}, want: result.Fail, why: inQueue.name},
		"not judged":               {mode: off, events: []trace.Event{queued}, want: result.Pass, why: inQueue.name, change: func(_ *Outcome, t *Terms) { t.Judged = nil }},
		"as many as it may":        {mode: sysctl, events: []trace.Event{queued}, want: result.Pass, why: inQueue.name, change: func(_ *Outcome, t *Terms) { t.MaxLost = 1 }},
		"the application's":        {mode: sysctl, events: []trace.Event{killed}, want: result.Fail, why: aborted.name},
		"race B":                   {mode: sysctl, events: []trace.Event{raced}, want: result.Pass, why: raceB.name},
		"race B without migration": {mode: off, events: []trace.Event{raced}, want: result.Fail, why: raceB.name},
		"race A": {mode: sysctl, events: []trace.Event{raced}, want: result.Fail, why: raceA.name,
			change: func(o *Outcome, _ *Terms) { o.Cycles[0].Counters[result.MigrateFailure] = 1 }},
		"the failure is another's": {mode: sysctl, events: []trace.Event{raced, queued}, want: result.Fail, why: inQueue.name,
			change: func(o *Outcome, t *Terms) { o.Cycles[0].Counters[result.MigrateFailure], t.MaxLost = 1, 0 }},
		"no trace": {mode: sysctl, events: []trace.Event{queued}, want: result.Fail, why: untraced.name,
			change: func(o *Outcome, t *Terms) { t.Untraced, o.Cycles[0].Resets = "no", nil }},
		"another's reset": {mode: sysctl, events: []trace.Event{queued}, want: result.Fail, why: untold.name,
			change: func(o *Outcome, _ *Terms) { o.Cycles[0].Resets[0].Dst = server }},
		"a segment in flight is answered, too": {mode: sysctl, events: []trace.Event{killed}, want: result.Fail, why: aborted.name,
			change: func(o *Outcome, _ *Terms) { // and the client looks late
				stray := o.Cycles[0].Resets[0]
				stray.Time, stray.State, stray.Answer, stray.Softirq, stray.PID = stray.Time.Add(time.Millisecond), "", true, true, 0
				o.Cycles[0].Resets = []trace.Event{stray, o.Cycles[0].Resets[0]}
				o.Load.Lost[0].Ended += time.Second
			}},
		"a segment in flight is answered before the abort is told of": {mode: sysctl, events: []trace.Event{killed}, want: result.Fail, why: aborted.name,
			change: func(o *Outcome, _ *Terms) {
				stray := o.Cycles[0].Resets[0]
				stray.Time, stray.State, stray.Answer, stray.Softirq = stray.Time.Add(-3*time.Microsecond), "LISTEN", true, true
				o.Cycles[0].Resets = append(o.Cycles[0].Resets, stray)
			}},
		"two answers: the first is that of its socket": {mode: sysctl, events: []trace.Event{killed}, want: result.Fail, why: aborted.name,
			change: func(o *Outcome, _ *Terms) {
				stray := &o.Cycles[0].Resets[0]
				stray.State, stray.Answer, stray.Softirq = "", true, true
				own := *stray
				own.State, own.Time = "FIN_WAIT2", own.Time.Add(-time.Millisecond)
				o.Cycles[0].Resets = append(o.Cycles[0].Resets, own)
			}},
		"a reset of its ports before it began": {mode: sysctl, events: []trace.Event{queued}, want: result.Fail, why: inQueue.name,
			change: func(o *Outcome, _ *Terms) {
				earlier := o.Cycles[0].Resets[0]
				earlier.Time, earlier.State = earlier.Time.Add(-time.Second), ""
				o.Cycles[0].Resets = append(o.Cycles[0].Resets, earlier)
				o.Load.Lost[0].Began = o.Load.Lost[0].Ended - 500*time.Millisecond
			}},
		"refused": {mode: sysctl, events: []trace.Event{queued}, want: result.Fail, why: nobody.name,
			change: func(o *Outcome, _ *Terms) { o.Load.Lost[0].End = load.Refused }},
		"reloads that do not end, and nothing else does": {mode: sysctl, want: result.Fail, change: func(o *Outcome, _ *Terms) {
			o.Unending, o.Load.Intervals[1].Counts = "it stays", load.Counts{}
		}},
		"a reset of long ago": {mode: sysctl, events: []trace.Event{queued}, want: result.Fail, why: untold.name,
			change: func(o *Outcome, _ *Terms) { o.Cycles[0].Resets[0].Time = time.Unix(0, 0) }},
		"it has sent something": {mode: sysctl, events: []trace.Event{queued}, want: result.Fail, why: aborted.name,
			change: func(o *Outcome, _ *Terms) { o.Cycles[0].Resets, o.Load.Lost[0].Received = nil, 1 }},
		"closed without a byte": {mode: sysctl, events: []trace.Event{queued}, want: result.Fail, why: closed.name,
			change: func(o *Outcome, _ *Terms) { o.Load.Lost[0].End = load.EOF }},
		"more than the load lists": {mode: sysctl, events: []trace.Event{queued}, want: result.Fail, why: inQueue.name,
			change: func(o *Outcome, _ *Terms) {
				o.Load.Intervals[1].Counts[load.ResetBefore], o.Load.Counts[load.ResetBefore] = 9, load.MaxListed+1
			}},
		"reloads that do not end": {mode: sysctl, want: result.Fail, change: func(o *Outcome, _ *Terms) { o.Unending = "it stays" }},
		"cannot be had":           {mode: bpf, want: result.Skip, change: func(o *Outcome, _ *Terms) { o.Skipped["bpf"] = "no" }},
		"the program saw little":  {mode: bpf, want: result.Skip, change: func(o *Outcome, _ *Terms) { o.Cycles[0].Asked.SYN = 20 }},
		"the program saw all":     {mode: bpf, want: result.Pass},
		"the server's error":      {mode: sysctl, want: result.Error, err: &ServerError{What: "it has ended"}},
		"no cycle":                {mode: sysctl, want: result.Error, change: func(o *Outcome, _ *Terms) { o.Cycles = nil }},
		"void": {mode: sysctl, want: result.Error,
			change: func(o *Outcome, _ *Terms) { o.Load.Intervals[1].Counts = load.Counts{load.Void: 9} }},
		"of no cycle": {mode: sysctl, want: result.Pass, change: func(o *Outcome, _ *Terms) { o.Load.Intervals[0].Counts[load.Refused] = 9 }},
	} {
		t.Run(name, func(t *testing.T) {
			o := outcome(tt.mode, tt.events...)
			terms := Terms{Name: "nginx", Family: "ipv4", Judged: []string{tt.mode.Name}}
			if tt.change != nil {
				tt.change(o, &terms)
			}
			c := o.Cells(&Config{Modes: []Mode{tt.mode}}, terms, tt.err)[0]
			if c.Status != tt.want {
				t.Errorf("%s: %s, want %s", c.Status, c.Reason, tt.want)
			}
			why := ""
			if len(c.Reload.Causes) > 0 {
				why = c.Reload.Causes[0].Why
			}
			if why != tt.why {
				t.Errorf("%q, want %q", why, tt.why)
			}
			caused := int64(0)
			for _, cause := range c.Reload.Causes {
				caused += cause.Count
			}
			if caused != c.Reload.Lost {
				t.Errorf("%d lost, and causes of %d: %+v", c.Reload.Lost, caused, c.Reload.Causes)
			}
		})
	}
}

// TestWarmUpVoid: a load that never gets to run is waited for, but not without an end, and is not the server's error.
func TestWarmUpVoid(t *testing.T) {
	r := &run{Config: Config{WarmUp: 10 * time.Millisecond, Ready: 10 * time.Millisecond, Load: load.Config{
		To: server, Clients: 1, Timeout: 50 * time.Millisecond, Command: []string{"true"},
		Run: func(context.Context, []string, []string) (string, error) { return "", load.ErrNotStarted },
	}}}
	err := r.underLoad(t.Context())
	if err == nil || errors.As(err, new(*ServerError)) || !strings.Contains(err.Error(), "did not get to run") {
		t.Error(err)
	}
}

// TestWarmUpHangs: a connection that hangs without any reload is no loss of the first one.
func TestWarmUpHangs(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for i := 0; ; i++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if i == 1 {
				defer c.Close()
				continue
			}
			_, _ = c.Write([]byte("x"))
			_ = c.Close()
		}
	}()
	r := &run{losing: map[ends]bool{}, Config: Config{WarmUp: 10 * time.Millisecond, Ready: 10 * time.Second, Load: load.Config{
		To: l.Addr().(*net.TCPAddr).AddrPort(), Clients: 2, Timeout: 500 * time.Millisecond, Pause: time.Minute, Stall: time.Minute,
		Request: load.Request{Expect: []byte("x")},
	}}}
	err = r.underLoad(t.Context())
	if !errors.As(err, new(*ServerError)) || !strings.Contains(err.Error(), "without any reload, 1 of ") {
		t.Error(err)
	}
}

// TestLittleGarbage: during a load of plain TCP little garbage lies, and afterwards as much as before.
func TestLittleGarbage(t *testing.T) {
	now := func() int {
		percent := debug.SetGCPercent(-1)
		debug.SetGCPercent(percent)
		return percent
	}
	before := now()
	end := LittleGarbage()
	within := now()
	end()
	if within != garbageKept || now() != before {
		t.Errorf("%d, %d, %d", before, within, now())
	}
}

// TestStay: a listener of before that only old processes hold, beside newer ones, three reloads in a row.
func TestStay(t *testing.T) {
	for name, tt := range map[string]struct {
		before, now []holder
		want        bool
	}{
		"the old one stays":          {[]holder{{1, 10}}, []holder{{1, 10}, {2, 20}}, true},
		"it has gone":                {[]holder{{1, 10}}, []holder{{2, 20}}, false},
		"a new process has it":       {[]holder{{1, 10}}, []holder{{1, 10}, {2, 10}, {2, 20}}, false},
		"nothing newer: it was kept": {[]holder{{1, 10}}, []holder{{1, 10}}, false},
		"one of two is replaced":     {[]holder{{1, 10}, {1, 11}}, []holder{{1, 10}, {1, 20}}, false},
	} {
		r := &run{stuck: map[uint32]int{}, out: Outcome{Names: map[int]string{1: "old"}}}
		holding := func(all []holder) *holding {
			h := &holding{holders: all}
			for _, one := range all {
				if !slices.Contains(h.inodes, one.inode) {
					h.inodes = append(h.inodes, one.inode)
				}
			}
			return h
		}
		before := holding(tt.before)
		r.now = holding(tt.now)
		for i := range 3 {
			if r.out.Unending != "" {
				t.Errorf("%s: after %d reloads it is %q", name, i, r.out.Unending)
			}
			(&reloading{run: r, before: before}).stay()
		}
		if got := r.out.Unending != ""; got != tt.want {
			t.Errorf("%s: %q", name, r.out.Unending)
		}
	}
}

// TestOver: a reload is done when who listens has changed, and not again for a while; and without a change at its deadline.
func TestOver(t *testing.T) {
	const ms = time.Millisecond
	for name, tt := range map[string]struct {
		since   time.Duration // the reload began
		changed bool
		last    time.Duration
		want    bool
	}{
		"it has just changed":          {1000 * ms, true, 900 * ms, false},
		"it has changed some time ago": {1000 * ms, true, 300 * ms, true},
		"it has not changed yet":       {1000 * ms, false, 0, false},
		"it has not changed":           {5100 * ms, false, 0, true},
		"it changes all the time":      {9000 * ms, true, 8900 * ms, false},
		"it does not stop to change":   {10100 * ms, true, 10000 * ms, true},
	} {
		w := &reloading{run: &run{Config: Config{Still: 500 * ms, Deadline: 5 * time.Second}, now: &holding{inodes: []uint32{1}}}}
		w.At, w.Changed, w.Last = load.Now()-tt.since, tt.changed, tt.last
		if got, err := w.over(); got != tt.want || err != nil {
			t.Errorf("%s: %t, %v", name, got, err)
		}
	}
}

// TestPhases: every moment of a run belongs to one.
func TestPhases(t *testing.T) {
	const s = time.Second
	o := &Outcome{Began: 1 * s, Ready: 3 * s, Cycles: []Cycle{
		{From: 7 * s, To: 18 * s, Steps: []Played{{At: 7 * s, Last: 2 * s, Took: 5 * s}, {At: 12 * s, Returned: s, Took: 5 * s}}},
		{From: 20 * s, To: 26 * s, Steps: []Played{{At: 21 * s, Last: 9 * s, Took: 4 * s}}},
	}}
	if got, want := o.Phases(), (Phases{Start: 2 * s, WarmUp: 4 * s, Reloads: 3, Change: 7 * s, Still: 7 * s, Between: 5 * s}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := (&Outcome{Began: s}).Phases(); got != (Phases{}) {
		t.Errorf("a server that was never ready: %+v", got)
	}
}

// TestExamples: a cause that comes late has its example, with its stack.
func TestExamples(t *testing.T) {
	rare := raced
	rare.Stack = &trace.Stack{"inet_child_forget", "inet_csk_complete_hashdance"}
	o := outcome(modes[0], append(slices.Repeat([]trace.Event{queued}, examples+9), rare, rare)...)
	r := o.Cells(&Config{Modes: []Mode{modes[0]}}, Terms{Name: "nginx", Family: "ipv4"}, nil)[0].Reload
	if n := len(r.Examples); n != examples+1 {
		t.Fatalf("%d examples, want %d", n, examples+1)
	}
	if last := r.Examples[examples]; last.Why != raceB.name || !slices.Equal(last.Stack, *rare.Stack) {
		t.Errorf("%+v", last)
	}
}
