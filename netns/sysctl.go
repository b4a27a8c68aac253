package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Sysctl is a kernel setting of a network namespace, by its name under /proc/sys.
type Sysctl struct{ Name, Value string }

// MigrateReq is the switch this tool is about (Linux 5.14, commit f9ac779f881c).
const MigrateReq = "net.ipv4.tcp_migrate_req"

// Weather returns every sysctl on which a verdict leans, with the value that the scenarios take for granted. A child
// namespace starts with a mix of compiled-in defaults and copies of the host's values, so "default" means nothing.
// backlog is the largest accept queue that a listener will ask for; port is kept out of the clients' ephemeral range.
func Weather(backlog int, port uint16, v6 bool) []Sysctl {
	weather := []Sysctl{
		{"net.core.somaxconn", fmt.Sprint(max(backlog, 4096))},
		{"net.ipv4.ip_local_reserved_ports", fmt.Sprint(port)},
		{"net.ipv4.tcp_abort_on_overflow", "0"},
		{"net.ipv4.tcp_early_retrans", "3"}, // tail loss probes: what a client sends first
		{"net.ipv4.tcp_ecn", "0"},
		{"net.ipv4.tcp_fastopen", "0"},
		// Without cookies tcp_conn_request drops SYNs once a quarter of this queue is all that is left.
		{"net.ipv4.tcp_max_syn_backlog", fmt.Sprint(max(2*backlog, 4096))},
		{"net.ipv4.tcp_max_tw_buckets", "65536"}, // by default half the table of connections, which is small here
		{"net.ipv4.tcp_sack", "1"},
		{"net.ipv4.tcp_synack_retries", "5"},
		{"net.ipv4.tcp_syncookies", "0"}, // a cookie leaves no request socket to migrate
		{"net.ipv4.tcp_timestamps", "1"},
	}
	if v6 {
		weather = append(weather,
			Sysctl{"net.ipv6.bindv6only", "0"},
			Sysctl{"net.ipv6.conf.all.accept_dad", "0"},
			Sysctl{"net.ipv6.conf.all.disable_ipv6", "0"},
			Sysctl{"net.ipv6.conf.lo.accept_dad", "0"},
			Sysctl{"net.ipv6.conf.lo.disable_ipv6", "0"},
		)
	}
	return weather
}

// Set writes a sysctl of the calling thread's namespace. It wraps fs.ErrNotExist where this kernel has none of the name.
func (s Sysctl) Set() error { return s.setIn(unix.AT_FDCWD, sysctlPath(s.Name)) }

// setIn writes the file of that path in a folder.
func (s Sysctl) setIn(folder int, path string) error {
	err := func() error {
		fd, err := unix.Openat(folder, path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		_, err = unix.Write(fd, []byte(s.Value))
		return errors.Join(err, unix.Close(fd))
	}()
	if err == nil {
		return nil
	}
	err = fmt.Errorf("set %s=%s: %w", s.Name, s.Value, err)
	if errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission) {
		return &SysctlError{Err: err}
	}
	return err
}

// SetWeather writes all of them. What this kernel does not have cannot weigh on a verdict and is passed over.
//
// In a namespace that is new the kernel makes each entry of /proc/sys on the way to a file anew. Neighbours in the list
// share a folder, which is looked up once: a third of the time.
func SetWeather(all []Sysctl) error {
	folder, path := -1, ""
	defer func() { _ = unix.Close(folder) }()
	for _, s := range all {
		dir, file := filepath.Split(sysctlPath(s.Name))
		if dir != path {
			_ = unix.Close(folder)
			var err error
			folder, err = unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
			if path = dir; err != nil {
				path = ""
				if errors.Is(err, fs.ErrNotExist) {
					continue
				}
				return fmt.Errorf("open %s: %w", dir, err)
			}
		}
		if err := s.setIn(folder, file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Get reads a sysctl of the calling thread's namespace.
func Get(name string) (string, error) {
	b, err := os.ReadFile(sysctlPath(name))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", name, err)
	}
	return strings.TrimSpace(string(b)), nil
}

// sysctlPath relies on /proc/sys/net being looked up in the namespace of the calling thread
// (net/sysctl_net.c:net_ctl_header_lookup), unlike /proc/net, which is that of the main thread.
func sysctlPath(name string) string {
	return "/proc/sys/" + strings.ReplaceAll(name, ".", "/")
}

// SysctlError says that /proc/sys cannot be written, as in many containers.
type SysctlError struct{ Err error }

func (e *SysctlError) Error() string { return e.Err.Error() }

func (e *SysctlError) Unwrap() error { return e.Err }

// Hint is what to type next.
func (e *SysctlError) Hint() string {
	return "/proc/sys must be writable; in a container: docker run --privileged, or mount -o remount,rw /proc/sys"
}
