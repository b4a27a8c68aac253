package netns

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// inUserNS is set in the environment of a re-executed rpmig, so that it does not try a second time.
const inUserNS = "RPMIG_IN_USER_NAMESPACE"

// InUserNS tells whether this process is rpmig re-executed by Reexec.
func InUserNS() bool { return os.Getenv(inUserNS) != "" }

// NoRightsError says that this user may not make network namespaces, and that there is no user namespace to do it in.
type NoRightsError struct{ Err error }

func (e *NoRightsError) Error() string {
	return "no right to make network namespaces, and no user namespace to get it in: " + e.Err.Error()
}

func (e *NoRightsError) Unwrap() error { return e.Err }

// Hint returns what to do next.
func (e *NoRightsError) Hint() string {
	if errors.Is(e.Err, unix.ENOENT) { // /proc/self/exe
		return procHint
	}
	if os.Geteuid() == 0 {
		return containerHint
	}
	const allow = "run it as root (sudo rpmig …), or allow user namespaces: sudo sysctl -w user.max_user_namespaces=10000"
	if errors.Is(e.Err, unix.EPERM) { // create_user_ns() refuses whoever is in one; the limit is ENOSPC
		return allow + "; in a chroot there are none"
	}
	return allow
}

// ProbeUserNS tells whether this user may make user namespaces, by starting a process in one.
func ProbeUserNS() error {
	cmd := exec.Command("/proc/self/exe", "version")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNET}
	// Its streams, so that it needs no /dev/null.
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start a process: %w", err)
	}
	defer func() { _, _ = r.Close(), w.Close() }()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = r, w, w
	if err := cmd.Run(); err != nil {
		return &UnshareError{Err: err}
	}
	return nil
}

// Reexec runs this program again with the same arguments in a new user and network namespace, and returns its exit
// status. The user is root there, but only over that network (user_namespaces(7)). The error is a NoRightsError if the
// kernel or its policy refuses a user namespace.
func Reexec() (status int, err error) {
	return reexec(inUserNS, &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	})
}

// reexec runs this program again with the same arguments, a variable in its environment, and in new namespaces. The child
// dies with this process, however that ends.
func reexec(variable string, attr *syscall.SysProcAttr) (status int, err error) {
	// Pdeathsig fires when the *thread* that forked ends (prctl(2)), so the thread must not end before the process does.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), variable+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = attr
	attr.Pdeathsig = unix.SIGKILL // if the parent is killed, the child is too
	// The child cleans up and chooses the exit status; this process only passes signals on.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 0, &NoRightsError{err}
	}
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		for {
			select {
			case s := <-signals:
				// A terminal's Ctrl-C reaches the child directly, because it is in the same process group. A second
				// one would make it stop cleaning up.
				if s != unix.SIGINT || attr.Setpgid {
					_ = cmd.Process.Signal(s)
				}
			case <-ended:
				return
			}
		}
	}()
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return 128 + int(ws.Signal()), nil
		}
		return exit.ExitCode(), nil
	}
	if err != nil {
		return 0, fmt.Errorf("wait for rpmig in its user namespace: %w", err)
	}
	return 0, nil
}
