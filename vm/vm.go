// Package vm plays runs in kernels that are not the machine's: it finds a kernel and its modules, makes the initramfs in which
// rpmig is the first process, and boots both in QEMU.
package vm

import (
	"errors"
	"fmt"
	"os/exec"
)

// Error says what could not be had or done, and what to do next.
type Error struct {
	What string // a sentence without its full stop; Err, where there is one, is told behind it
	Next string // the hint
	Bad  bool   // what the user named is wrong, rather than this machine: wrong usage
	Err  error  // what the system said; may be nil
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.What
	}
	return e.What + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// Hint returns what to do next.
func (e *Error) Hint() string { return e.Next }

// Usage tells that the command line is wrong, and not that something failed.
func (e *Error) Usage() bool { return e.Bad }

// ErrNotBuilt says that a kernel is a build tree in which no image was built.
var ErrNotBuilt = errors.New("a build tree in which no image was built")

// refuse is the error for a kernel that cannot be what the user named.
func refuse(next, format string, args ...any) *Error {
	return &Error{What: fmt.Sprintf(format, args...), Next: next, Bad: true}
}

// failed is the error for what did not work on this machine.
func failed(err error, next, format string, args ...any) *Error {
	return &Error{What: fmt.Sprintf(format, args...), Next: next, Err: err}
}

// emulators are what runs a kernel of an architecture, and the Debian package that it is in.
var emulators = map[string]struct{ program, pkg string }{
	"amd64": {"qemu-system-x86_64", "qemu-system-x86"},
	"arm64": {"qemu-system-aarch64", "qemu-system-arm"},
}

// Emulator is the path of the program that runs kernels of an architecture, named as GOARCH does.
func Emulator(arch string) (string, error) {
	e, ok := emulators[arch]
	if !ok {
		return "", refuse("rpmig boots kernels for amd64 and arm64", "no emulator is known for kernels for %s", arch)
	}
	path, err := exec.LookPath(e.program)
	if errors.Is(err, exec.ErrNotFound) {
		return "", failed(nil, "apt-get install "+e.pkg, "no %s on this machine, to run a kernel for %s", e.program, arch)
	}
	if err != nil {
		return "", failed(err, "", "look for %s", e.program)
	}
	return path, nil
}
