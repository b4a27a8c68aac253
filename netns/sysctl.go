package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Sysctl is a kernel setting of a network namespace, by its name under /proc/sys.
type Sysctl struct{ Name, Value string }

// MigrateReq is the sysctl that turns migration on (Linux 5.14, commit f9ac779f881c).
const MigrateReq = "net.ipv4.tcp_migrate_req"

// BaseSysctls returns every sysctl on which a verdict depends, with the value that the scenarios expect. They are always
// set, because a new namespace starts with a mix of compiled-in defaults and copies of the host's values. backlog is the
// largest accept queue that a listener will ask for; port is kept out of the clients' ephemeral range.
func BaseSysctls(backlog int, port uint16, v6 bool) []Sysctl {
	sysctls := []Sysctl{
		{"net.core.somaxconn", fmt.Sprint(max(backlog, 4096))},
		{"net.ipv4.ip_local_reserved_ports", fmt.Sprint(port)},
		{"net.ipv4.tcp_abort_on_overflow", "0"},
		{"net.ipv4.tcp_early_retrans", "3"}, // tail loss probes on: the first retransmission of a client
		{"net.ipv4.tcp_ecn", "0"},
		{"net.ipv4.tcp_fastopen", "0"},
		// Without cookies tcp_conn_request drops SYNs when less than a quarter of this queue is left.
		{"net.ipv4.tcp_max_syn_backlog", fmt.Sprint(max(2*backlog, 4096))},
		{"net.ipv4.tcp_max_tw_buckets", "65536"}, // by default half the hash table of connections, which is small here
		{"net.ipv4.tcp_sack", "1"},
		{"net.ipv4.tcp_synack_retries", "5"},
		{"net.ipv4.tcp_syncookies", "0"}, // a cookie leaves no request socket to migrate
		{"net.ipv4.tcp_timestamps", "1"},
	}
	if v6 {
		sysctls = append(sysctls,
			Sysctl{"net.ipv6.bindv6only", "0"},
			Sysctl{"net.ipv6.conf.all.accept_dad", "0"},
			Sysctl{"net.ipv6.conf.all.disable_ipv6", "0"},
			Sysctl{"net.ipv6.conf.lo.accept_dad", "0"},
			Sysctl{"net.ipv6.conf.lo.disable_ipv6", "0"},
		)
	}
	return sysctls
}

// Set writes a sysctl of the calling thread's namespace. It wraps fs.ErrNotExist if this kernel does not have it.
func (s Sysctl) Set() error { return s.setIn(unix.AT_FDCWD, sysctlPath(s.Name)) }

// setIn writes the file with that path, relative to an open folder.
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
		return &SysctlError{err}
	}
	return err
}

// CheckSysctls tells whether the sysctls of the calling thread's namespace can be set: it sets each of them and reads it back,
// in files that are really the kernel's. ApplySysctls passes over those that this kernel lacks, so it has to be known first
// that it is the kernel that lacks them: systemd's ProcSubset=pid hides /proc/sys, and a container mounts over parts of it.
func CheckSysctls(all []Sysctl) error {
	for _, s := range all {
		has, err := HasSysctl(s.Name)
		if err != nil {
			return err
		}
		if !has {
			continue
		}
		if err := s.Set(); err != nil {
			return err
		}
		got, err := Get(s.Name)
		if err != nil {
			return err
		}
		if got = strings.Join(strings.Fields(got), " "); got != s.Value {
			return &SysctlError{fmt.Errorf("set %s=%s: it is %s afterwards", s.Name, s.Value, got)}
		}
	}
	return nil
}

// everyKernels are folders that every kernel with IPv4 has, which can only be hidden.
var everyKernels = []string{"/proc", "/proc/sys", "/proc/sys/net", "/proc/sys/net/core", "/proc/sys/net/ipv4"}

// HasSysctl tells whether this kernel has a sysctl. The error is a SysctlError where that cannot be known, because what should
// be the kernel's is not there or is something else.
func HasSysctl(name string) (bool, error) {
	path := sysctlPath(name)
	for i, c := range path {
		part := path[:i]
		if i == 0 || c != '/' {
			continue
		}
		if there, err := isProc(name, part); err != nil || !there {
			return false, err
		}
	}
	return isProc(name, path)
}

// isProc tells whether a file of /proc is there, and fails if it is not of /proc.
func isProc(sysctl, path string) (bool, error) {
	var fs unix.Statfs_t
	err := unix.Statfs(path, &fs)
	switch {
	case err == nil && fs.Type == unix.PROC_SUPER_MAGIC:
		return true, nil
	case err == nil:
		return false, &SysctlError{fmt.Errorf("set %s: %s is not the kernel's: it is not of procfs", sysctl, path)}
	case errors.Is(err, unix.ENOENT) && !slices.Contains(everyKernels, path):
		return false, nil
	default:
		return false, &SysctlError{fmt.Errorf("set %s: %w", sysctl, &os.PathError{Op: "look for", Path: path, Err: err})}
	}
}

// ApplySysctls writes all of them. It skips those that this kernel does not have, since they cannot change a verdict: see
// CheckSysctls.
//
// In a new namespace the kernel creates each entry of /proc/sys on the path to a file. Sysctls that are next to each other
// in the list share a folder, which is looked up once: that takes a third of the time.
func ApplySysctls(all []Sysctl) error {
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

// sysctlPath returns a file of the calling thread's namespace, in which the kernel looks /proc/sys/net up
// (net/sysctl_net.c:net_ctl_header_lookup). /proc/net would be that of the main thread.
func sysctlPath(name string) string {
	return "/proc/sys/" + strings.ReplaceAll(name, ".", "/")
}

// SysctlError says that /proc/sys cannot be written, or is not there, as in many containers.
type SysctlError struct{ Err error }

func (e *SysctlError) Error() string { return e.Err.Error() }

func (e *SysctlError) Unwrap() error { return e.Err }

// Hint returns what to do next.
func (e *SysctlError) Hint() string {
	if errors.Is(e.Err, unix.EROFS) || errors.Is(e.Err, fs.ErrPermission) {
		return "/proc/sys must be writable; " + containerHint
	}
	return "/proc/sys must be the kernel's: mount -t proc proc /proc; in a container: docker run --privileged; " +
		"under systemd: ProcSubset=all"
}
