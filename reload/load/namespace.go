package load

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// namespace is a network namespace, that of the thread which opened it.
type namespace struct{ fd int }

func openNamespace() (namespace, error) {
	fd, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return namespace{}, fmt.Errorf("open /proc/thread-self/ns/net: %w", err)
	}
	return namespace{fd}, nil
}

func (n namespace) close() { unix.Close(n.fd) }

// enter locks the goroutine to its thread and takes that into the namespace. Where the thread is in it already, as all are when the
// process is, that needs no right.
func (n namespace) enter() (leave func(), err error) {
	runtime.LockOSThread()
	here, err := openNamespace()
	if err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	defer here.close()
	var a, b unix.Stat_t
	for fd, st := range map[int]*unix.Stat_t{n.fd: &a, here.fd: &b} {
		if err := unix.Fstat(fd, st); err != nil {
			runtime.UnlockOSThread()
			return nil, fmt.Errorf("fstat a namespace: %w", err)
		}
	}
	if a.Ino == b.Ino {
		return runtime.UnlockOSThread, nil
	}
	if err := unix.Setns(n.fd, unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("setns: %w", err)
	}
	return func() {}, nil // not unlocked: the thread ends with its goroutine
}
