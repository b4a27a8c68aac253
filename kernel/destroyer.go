package kernel

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

//go:generate go tool bpf2go -target bpfel destroyer destroy.bpf.c

// destroyer is a BPF iterator over the TCP sockets of a network namespace, which destroys one of the listeners by the kernel
// function bpf_sock_destroy (Linux 6.5, commit 4ddbcb886268).
type destroyer struct {
	mu   sync.Mutex // for one walk at a time, as the variables are those of the program
	objs destroyerObjects
	link *link.Iter
}

// explainDestroyer tells a clear "no" from a failure to find out.
var explainDestroyer = BPFProgram{
	Name: "an iterator that calls bpf_sock_destroy", Needs: []string{"CAP_BPF", "CAP_PERFMON"},
	Since: "Linux 6.5", Instead: "boot Linux 6.5 or later with CONFIG_DEBUG_INFO_BTF",
}.Explain

// loadedDestroyer loads it, once for all namespaces: that takes as long as a cell. It goes with the process.
var loadedDestroyer = sync.OnceValues(func() (*destroyer, error) {
	spec, err := loadDestroyer()
	if err != nil {
		return nil, fmt.Errorf("load BPF program: %w", err)
	}
	d := &destroyer{}
	RaiseMemlock()
	if err := spec.LoadAndAssign(&d.objs, nil); err != nil {
		return nil, explainDestroyer(err)
	}
	if d.link, err = link.AttachIter(link.IterOptions{Program: d.objs.DestroyListener}); err != nil {
		return nil, errors.Join(explainDestroyer(err), d.objs.Close())
	}
	return d, nil
})

// ProbeDestroyByBPF tells whether this kernel and this user can have a listener destroyed by BPF. It returns nil, an error
// that wraps ErrNotSupported, or another error if it could not find out.
func ProbeDestroyByBPF() error {
	_, err := loadedDestroyer()
	return err
}

// DestroyByBPF destroys the listener that has the cookie (SO_COOKIE), in the calling thread's namespace: an iterator sees the
// sockets of the one in which it was opened (bpf_iter_init_seq_net).
func DestroyByBPF(cookie uint64) error {
	d, err := loadedDestroyer()
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := errors.Join(d.objs.Cookie.Set(cookie), d.objs.Found.Set(uint32(0))); err != nil {
		return fmt.Errorf("tell the iterator which listener: %w", err)
	}
	walk, err := d.link.Open()
	if err != nil {
		return fmt.Errorf("open the iterator: %w", err)
	}
	_, err = io.Copy(io.Discard, walk) // the program prints nothing
	if err := errors.Join(err, walk.Close()); err != nil {
		return fmt.Errorf("walk through the sockets: %w", err)
	}
	var found uint32
	var said int32
	if err := errors.Join(d.objs.Found.Get(&found), d.objs.Said.Get(&said)); err != nil {
		return fmt.Errorf("read what the iterator did: %w", err)
	}
	switch {
	case found != 1:
		return fmt.Errorf("the iterator has found %d listeners of cookie %d", found, cookie)
	case said != 0:
		return fmt.Errorf("bpf_sock_destroy: %w", unix.Errno(-said))
	default:
		return nil
	}
}
