package lab

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"syscall"

	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/tcp"
	"github.com/rpmig/rpmig/worker"

	"golang.org/x/sys/unix"
)

// Worker is another process of the cell: this program, re-executed in the cell's namespace. It holds sockets that are
// passed to it, accepts on them when it is told to, and dies with the cell.
type Worker struct {
	lab  *Lab
	name string
	cmd  *exec.Cmd
	sock int // SOCK_SEQPACKET: one command or answer a message
	got  int // connections
	dead bool
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
	w.cmd.Env = append(os.Environ(), worker.Env+"=1", "GOMAXPROCS=1") // few threads
	w.cmd.ExtraFiles = []*os.File{theirs}
	w.cmd.Stdin, w.cmd.Stdout, w.cmd.Stderr = theirs, os.Stderr, os.Stderr // nil would take a /dev/null
	w.cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: unix.SIGKILL, // the thread that forks is the cell's own, so this fires with the cell at the latest
		Setpgid:   true,         // a terminal's Ctrl-C is for rpmig: a worker that ends by itself is missed by its cell
	}
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
	l.must(w.tell(worker.Order{Do: "hold"}, s.fd))
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
	l.must(w.tell(worker.Order{Do: "read", Bytes: len(l.message()), Timeout: l.scale(handshakeTimeout)}, fd))
	l.must(l.closeFD(fd))
	got, err := w.hear()
	l.must(err)
	for _, a := range got.Accepted {
		l.accepted(w.name, tcp.AddrPort(sa), string(a.Data), w.end())
	}
}

// Accept has a worker accept that many connections on the listener that it holds, waiting for them.
func (w *Worker) Accept(count int) {
	l := w.lab
	l.step("%s accepts %d", w.name, count)
	l.must(w.tell(worker.Order{Do: "accept", Count: count, Bytes: len(l.message()), Timeout: l.scale(outcomeTimeout)}, -1))
	got, err := w.hear()
	for _, a := range got.Accepted {
		l.accepted(w.name, a.Peer, string(a.Data), w.end())
	}
	l.must(err)
}

// end is the server's end of the connection that a worker has got last.
func (w *Worker) end() serverEnd {
	w.got++
	return serverEnd{fd: -1, worker: w, nth: w.got - 1}
}

// Close has a worker close the listener that it holds.
func (w *Worker) Close() {
	l := w.lab
	l.step("%s closes it", w.name)
	l.must(w.tell(worker.Order{Do: "close"}, -1))
	_, err := w.hear()
	l.must(err)
}

// Exit has a worker exit; when this returns, all that it held is closed.
func (w *Worker) Exit() {
	l := w.lab
	l.step("process %s exits", w.name)
	l.must(w.tell(worker.Order{Do: "exit"}, -1))
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

func (w *Worker) tell(o worker.Order, fd int) error {
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

func (w *Worker) hear() (worker.Answer, error) {
	l := w.lab
	var a worker.Answer
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
