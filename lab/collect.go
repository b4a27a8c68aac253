package lab

import (
	"errors"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/kernel/trace"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/tcp"
	"github.com/rpmig/rpmig/verdict"
)

// collect asks the witnesses once the scenario is over, before anything of it is torn down.
func (l *Lab) collect() error {
	// A reset may still be on its way through the backlog of lo. One that never comes is for the judge to see.
	patience := outcomeTimeout
	for _, c := range l.clients {
		if c.fd < 0 {
			continue
		}
		if !c.accepted && l.obs.Undecided == "" {
			switch err := l.wait(patience, c.fd, unix.POLLHUP, "a reset came"); {
			case errors.Is(err, errTimeout):
				patience = 0
			case err != nil:
				return err
			}
		}
		l.obs.Clients = append(l.obs.Clients, verdict.Client{
			Local: c.local, Accepted: c.accepted, Says: tcp.Says(c.fd),
		})
	}
	if err := l.findHeld(); err != nil {
		return err
	}
	if err := l.talk(); err != nil {
		return err
	}
	if err := l.count(); err != nil {
		return err
	}
	if l.program != nil {
		asked, err := l.program.Asked()
		if err != nil {
			return err
		}
		l.obs.Program = &result.Program{SYN: asked.SYN, Stray: asked.Stray, Migrated: asked.Migrated(), Named: asked.Named}
		l.obs.Chooses = l.cfg.Mode.Answer == Choose
	}
	if err := l.snapshot(); err != nil {
		return err
	}
	if err := l.drain(); err != nil {
		return err
	}
	// What crosses a reset may be answered after the counters were read and before the capture ended.
	if len(l.obs.Wire.Resets) > int(l.obs.Counters[result.OutRsts]) {
		return l.count()
	}
	return nil
}

// findHeld looks for clients that live and were not accepted, and whose server's end is held all the same: a child that no
// accept has returned has no inode.
func (l *Lab) findHeld() error {
	for i := range l.obs.Clients {
		c := &l.obs.Clients[i]
		if c.Accepted || c.Says == "ECONNRESET" {
			continue
		}
		socks, err := l.sockets(kernel.Connected...)
		if err != nil {
			return err
		}
		c.Held = slices.ContainsFunc(socks, func(s kernel.Socket) bool { return s.Remote == c.Local && s.Inode != 0 })
	}
	return nil
}

// count reads the counters.
func (l *Lab) count() (err error) {
	if l.after, err = l.counting.MIB(); err != nil {
		return err
	}
	after, err := l.after.Counters()
	if err != nil {
		return err
	}
	after = l.cfg.faults.hide(after)
	// A new namespace counts from 0, and nothing was sent in it before the scenario began.
	l.obs.Known, l.obs.Counters = after, after.Since(nil)
	return nil
}

// drain reads what the capture and the trace have recorded.
func (l *Lab) drain() error {
	rec, err := l.ring.Drain()
	if err != nil {
		return err
	}
	l.closeRing()
	l.record.ReadCapture(rec, &l.obs)
	if s := l.obs.Stream; s != nil {
		s.Estimate()
	}
	if l.watch == nil {
		return nil
	}
	told, err := l.watch.Stop()
	l.watch = nil
	if err != nil {
		return err
	}
	told.Claim(l.own())
	l.record.ReadTrace(told, &l.obs)
	return nil
}

// own is what the trace may claim events by.
func (l *Lab) own() trace.Own {
	own := trace.Own{Thread: unix.Gettid()}
	for _, w := range l.workers {
		own.Processes = append(own.Processes, w.process.PID())
	}
	seen := sync.OnceValue(l.record.Seen)
	own.Seen = func(a, b netip.AddrPort) bool { return seen()(a, b) }
	return own
}
