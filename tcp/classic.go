package tcp

import (
	"fmt"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// AttachClassic gives the reuseport group of a listener a classic BPF program.
func AttachClassic(fd int, instructions ...bpf.Instruction) error {
	program, err := bpf.Assemble(instructions)
	if err != nil {
		return fmt.Errorf("assemble the classic BPF program: %w", err)
	}
	filter := make([]unix.SockFilter, len(program))
	for i, p := range program {
		filter[i] = unix.SockFilter{Code: p.Op, Jt: p.Jt, Jf: p.Jf, K: p.K}
	}
	err = unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF,
		&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})
	if err != nil {
		return fmt.Errorf("attach the classic BPF program: %w", err)
	}
	return nil
}
