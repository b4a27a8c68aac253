// Package worker is the other process of a cell: rpmig, re-executed in the cell's namespace. It holds sockets that are passed
// to it, accepts on them when it is told to, and dies with the cell. harness.Worker is the cell's side of it.
package worker

import (
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
	Do      string        // "hold" or "read" the descriptor that comes along, "accept", "close" what it holds, or "exit"
	Count   int           // accept: how many
	Bytes   int           // accept, read: how much to read from each
	Timeout time.Duration // accept, read: how long to wait for each event
}

// Connection is one that a worker has accepted, or was handed.
type Connection struct {
	Peer netip.AddrPort // of one that it has accepted
	Data []byte
}

// Answer is what a worker says when it has done as it was told, and once when it runs.
type Answer struct {
	Accepted []Connection
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
			// It is kept open until the worker ends: the client should see no EOF.
		case "accept":
			if a.Accepted, err = acceptMany(held, o); err != nil {
				a.Err = err.Error()
			}
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

func acceptMany(fd int, o Order) (all []Connection, err error) {
	for len(all) < o.Count {
		if err := readable(fd, o.Timeout); err != nil {
			return all, fmt.Errorf("after %d of %d connections: %w", len(all), o.Count, err)
		}
		child, sa, err := unix.Accept4(fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return all, fmt.Errorf("accept: %w", err)
		}
		data, err := readAll(child, o)
		if err != nil {
			return all, err
		}
		all = append(all, Connection{Peer: tcp.AddrPort(sa), Data: data})
	}
	return all, nil
}

func readAll(fd int, o Order) (data []byte, err error) {
	buf := make([]byte, o.Bytes)
	for len(data) < o.Bytes {
		if err := readable(fd, o.Timeout); err != nil {
			return data, err
		}
		n, err := unix.Read(fd, buf)
		if n <= 0 {
			return data, fmt.Errorf("read after %d bytes: %d, %v", len(data), n, err)
		}
		data = append(data, buf[:n]...)
	}
	return data, nil
}

func readable(fd int, limit time.Duration) error {
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(limit.Milliseconds()))
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
