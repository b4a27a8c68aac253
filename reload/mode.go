package reload

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/tcp"
)

// Mode is a way to ask for migration while a server runs.
type Mode struct {
	Name, Doc     string
	Sysctl        string // net.ipv4.tcp_migrate_req
	Program       bool   // attach the migrate program to the groups of the port
	Drain         bool   // and have it name the newest listeners, for SYNs and for what migrates
	Saves, Advice string // as those of migrate.Mode
}

var modes = []Mode{
	{Name: "off", Sysctl: "0", Doc: "no migration: the kernel's default",
		Advice: "What may save it is migration: the sysctl net.ipv4.tcp_migrate_req=1 (Linux 5.14), or a BPF program."},
	{Name: "sysctl", Sysctl: "1", Doc: "net.ipv4.tcp_migrate_req=1: the kernel picks the new listener by hash",
		Saves: "the sysctl net.ipv4.tcp_migrate_req=1"},
	{Name: "bpf", Sysctl: "0", Program: true, Doc: "a migrate program on the running listeners, which leaves the pick to the kernel",
		Saves: "a BPF program"},
	{Name: "bpf-drain", Sysctl: "0", Program: true, Drain: true,
		Doc:   "a migrate program that sends SYNs and migrations to the newest listeners",
		Saves: "a BPF program that drains the old listeners"},
}

// Modes returns every mode, in the order in which reports show them.
func Modes() []Mode { return slices.Clone(modes) }

// ModeNames returns their names.
func ModeNames() []string {
	var names []string
	for _, m := range modes {
		names = append(names, m.Name)
	}
	return names
}

// ParseModes reads a comma list of them, or "all".
func ParseModes(list string) ([]Mode, error) {
	return migrate.Pick("mode", list, modes, func(m Mode) string { return m.Name })
}

// notHere says that a mode cannot be had with this server, kernel or user: SKIP.
type notHere struct{ reason string }

func (e *notHere) Error() string { return e.reason }

// switcher puts one mode after the other in force.
type switcher struct {
	look    *looker
	program *migrate.Program // nil: none was needed so far
	mode    Mode             // in force
	groups  []group          // that the program is attached to
	slots   []uint32         // the listener that bpf-drain has put into each of the program's slots, by inode
}

func (s *switcher) close() {
	if s.program != nil {
		_ = s.program.Close()
	}
}

// to puts a mode in force. It returns a notHere where that cannot be.
func (s *switcher) to(m Mode) error {
	if err := s.leave(); err != nil {
		return err
	}
	setting := netns.Sysctl{Name: netns.MigrateReq, Value: m.Sysctl}
	if has, err := netns.HasSysctl(netns.MigrateReq); err != nil {
		return err
	} else if !has && m.Sysctl != "0" {
		return &notHere{"this kernel has no " + netns.MigrateReq + " (Linux 5.14 has it)"}
	} else if has {
		if err := setting.Set(); err != nil {
			return err
		}
	}
	s.mode = m
	if !m.Program {
		return nil
	}
	if err := s.load(m); err != nil {
		return err
	}
	return s.attach()
}

// load loads the program, once, and says what it is to do.
func (s *switcher) load(m Mode) error {
	if s.program == nil {
		rows, err := migrate.Parse("bpf")
		if err != nil {
			return err
		}
		if s.program, err = rows[0].Load(); errors.Is(err, kernel.ErrNotSupported) {
			return &notHere{said(err)}
		} else if err != nil {
			return err
		}
	}
	if m.Drain {
		return s.program.Set(migrate.Policy{Answer: migrate.Select})
	}
	return s.program.Set(migrate.Policy{Answer: migrate.Pass})
}

// said is an error with what to do about it.
func said(err error) string {
	if h := hint(err); h != "" {
		return err.Error() + "; " + h
	}
	return err.Error()
}

// group is a reuseport group of the port: listeners that differ in any of these are in different ones
// (net/ipv4/inet_connection_sock.c:inet_csk_bind_conflict, inet_hashtables.c:inet_reuseport_add_sock).
type group struct {
	local  netip.AddrPort
	v6     bool // the family
	v6only bool
	device string
	uid    uint32
}

// listener is a descriptor of ours for a listener of the server's. It has to be closed at once: as long as it is open the server
// cannot close the listener, which then takes SYNs that nobody accepts.
type listener struct {
	fd    int
	inode uint32
	group group
	mptcp bool
	reuse bool
}

// take gets a descriptor of the listener that another process has (pidfd_getfd(2), Linux 5.6).
func take(inode uint32, at place) (*listener, error) {
	pidfd, err := unix.PidfdOpen(at.pid, 0)
	if err != nil {
		return nil, fmt.Errorf("pidfd_open %d: %w", at.pid, err)
	}
	defer unix.Close(pidfd)
	fd, err := unix.PidfdGetfd(pidfd, at.fd, 0)
	if err != nil {
		return nil, kernel.Explain(fmt.Errorf("pidfd_getfd %d of process %d: %w", at.fd, at.pid, err), false, "CAP_SYS_PTRACE")
	}
	l := &listener{fd: fd, inode: inode}
	if err := l.ask(); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return l, nil
}

// ask finds out which group the listener is of. It fails if the descriptor has become another's meanwhile.
func (l *listener) ask() error {
	var st unix.Stat_t
	if err := unix.Fstat(l.fd, &st); err != nil {
		return err
	}
	if uint32(st.Ino) != l.inode {
		return fmt.Errorf("the descriptor is another's by now: %w", unix.EBADF)
	}
	l.group.uid = st.Uid // sockfs_setattr, sock_i_uid: that of the socket
	domain, err1 := unix.GetsockoptInt(l.fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	protocol, err2 := unix.GetsockoptInt(l.fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	reuse, err3 := unix.GetsockoptInt(l.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT)
	sa, err4 := unix.Getsockname(l.fd)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		return fmt.Errorf("ask what a listener is: %w", err)
	}
	l.group.v6, l.mptcp, l.reuse, l.group.local = domain == unix.AF_INET6, protocol == unix.IPPROTO_MPTCP, reuse != 0, addr(sa)
	if l.group.v6 {
		only, err := unix.GetsockoptInt(l.fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
		if err != nil {
			return fmt.Errorf("ask what a listener is: %w", err)
		}
		l.group.v6only = only != 0
	}
	l.group.device, _ = unix.GetsockoptString(l.fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE) // none: an empty one, or an error
	return nil
}

// addr is tcp.AddrPort, but leaves an IPv4 address that is mapped into IPv6 as it is: it is of another family.
func addr(sa unix.Sockaddr) netip.AddrPort {
	if six, ok := sa.(*unix.SockaddrInet6); ok {
		return netip.AddrPortFrom(netip.AddrFrom16(six.Addr), uint16(six.Port))
	}
	return tcp.AddrPort(sa)
}

// each calls f with one listener after the other, if it is still there. It closes them.
func (s *switcher) each(f func(*listener) error) error {
	h, err := s.look.look()
	if err != nil {
		return err
	}
	for _, inode := range h.inodes {
		at, ok := h.places[inode]
		if !ok {
			continue
		}
		l, err := take(inode, at)
		if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EBADF) { // it has gone meanwhile
			continue
		} else if err != nil {
			return err
		}
		err = f(l)
		unix.Close(l.fd)
		if err != nil {
			return err
		}
	}
	return nil
}

// attach attaches the program to each group of the port.
func (s *switcher) attach() error {
	return s.each(func(l *listener) error {
		if slices.Contains(s.groups, l.group) {
			return nil
		}
		switch {
		case !l.reuse:
			return &notHere{"its listeners have no SO_REUSEPORT, so that there is no group for a program"}
		case l.mptcp && s.mode.Drain:
			return &notHere{"its listeners are of MPTCP, which no program can name (net/core/sock_map.c); with GODEBUG=multipathtcp=0 those of Go are not"}
		}
		if err := s.asMember(l, s.program.Attach); err != nil {
			return err
		}
		s.groups = append(s.groups, l.group)
		return nil
	})
}

// asMember does something with the group of a listener. An MPTCP socket cannot have a program attached (EOPNOTSUPP), but its
// group can, by a guest: a plain TCP listener of ours that joins it for a moment. What the guest gets meanwhile migrates
// when it goes, as the program is there by then.
func (s *switcher) asMember(l *listener, do func(fd int) error) error {
	if !l.mptcp {
		return do(l.fd)
	}
	g, err := guest(l.group)
	if err != nil {
		return err
	}
	defer unix.Close(g)
	return do(g)
}

// guest makes a listener in a group. It stops at the first error: a listener that is not bound would listen at a port of the
// kernel's choice, in a group of its own.
func guest(g group) (fd int, err error) {
	if os := unix.Geteuid(); uint32(os) != g.uid {
		return -1, &notHere{fmt.Sprintf("its listeners are of MPTCP and of user %d, and only that user can join them", g.uid)}
	}
	domain := unix.AF_INET
	if g.v6 {
		domain = unix.AF_INET6
	}
	if fd, err = unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return -1, fmt.Errorf("join the group of MPTCP listeners: %w", err)
	}
	steps := []func() error{
		func() error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) },
		func() error { // as its own would be, so that in TIME_WAIT nothing is in the way
			return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		},
		func() error {
			if !g.v6 {
				return nil
			}
			return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, flag(g.v6only))
		},
		func() error {
			if g.device == "" {
				return nil
			}
			return unix.BindToDevice(fd, g.device)
		},
		func() error { return unix.Bind(fd, tcp.Sockaddr(g.local)) },
		func() error { return unix.Listen(fd, 4096) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			unix.Close(fd)
			return -1, fmt.Errorf("join the group of MPTCP listeners at %v: %w", g.local, err)
		}
	}
	return fd, nil
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// leave takes the program from the groups that still have it.
func (s *switcher) leave() error {
	if len(s.groups) == 0 {
		return nil
	}
	var done []group
	err := s.each(func(l *listener) error {
		if !slices.Contains(s.groups, l.group) || slices.Contains(done, l.group) {
			return nil
		}
		err := s.asMember(l, migrate.Detach)
		if errors.Is(err, unix.ENOENT) { // the group is another one of the same address: the first has gone with its last listener
			err = nil
		}
		done = append(done, l.group)
		return err
	})
	s.groups, s.slots = nil, nil
	return err
}

// drain names the listeners that have come since, as soon as they are there. It is called again and again during a reload: they may
// come one by one. One that has a slot keeps it, since the kernel refuses to have a listener twice (reuseport_array_update_check: EBUSY).
func (s *switcher) drain(now, before *holding) error {
	if !s.mode.Drain {
		return nil
	}
	newest, had := now.newer(before), len(s.slots)
	for _, inode := range newest {
		at, ok := now.places[inode]
		if !ok || slices.Contains(s.slots, inode) {
			continue
		}
		slot := slices.IndexFunc(s.slots, func(i uint32) bool { return !slices.Contains(newest, i) }) // of one that is gone
		if slot < 0 {
			slot = len(s.slots)
		}
		if slot == migrate.Slots {
			break
		}
		l, err := take(inode, at)
		if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EBADF) {
			continue
		} else if err != nil {
			return err
		}
		err = s.program.Put(uint32(slot), l.fd)
		unix.Close(l.fd)
		if err != nil {
			return err
		}
		s.slots = slices.Replace(s.slots, slot, min(slot+1, len(s.slots)), inode)
	}
	if len(s.slots) == had {
		return nil
	}
	return s.program.Set(migrate.Policy{Answer: migrate.Select, Spread: uint32(len(s.slots))})
}

// settle forgets which listeners are the newest: after a reload all that are there are.
func (s *switcher) settle() error {
	if len(s.slots) == 0 {
		return nil
	}
	for slot := range uint32(len(s.slots)) {
		if err := s.program.Take(slot); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	s.slots = nil
	return s.program.Set(migrate.Policy{Answer: migrate.Select})
}

// asked is what the program counted so far; zero in a mode without.
func (s *switcher) asked() (migrate.Asked, error) {
	if !s.mode.Program || s.program == nil {
		return migrate.Asked{}, nil
	}
	return s.program.Asked()
}
