package netns

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
)

//go:generate go tool bpf2go -target bpfel steer steer.bpf.c

// Way is how a Steering gives a listener what arrives.
type Way int

const (
	// Lookup is a program of the type sk_lookup (Linux 5.9), attached to the namespace. The kernel takes its listener for the
	// entry to a reuseport group, and selects one of that.
	Lookup Way = iota
	// LookupAlone is the same with BPF_SK_LOOKUP_F_NO_REUSEPORT: the kernel takes its listener.
	LookupAlone
	// TC is a program at the ingress of lo, which assigns a listener to each SYN. The kernel takes that for the entry to its
	// reuseport group, too. Before Linux 6.6 a listener with SO_REUSEPORT could not be assigned (commit 9c02bec95954).
	TC
)

// Steering gives what arrives at a port of a network namespace, at whichever address, to one listener, wherever that is
// bound. It is in force until Close.
type Steering struct {
	loaded *ebpf.Collection
	link   link.Link
}

// explain tells a clear "no" from a failure to find out.
func (w Way) explain(err error) error {
	p := kernel.BPFProgram{
		Name: "a program of the type sk_lookup", Needs: []string{"CAP_BPF", "CAP_NET_ADMIN"},
		Since: "Linux 5.9", Instead: "boot Linux 5.9 or later with CONFIG_BPF_SYSCALL and CONFIG_BPF_STREAM_PARSER",
	}
	if w == TC {
		p.Name, p.Since = "a tc program that assigns sockets", "Linux 6.6"
		p.Instead = "boot Linux 6.6 or later with CONFIG_NET_XGRESS and CONFIG_BPF_STREAM_PARSER"
	}
	return p.Explain(err)
}

// Steer attaches the program, in the calling thread's namespace. Nothing is steered before To. It wraps
// kernel.ErrNotSupported if this kernel or this user cannot have it.
func Steer(port uint16, way Way) (_ *Steering, err error) {
	spec, err := loadSteer()
	if err != nil {
		return nil, fmt.Errorf("load BPF program: %w", err)
	}
	const noReuseport = 1 << 1 // BPF_SK_LOOKUP_F_NO_REUSEPORT of linux/bpf.h
	var flags uint64
	if way == LookupAlone {
		flags = noReuseport
	}
	if err := errors.Join(spec.Variables[steerVarPort].Set(uint32(port)), spec.Variables[steerVarFlags].Set(flags)); err != nil {
		return nil, fmt.Errorf("set the BPF program's port: %w", err)
	}
	if way == TC { // this kernel may have the one and not the other
		delete(spec.Programs, steerProgSteerLookup)
	} else {
		delete(spec.Programs, steerProgSteerSyn)
	}
	kernel.RaiseMemlock()
	s := &Steering{}
	if s.loaded, err = ebpf.NewCollection(spec); err != nil {
		return nil, way.explain(err)
	}
	if way == TC {
		const lo = 1
		s.link, err = link.AttachTCX(link.TCXOptions{
			Interface: lo, Program: s.loaded.Programs[steerProgSteerSyn], Attach: ebpf.AttachTCXIngress,
		})
	} else {
		s.link, err = attachHere(s.loaded.Programs[steerProgSteerLookup])
	}
	if err != nil {
		s.loaded.Close()
		return nil, way.explain(err)
	}
	return s, nil
}

// attachHere attaches a program to the calling thread's namespace.
func attachHere(p *ebpf.Program) (link.Link, error) {
	ns, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the thread's namespace: %w", err)
	}
	defer unix.Close(ns)
	return link.AttachNetNs(ns, p)
}

// Probe tells whether this kernel and this user can have a Steering of the kind.
func (w Way) Probe() error {
	// A kernel that knows neither says "invalid argument" to both, and these tell what it means.
	kind := ebpf.SkLookup
	if w == TC {
		kind = ebpf.SchedCLS
	}
	if err := errors.Join(features.HaveProgramType(kind), features.HaveMapType(ebpf.SockMap)); err != nil {
		return w.explain(err)
	}
	s, err := Steer(1, w)
	if err != nil {
		return err
	}
	return s.Close()
}

// To has the listener get what arrives from now on. It must not be in a BPF_MAP_TYPE_REUSEPORT_SOCKARRAY: either map puts
// its own pointer into the socket (sk_user_data), and the kernel says EBUSY to the second.
func (s *Steering) To(listener int) error {
	if err := s.loaded.Maps[steerMapListener].Put(uint32(0), uint64(listener)); err != nil {
		return fmt.Errorf("put a listener into the sockmap: %w", err)
	}
	return nil
}

// Steers tells whether there is a listener that gets what arrives.
func (s *Steering) Steers() (bool, error) {
	var cookie uint64
	err := s.loaded.Maps[steerMapListener].Lookup(uint32(0), &cookie)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Close ends it.
func (s *Steering) Close() error {
	s.loaded.Close()
	return s.link.Close()
}
