// Package tool is what those of rpmig's tools that break something on purpose, and run the rest, have in common.
package tool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Main runs a tool, and exits with the status that it returns: 2 where a signal has ended it. Its error is printed.
func Main(name string, run func(context.Context) (status int, err error)) {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	status, err := run(ctx)
	if ctx.Err() != nil {
		status, err = 2, errors.New("interrupted")
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: error: %v\n", name, err)
	}
	stop()
	os.Exit(status)
}

// ModuleRoot finds the folder with the go.mod, in the working folder or above.
func ModuleRoot() (string, error) {
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no go.mod in the working folder or above: run it from rpmig's tree")
		}
	}
	return "", err
}

// Command is a command in a process group of its own, which is ended with the context. env is added to the environment.
func Command(ctx context.Context, dir string, env []string, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's Ctrl-C is for this process, which then ends that
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// LastLine is the last line of what a program prints.
func LastLine(b []byte) string {
	text := strings.TrimSpace(string(b))
	return text[strings.LastIndexByte(text, '\n')+1:]
}
