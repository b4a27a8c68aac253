package tcp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// TokenBytes is the length of what Ask sends: a number that no other connection has, so that a reply which belongs to another is
// noticed.
const TokenBytes = 8

// What Ask may meet besides an errno.
var (
	ErrEmptyReply  = errors.New("the end without a byte of an answer")
	ErrClosedEarly = errors.New("the end after a part of the answer")
	ErrWrongReply  = errors.New("the answer is another's")
	ErrNothingCame = errors.New("nothing came")
	ErrCancelled   = errors.New("cancelled")
)

// Ask connects, sends a token and waits for it to come back. It waits for nothing longer than the limit, and until the descriptor
// cancelled becomes readable.
func Ask(at netip.AddrPort, token uint64, limit time.Duration, cancelled int) (connected bool, err error) {
	fd, err := unix.Socket(Domain(at.Addr()), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer func() { _ = Finish(fd); _ = unix.Close(fd) }()
	// Non-blocking, since a connect(2) with a time limit is cut short by each signal that the runtime sends a thread.
	wait := func(event int16) error {
		for {
			fds := []unix.PollFd{{Fd: int32(fd), Events: event}, {Fd: int32(cancelled), Events: unix.POLLIN}}
			n, err := unix.Poll(fds, int(limit.Milliseconds()))
			switch {
			case errors.Is(err, unix.EINTR):
			case err != nil:
				return err
			case n == 0:
				return fmt.Errorf("%w in %v", ErrNothingCame, limit)
			case fds[1].Revents != 0:
				return ErrCancelled
			default:
				return nil
			}
		}
	}
	if err := unix.Connect(fd, Sockaddr(at)); err != nil {
		if !errors.Is(err, unix.EINPROGRESS) {
			return false, err
		}
		if err := errors.Join(wait(unix.POLLOUT), Error(fd)); err != nil {
			return false, err
		}
	}
	var sent, got [TokenBytes]byte
	binary.BigEndian.PutUint64(sent[:], token)
	if _, err := unix.SendmsgN(fd, sent[:], nil, nil, unix.MSG_NOSIGNAL); err != nil {
		return true, err
	}
	for n := 0; n < len(got); {
		if err := wait(unix.POLLIN); err != nil {
			return true, err
		}
		more, err := unix.Read(fd, got[n:])
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return true, err
		case more == 0 && n == 0:
			return true, ErrEmptyReply
		case more == 0:
			return true, ErrClosedEarly
		}
		n += more
	}
	if got != sent {
		return true, ErrWrongReply
	}
	return true, nil
}
