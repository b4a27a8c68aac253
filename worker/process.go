package worker

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// Process is the cell's side of a worker.
type Process struct {
	Sock int // SOCK_SEQPACKET: one order or answer a message; the caller closes it
	cmd  *exec.Cmd
	dead bool
}

// Start starts a worker in the namespace of the calling thread. It says that it runs by an empty answer.
func Start() (*Process, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "worker")
	defer func() { _ = theirs.Close() }()
	p := &Process{Sock: pair[0], cmd: exec.Command("/proc/self/exe")}
	p.cmd.Env = append(os.Environ(), Env+"=1", "GOMAXPROCS=1") // few threads
	p.cmd.ExtraFiles = []*os.File{theirs}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = theirs, os.Stderr, os.Stderr // nil would take a /dev/null
	p.cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: unix.SIGKILL, // the thread that forks is the cell's own, so this fires with the cell at the latest
		Setpgid:   true,         // a terminal's Ctrl-C is for rpmig: a worker that ends by itself is missed by its cell
	}
	if err := p.cmd.Start(); err != nil {
		unix.Close(p.Sock)
		return nil, fmt.Errorf("start: %w", err)
	}
	return p, nil
}

// PID is the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Wait waits for a worker that was told to exit; when it returns, all that the worker held is closed.
func (p *Process) Wait() error {
	p.dead = true
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("wait for the worker: %w", err)
	}
	return nil
}

// Kill kills a worker that lives; when this returns, all that it held is closed: exit_files runs before exit_notify (do_exit).
func (p *Process) Kill() {
	if !p.dead {
		p.dead = true
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}

// Tell gives an order, with a descriptor unless that is -1.
func (p *Process) Tell(o Order, fd int) error {
	b, err := json.Marshal(o)
	if err != nil {
		return err
	}
	var rights []byte
	if fd >= 0 {
		rights = unix.UnixRights(fd)
	}
	if err := unix.Sendmsg(p.Sock, b, rights, nil, unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("tell the worker: %w", err)
	}
	return nil
}

// Hear reads an answer, for which the caller has waited.
func (p *Process) Hear() (Answer, error) {
	var a Answer
	size, _, err := unix.Recvfrom(p.Sock, nil, unix.MSG_PEEK|unix.MSG_TRUNC) // of the message (unix(7))
	buf, n := make([]byte, max(size, 0)), 0
	if err == nil {
		n, err = unix.Read(p.Sock, buf)
	}
	if err == nil {
		err = json.Unmarshal(buf[:n], &a)
	}
	if err != nil {
		return a, fmt.Errorf("hear from the worker: %w", err)
	}
	return a, nil
}
