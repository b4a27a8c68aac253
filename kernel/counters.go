// Package kernel asks the running kernel what it knows: its SNMP counters and its socket tables. Everything is read
// from the network namespace of the calling thread.
package kernel

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
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
	lines := bufio.NewScanner(bytes.NewReader(file))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		names := strings.Fields(lines.Text())
		if !lines.Scan() {
			if err := lines.Err(); err != nil {
				return err
			}
			return errors.New("names without values")
		}
		values := strings.Fields(lines.Text())
		if len(names) == 0 || len(names) != len(values) || names[0] != values[0] {
			return fmt.Errorf("%d names and %d values do not pair", len(names), len(values))
		}
		if !counterGroups[strings.TrimSuffix(names[0], ":")] {
			continue
		}
		for i := 1; i < len(names); i++ {
			v, err := strconv.ParseInt(values[i], 10, 64)
			if err != nil {
				return fmt.Errorf("%s: %w", names[i], err)
			}
			c[names[i]] = v
		}
	}
	return lines.Err()
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
