package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// sockDestroy is SOCK_DESTROY of linux/sock_diag.h, which x/sys lacks.
const sockDestroy = 21

// ProbeDestroy tries to destroy a socket that does not exist: EOPNOTSUPP means that this kernel destroys none.
func ProbeDestroy() error {
	d, err := OpenDiag()
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	r := diagRequest{Family: unix.AF_INET, Protocol: unix.IPPROTO_TCP}
	if err := d.destroy(&r); !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("sock_diag destroy: %w", err)
	}
	return nil
}

func (d *Diag) destroy(r *diagRequest) error {
	return d.ask(r, sockDestroy, unix.NLM_F_ACK, func(*diagMessage) {})
}

// Destroy closes a listener over sock_diag(7), as ss -K does. It needs CAP_NET_ADMIN and CONFIG_INET_DIAG_DESTROY.
//
// The kernel looks the listener up as it would for a SYN, so the hash decides which of a port's listeners it finds. The
// cookie keeps it from destroying another one. Destroy tries remote ports until the kernel finds the right one.
func (d *Diag) Destroy(at netip.AddrPort, inode uint32) error {
	family := uint8(unix.AF_INET6)
	if at.Addr().Is4() {
		family = unix.AF_INET
	}
	listeners, err := d.Sockets(at.Port(), []uint8{family}, Listen)
	if err != nil {
		return err
	}
	for _, s := range listeners {
		if s.Inode != inode {
			continue
		}
		r := diagRequest{
			Family: family, Protocol: unix.IPPROTO_TCP, Cookie: [2]uint32{uint32(s.Cookie), uint32(s.Cookie >> 32)},
		}
		binary.BigEndian.PutUint16(r.SrcPort[:], at.Port())
		copy(r.Src[:], at.Addr().AsSlice())
		const tries = 4096 // with a handful of listeners a few are enough
		for port := range uint16(tries) {
			binary.BigEndian.PutUint16(r.DstPort[:], port+1)
			if err := d.destroy(&r); !errors.Is(err, unix.ENOENT) { // also the answer to another listener's cookie
				if err != nil {
					return fmt.Errorf("sock_diag destroy: %w", err)
				}
				return nil
			}
		}
	}
	return fmt.Errorf("sock_diag destroy: no listener of inode %d found", inode)
}
