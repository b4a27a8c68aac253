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

// Reach is which listeners a Steering reaches by the one that it is told.
type Reach uint64

// The kernel takes the listener for the entry to its reuseport group, and selects one of that, unless it is told not to
// (BPF_SK_LOOKUP_F_NO_REUSEPORT).
const (
	WholeGroup Reach = 0
	ThatAlone  Reach = 1 << 1
)

// Steering gives what arrives at a port of a network namespace, at whichever address, to one listener, wherever that is
// bound. It is a program of the type sk_lookup (Linux 5.9), in force until Close.
type Steering struct {
	objs steerObjects
	link link.Link
}

// explainSteer tells a clear "no" from a failure to find out.
var explainSteer = kernel.BPFProgram{
	Name: "a program of the type sk_lookup", Needs: []string{"CAP_BPF", "CAP_NET_ADMIN"},
	Since: "Linux 5.9", Instead: "boot Linux 5.9 or later with CONFIG_BPF_SYSCALL and CONFIG_BPF_STREAM_PARSER",
}.Explain

// Steer attaches the program to the calling thread's namespace. Nothing is steered before To. It wraps
// kernel.ErrNotSupported if this kernel or this user cannot have it.
func Steer(port uint16, reach Reach) (_ *Steering, err error) {
	spec, err := loadSteer()
	if err != nil {
		return nil, fmt.Errorf("load BPF program: %w", err)
	}
	if err := errors.Join(spec.Variables["port"].Set(uint32(port)), spec.Variables["flags"].Set(uint64(reach))); err != nil {
		return nil, fmt.Errorf("set the BPF program's port: %w", err)
	}
	s := &Steering{}
	kernel.RaiseMemlock()
	if err := spec.LoadAndAssign(&s.objs, nil); err != nil {
		return nil, explainSteer(err)
	}
	if err := s.attach(); err != nil {
		return nil, errors.Join(explainSteer(err), s.Close())
	}
	return s, nil
}

func (s *Steering) attach() error {
	ns, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the thread's namespace: %w", err)
	}
	defer unix.Close(ns)
	s.link, err = link.AttachNetNs(ns, s.objs.Steer)
	return err
}

// ProbeSteer tells whether this kernel and this user can have a Steering.
func ProbeSteer() error {
	// A kernel that knows neither says "invalid argument" to both, and these tell what it means.
	if err := errors.Join(features.HaveProgramType(ebpf.SkLookup), features.HaveMapType(ebpf.SockMap)); err != nil {
		return explainSteer(err)
	}
	s, err := Steer(1, WholeGroup)
	if err != nil {
		return err
	}
	return s.Close()
}

// To has the listener get what arrives from now on. It must not be in a BPF_MAP_TYPE_REUSEPORT_SOCKARRAY: either map puts
// its own pointer into the socket (sk_user_data), and the kernel says EBUSY to the second.
func (s *Steering) To(listener int) error {
	if err := s.objs.Listener.Put(uint32(0), uint64(listener)); err != nil {
		return fmt.Errorf("put a listener into the sockmap: %w", err)
	}
	return nil
}

// Steers tells whether there is a listener that gets what arrives.
func (s *Steering) Steers() (bool, error) {
	var cookie uint64
	err := s.objs.Listener.Lookup(uint32(0), &cookie)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Close takes the program off the namespace.
func (s *Steering) Close() error {
	var err error
	if s.link != nil {
		err = s.link.Close()
	}
	return errors.Join(err, s.objs.Close())
}
