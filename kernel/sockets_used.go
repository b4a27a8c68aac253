package kernel

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// UsedSockets is how many sockets the calling thread's namespace has that processes have made, of every kind, and that the kernel
// has not freed: also those that are closed, and in no table any more, and that something still refers to (sock_inuse_get, which
// sk_alloc, sk_clone_lock and __sk_free count; net/core/sock.c). It does not count request sockets, nor connections in TIME_WAIT.
func UsedSockets() (int, error) {
	const name = "/proc/thread-self/net/sockstat"
	b, err := readFile(name)
	if err != nil {
		return 0, err
	}
	n, err := parseUsed(b)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	return n, nil
}

// parseUsed reads the first line of /proc/net/sockstat, as "sockets: used 3" (net/socket.c:socket_seq_show).
func parseUsed(b []byte) (int, error) {
	line, _, _ := bytes.Cut(b, []byte("\n"))
	number, ok := bytes.CutPrefix(line, []byte("sockets: used "))
	n, err := strconv.ParseUint(string(number), 10, 31)
	if !ok || err != nil {
		return 0, fmt.Errorf("not the number of sockets: %.40q", line)
	}
	return int(n), nil
}

// LocalSockets is how many of them are of netlink or of unix(7).
func LocalSockets() (int, error) {
	n := 0
	for _, name := range []string{"/proc/thread-self/net/netlink", "/proc/thread-self/net/unix"} {
		b, err := readFile(name)
		if err != nil {
			return 0, err
		}
		_, rows, _ := bytes.Cut(b, []byte("\n"))
		for row := range bytes.Lines(rows) {
			// The kernel's own netlink sockets have the address 0 (netlink_native_seq_show).
			if f := bytes.Fields(row); len(f) > 2 && string(f[2]) != "0" {
				n++
			}
		}
	}
	return n, nil
}

func readFile(name string) ([]byte, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	b, err := slurp(fd)
	if err != nil {
		return nil, &os.PathError{Op: "read", Path: name, Err: err}
	}
	return b, nil
}
