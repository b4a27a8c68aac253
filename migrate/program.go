package migrate

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
)

//go:generate go tool bpf2go -target bpfel choose select.bpf.c

// Answer is what the program answers when it is asked about a migration. The order is that of enum answer in
// select.bpf.c.
type Answer uint32

// The answers.
const (
	Select Answer = iota // name a listener
	Pass                 // leave it to the kernel
	Refuse
)

func (a Answer) String() string {
	switch a {
	case Select:
		return "name a listener"
	case Pass:
		return "leave it to the kernel"
	case Refuse:
		return "refuse"
	default:
		return fmt.Sprintf("%d", uint32(a))
	}
}

// Slots are how many listeners a program can choose from.
const Slots = 256

// Policy is what the program does.
type Policy struct {
	Answer  Answer // to a migration
	Arrive  uint32 // slot of the listener for a SYN, or another segment that belongs to no connection
	Migrate uint32 // slot of the listener for what migrates
	Spread  uint32 // the client's port modulo this is added to both slots; 0 and 1 add nothing
}

// Program is a loaded reuseport program. From Attach on it is in force for as long as the reuseport group exists.
type Program struct{ objs chooseObjects }

// choose is the compiled program, parsed once. It has no types and no source lines, which are for people who inspect the
// program in the kernel: without them it loads in half the time.
var choose = sync.OnceValues(func() (*ebpf.CollectionSpec, error) {
	spec, err := loadChoose()
	if err != nil {
		return nil, err
	}
	for _, p := range spec.Programs {
		for i := range p.Instructions {
			ins := btf.WithFuncMetadata(p.Instructions[i], nil)
			p.Instructions[i] = ins.WithSource(nil)
		}
	}
	spec.Types = nil
	for _, m := range spec.Maps {
		m.Key, m.Value = nil, nil
	}
	return spec, nil
})

// load loads the program. It wraps kernel.ErrNotSupported if this kernel or this user cannot have it.
func load(attach ebpf.AttachType, p Policy) (*Program, error) {
	parsed, err := choose()
	if err != nil {
		return nil, fmt.Errorf("load BPF program: %w", err)
	}
	spec := parsed.Copy()
	spec.Programs["choose_listener"].AttachType = attach
	prog := &Program{}
	kernel.RaiseMemlock()
	if err := spec.LoadAndAssign(&prog.objs, nil); err != nil {
		return nil, explain(err)
	}
	if err := prog.Set(p); err != nil {
		return nil, errors.Join(err, prog.Close())
	}
	return prog, nil
}

// explain tells a clear "no" from a failure to find out.
var explain = kernel.BPFProgram{
	Name: "the migrate program", Needs: []string{"CAP_BPF", "CAP_NET_ADMIN"},
	Since: "Linux 5.14", Instead: "boot Linux 5.14 or later with CONFIG_BPF_SYSCALL",
}.Explain

// Set changes what the program does, from its next run on.
func (p *Program) Set(policy Policy) error {
	err := errors.Join(
		p.objs.Answer.Set(uint32(policy.Answer)),
		p.objs.ArriveSlot.Set(policy.Arrive),
		p.objs.MigrateSlot.Set(policy.Migrate),
		p.objs.Spread.Set(policy.Spread),
	)
	if err != nil {
		return fmt.Errorf("set the BPF program's policy: %w", err)
	}
	return nil
}

// Attach attaches the program to the reuseport group of the listener.
func (p *Program) Attach(listener int) error {
	err := unix.SetsockoptInt(listener, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_EBPF, p.objs.ChooseListener.FD())
	if err != nil {
		return fmt.Errorf("attach BPF program: %w", err)
	}
	return nil
}

// Detach detaches the program from the group of the listener (Linux 5.3).
func Detach(listener int) error {
	if err := unix.SetsockoptInt(listener, unix.SOL_SOCKET, unix.SO_DETACH_REUSEPORT_BPF, 0); err != nil {
		return fmt.Errorf("detach BPF program: %w", err)
	}
	return nil
}

// Put puts a listener into a slot. The kernel empties the slot when the listener is closed or shut down.
func (p *Program) Put(slot uint32, listener int) error {
	if err := p.objs.Listeners.Put(slot, uint64(listener)); err != nil {
		return fmt.Errorf("put a listener into slot %d: %w", slot, err)
	}
	return nil
}

// Take empties a slot.
func (p *Program) Take(slot uint32) error {
	if err := p.objs.Listeners.Delete(slot); err != nil {
		return fmt.Errorf("empty slot %d: %w", slot, err)
	}
	return nil
}

// Asked is how often the kernel has run a program, and for what.
type Asked struct {
	SYN         uint64 // a SYN
	Stray       uint64 // a segment for which only a listener was found: its connection is gone
	Established uint64 // an ESTABLISHED child that should migrate from an accept queue
	SYNRecv     uint64 // the same for a SYN_RECV child of TCP Fast Open
	NewSYNRecv  uint64 // a request socket that should migrate
	Other       uint64 // a socket in any other state that should migrate

	Named uint64 // of those that should migrate, how many it has named a listener for
}

// Migrated is how often the program was asked about a migration.
func (a Asked) Migrated() uint64 { return a.Established + a.SYNRecv + a.NewSYNRecv + a.Other }

// Asked reads the program's counts.
func (p *Program) Asked() (a Asked, err error) {
	for v, to := range map[*ebpf.Variable]*uint64{
		p.objs.AskedSyn: &a.SYN, p.objs.AskedStray: &a.Stray, p.objs.AskedEstablished: &a.Established,
		p.objs.AskedSynRecv: &a.SYNRecv, p.objs.AskedNewSynRecv: &a.NewSYNRecv, p.objs.AskedOther: &a.Other,
		p.objs.Named: &a.Named,
	} {
		if err := v.Get(to); err != nil {
			return Asked{}, fmt.Errorf("read the BPF program's counts: %w", err)
		}
	}
	return a, nil
}

// Close releases the program. A group to which it is attached keeps it.
func (p *Program) Close() error { return p.objs.Close() }
