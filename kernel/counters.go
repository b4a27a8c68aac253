// Package kernel is what the running kernel says of itself: its counters and socket tables, those of the calling thread's network
// namespace; its log and its version; and what this process may do, and its limits. It also has the kernel destroy sockets.
package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// Counters are the kernel's MIB counters by name, such as TCPMigrateReqSuccess or OutRsts. Names are those of nstat(8)
// without their group: no two of Tcp, TcpExt and IpExt are the same. A counter that this kernel lacks is absent.
type Counters map[string]int64

// counterGroups are the groups of /proc/net/{snmp,netstat} that Counters has.
var counterGroups = map[string]bool{"Tcp": true, "TcpExt": true}

// notCounters are values of the group Tcp that RFC 1213 puts there and that count nothing.
var notCounters = map[string]bool{"RtoAlgorithm": true, "RtoMin": true, "RtoMax": true, "MaxConn": true}

// MIB is the text of /proc/net/snmp and /proc/net/netstat at one moment, not parsed.
type MIB [2][]byte

var mibFiles = [len(MIB{})]string{"snmp", "netstat"}

// Counting reads the counters of one network namespace. It keeps the files open, for speed: in a new namespace the kernel
// creates every directory entry on the path to them, and when it reads a file again it knows how large its text is.
type Counting struct{ fds [len(MIB{})]int }

// OpenCounting opens the files of the calling thread's namespace (/proc/net is that of the main thread). Any thread may
// read them.
func OpenCounting() (*Counting, error) {
	c := &Counting{}
	folder, err := unix.Open("/proc/thread-self/net", unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the counters' folder: %w", err)
	}
	defer unix.Close(folder)
	for i, name := range mibFiles {
		if c.fds[i], err = unix.Openat(folder, name, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			for _, fd := range c.fds[:i] {
				unix.Close(fd)
			}
			return nil, fmt.Errorf("open counters: %w", &os.PathError{Op: "open", Path: "/proc/thread-self/net/" + name, Err: err})
		}
	}
	return c, nil
}

// Close closes the files.
func (c *Counting) Close() {
	for _, fd := range c.fds {
		unix.Close(fd)
	}
}

// MIB reads the files.
func (c *Counting) MIB() (MIB, error) {
	var m MIB
	for i, fd := range c.fds {
		var err error
		if m[i], err = slurp(fd); err != nil {
			return MIB{}, fmt.Errorf("read counters: %s: %w", mibFiles[i], err)
		}
	}
	return m, nil
}

// ReadMIB reads the files of the calling thread's namespace once.
func ReadMIB() (MIB, error) {
	c, err := OpenCounting()
	if err != nil {
		return MIB{}, err
	}
	defer c.Close()
	return c.MIB()
}

// Read reads the counters of TCP.
func (c *Counting) Read() (Counters, error) {
	m, err := c.MIB()
	if err != nil {
		return nil, err
	}
	return m.Counters()
}

// Counters returns the counters of TCP.
func (m MIB) Counters() (Counters, error) { return m.parse(false) }

// All returns every counter of every group. A name starts with its group, as in TcpExt.TCPMigrateReqSuccess.
func (m MIB) All() (Counters, error) { return m.parse(true) }

func (m MIB) parse(all bool) (Counters, error) {
	c := make(Counters, 256)
	interned.Lock()
	defer interned.Unlock()
	for i, b := range m {
		if err := parseCounters(c, b, all); err != nil {
			return nil, fmt.Errorf("read counters: %s: %w", mibFiles[i], err)
		}
	}
	return c, nil
}

// slurp reads a file of /proc from its start, in one read.
func slurp(fd int) ([]byte, error) {
	b := make([]byte, 0, 8<<10)
	for {
		b = slices.Grow(b, 1)
		n, err := unix.Pread(fd, b[len(b):cap(b)], int64(len(b)))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if n <= 0 || err != nil {
			return b, err
		}
		b = b[:len(b)+n]
	}
}

// interned holds the names of counters, which are the same each time.
var interned struct {
	sync.Mutex
	names map[string]string
}

// intern returns a name. The caller holds the lock.
func intern(name []byte) string {
	s, ok := interned.names[string(name)]
	if !ok {
		if len(interned.names) > 1<<12 || interned.names == nil { // no kernel has so many
			interned.names = map[string]string{}
		}
		s = string(name)
		interned.names[s] = s
	}
	return s
}

// parseCounters adds the counters of a file in the format of /proc/net/snmp: pairs of lines, names and then values, which
// both start with the same "Group:". With all it adds those of every group, with the group in the name.
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
			switch {
			case notCounters[string(name)]:
			case all:
				c[prefix+string(name)] = v
			default:
				c[intern(name)] = v
			}
		}
		if len(names) != len(values) { // one list is shorter
			return fmt.Errorf("names and values of %q do not pair", group)
		}
	}
	return nil
}

// field cuts off the first of some fields that spaces separate.
func field(line []byte) (first, rest []byte) {
	for len(line) > 0 && line[0] == ' ' {
		line = line[1:]
	}
	end := bytes.IndexByte(line, ' ')
	if end < 0 {
		return line, nil
	}
	rest = line[end+1:]
	for len(rest) > 0 && rest[0] == ' ' {
		rest = rest[1:]
	}
	return line[:end], rest
}

// Since returns how much each counter has grown since before, without those that have not. A counter that is absent stays
// absent.
func (c Counters) Since(before Counters) Counters {
	delta := Counters{}
	for name, v := range c {
		if d := v - before[name]; d != 0 {
			delta[name] = d
		}
	}
	return delta
}
