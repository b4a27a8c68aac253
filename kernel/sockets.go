package kernel

import (
	"fmt"

	"github.com/vishvananda/netlink"
)

// Sockets is a snapshot of the TCP sockets of one port, as sock_diag(7) shows them.
type Sockets struct {
	Listeners []Listener
	Requests  int // request sockets: SYN received, final ACK not (TCP_NEW_SYN_RECV, shown as SYN_RECV)
	Children  int // full sockets on the server's side in any state
	CloseWait int // those of them whose client has sent its FIN
	Unread    int // bytes that those of them hold, all together
}

// Listener is a socket in LISTEN.
type Listener struct {
	Inode       uint32
	AcceptQueue int // connections that wait for accept (sk_ack_backlog)
	Backlog     int // how many may wait (sk_max_ack_backlog)
}

// ReadSockets takes a snapshot of the calling thread's namespace, of the sockets of AF_INET, AF_INET6, or both.
func ReadSockets(port uint16, families []uint8) (Sockets, error) {
	var s Sockets
	for _, family := range families {
		all, err := netlink.SocketDiagTCP(family)
		if err != nil {
			return Sockets{}, fmt.Errorf("sock_diag: %w", err)
		}
		for _, sk := range all {
			if sk.ID.SourcePort != port {
				continue
			}
			switch sk.State {
			case netlink.TCP_LISTEN:
				s.Listeners = append(s.Listeners, Listener{
					Inode: sk.INode, AcceptQueue: int(sk.RQueue), Backlog: int(sk.WQueue),
				})
			case netlink.TCP_SYN_RECV:
				s.Requests++
			default:
				s.Children++
				s.Unread += int(sk.RQueue)
				if sk.State == netlink.TCP_CLOSE_WAIT {
					s.CloseWait++
				}
			}
		}
	}
	return s, nil
}

// Listener returns the listener with the inode.
func (s Sockets) Listener(inode uint32) (Listener, bool) {
	for _, l := range s.Listeners {
		if l.Inode == inode {
			return l, true
		}
	}
	return Listener{}, false
}
