package lab

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/result"
)

// mostRows is how many rows of a table a cell keeps for the reader.
const mostRows = 16

// noted is a socket table as it was noted while the cell was played; table reads it.
type noted struct {
	step      int
	at        float64
	listeners []kernel.Socket
	others    kernel.Dump
}

// snapshot notes the socket tables as the last step has left them.
func (l *Lab) snapshot() error {
	if l.cfg.Tracer == nil || len(l.obs.Steps) == 0 {
		return nil
	}
	listeners, err := l.listening()
	if err != nil {
		return err
	}
	others, err := l.diag.Dump(l.cfg.Port, l.cfg.Family.socketFamilies(), mostRows, kernel.Connected...)
	if err != nil {
		return err
	}
	l.noted = append(l.noted, noted{len(l.obs.Steps), l.now(), listeners, others})
	return nil
}

// table reads what was noted.
func (l *Lab) table(n noted) result.Table {
	rows := append(slices.Clone(n.listeners), n.others.Sockets()...)
	t := result.Table{Step: n.step, At: n.at, More: max(len(n.listeners)+n.others.Count-mostRows, 0), Sockets: []result.Socket{}}
	for _, r := range rows[:min(len(rows), mostRows)] {
		t.Sockets = append(t.Sockets, result.Socket{
			State: r.State.String(), Name: l.nameOf(r), Local: r.Local, Remote: r.Remote, Queue: r.Queue, Backlog: r.Backlog,
			Inode: r.Inode, Cookie: r.Cookie, Retries: r.Retries, Timer: r.Timer,
		})
	}
	return t
}

// listening is the part of the table that lists the listeners. To list them the kernel walks a hash table that all
// namespaces share, which costs thrice what the rest of a snapshot does. So it is asked only when another process may hold
// some; otherwise each listener's own descriptor tells the same.
func (l *Lab) listening() ([]kernel.Socket, error) {
	if len(l.workers) > 0 {
		return l.diag.Sockets(l.cfg.Port, l.cfg.Family.socketFamilies(), kernel.Listen)
	}
	var rows []kernel.Socket
	for _, s := range slices.Concat(l.listeners, l.others) {
		if s.fd < 0 {
			continue
		}
		info, err := unix.GetsockoptTCPInfo(s.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return nil, wrap("getsockopt TCP_INFO", err)
		}
		if kernel.State(info.State) != kernel.Listen {
			continue
		}
		if s.cookie == 0 {
			if s.cookie, err = unix.GetsockoptUint64(s.fd, unix.SOL_SOCKET, unix.SO_COOKIE); err != nil {
				return nil, wrap("getsockopt SO_COOKIE", err)
			}
		}
		rows = append(rows, kernel.Socket{
			State: kernel.Listen, Local: s.local, Remote: netip.AddrPortFrom(unspecified(s.local.Addr()), 0),
			Queue: int(info.Unacked), Backlog: int(info.Sacked), // as sock_diag has them (net/ipv4/tcp.c:tcp_get_info)
			Inode: s.inode, Cookie: s.cookie,
		})
	}
	return rows, nil
}

// unspecified is the address of no host, of the family of another.
func unspecified(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// nameOf says what a socket is in the story.
func (l *Lab) nameOf(r kernel.Socket) string {
	switch {
	case r.State == kernel.Listen:
		for _, s := range slices.Concat(l.listeners, l.others) {
			if s.isListener(r) {
				return s.name
			}
		}
		return "listener"
	case r.Local.Port() != l.cfg.Port:
		return "client"
	case r.State == kernel.SynRecv:
		return "request"
	default:
		return "child"
	}
}
