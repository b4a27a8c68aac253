package netns

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
)

// Check tells whether the calling thread's namespace has what every scenario needs: sysctls that can be set, sock_diag, and the
// listeners' port. What it cannot have, no scenario can.
func Check(sysctls []Sysctl, port uint16) error {
	if err := CheckSysctls(sysctls); err != nil {
		return err
	}
	if err := kernel.ProbeDiag([]uint8{unix.AF_INET}); err != nil {
		return err
	}
	return CheckPort(port)
}

// CheckPort tells whether this user may bind to a port.
func CheckPort(port uint16) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	err = unix.Bind(fd, &unix.SockaddrInet4{Port: int(port), Addr: [4]byte{127, 0, 0, 1}})
	if errors.Is(err, unix.EACCES) {
		return &portError{kernel.Explain(fmt.Errorf("bind to port %d: %w", port, err), false, "CAP_NET_BIND_SERVICE")}
	} else if err != nil {
		return fmt.Errorf("bind to port %d: %w", port, err)
	}
	return nil
}

// portError says that this user may not bind to a port below net.ipv4.ip_unprivileged_port_start.
type portError struct{ error }

func (e *portError) Unwrap() error { return e.error }

// Hint returns what to do next.
func (e *portError) Hint() string {
	hint := "rpmig run all --port=8080"
	var denied *kernel.DeniedError
	if errors.As(e.error, &denied) {
		hint += "; or " + denied.Hint()
	}
	return hint
}
