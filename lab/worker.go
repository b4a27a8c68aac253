package lab

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/tcp"
	"github.com/rpmig/rpmig/worker"
)

// Worker is another process of the cell: this program, re-executed in the cell's namespace. It holds sockets that are
// passed to it, accepts on them when it is told to, and dies with the cell.
type Worker struct {
	lab     *Lab
	name    string
	got     int // connections
	process *worker.Process
}

// Worker starts a worker.
func (l *Lab) Worker(name string) *Worker {
	l.step("process %s starts", name)
	born := netns.BeginExec()
	defer born()
	p, err := worker.Start()
	l.must(err)
	l.hold(p.Sock)
	w := &Worker{lab: l, name: name, process: p}
	l.workers = append(l.workers, w)
	_, err = w.hear() // that it runs
	l.must(err)
	return w
}

// PassTo hands a listener to a worker over SCM_RIGHTS (unix(7)). This process keeps its own descriptor.
func (s *Listener) PassTo(w *Worker) {
	l := s.lab
	l.step("pass %s to %s", s.name, w.name)
	l.must(w.process.Tell(worker.Order{Do: "hold"}, s.fd))
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
	l.must(w.process.Tell(worker.Order{Do: "read", Bytes: len(l.message()), Timeout: l.scale(handshakeTimeout)}, fd))
	l.must(l.closeFD(fd))
	got, err := w.hear()
	l.must(err)
	for _, a := range got.Accepted {
		l.accepted(w.name, tcp.AddrPort(sa), received{data: string(a.Data)}, w.end())
	}
}

// Accept has a worker accept that many connections on the listener that it holds, waiting for them.
func (w *Worker) Accept(count int) {
	l := w.lab
	l.step("%s accepts %d", w.name, count)
	l.must(w.process.Tell(worker.Order{Do: "accept", Count: count, Bytes: len(l.message()), Timeout: l.scale(outcomeTimeout)}, -1))
	got, err := w.hear()
	for _, a := range got.Accepted {
		l.accepted(w.name, a.Peer, received{data: string(a.Data)}, w.end())
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
	l.must(w.process.Tell(worker.Order{Do: "close"}, -1))
	_, err := w.hear()
	l.must(err)
}

// Exit has a worker exit; when this returns, all that it held is closed.
func (w *Worker) Exit() {
	l := w.lab
	l.step("process %s exits", w.name)
	l.must(w.process.Tell(worker.Order{Do: "exit"}, -1))
	l.must(w.process.Wait())
}

// Kill kills a worker; when this returns, all that it held is closed.
func (w *Worker) Kill() {
	l := w.lab
	l.step("kill -9 process %s", w.name)
	w.process.Kill()
}

func (w *Worker) hear() (worker.Answer, error) {
	l := w.lab
	if err := l.wait(2*outcomeTimeout, w.process.Sock, unix.POLLIN, "the worker answers"); err != nil {
		return worker.Answer{}, err
	}
	a, err := w.process.Hear()
	if err != nil {
		return a, err
	}
	if a.Err != "" {
		return a, errors.New(w.name + ": " + a.Err)
	}
	return a, nil
}
