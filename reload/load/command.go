package load

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// saidBytes is how much is kept of what a command says.
const saidBytes = 256

// said keeps the beginning of what is written.
type said struct{ kept bytes.Buffer }

func (s *said) Write(b []byte) (int, error) {
	s.kept.Write(b[:min(len(b), saidBytes-s.kept.Len())])
	return len(b), nil
}

// command is a client that is a command, in a process group of its own, of which nothing is left.
func (w *workers) command(began time.Duration) (ok bool) {
	m := &meeting{Lost: Lost{Began: began, asked: began}, sentAll: true}
	ctx, cancel := context.WithTimeout(w.ctx, w.c.Timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, w.c.Command[0], w.c.Command[1:]...)
	cmd.Env = append(os.Environ(), "RPMIG_ADDR="+w.c.To.Addr().String(), "RPMIG_PORT="+strconv.Itoa(int(w.c.To.Port())))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var out said
	cmd.Stdout, cmd.Stderr = &out, &out
	if cmd.Start() != nil { // no process, or no descriptor
		return w.over(m, Void, nil)
	}
	killGroup(cmd.Process.Pid)
	err := cmd.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return w.over(m, OK, nil)
	case ctx.Err() != nil:
		return w.over(m, Timeout, nil)
	case errors.As(err, &exit):
		m.Detail = exit.Error() + ": " + out.kept.String()
	default:
		m.Detail = err.Error()
	}
	return w.over(m, WrongReply, nil)
}

// killGroup waits for a process and then kills what it has left behind in its group. The process is still to be reaped, so that
// no other can have its number by then.
func killGroup(pid int) {
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	_ = unix.Kill(-pid, unix.SIGKILL)
}
