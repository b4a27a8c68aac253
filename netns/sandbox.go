package netns

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// inSandbox is set in the environment of an rpmig that ReexecSandbox has started, until EnterSandbox takes it out.
const inSandbox = "RPMIG_IN_SANDBOX"

// sandboxRights are the capabilities that process 1 of a sandbox keeps where it takes a user namespace to have them: to mount
// /proc, to set sysctls and lo up, to read which descriptors the processes have, and to end them.
var sandboxRights = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_NET_ADMIN, unix.CAP_NET_RAW, unix.CAP_SYS_PTRACE, unix.CAP_KILL}

// InSandbox tells whether this process was started by ReexecSandbox, and has not yet called EnterSandbox.
func InSandbox() bool { return os.Getenv(inSandbox) != "" }

// ReexecSandbox runs this program again with the same arguments, as process 1 of new network, PID and mount namespaces, and
// returns its exit status. Whatever it starts dies with it, and it dies with this process, even by SIGKILL. There it has to call
// EnterSandbox first.
//
// A user who may not make such namespaces gets them in a user namespace that knows no other user (user_namespaces(7)): there
// process 1 has some capabilities, and what it starts has none. The error is a NoRightsError where that is refused.
func ReexecSandbox() (status int, err error) {
	const namespaces = unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWNS
	// In a process group of its own, process 1 gets each signal once, whether it is a terminal's or sent to this process alone.
	status, err = reexec(inSandbox, &syscall.SysProcAttr{Cloneflags: namespaces, Setpgid: true})
	if errors.Is(err, unix.EPERM) {
		status, err = reexec(inSandbox, &syscall.SysProcAttr{
			Cloneflags:  namespaces | unix.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}},
			AmbientCaps: sandboxRights, Setpgid: true,
		})
	}
	return status, err
}

// EnterSandbox makes what ReexecSandbox has started ready: mounts that no other namespace sees, a /proc of its own, lo.
func EnterSandbox() error {
	if err := os.Unsetenv(inSandbox); err != nil {
		return err
	}
	if os.Getpid() != 1 {
		return fmt.Errorf("set up a sandbox: this is process %d of its PID namespace, and not 1", os.Getpid())
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the sandbox's mounts its own: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return &MountError{err}
	}
	if err := setUp("lo"); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}

// DropRights takes from what the calling thread starts the capabilities of process 1 in a user namespace: ambient ones are a
// thread's (capabilities(7)).
func DropRights() error {
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("take the capabilities from what is to be started: %w", err)
	}
	return nil
}

// MountError says that the sandbox could not have a /proc of its own.
type MountError struct{ Err error }

func (e *MountError) Error() string { return "mount the sandbox's own /proc: " + e.Err.Error() }

func (e *MountError) Unwrap() error { return e.Err }

// Hint returns what to do next.
func (e *MountError) Hint() string {
	if errors.Is(e.Err, unix.EPERM) { // fs/namespace.c:mount_too_revealing
		return "in a container parts of /proc are hidden, and so there may be no other: docker run --privileged"
	}
	return ""
}
