// Package worker is the other process of a cell: rpmig, re-executed in the cell's namespace. It holds sockets that are passed
// to it, accepts on them when it is told to, and dies with the cell. Process is the cell's side of it, which lab.Worker makes steps
// of.
package worker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/tcp"
)

// Env marks the environment of a worker.
const Env = "RPMIG_WORKER"

// Socket is the worker's end of the socket to its cell, SOCK_SEQPACKET with one Order or Answer a message: the first of
// exec.Cmd.ExtraFiles.
const Socket = 3

// Order is what a worker is told.
type Order struct {
	Do      string        // "hold" or "read" the descriptor that comes along, "accept", "close" what it holds, "talk", or "exit"
	Count   int           // accept: how many
	Bytes   int           // accept, read: how much to read from each
	Talks   []Talk        // talk: with which connections
	Timeout time.Duration // accept, read, talk: how long to wait for each event
}

// Talk is the server's side of a connection's talk: say tcp.Words, hear the client's, and end.
type Talk struct {
	Nth     int  // of the connections that the worker has got, from 0
	Earlier int  // bytes that the client has sent before, and that are not read yet
	Ended   bool // the client has sent its FIN, and no words will come
}

// Connection is one that a worker has accepted, or was handed.
type Connection struct {
	Peer netip.AddrPort // of one that it has accepted
	Data []byte
}

// Answer is what a worker says when it has done as it was told, and once when it runs.
type Answer struct {
	Accepted []Connection
	Talks    []string // what went wrong with each; empty: nothing
	Err      string
}

// RunIfWorker turns this process into a worker if it was started as one, and does not return then. It must be the first
// that main, or a test's TestMain, does.
func RunIfWorker() {
	if os.Getenv(Env) == "" {
		return
	}
	// It ends with its cell, and not before: a service manager may signal every process of the run.
	signal.Ignore(unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	err := work(Socket)
	if errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) {
		err = nil // its parent was killed
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "rpmig: worker:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// work obeys until it is told to exit or its parent hangs up.
func work(sock int) error {
	held := -1
	// Connections, kept open until the worker ends: their clients should see no EOF before.
	var got []int
	if _, err := unix.Write(sock, []byte("{}")); err != nil { // an empty answer: here I am
		return err
	}
	buf, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	for {
		n, oobn, _, _, err := unix.Recvmsg(sock, buf, oob, unix.MSG_CMSG_CLOEXEC)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return err
		}
		var o Order
		if err := json.Unmarshal(buf[:n], &o); err != nil {
			return err
		}
		fd := -1
		if oobn > 0 {
			if fd, err = oneRight(oob[:oobn]); err != nil {
				return err
			}
		}
		var a Answer
		switch o.Do {
		case "exit":
			return nil
		case "hold":
			held = fd
		case "close":
			if err := unix.Close(held); err != nil {
				a.Err = fmt.Sprintf("close: %v", err)
			}
			held = -1
		case "read":
			data, err := readAll(fd, o)
			if a.Accepted = []Connection{{Data: data}}; err != nil {
				a.Err = err.Error()
			}
			got = append(got, fd)
		case "accept":
			var fds []int
			if a.Accepted, fds, err = acceptMany(held, o); err != nil {
				a.Err = err.Error()
			}
			got = append(got, fds...)
		case "talk":
			a.Talks = talk(got, o)
		}
		b, err := json.Marshal(a)
		if err != nil {
			return err
		}
		if _, err := unix.Write(sock, b); err != nil {
			return err
		}
	}
}

func oneRight(oob []byte) (int, error) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(msgs) != 1 {
		return -1, fmt.Errorf("%d control messages: %v", len(msgs), err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return -1, fmt.Errorf("%d descriptors: %v", len(fds), err)
	}
	return fds[0], nil
}

func acceptMany(fd int, o Order) (all []Connection, fds []int, err error) {
	for len(all) < o.Count {
		if err := ready(fd, unix.POLLIN, o.Timeout); err != nil {
			return all, fds, fmt.Errorf("after %d of %d connections: %w", len(all), o.Count, err)
		}
		child, sa, err := unix.Accept4(fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return all, fds, fmt.Errorf("accept: %w", err)
		}
		data, err := readAll(child, o)
		if err != nil {
			return all, fds, err
		}
		all, fds = append(all, Connection{Peer: tcp.AddrPort(sa), Data: data}), append(fds, child)
	}
	return all, fds, nil
}

// talk is the server's side of each talk, step by step: a client's side waits for the same step of all.
func talk(got []int, o Order) []string {
	answer, again := tcp.Words()
	said := make([]string, len(o.Talks))
	for _, step := range []func(fd int, t Talk) error{
		func(fd int, _ Talk) error { return say(fd, answer, o.Timeout) },
		func(fd int, t Talk) error {
			if t.Ended {
				return nil
			}
			data, err := readAll(fd, Order{Bytes: t.Earlier + len(again), Timeout: o.Timeout})
			if err == nil && !bytes.Equal(data[t.Earlier:], again) {
				err = errors.New("other bytes than were sent")
			}
			return err
		},
		func(fd int, _ Talk) error { return tcp.Finish(fd) },
		func(fd int, _ Talk) error {
			err := ready(fd, unix.POLLIN, o.Timeout)
			if said := tcp.Says(fd); err == nil && said != "EOF" {
				err = fmt.Errorf("%s instead of a FIN", said)
			}
			return err
		},
	} {
		for i, t := range o.Talks {
			if said[i] != "" {
				continue
			}
			if err := step(got[t.Nth], t); err != nil {
				said[i], o.Timeout = err.Error(), 0 // it has been waited for, and the others with it
			}
		}
	}
	return said
}

func say(fd int, words []byte, patience time.Duration) error {
	for len(words) > 0 {
		n, err := unix.SendmsgN(fd, words, nil, nil, unix.MSG_NOSIGNAL)
		if errors.Is(err, unix.EAGAIN) {
			err = ready(fd, unix.POLLOUT, patience)
		}
		if err != nil {
			return fmt.Errorf("answer: %w", err)
		}
		words = words[max(n, 0):]
	}
	return nil
}

func readAll(fd int, o Order) (data []byte, err error) {
	data = make([]byte, 0, o.Bytes)
	for len(data) < o.Bytes {
		if err := ready(fd, unix.POLLIN, o.Timeout); err != nil {
			return data, err
		}
		if data, err = tcp.ReadUpTo(fd, data, o.Bytes); err != nil {
			return data, err
		}
	}
	return data, nil
}

func ready(fd int, event int16, limit time.Duration) error {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: event}}, int(limit.Milliseconds()))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("poll: %w", err)
		case n == 0:
			return fmt.Errorf("nothing in %v", limit)
		default:
			return nil
		}
	}
}
