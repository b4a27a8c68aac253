package migrate

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

//go:generate go tool bpf2go -target bpfel choose select.bpf.c

// answer is what the program says when it is asked to place a migrating socket; the order is that of enum answer in
// select.bpf.c.
type answer uint32

const (
	answerSelect answer = iota
	answerPass
	answerRefuse
)

// Slots of the program's socket array; the order is that of select.bpf.c.
const (
	slotSYN uint32 = iota
	slotMigrate
)

// Program is a loaded reuseport program. It is in force from Attach on, for as long as its reuseport group lives.
type Program struct{ objs chooseObjects }

// load puts the program into the kernel. It wraps ErrNotSupported where this kernel or this user cannot have it.
func load(attach ebpf.AttachType, a answer) (*Program, error) {
	spec, err := loadChoose()
	if err != nil {
		return nil, fmt.Errorf("load BPF program: %w", err)
	}
	spec.Programs["choose_listener"].AttachType = attach
	if err := spec.Variables["answer"].Set(uint32(a)); err != nil {
		return nil, fmt.Errorf("load BPF program: %w", err)
	}
	p := &Program{}
	if err := spec.LoadAndAssign(&p.objs, nil); err != nil {
		return nil, explainLoad(err)
	}
	return p, nil
}

// explainLoad tells a clear "no" from a failure to find out. The library answers EPERM with advice about MEMLOCK, which
// is beside the point on every kernel that can migrate.
func explainLoad(err error) error {
	var verifier *ebpf.VerifierError
	switch {
	case errors.Is(err, fs.ErrPermission):
		return &NotSupportedError{
			Reason: "BPF needs CAP_BPF and CAP_NET_ADMIN outside any user namespace",
			Next:   "run it as root: sudo rpmig …",
		}
	case errors.As(err, &verifier):
		return &NotSupportedError{
			Reason: "this kernel's verifier refuses the migrate program (Linux 5.14 accepts it): " + verifier.Cause.Error(),
			Next:   "rpmig doctor",
		}
	case errors.Is(err, unix.ENOSYS), errors.Is(err, ebpf.ErrNotSupported):
		return &NotSupportedError{Reason: "this kernel has no BPF: " + err.Error(), Next: "rpmig doctor"}
	default:
		return fmt.Errorf("load BPF program: %w", err)
	}
}

// Attach puts the program in force for the reuseport group of the listener, and makes that listener its choice for SYNs.
func (p *Program) Attach(listener int) error {
	if err := p.objs.Listeners.Put(slotSYN, uint64(listener)); err != nil {
		return fmt.Errorf("attach BPF program: name the listener for SYNs: %w", err)
	}
	err := unix.SetsockoptInt(listener, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_EBPF, p.objs.ChooseListener.FD())
	if err != nil {
		return fmt.Errorf("attach BPF program: %w", err)
	}
	return nil
}

// SetTarget makes the listener the program's choice for migrating sockets.
func (p *Program) SetTarget(listener int) error {
	if err := p.objs.Listeners.Put(slotMigrate, uint64(listener)); err != nil {
		return fmt.Errorf("name the listener to migrate to: %w", err)
	}
	return nil
}

// Asked is how often the kernel has run a program, and about what.
type Asked struct {
	SYN      uint64 // a SYN
	Stray    uint64 // a segment that found no socket but a listener: the connection is forgotten
	Migrated uint64 // a socket that is to migrate
}

// Asked reads the program's counts.
func (p *Program) Asked() (a Asked, err error) {
	err = errors.Join(p.objs.AskedSyn.Get(&a.SYN), p.objs.AskedStray.Get(&a.Stray), p.objs.AskedMigrate.Get(&a.Migrated))
	if err != nil {
		return Asked{}, fmt.Errorf("read the BPF program's counts: %w", err)
	}
	return a, nil
}

// Close drops this process's hold on the program; a group to which it is attached keeps it.
func (p *Program) Close() error { return p.objs.Close() }
