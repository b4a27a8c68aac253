package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// diagRequest is struct inet_diag_req_v2 of linux/inet_diag.h.
type diagRequest struct {
	Family, Protocol, Ext, Pad uint8
	States                     uint32
	SrcPort, DstPort           [2]byte // big endian
	Src, Dst                   [16]byte
	Interface                  uint32
	Cookie                     [2]uint32
}

func (r *diagRequest) Len() int { return binary.Size(r) }

func (r *diagRequest) Serialize() []byte {
	b, err := binary.Append(nil, binary.NativeEndian, r)
	if err != nil {
		panic(err) // the struct has a fixed size
	}
	return b
}

// ProbeDestroy asks for a socket to be destroyed that is not there: EOPNOTSUPP means that none ever is.
func ProbeDestroy() error {
	r := diagRequest{Family: unix.AF_INET, Protocol: unix.IPPROTO_TCP}
	if err := r.destroy(); !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("sock_diag destroy: %w", err)
	}
	return nil
}

// destroy sends the request as one to destroy.
func (r *diagRequest) destroy() error {
	req := nl.NewNetlinkRequest(nl.SOCK_DESTROY, unix.NLM_F_ACK)
	req.AddData(r)
	_, err := req.Execute(unix.NETLINK_INET_DIAG, 0)
	return err
}

// Destroy closes a listener over sock_diag(7), as ss -K does. It needs CAP_NET_ADMIN and CONFIG_INET_DIAG_DESTROY.
//
// The kernel looks the listener up as it would for a SYN, so among several of a port the hash decides which is found; the
// cookie keeps it from destroying another, and the remote port is varied until the right one is found.
func Destroy(at netip.AddrPort, inode uint32) error {
	family := uint8(unix.AF_INET6)
	if at.Addr().Is4() {
		family = unix.AF_INET
	}
	all, err := netlink.SocketDiagTCP(family)
	if err != nil {
		return fmt.Errorf("sock_diag: %w", err)
	}
	for _, sk := range all {
		if sk.INode != inode || sk.State != netlink.TCP_LISTEN {
			continue
		}
		r := diagRequest{Family: family, Protocol: unix.IPPROTO_TCP, Cookie: sk.ID.Cookie}
		binary.BigEndian.PutUint16(r.SrcPort[:], at.Port())
		copy(r.Src[:], at.Addr().AsSlice())
		const tries = 4096 // with a handful of listeners a few will do
		for port := range uint16(tries) {
			binary.BigEndian.PutUint16(r.DstPort[:], port+1)
			if err := r.destroy(); !errors.Is(err, unix.ENOENT) { // that is another's cookie too
				if err != nil {
					return fmt.Errorf("sock_diag destroy: %w", err)
				}
				return nil
			}
		}
	}
	return fmt.Errorf("sock_diag destroy: no listener of inode %d found", inode)
}
