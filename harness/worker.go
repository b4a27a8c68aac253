package harness

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/rpmig/rpmig/netns"

	"golang.org/x/sys/unix"
)

// Worker is another process of the cell: this program, re-executed in the cell's namespace. It holds sockets that are
// passed to it, accepts on them when it is told to, and dies with the cell.
type Worker struct {
	lab  *Lab
	name string
	cmd  *exec.Cmd
	sock int // SOCK_SEQPACKET: one command or answer a message
	dead bool
}

// workerEnv marks the environment of a worker.
const workerEnv = "RPMIG_WORKER"

// workerSocket is the worker's end of the socket: the first of exec.Cmd.ExtraFiles.
const workerSocket = 3

// order is what a worker is told.
type order struct {
	Do      string        // "hold" a descriptor that comes along, "accept", or "exit"
	Count   int           // accept: how many
	Bytes   int           // accept: how much to read from each
	Timeout time.Duration // accept: how long to wait for each event
}

// account is a worker's answer to "accept".
type account struct {
	Peer netip.AddrPort
	Data []byte
}

type answer struct {
	Accepted []account
	Err      string
}

// Worker starts a worker.
func (l *Lab) Worker(name string) *Worker {
	l.step("process %s starts", name)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	l.must(wrap("socketpair", err))
	theirs := os.NewFile(uintptr(pair[1]), "worker")
	defer func() { _ = theirs.Close() }()
	w := &Worker{lab: l, name: name, sock: pair[0], cmd: exec.Command("/proc/self/exe")}
	l.hold(w.sock)
	w.cmd.Env = append(os.Environ(), workerEnv+"=1")
	w.cmd.ExtraFiles = []*os.File{theirs}
	w.cmd.Stderr = os.Stderr
	// The thread that forks is the cell's own, so this fires with the cell at the latest.
	w.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	born := netns.BeginExec()
	defer born()
	l.must(wrap("start", w.cmd.Start()))
	l.workers = append(l.workers, w)
	_, err = w.hear() // that it runs
	l.must(err)
	return w
}

// PassTo hands a listener to a worker over SCM_RIGHTS (unix(7)). This process keeps its own descriptor.
func (s *Listener) PassTo(w *Worker) {
	l := s.lab
	l.step("pass %s to %s", s.name, w.name)
	l.must(w.tell(order{Do: "hold"}, s.fd))
	_, err := w.hear()
	l.must(err)
}

// HandOverTo accepts one connection on the listener and passes it to a worker, which reads what the client sent.
func (s *Listener) HandOverTo(w *Worker) {
	l := s.lab
	l.step("accept on %s, and pass the connection to %s", s.name, w.name)
	fd, sa, err := unix.Accept4(s.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	l.must(wrap("accept", err))
	l.hold(fd)
	l.must(w.tell(order{Do: "read", Bytes: len(l.message()), Timeout: l.scale(handshakeTimeout)}, fd))
	l.must(l.closeFD(fd))
	got, err := w.hear()
	l.must(err)
	for _, a := range got.Accepted {
		l.accepted(w.name, addrPort(sa), string(a.Data))
	}
}

// Accept has a worker accept that many connections on the listener that it holds, waiting for them.
func (w *Worker) Accept(count int) {
	l := w.lab
	l.step("%s accepts %d", w.name, count)
	l.must(w.tell(order{Do: "accept", Count: count, Bytes: len(l.message()), Timeout: l.scale(outcomeTimeout)}, -1))
	got, err := w.hear()
	for _, a := range got.Accepted {
		l.accepted(w.name, a.Peer, string(a.Data))
	}
	l.must(err)
}

// Exit has a worker exit; when this returns, all that it held is closed.
func (w *Worker) Exit() {
	l := w.lab
	l.step("process %s exits", w.name)
	l.must(w.tell(order{Do: "exit"}, -1))
	w.dead = true
	l.must(wrap("wait for the worker", w.cmd.Wait()))
}

// Kill kills a worker; when this returns, all that it held is closed: exit_files runs before exit_notify (do_exit).
func (w *Worker) Kill() {
	l := w.lab
	l.step("kill -9 process %s", w.name)
	w.kill()
}

func (w *Worker) kill() {
	if !w.dead {
		w.dead = true
		_ = w.cmd.Process.Kill()
		_ = w.cmd.Wait()
	}
}

func (w *Worker) tell(o order, fd int) error {
	b, err := json.Marshal(o)
	if err != nil {
		return err
	}
	var rights []byte
	if fd >= 0 {
		rights = unix.UnixRights(fd)
	}
	return wrap("tell the worker", unix.Sendmsg(w.sock, b, rights, nil, unix.MSG_NOSIGNAL))
}

func (w *Worker) hear() (answer, error) {
	l := w.lab
	var a answer
	if err := l.wait(2*outcomeTimeout, w.sock, unix.POLLIN, "the worker answers"); err != nil {
		return a, err
	}
	size, _, err := unix.Recvfrom(w.sock, nil, unix.MSG_PEEK|unix.MSG_TRUNC) // of the message (unix(7))
	if err != nil {
		return a, wrap("hear from the worker", err)
	}
	buf := make([]byte, size)
	n, err := unix.Read(w.sock, buf)
	if err != nil {
		return a, wrap("hear from the worker", err)
	}
	if err := json.Unmarshal(buf[:n], &a); err != nil {
		return a, wrap("hear from the worker", err)
	}
	if a.Err != "" {
		return a, errors.New(w.name + ": " + a.Err)
	}
	return a, nil
}

// WorkIfWorker turns this process into a worker if it was started as one, and does not return then. It must be the
// first that main, or a test's TestMain, does.
func WorkIfWorker() {
	if os.Getenv(workerEnv) == "" {
		return
	}
	if err := work(workerSocket); err != nil {
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
		var o order
		if err := json.Unmarshal(buf[:n], &o); err != nil {
			return err
		}
		fd := -1
		if oobn > 0 {
			if fd, err = oneRight(oob[:oobn]); err != nil {
				return err
			}
		}
		var a answer
		switch o.Do {
		case "exit":
			return nil
		case "hold":
			held = fd
		case "read":
			data, err := readAll(fd, o)
			if a.Accepted = []account{{Data: data}}; err != nil {
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
		return -1, fmt.Errorf("%d control messages: %w", len(msgs), err)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 1 {
		return -1, fmt.Errorf("%d descriptors: %w", len(fds), err)
	}
	return fds[0], nil
}

func acceptMany(fd int, o order) (all []account, err error) {
	for len(all) < o.Count {
		if err := readable(fd, o.Timeout); err != nil {
			return all, fmt.Errorf("after %d of %d connections: %w", len(all), o.Count, err)
		}
		child, sa, err := unix.Accept4(fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return all, wrap("accept", err)
		}
		data, err := readAll(child, o)
		if err != nil {
			return all, err
		}
		all = append(all, account{Peer: addrPort(sa), Data: data})
	}
	return all, nil
}

func readAll(fd int, o order) (data []byte, err error) {
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
			return wrap("poll", err)
		case n == 0:
			return fmt.Errorf("nothing in %v", limit)
		default:
			return nil
		}
	}
}
