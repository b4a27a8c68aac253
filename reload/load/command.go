package load

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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

// command is a client that is a command.
func (w *workers) command(began time.Duration) (ok bool) {
	m := &meeting{Lost: Lost{Began: began, asked: began}, sentAll: true}
	ctx, cancel := context.WithTimeout(w.ctx, w.c.Timeout)
	defer cancel()
	run := w.c.Run
	if run == nil {
		run = execute
	}
	said, err := run(ctx, w.c.Command, []string{"RPMIG_ADDR=" + w.c.To.Addr().String(), "RPMIG_PORT=" + strconv.Itoa(int(w.c.To.Port()))})
	switch {
	case err == nil:
		return w.over(m, OK, nil)
	case errors.Is(err, ErrNotStarted): // no process, or no descriptor
		return w.over(m, Void, nil)
	case ctx.Err() != nil:
		return w.over(m, Timeout, nil)
	}
	m.Detail = err.Error() + ": " + said[:min(len(said), saidBytes)]
	return w.over(m, WrongReply, nil)
}

// execute is Config.Run by os/exec.
func execute(ctx context.Context, command, env []string) (string, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var out said
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return "", fmt.Errorf("%w: %w", ErrNotStarted, err)
	}
	killGroup(cmd.Process.Pid)
	err := cmd.Wait()
	return out.kept.String(), err
}

// killGroup waits for a process and then kills what it has left behind in its group. The process is still to be reaped, so that
// no other can have its number by then.
func killGroup(pid int) {
	for unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	_ = unix.Kill(-pid, unix.SIGKILL)
}
