// Package migrate holds the modes: the ways to ask the kernel for socket migration, or not to.
package migrate

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/netns"
)

// Mode is one way to ask for migration. It is a row in a table; nothing else in rpmig branches on its name.
type Mode struct {
	Name string
	Doc  string // one line
	// Sysctl is the value of net.ipv4.tcp_migrate_req throughout. It stays 0 in the bpf modes, so that whatever migrates
	// there migrates because of the program.
	Sysctl string
	// Attach is the program's attach type; zero means that the mode has no program.
	Attach ebpf.AttachType
	// Answer is what the program answers when it is asked about a migration.
	Answer Answer
	// Migrates tells whether the kernel should find a new listener for what a closing one holds.
	Migrates bool
	// Saves and Advice are for reports; see result.Mode. Saves is what saves a connection in the mode, as a noun. Advice
	// is why one is lost in the mode, and what would have saved it.
	Saves, Advice string
	// Asks tells whether the closing listener is migration-capable, so that a migration that finds no new listener
	// counts as TCPMigrateReqFailure (net/core/sock_reuseport.c:reuseport_stop_listen_sock).
	Asks bool
}

var modes = []Mode{
	{Name: "off", Sysctl: "0",
		Doc: "no migration: the kernel's default",
		Advice: "What may save it is migration: the sysctl net.ipv4.tcp_migrate_req=1 (Linux 5.14), or a BPF program. " +
			"Migration needs another listener of the same reuseport group in LISTEN when the old one closes."},
	{Name: "sysctl", Sysctl: "1", Migrates: true, Asks: true,
		Doc:   "net.ipv4.tcp_migrate_req=1: the kernel picks the new listener by hash",
		Saves: "the sysctl net.ipv4.tcp_migrate_req=1"},
	{Name: "bpf", Sysctl: "0", Attach: ebpf.AttachSkReuseportSelectOrMigrate, Answer: Select, Migrates: true, Asks: true,
		Doc:   "a migrate program picks the new listener",
		Saves: "a BPF program that selects the new listener"},
	{Name: "bpf-pass", Sysctl: "0", Attach: ebpf.AttachSkReuseportSelectOrMigrate, Answer: Pass, Migrates: true, Asks: true,
		Doc:   "a migrate program leaves the pick to the kernel",
		Saves: "a BPF program that leaves the choice to the kernel"},
	{Name: "bpf-drop", Sysctl: "0", Attach: ebpf.AttachSkReuseportSelectOrMigrate, Answer: Refuse, Asks: true,
		Doc:    "a migrate program refuses",
		Advice: "The program refused (SK_DROP). One that returns SK_PASS would have let the connection migrate."},
	{Name: "bpf-select", Sysctl: "0", Attach: ebpf.AttachSkReuseportSelect, Answer: Select,
		Doc:    "a program attached as plain SELECT: the kernel does not ask it to migrate",
		Advice: "The program is attached as plain SELECT, which takes no part in migration: attach it as SELECT_OR_MIGRATE."},
}

// Modes returns every mode, in the order in which reports show them.
func Modes() []Mode { return append([]Mode(nil), modes...) }

// Names returns the names of every mode, in order.
func Names() []string {
	names := make([]string, len(modes))
	for i, m := range modes {
		names[i] = m.Name
	}
	return names
}

// Parse reads a comma list of mode names, or "all", into modes in table order, each once.
func Parse(list string) ([]Mode, error) {
	return Pick("migration mode", list, modes, func(m Mode) string { return m.Name })
}

// Pick reads a comma list of names, or "all", into what a table has by these names, in table order, each once. The error calls
// the rows what they are.
func Pick[T any](what, list string, table []T, name func(T) string) ([]T, error) {
	if list == "all" {
		return slices.Clone(table), nil
	}
	var names []string
	for _, row := range table {
		names = append(names, name(row))
	}
	var want []string
	for word := range strings.SplitSeq(list, ",") {
		word = strings.TrimSpace(word)
		if !slices.Contains(names, word) {
			return nil, fmt.Errorf("no %s %q: want %s, or all", what, word, strings.Join(names, ", "))
		}
		want = append(want, word)
	}
	return slices.DeleteFunc(slices.Clone(table), func(row T) bool { return !slices.Contains(want, name(row)) }), nil
}

// Off returns the mode that is the control of every other mode.
func Off() Mode { return modes[0] }

// HasProgram tells whether the mode loads a BPF program.
func (m Mode) HasProgram() bool { return m.Attach != 0 }

// Policy returns the mode's default policy: what arrives goes to slot 0, what migrates to slot 1.
func (m Mode) Policy() Policy { return Policy{Answer: m.Answer, Arrive: 0, Migrate: 1} }

// Load loads the mode's program. It returns nil for a mode that has none.
func (m Mode) Load() (*Program, error) {
	if !m.HasProgram() {
		return nil, nil
	}
	return load(m.Attach, m.Policy())
}

// Setting returns the mode's value of tcp_migrate_req.
func (m Mode) Setting() netns.Sysctl { return netns.Sysctl{Name: netns.MigrateReq, Value: m.Sysctl} }

// Probe tells whether this kernel and this user can have the mode. It returns nil, an error that wraps
// kernel.ErrNotSupported, or another error if it could not find out. A kernel with the sysctl may still not migrate:
// 5.10.188 and later 5.10.y have the file without the code. Probe must be called in a namespace of netns.Do.
func (m Mode) Probe() error {
	if m.Sysctl != Off().Sysctl {
		if has, err := netns.HasSysctl(netns.MigrateReq); err != nil {
			return err
		} else if !has {
			return &kernel.NotSupportedError{
				Reason: "this kernel has no " + netns.MigrateReq + " (Linux 5.14 has it)",
				Next:   "boot Linux 5.14 or later",
			}
		}
	}
	p, err := m.Load()
	if err != nil {
		return err
	}
	if p != nil {
		return p.Close()
	}
	return nil
}
