//go:build linux

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel/trace"
	"github.com/rpmig/rpmig/reload"
	"github.com/rpmig/rpmig/reload/load"
)

// result is what one or all turns of a program came to.
type result struct {
	Connections int64
	Seconds     float64
	Stalled     float64       // of them, those in which rpmig's clients did not run
	Own, Server time.Duration // CPU of the clients and what records them, without the start of the process; and of the server

	Events, EventsLost int
	Frames, FramesLost int

	// Of a long turn.
	Refused, Told     int64   // connections where nobody listens, so that there are events; and these
	First, Last, Most float64 // MiB in memory: once all is as large as it gets, at the end, and the most between
}

func (r *result) add(b result) {
	r.Connections += b.Connections
	r.Seconds, r.Stalled = r.Seconds+b.Seconds, r.Stalled+b.Stalled
	r.Own, r.Server = r.Own+b.Own, r.Server+b.Server
	r.Events, r.EventsLost = r.Events+b.Events, r.EventsLost+b.EventsLost
	r.Frames, r.FramesLost = r.Frames+b.Frames, r.FramesLost+b.FramesLost
	r.Refused, r.Told = r.Refused+b.Refused, r.Told+b.Told
	r.First, r.Last, r.Most = b.First, b.Last, b.Most
}

// each is the CPU of a connection, in µs.
func (r *result) each() float64 {
	return float64((r.Own + r.Server).Microseconds()) / float64(r.Connections)
}

// cycle is about how long a cycle of rpmig reload is, which has a watch of its own.
const cycle = 5 * time.Second

// nobody is where nobody listens.
var nobody = netip.AddrPortFrom(at.Addr(), at.Port()+1)

// settled is when the engine's memory is as large as it gets.
const settled = 20 * time.Second

// turn is one that is being played.
type turn struct {
	result
	tracer *trace.Tracer
	watch  *trace.Watch
}

// playTurn plays one turn, and prints what came of it.
func playTurn(each time.Duration, clients int, with []string, long bool) (err error) {
	c := load.Config{To: at, Clients: clients, Request: load.Request{HTTP: &load.HTTP{}}}
	for i := range min(clients, 24) {
		c.Sources = append(c.Sources, netip.AddrFrom4([4]byte{127, 0, 1, byte(i + 1)}))
	}
	var t turn
	if slices.Contains(with, "trace") {
		if t.tracer, err = reload.OpenTracer(); err != nil {
			return err
		}
		defer func() { _ = t.tracer.Close() }()
	}
	defer reload.LittleGarbage()()
	before := ownCPU()
	if err := t.begin(); err != nil {
		return err
	}
	e, err := load.Start(context.Background(), c)
	if err != nil {
		return err
	}
	end := func() (frames, lost int, err error) { return 0, 0, nil }
	if slices.Contains(with, "packets") {
		if end, err = reload.KeepPackets(at.Port(), e); err != nil {
			return err
		}
	}
	if long {
		err = t.endure(e, each)
	} else {
		err = wait(e, each)
	}
	r, stopErr := e.Stop(time.Second)
	var endErr error
	t.Frames, t.FramesLost, endErr = end()
	if err := cmp.Or(err, stopErr, endErr, t.next(false)); err != nil {
		return err
	}
	if len(r.Lost) > 0 {
		return fmt.Errorf("%d lost, the first: %+v", r.Counts.Lost(), r.Lost[0])
	}
	t.Own = ownCPU() - before
	t.Connections, t.Seconds, t.Stalled = r.Counts[load.OK], (r.To - r.From).Seconds(), r.Stalled.Seconds()
	return json.NewEncoder(os.Stdout).Encode(t.result)
}

func wait(e *load.Engine, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-e.Done():
		_, err := e.Stop(0)
		return err
	}
}

// begin begins a watch, if there is a trace.
func (t *turn) begin() (err error) {
	if t.tracer != nil {
		t.watch, err = t.tracer.WatchThread()
	}
	return err
}

// next ends a watch, and begins another if there is more to come.
func (t *turn) next(more bool) error {
	if t.tracer == nil {
		return nil
	}
	r, err := t.watch.Stop()
	if err != nil {
		return err
	}
	for _, event := range r.Events {
		if event.Src == nobody {
			t.Told++
		}
	}
	t.Events, t.EventsLost = t.Events+len(r.Events), t.EventsLost+r.Lost
	if more {
		return t.begin()
	}
	return nil
}

// endure plays a long turn, in which connections to a port where nobody listens are reset.
func (t *turn) endure(e *load.Engine, long time.Duration) error {
	began := time.Now()
	for time.Since(began) < long {
		for from := time.Now(); time.Since(from) < cycle; {
			if err := t.refuse(20); err != nil {
				return err
			}
			if err := wait(e, 10*time.Millisecond); err != nil {
				return err
			}
		}
		now, err := resident()
		if err := cmp.Or(err, t.next(true)); err != nil {
			return err
		}
		if t.First == 0 && time.Since(began) >= settled {
			t.First = now
		}
		t.Last, t.Most = now, max(t.Most, now)
	}
	return nil
}

// refuse has some connections refused, each of which is an event.
func (t *turn) refuse(n int) error {
	for range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		err = unix.Connect(fd, &unix.SockaddrInet4{Addr: nobody.Addr().As4(), Port: int(nobody.Port())})
		_ = unix.Close(fd)
		if !errors.Is(err, unix.ECONNREFUSED) {
			return fmt.Errorf("connect to %v, where nobody listens: %w", nobody, err)
		}
		t.Refused++
	}
	return nil
}

// resident is the memory of this process that is resident, in MiB.
func resident() (float64, error) {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, err
	}
	var size, pages int
	_, err = fmt.Sscan(string(b), &size, &pages)
	return float64(pages*os.Getpagesize()) / (1 << 20), err
}

func ownCPU() time.Duration {
	var used unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &used) // cannot fail
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
