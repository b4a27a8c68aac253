// Package kernel asks the running kernel what it knows: its SNMP counters and its socket tables. Everything is read
// from the network namespace of the calling thread.
package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// Counters are the kernel's MIB counters by name, as TCPMigrateReqSuccess or OutRsts. Names are those of nstat(8)
// without their group: no two of Tcp, TcpExt and IpExt are alike. A counter that this kernel lacks is absent.
type Counters map[string]int64

// The counters of this trade.
const (
	MigrateSuccess = "TCPMigrateReqSuccess" // Linux 5.14, commit 55d444b310c6
	MigrateFailure = "TCPMigrateReqFailure"
	OutRsts        = "OutRsts"     // resets sent, RFC 1213 tcpOutRsts
	EstabResets    = "EstabResets" // ESTABLISHED or CLOSE-WAIT to CLOSED, RFC 1213 tcpEstabResets
)

// counterGroups are the groups of /proc/net/{snmp,netstat} that are kept.
var counterGroups = map[string]bool{"Tcp": true, "TcpExt": true}

// notCounters are in the group Tcp what RFC 1213 wants there and no event ever moves.
var notCounters = map[string]bool{"RtoAlgorithm": true, "RtoMin": true, "RtoMax": true, "MaxConn": true}

// ReadCounters reads the counters of the calling thread's namespace. (/proc/net is that of the main thread.)
func ReadCounters() (Counters, error) {
	m, err := ReadMIB()
	if err != nil {
		return nil, err
	}
	return m.Counters()
}

// MIB is what /proc/net/snmp and /proc/net/netstat said at a moment, not yet parsed.
type MIB [2][]byte

var mibFiles = [len(MIB{})]string{"/proc/thread-self/net/snmp", "/proc/thread-self/net/netstat"}

// ReadMIB reads them in the calling thread's namespace.
func ReadMIB() (MIB, error) {
	var m MIB
	for i, name := range mibFiles {
		var err error
		if m[i], err = slurp(name); err != nil {
			return MIB{}, fmt.Errorf("read counters: %w", err)
		}
	}
	return m, nil
}

// Counters are those of TCP.
func (m MIB) Counters() (Counters, error) { return m.parse(false) }

// All is every counter of every group, by a name with the group in front, as TcpExt.TCPMigrateReqSuccess.
func (m MIB) All() (Counters, error) { return m.parse(true) }

func (m MIB) parse(all bool) (Counters, error) {
	c := Counters{}
	for i, b := range m {
		if err := parseCounters(c, b, all); err != nil {
			return nil, fmt.Errorf("read counters: %s: %w", mibFiles[i], err)
		}
	}
	return c, nil
}

// slurp reads a file of /proc in one go: it says that it is empty, so os.ReadFile would begin small and copy as it grows.
func slurp(name string) ([]byte, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer func() { _ = unix.Close(fd) }()
	b := make([]byte, 0, 16<<10)
	for {
		b = slices.Grow(b, 1)
		n, err := unix.Read(fd, b[len(b):cap(b)])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if n <= 0 || err != nil {
			return b, err
		}
		b = b[:len(b)+n]
	}
}

// parseCounters adds what a file in the format of /proc/net/snmp holds: pairs of lines, names and then values, both
// behind the same "Group:". All adds those of every group, with its name in front.
func parseCounters(c Counters, file []byte, all bool) error {
	for len(file) > 0 {
		names, rest, _ := bytes.Cut(file, []byte("\n"))
		values, rest, ok := bytes.Cut(rest, []byte("\n"))
		if !ok && len(values) == 0 {
			return errors.New("names without values")
		}
		file = rest
		group, names := field(names)
		if of, more := field(values); string(of) == string(group) {
			values = more
		} else {
			return fmt.Errorf("%q is followed by %q", group, of)
		}
		prefix := ""
		if group := bytes.TrimSuffix(group, []byte(":")); all {
			prefix = string(group) + "."
		} else if !counterGroups[string(group)] {
			continue
		}
		for len(names) > 0 && len(values) > 0 {
			var name, value []byte
			name, names = field(names)
			value, values = field(values)
			v, err := strconv.ParseInt(string(value), 10, 64)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if !notCounters[string(name)] {
				c[prefix+string(name)] = v
			}
		}
		if len(names) != len(values) { // one of them is used up
			return fmt.Errorf("names and values of %q do not pair", group)
		}
	}
	return nil
}

// field cuts the first of some fields that are a space apart.
func field(line []byte) (first, rest []byte) {
	first, rest, _ = bytes.Cut(bytes.TrimLeft(line, " "), []byte(" "))
	return first, bytes.TrimLeft(rest, " ")
}

// Since returns what was counted since before, leaving out what did not move. A counter that was absent stays absent.
func (c Counters) Since(before Counters) Counters {
	delta := Counters{}
	for name, v := range c {
		if d := v - before[name]; d != 0 {
			delta[name] = d
		}
	}
	return delta
}
