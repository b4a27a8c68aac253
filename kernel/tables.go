package kernel

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// Row is a TCP socket as sock_diag(7) shows it.
type Row struct {
	State         string
	Local, Remote netip.AddrPort
	Queue         int // LISTEN: connections that wait for accept; others: bytes that nobody has read
	Backlog       int // LISTEN: how many may wait
	Inode         uint32
	Cookie        uint64
	Retries       int     // retransmissions so far, a SYN+ACK's for a request
	Timer         float64 // seconds until it fires; 0: none runs
}

var tcpStates = [...]string{
	1: "ESTABLISHED", 2: "SYN_SENT", 3: "SYN_RECV", 4: "FIN_WAIT1", 5: "FIN_WAIT2", 6: "TIME_WAIT", 7: "CLOSE",
	8: "CLOSE_WAIT", 9: "LAST_ACK", 10: "LISTEN", 11: "CLOSING",
}

// ReadTable lists the sockets of a port, either end of them, in the calling thread's namespace, of AF_INET, AF_INET6 or
// both: listeners first, and the others as the kernel lists them.
func ReadTable(port uint16, families []uint8) ([]Row, error) {
	var listeners, others []Row
	for _, family := range families {
		all, err := netlink.SocketDiagTCP(family)
		if err != nil {
			return nil, fmt.Errorf("sock_diag: %w", err)
		}
		for _, sk := range all {
			if sk.ID.SourcePort != port && sk.ID.DestinationPort != port {
				continue
			}
			r := Row{
				State: fmt.Sprint(sk.State), Queue: int(sk.RQueue), Inode: sk.INode, Retries: int(sk.Retrans),
				Local: ip(sk.ID.Source, sk.ID.SourcePort), Remote: ip(sk.ID.Destination, sk.ID.DestinationPort),
				Cookie: uint64(sk.ID.Cookie[1])<<32 | uint64(sk.ID.Cookie[0]),
			}
			if int(sk.State) < len(tcpStates) {
				r.State = tcpStates[sk.State]
			}
			if sk.Timer != 0 {
				r.Timer = float64(sk.Expires) / 1000 // milliseconds
			}
			if sk.State == netlink.TCP_LISTEN {
				r.Backlog = int(sk.WQueue)
				listeners = append(listeners, r)
			} else {
				others = append(others, r)
			}
		}
	}
	return append(listeners, others...), nil
}

// ip unmaps IPv4 addresses of IPv6 sockets.
func ip(b []byte, port uint16) netip.AddrPort {
	a, _ := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a.Unmap(), port)
}
