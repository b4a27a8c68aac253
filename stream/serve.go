package stream

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/tcp"
	"github.com/rpmig/rpmig/wait"
)

// Serve answers clients of some listeners until it has answered as many as it should, or, where its patience is a wait.Tick, no
// more come. A request may take its time, up to a limit.
func Serve(w *wait.Waiter, listeners []int, count int, patience, limit time.Duration) error {
	for count > 0 {
		ready, err := waiting(w, listeners, patience)
		if err != nil {
			if errors.Is(err, wait.ErrTimeout) && patience == wait.Tick {
				return nil
			}
			return err
		}
		for _, fd := range ready[:min(count, len(ready))] {
			if err := Answer(w, fd, limit); err != nil {
				return err
			}
			count--
		}
	}
	return nil
}

// ServeUntil serves clients until one waits at one of some listeners, so that closing them puts it at stake.
func ServeUntil(w *wait.Waiter, all, some []int, patience, limit time.Duration) error {
	for {
		ready, err := waiting(w, all, patience)
		if err != nil {
			return err
		}
		for _, fd := range ready {
			if slices.Contains(some, fd) {
				return nil
			}
		}
		for _, fd := range ready {
			if err := Answer(w, fd, limit); err != nil {
				return err
			}
		}
	}
}

// waiting blocks until clients wait in the accept queues of some listeners, and returns these.
func waiting(w *wait.Waiter, listeners []int, patience time.Duration) (ready []int, err error) {
	fds := make([]unix.PollFd, 0, len(listeners)+1)
	for _, fd := range listeners {
		fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	fds = append(fds, unix.PollFd{Fd: int32(w.Cancelled), Events: unix.POLLIN})
	err = w.Poll(patience, "a client of the stream connects", func(left time.Duration) (bool, error) {
		_, err := w.Nap(left, func(ms int) (int, error) { return unix.Poll(fds, ms) })
		for i, fd := range listeners {
			if fds[i].Revents != 0 {
				ready = append(ready, fd)
			}
		}
		if fds[len(listeners)].Revents != 0 {
			err = wait.ErrCancelled
		}
		return len(ready) > 0, err
	})
	return ready, err
}

// Answer accepts a connection of a listener, and sends back what it has sent, for which it waits up to a limit.
func Answer(w *wait.Waiter, listener int, limit time.Duration) error {
	fd, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	if errors.Is(err, unix.EAGAIN) {
		return nil
	} else if err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	defer func() { _ = tcp.Finish(fd); _ = unix.Close(fd) }() // it may have been reset
	if err := w.For(limit, fd, unix.POLLIN, "the request is there"); err != nil {
		return err
	}
	var b [tcp.TokenBytes]byte
	n, err := unix.Read(fd, b[:])
	if errors.Is(err, unix.ECONNRESET) {
		return nil // the client will say so
	} else if err != nil {
		return fmt.Errorf("read the request: %w", err)
	}
	_, err = unix.SendmsgN(fd, b[:n], nil, nil, unix.MSG_NOSIGNAL)
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
		return nil
	} else if err != nil {
		return fmt.Errorf("answer: %w", err)
	}
	return nil
}
