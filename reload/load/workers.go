package load

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// workers is the engine for TLS and for commands: a goroutine a client.
type workers struct {
	*book
	ctx  context.Context // ends when all is given up
	c    *Config
	s    script
	told *atomic.Int32
	ns   namespace
	room int
	play func(began time.Duration) (ok bool) // one connection
	mine sync.Mutex                          // guards open
	open map[*time.Duration]struct{}         // when those began that are being played
	turn atomic.Int64                        // of the sources
	jobs chan time.Duration                  // when a connection of an open loop is due
	all  sync.WaitGroup
	errs chan error // of those that cannot work
}

const defaultWorkers = 1000 // each may take a thread

func newWorkers(ctx context.Context, c *Config, told *atomic.Int32, ns namespace) (*workers, error) {
	room, err := c.room()
	if err != nil {
		return nil, err
	}
	if c.Clients == 0 && c.MaxOpen == 0 {
		room = min(room, defaultWorkers)
	}
	w := &workers{ctx: ctx, c: c, told: told, ns: ns, room: room, jobs: make(chan time.Duration), errs: make(chan error, 1),
		open: map[*time.Duration]struct{}{}}
	if len(c.Command) > 0 {
		w.play = w.command
	} else {
		w.play, w.s = w.talk, c.script()
	}
	return w, nil
}

// run has the workers work, until it is told to stop and the last of them has come to an end.
func (w *workers) run(b *book) error {
	w.book = b
	for range w.c.Clients {
		w.all.Go(func() { w.work(w.client) })
	}
	arrived, employed := int64(0), 0
	timer := time.NewTimer(0)
	defer timer.Stop()
	var err error
	for w.told.Load() == running && err == nil {
		left := tick
		if w.c.Rate > 0 {
			left = min(left, w.arrive(&arrived, &employed)-clock.now())
		}
		timer.Reset(max(left, 0))
		select {
		case <-timer.C:
		case err = <-w.errs:
		case <-w.ctx.Done():
		}
		w.alive()
	}
	close(w.jobs)
	if err != nil {
		w.told.Store(quitting)
	}
	w.leave()
	return err
}

// leave waits for the last of the workers, and is alive meanwhile.
func (w *workers) leave() {
	gone := make(chan struct{})
	go func() { w.all.Wait(); close(gone) }()
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	for {
		select {
		case <-gone:
			return
		case <-ticker.C:
			w.alive()
		}
	}
}

// alive says that the engine runs.
func (w *workers) alive() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := clock.now()
	w.beat(now)
	return now
}

// arrive hands out some of the connections that are due, and returns when the next one is. Where the rate is too high for this
// machine, that has always passed.
func (w *workers) arrive(arrived *int64, employed *int) time.Duration {
	for range launch {
		at := w.r.From + time.Duration(float64(*arrived)/w.c.Rate*float64(time.Second))
		if at > w.alive() {
			return at
		}
		*arrived++
		if w.inStall(at) {
			w.skip()
			continue
		}
		select {
		case w.jobs <- at:
		default:
			if *employed == w.room {
				w.skip()
				continue
			}
			*employed++
			w.all.Go(func() { w.work(func() { w.employee(at) }) })
		}
	}
	return 0
}

func (w *workers) inStall(at time.Duration) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lastStall.From < at && at <= w.lastStall.To
}

// skip counts a connection that could not begin.
func (w *workers) skip() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.beat(clock.now())
	w.notStarted()
}

// work works in the namespace.
func (w *workers) work(f func()) {
	leave, err := w.ns.enter()
	if err != nil {
		select {
		case w.errs <- err:
		default:
		}
		return
	}
	defer leave()
	f()
}

// client is one of a closed loop.
func (w *workers) client() {
	for w.told.Load() == running {
		if !w.one(clock.now()) {
			w.rest()
		}
	}
}

// employee is one of an open loop.
func (w *workers) employee(at time.Duration) {
	w.one(at)
	for at := range w.jobs {
		w.one(at)
	}
}

// one plays a connection, and counts it as open meanwhile.
func (w *workers) one(began time.Duration) (ok bool) {
	w.mine.Lock()
	w.open[&began] = struct{}{}
	w.mine.Unlock()
	ok = w.play(began)
	w.mine.Lock()
	defer w.mine.Unlock()
	delete(w.open, &began)
	return ok
}

// seen is when the oldest connection began that has not come to an end.
func (w *workers) seen() time.Duration {
	now := clock.now()
	w.mine.Lock()
	defer w.mine.Unlock()
	for began := range w.open {
		now = min(now, *began)
	}
	return now
}

// rest is what a client of a closed loop does after a connection that was not OK.
func (w *workers) rest() {
	timer := time.NewTimer(w.c.Pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-w.ctx.Done():
	}
}

// meeting is a connection, or a command, while it lasts.
type meeting struct {
	Lost
	connect int64 // µs
	late    bool
	sentAll bool
}

// replied writes down a right reply that is not the last.
func (w *workers) replied(m *meeting) {
	took := clock.now() - m.asked
	w.mu.Lock()
	defer w.mu.Unlock()
	now := clock.now()
	w.beat(now)
	w.add(w.entry(m, now, took, true))
}

func (w *workers) entry(m *meeting, now, took time.Duration, replied bool) entry {
	return entry{at: now, life: now - m.asked, reply: uint32(min(microseconds(took), w.most)), replied: replied, clean: !w.touched(m.asked)}
}

// over writes down how it ended, and tells whether it was OK.
func (w *workers) over(m *meeting, end End, err error) (ok bool) {
	took := clock.now() - m.asked
	if end != OK && w.ctx.Err() != nil { // it was given up
		w.mu.Lock()
		defer w.mu.Unlock()
		w.r.Unfinished++
		return false
	}
	return w.write(m, end, err, took) == OK
}

func (w *workers) write(m *meeting, end End, err error, took time.Duration) End {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := clock.now()
	w.beat(now)
	if end == Void {
		w.notStarted()
		return end
	}
	end = w.judge(end, m.asked, m.late || !m.sentAll)
	e := w.entry(m, now, took, end == OK)
	e.ended, e.end, e.connect = true, end, uint32(min(m.connect, w.most))
	w.add(e)
	if end.Lost() {
		_ = errors.As(err, &m.Errno)
		m.Ended, m.End, m.Remote = now, end, w.c.To
		w.list(m.Lost)
	}
	return end
}

// classify is how a connection ended, by what the system or TLS said of it, and what else there is to say.
func classify(err error, connected bool, got int64) (end End, detail string) {
	var errno unix.Errno
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.Is(err, unix.ETIMEDOUT):
		return Timeout, ""
	case !connected && errors.Is(err, unix.ECONNREFUSED):
		return Refused, ""
	case !connected && (errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOBUFS)):
		return Void, ""
	case !connected:
		return ResetInConnect, err.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, unix.EPIPE): // EPIPE: reset after it was closed
		if got == 0 {
			return EOF, ""
		}
		return ClosedEarly, ""
	case !errors.As(err, &errno):
		return WrongReply, err.Error()
	case got == 0:
		return ResetBefore, ""
	default:
		return ResetAfter, ""
	}
}
