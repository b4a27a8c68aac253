// Package kernel asks the running kernel what it knows: its SNMP counters and its socket tables. Everything is read
// from the network namespace of the calling thread.
package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
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

// ReadCounters reads the counters of the calling thread's namespace. (/proc/net is that of the main thread.)
func ReadCounters() (Counters, error) {
	c := Counters{}
	for _, name := range []string{"/proc/thread-self/net/snmp", "/proc/thread-self/net/netstat"} {
		b, err := slurp(name)
		if err != nil {
			return nil, fmt.Errorf("read counters: %w", err)
		}
		if err := parseCounters(c, b); err != nil {
			return nil, fmt.Errorf("read counters: %s: %w", name, err)
		}
	}
	return c, nil
}

// slurp reads a file of /proc in one go: it says that it is empty, so os.ReadFile would begin small and copy as it grows.
func slurp(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	b := bytes.NewBuffer(make([]byte, 0, 16<<10))
	_, err = b.ReadFrom(f)
	return b.Bytes(), err
}

// parseCounters adds what a file in the format of /proc/net/snmp holds: pairs of lines, names and then values, both
// behind the same "Group:".
func parseCounters(c Counters, file []byte) error {
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
		if !counterGroups[string(bytes.TrimSuffix(group, []byte(":")))] {
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
			c[string(name)] = v
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
