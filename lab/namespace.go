package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/result"
)

// syncookies is the one sysctl of a scenario's that would be in the aftercare's way.
const syncookies = "net.ipv4.tcp_syncookies"

// namespaceState tells what the namespace was like, on its thread. It decides nothing, so what cannot be read is said and is no
// error.
func (l *Lab) namespaceState() *result.Namespace {
	n := &result.Namespace{Sysctls: map[string]string{}, Counters: map[string][2]int64{}}
	unknown := func(what string, err error) {
		if err != nil {
			n.Unknown = append(n.Unknown, fmt.Sprintf("%s: %v", what, err))
		}
	}
	for _, s := range l.sysctls {
		value, err := netns.Get(s.Name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if s.Name == syncookies {
			value = s.Value // the aftercare has set it to 0
		}
		unknown(s.Name, err)
		if err == nil {
			n.Sysctls[s.Name] = strings.Join(strings.Fields(value), " ")
		}
	}
	for _, r := range l.rules {
		n.Rules = append(n.Rules, r.Text()...)
	}
	if l.after[0] == nil { // it did not get so far
		var err error
		l.after, err = kernel.ReadMIB()
		unknown("counters", err)
	}
	after, err := l.after.All()
	unknown("counters", err)
	before, err := l.before.All() // all 0 in a new namespace, and so if they were not read
	unknown("counters", err)
	for name := range after.Since(before) {
		n.Counters[name] = [2]int64{before[name], after[name]}
	}
	return n
}
