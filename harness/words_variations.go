package harness

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/migrate"
)

// Loopback is the index of lo, for SO_BINDTOIFINDEX.
const Loopback = 1

// OtherUID is a user other than the one who plays.
const OtherUID = 65534

// What a Policy's program answers when it is asked about a migration.
const (
	Choose = migrate.Select
	Pass   = migrate.Pass
	Refuse = migrate.Refuse
)

// Owner gives the socket to another user before it is bound: fchown(2) sets sk_uid (net/socket.c:sockfs_setattr), which
// is the uid that bind(2) and listen(2) compare.
func Owner(uid int) ListenOption { return ListenOption{owner: uid} }

// Chown gives the socket of a listener to another user.
func (l *Lab) Chown(s *Listener, uid int) {
	l.step("%s now belongs to uid %d", s.name, uid)
	l.must(chown(s.fd, uid))
}

func chown(fd, uid int) error {
	return wrap(fmt.Sprintf("give the socket to uid %d", uid), unix.Fchown(fd, uid, -1))
}

// ProbeOwner tells whether this user may give sockets to OtherUID: in a user namespace with one uid there is no other.
func ProbeOwner() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return wrap("socket", err)
	}
	defer unix.Close(fd)
	err = chown(fd, OtherUID)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM) {
		return &kernel.NotSupportedError{Reason: "there is no other uid to give a socket to", Next: "run it as root: sudo rpmig …"}
	}
	return err
}

// OtherAddress is an address at which the family's clients reach a listener that is not of the usual listeners' group:
// a wildcard of the same family, or of the other where theirs is a wildcard.
func (l *Lab) OtherAddress() netip.Addr {
	if l.v6() {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// Served is a client that came, was served, and went.
type Served struct {
	By   *Listener
	Port uint16 // of the client
}

// Serve has that many clients come and go, one after another. Each sends the greeting and is accepted by whichever of
// the listeners it has reached. The scenario has to ask for FramesServed of room in the capture for each.
func (l *Lab) Serve(count int, listeners []*Listener) []Served {
	l.step("%d clients come and go", count)
	fds := []unix.PollFd{{Fd: int32(l.cfg.cancelled), Events: unix.POLLIN}}
	for _, s := range listeners {
		fds = append(fds, unix.PollFd{Fd: int32(s.fd), Events: unix.POLLIN})
	}
	var all []Served
	for range count {
		client, err := l.dial(l.cfg.Family.Dial)
		l.must(err)
		l.obs.Staged++
		_, err = unix.SendmsgN(client, l.message(), nil, nil, unix.MSG_NOSIGNAL)
		l.must(wrap("send", err))
		var by *Listener
		l.must(l.poll(handshakeTimeout, "some listener has the connection", func(left time.Duration) (bool, error) {
			_, err := unix.Poll(fds, int(left.Milliseconds())+1)
			if fds[0].Revents != 0 {
				return false, errCancelled
			}
			for i, s := range listeners {
				if fds[i+1].Revents != 0 {
					by = s
				}
			}
			return by != nil, err
		}))
		child, sa, err := unix.Accept4(by.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		l.must(wrap("accept", err))
		l.hold(child)
		l.accepted(by.name, addrPort(sa), l.read(child))
		all = append(all, Served{By: by, Port: addrPort(sa).Port()})
		// Both have read all that there was, so these send FINs and no reset.
		l.must(l.part(client))
		l.must(l.part(child))
	}
	return all
}

// part ends one side of a connection in good order.
func (l *Lab) part(fd int) error {
	return errors.Join(finish(fd), wrap("close", l.closeFD(fd)))
}

// finish sends a FIN, and does so now. That of a close would be late, and come from another CPU, if a child that another
// cell is starting held a copy of the descriptor (netns.Birth).
func finish(fd int) error { return wrap("shutdown", unix.Shutdown(fd, unix.SHUT_WR)) }

// FramesServed is how many frames a client of Serve and its server send: the handshake, the data and its ACK, two FINs
// with an ACK each or one, and one to spare.
const FramesServed = 9

// oddPort is the first client port of ConnectFromOddPorts.
const oddPort = 20001

// ConnectFromOddPorts is Connect with an odd port at each client. Left to themselves clients have even ones
// (net/ipv4/inet_hashtables.c:__inet_hash_connect).
func (l *Lab) ConnectFromOddPorts() {
	l.step("%s %q from odd ports", plural(l.cfg.Connections, "client connects and sends", "clients connect and send"), greeting)
	from := l.cfg.Family.Dial
	for i := range l.cfg.Connections {
		fd, err := l.socket(domain(from))
		l.must(err)
		l.must(wrap("bind", unix.Bind(fd, sockaddr(netip.AddrPortFrom(from, oddPort+2*uint16(i))))))
		l.must(l.connectTo(fd, from))
		l.send(l.client(fd))
	}
}

// RouteByParity makes the group send a SYN from an even port to the listener that came first, and one from an odd port
// to the second. A mode with a program has it do so with both slots, and choose in the same way for what migrates, if it
// chooses at all. In other modes it is a classic BPF program, which the kernel never asks about a migration.
func (l *Lab) RouteByParity(s *Listener) {
	l.step("even client ports go to the first listener, odd ones to the second")
	if l.program != nil {
		l.must(l.program.Set(Policy{Answer: l.cfg.Mode.Answer, Spread: 2}))
		return
	}
	// The data begin behind the TCP header, the ports behind that of IP (without options).
	const netOff = 1<<32 - 1<<20 // SKF_NET_OFF, as unsigned
	off := uint32(netOff + 20)
	if l.v6() {
		off = netOff + 40
	}
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: off, Size: 2},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 1},
		bpf.RetA{},
	})
	l.must(wrap("assemble the classic BPF program", err))
	filter := make([]unix.SockFilter, len(program))
	for i, p := range program {
		filter[i] = unix.SockFilter{Code: p.Op, Jt: p.Jt, Jf: p.Jf, K: p.K}
	}
	l.must(wrap("attach the classic BPF program", unix.SetsockoptSockFprog(s.fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF,
		&unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]})))
}

// PinCPU keeps the cell's thread on the CPU on which it is, and returns its number. What the thread sends over lo is
// received there too (net/core/dev.c:netif_rx_internal). The thread dies with the cell, and its affinity with it.
func (l *Lab) PinCPU() int {
	var cpu uint32
	_, _, e := unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&cpu)), 0, 0) // x/sys has no function for it
	if e != 0 {
		l.must(wrap("getcpu", e))
	}
	l.step("stay on CPU %d", cpu)
	var set unix.CPUSet
	set.Set(int(cpu))
	l.must(wrap("sched_setaffinity", unix.SchedSetaffinity(0, &set)))
	return int(cpu)
}

// AssertNoTrace notes what sock_diag and the rule say where a handshake has left nothing on the server: no request
// socket, none in the accept queue, and two segments of each client dropped.
func (l *Lab) AssertNoTrace(s *Listener) {
	l.step("no request socket, none accepted by %s", s.name)
	l.awaitDropped(2 * l.cfg.Connections)
	l.staged(s, 0, 0)
}

// AssertClientsGone is AssertAcceptQueue for clients that have sent their FIN: the server knows of each, and has said so. An
// ACK that it delays (TCP_DELACK_MIN, 40 ms) might otherwise meet a client that its own reset has ended just before.
func (l *Lab) AssertClientsGone(s *Listener) {
	l.step("all in the accept queue of %s, in CLOSE_WAIT", s.name)
	l.must(l.until(handshakeTimeout, "all are in CLOSE_WAIT, and every FIN is acknowledged", func() (bool, error) {
		socks, err := l.diag.Sockets(l.cfg.Port, l.cfg.Family.socketFamilies(), kernel.CloseWait, kernel.FinWait1)
		return count(socks, kernel.CloseWait) == l.cfg.Connections && count(socks, kernel.FinWait1) == 0, err
	}))
	l.staged(s, l.cfg.Connections, 0)
}

// AssertRequestsGone is AssertRequests for clients that have sent their FIN, which was dropped too.
func (l *Lab) AssertRequestsGone(s *Listener) {
	l.step("all request sockets, none accepted by %s", s.name)
	l.awaitDropped(3 * l.cfg.Connections)
	l.staged(s, 0, l.cfg.Connections)
}

// AwaitQueuedOrReset is AwaitFates where the clients have closed, so that none of them can tell of its reset.
func (l *Lab) AwaitQueuedOrReset(s *Listener) {
	l.step("await the retransmission")
	err := l.until(fateTimeout, fmt.Sprintf("all %d connections settled", len(l.clients)), func() (bool, error) {
		n, err := acceptQueue(s.fd)
		return n+l.Counter(kernel.OutRsts) >= len(l.clients), err
	})
	if errors.Is(err, errTimeout) {
		l.obs.Unsettled = err.Error()
	} else {
		l.must(err)
	}
}

// Queued is how many connections wait in the listener's accept queue.
func (l *Lab) Queued(s *Listener) int {
	n, err := acceptQueue(s.fd)
	l.must(err)
	return n
}

// AwaitFullWindows waits until each client has more to send than the server has room for: nothing is on its way, and
// something is left. It returns how many bytes the server holds for the each connection, on average.
func (l *Lab) AwaitFullWindows() int {
	l.step("all receive windows are full")
	l.must(l.until(handshakeTimeout, "all receive windows are full", func() (bool, error) {
		for _, c := range l.clients {
			info, err := unix.GetsockoptTCPInfo(c.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
			if err != nil || info.Unacked > 0 || info.Notsent_bytes == 0 {
				return false, wrap("getsockopt TCP_INFO", err)
			}
		}
		return true, nil
	}))
	socks, err := l.sockets(kernel.Established)
	l.must(err)
	unread := 0
	for _, s := range socks {
		unread += s.Queue
	}
	return unread / len(l.clients)
}

// AcceptToEOF is AcceptAll, and returns how many of the connections ended with EOF behind the data.
func (l *Lab) AcceptToEOF(s *Listener) int {
	l.step("accept on %s, and read to the end", s.name)
	eof := 0
	l.acceptEach(s, func(fd int, _ netip.AddrPort) {
		l.must(l.wait(handshakeTimeout, fd, unix.POLLIN, "EOF is there"))
		if say(fd) == "EOF" {
			eof++
		}
	})
	return eof
}

// AcceptSavedSYN is AcceptAll, and returns how many of the connections gave their client's SYN when asked for
// TCP_SAVED_SYN (tcp(7)).
func (l *Lab) AcceptSavedSYN(s *Listener) int {
	l.step("accept on %s, and ask for the SYNs", s.name)
	saved := 0
	l.acceptEach(s, func(fd int, peer netip.AddrPort) {
		b, err := savedSYN(fd)
		l.must(wrap("getsockopt TCP_SAVED_SYN", err))
		if len(b) == 0 {
			return
		}
		header := 20 // of IP, without options
		if b[0]>>4 == 6 {
			header = 40
		}
		const flags, syn, ack = 13, 0x02, 0x10
		if len(b) >= header+20 && binary.BigEndian.Uint16(b[header:]) == peer.Port() && b[header+flags]&(syn|ack) == syn {
			saved++
		}
	})
	return saved
}

// savedSYN reads an option that is no int, for which x/sys has no function.
func savedSYN(fd int) ([]byte, error) {
	b := make([]byte, 256)
	n := uint32(len(b))
	_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_SAVED_SYN,
		uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&n)), 0)
	if e != 0 {
		return nil, e
	}
	return b[:n], nil
}

// AwaitTimer waits until the SYN+ACK timer has fired for each request of a listener that is closed: it has migrated, or
// is gone. A request that migrated may be left then, if its new listener does not take it for done.
func (l *Lab) AwaitTimer(migrates bool, left int) {
	if migrates {
		l.AwaitCounterByTimer(kernel.MigrateSuccess, l.cfg.Connections)
	} else {
		left = 0
	}
	l.AwaitRequestsByTimer(left)
}
