//go:build linux

package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
)

// untilSignal returns a context that ends with the first signal that asks rpmig to end, and one that ends with the second.
// Whatever is still there a moment later is killed.
func untilSignal() (first, second context.Context) {
	first, endFirst := context.WithCancelCause(context.Background())
	second, endSecond := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	go func() {
		s := <-signals
		endFirst(&signalled{s})
		again := <-signals
		// After these two rpmig ends soon by itself, and timeout(1) sends its signal twice: to its child and to the group.
		for s != unix.SIGINT && again != unix.SIGINT {
			again = <-signals
		}
		endSecond(&signalled{again})
		// The cells are about to end. To be killed in their midst takes longer: the kernel then closes their packet rings
		// one after the other, and waits for a grace period each time (net/packet/af_packet.c:packet_release).
		time.AfterFunc(2*briefly, func() {
			if unix.Getpid() == 1 { // which no signal of its own ends (pid_namespaces(7))
				os.Exit(128 + int(again.(unix.Signal)))
			}
			signal.Reset(again)
			_ = unix.Kill(unix.Getpid(), again.(unix.Signal))
		})
		signal.Stop(signals)
	}()
	return first, second
}

// signalled is why a context ended.
type signalled struct{ os.Signal }

func (s *signalled) Error() string { return s.String() + " signal received" }

// Is makes it a cancellation.
func (*signalled) Is(target error) bool { return target == context.Canceled }

// briefly is how long rpmig goes on after a signal with a task that has no end in sight.
const briefly = 150 * time.Millisecond

var errNoTime = errors.New("there was no time for it after the signal")

// afterwards is the context of what there is to do when a run is over. After a Ctrl-C a person waits for it, or presses
// again; who sends another signal will soon send SIGKILL.
func (e *env) afterwards(ctx context.Context) (context.Context, context.CancelFunc) {
	s := new(signalled)
	switch {
	case ctx.Err() == nil:
		return ctx, func() {}
	case e.second == nil:
		return context.WithoutCancel(ctx), func() {}
	case errors.As(context.Cause(ctx), &s) && s.Signal != unix.SIGINT:
		return context.WithTimeoutCause(e.second, briefly, errNoTime)
	default:
		return e.second, func() {}
	}
}

// unlessEnded does what looks at no context, such as a report of a million cells, and does not wait for it once the context
// has ended. Whatever it holds must be such that the kernel takes it back.
func unlessEnded(ctx context.Context, do func() error) error {
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// untilEnded writes until a context ends.
type untilEnded struct {
	ctx context.Context
	w   io.Writer
}

func (u *untilEnded) Write(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	return u.w.Write(p)
}
