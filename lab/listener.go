package lab

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/tcp"
)

// MinBacklog is the talk's listen(32).
const MinBacklog = 32

// backlog is what listeners of the cell ask for: at least twice its connections. Of a queue that is longer than half of
// this the SYN+ACK timer prunes what is young (reqsk_timer_handler).
func (c *Config) backlog() int { return max(MinBacklog, 2*c.Connections) }

// Loopback is the index of lo, for SO_BINDTOIFINDEX.
const Loopback = 1

// OtherUID is a user other than the one who runs rpmig.
const OtherUID = 65534

// Listener is a socket in LISTEN, or one that was.
type Listener struct {
	lab          *Lab
	name         string
	fd           int // -1: closed
	inode        uint32
	local        netip.AddrPort
	cookie       uint64 // 0: not asked for yet
	reuseport    bool
	notListening bool // shut down, or of another group than the clients reach
}

// serves tells whether a fresh client may reach it.
func (s *Listener) serves() bool { return s.fd >= 0 && !s.notListening }

// isListener tells whether it is the one that sock_diag shows.
func (s *Listener) isListener(k kernel.Socket) bool {
	return k.State == kernel.Listen && k.Inode == s.inode
}

// ListenOption changes how a listener is set up, before listen(2).
type ListenOption struct {
	alone   bool       // without SO_REUSEPORT
	addr    netip.Addr // instead of the family's
	backlog int
	owner   int                // uid of the socket; 0: ours
	set     func(fd int) error // nil: nothing
}

// WithoutReuseport leaves SO_REUSEPORT out.
func WithoutReuseport() ListenOption { return ListenOption{alone: true} }

// At binds to another address than the family's.
func At(a netip.Addr) ListenOption { return ListenOption{addr: a} }

// Backlog sets the length of the accept queue; a listener takes one connection more than this.
func Backlog(n int) ListenOption { return ListenOption{backlog: n} }

// SockOpt sets a socket option that is an int.
func SockOpt(level, name, value int) ListenOption {
	return Setting(func(fd int) error {
		err := unix.SetsockoptInt(fd, level, name, value)
		return wrap(fmt.Sprintf("set socket option %d of level %d", name, level), err)
	})
}

// Setting has a function set what it likes on the socket, before it is bound.
func Setting(set func(fd int) error) ListenOption { return ListenOption{set: set} }

// Owner gives the socket to another user before it is bound: fchown(2) sets sk_uid (net/socket.c:sockfs_setattr), which
// is the uid that bind(2) and listen(2) compare; older kernels compare that of its inode, which fchown(2) sets as well.
func Owner(uid int) ListenOption { return ListenOption{owner: uid} }

// Listen opens a listener of the port with SO_REUSEPORT. The first gets the mode's program, which sends to it what
// arrives; a later one is the program's choice for what is to migrate.
func (l *Lab) Listen(name string, options ...ListenOption) *Listener {
	s, err := l.listen(name, options)
	l.must(err)
	return s
}

// TryListen is Listen for a case in which it may fail: it returns the errno, or "ok".
func (l *Lab) TryListen(name string, options ...ListenOption) (*Listener, string) {
	s, err := l.listen(name, options)
	if err != nil {
		return nil, tcp.Errno(err)
	}
	return s, "ok"
}

// ListenMany opens n listeners, whose names are the name and a number from 1.
func (l *Lab) ListenMany(name string, n int, options ...ListenOption) []*Listener {
	l.step("%s1 to %s%d listen", name, name, n)
	all := make([]*Listener, n)
	for i := range all {
		var err error
		all[i], err = l.open(fmt.Sprintf("%s%d", name, i+1), options)
		l.must(err)
	}
	return all
}

func (l *Lab) listen(name string, options []ListenOption) (*Listener, error) {
	l.step("%s listens", name)
	return l.open(name, options)
}

// open opens a listener, and gives the program its place in the group.
func (l *Lab) open(name string, options []ListenOption) (*Listener, error) {
	s, err := l.bindAndListen(name, options)
	if err != nil {
		return nil, err
	}
	if l.program != nil && s.reuseport {
		if err := l.enlist(s); err != nil {
			return nil, err
		}
	}
	if l.listeners = append(l.listeners, s); len(l.listeners) == 2 && l.choosesAmongOthers() {
		return s, l.openOthers(options)
	}
	return s, nil
}

// others is how many listeners come up beside the first that the program may choose for what migrates, so that its choice is
// another than the kernel's own pick, by hash, would be: of one connection in three of four cases, of many for sure.
const others = 3

// choosesAmongOthers tells whether the mode's program is to choose a listener, and not merely the only one.
func (l *Lab) choosesAmongOthers() bool {
	m := l.cfg.Mode
	return m.Migrates && m.HasProgram() && m.Answer == Choose && !l.cfg.Scenario.OnlyItsOwn && l.obs.Stream == nil
}

func (l *Lab) openOthers(options []ListenOption) error {
	l.step("%d others listen, which the program does not choose", others)
	for i := range others {
		s, err := l.bindAndListen(fmt.Sprintf("other %d", i+1), options)
		if err != nil {
			return err
		}
		l.others = append(l.others, s)
	}
	l.obs.Others = others
	return nil
}

// acceptOthers accepts what is with a listener that the program did not choose.
func (l *Lab) acceptOthers() {
	for _, s := range l.others {
		if s.Queued() > 0 {
			l.obs.Unchosen += s.AcceptAll()
		}
	}
}

func (l *Lab) bindAndListen(name string, options []ListenOption) (*Listener, error) {
	addr, backlog, reuseport := l.cfg.Family.Listen, l.cfg.backlog(), 1
	for _, o := range options {
		if o.addr.IsValid() {
			addr = o.addr
		}
		if o.backlog > 0 {
			backlog = o.backlog
		}
		if o.alone {
			reuseport = 0
		}
	}
	fd, err := l.socket(tcp.Domain(addr))
	if err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, reuseport); err != nil {
		return nil, wrap("set SO_REUSEPORT", err)
	}
	for _, o := range options {
		if o.set != nil {
			if err := o.set(fd); err != nil {
				return nil, err
			}
		}
		if o.owner != 0 {
			if err := chown(fd, o.owner); err != nil {
				return nil, err
			}
		}
	}
	at := netip.AddrPortFrom(addr, l.cfg.Port)
	if err := unix.Bind(fd, tcp.Sockaddr(at)); err != nil {
		return nil, wrap("bind "+at.String(), err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return nil, wrap("listen", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, wrap("fstat", err)
	}
	return &Listener{
		lab: l, name: name, fd: fd, inode: uint32(st.Ino), local: netip.AddrPortFrom(addr, l.cfg.Port), reuseport: reuseport == 1,
	}, nil
}

// Use has a function do something with the socket of a listener; what says what that is.
func (s *Listener) Use(what string, use func(fd int) error) {
	l := s.lab
	l.step("%s: %s", s.name, what)
	l.must(use(s.fd))
}

// Relisten calls listen(2) again on a listener that was shut down.
func (s *Listener) Relisten() {
	l := s.lab
	l.step("%s listens again", s.name)
	l.must(wrap("listen", unix.Listen(s.fd, l.cfg.backlog())))
	s.notListening = false
}

// SetBacklog calls listen(2) again on a listener, which changes the length of its accept queue, as Backlog does.
func (s *Listener) SetBacklog(n int) {
	l := s.lab
	l.step("listen(%s, %d)", s.name, n)
	l.must(wrap("listen", unix.Listen(s.fd, n)))
}

// LeaveReuseport sets SO_REUSEPORT to 0 on a listener.
func (s *Listener) LeaveReuseport() {
	l := s.lab
	l.step("SO_REUSEPORT of %s becomes 0", s.name)
	l.must(wrap("set SO_REUSEPORT", unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 0)))
}

// Close closes the listener, and returns when it is gone.
func (s *Listener) Close() {
	l := s.lab
	l.step("close %s", s.name)
	s.letGo()
}

// letGo closes this process's descriptor of a listener. When it returns, no child that another cell is starting, to run
// iptables or a worker, has a copy of it.
func (s *Listener) letGo() {
	l := s.lab
	l.must(wrap("close", l.closeFD(s.fd)))
	s.fd = -1
	netns.WaitExecs()
}

// CloseHere closes this process's descriptor of a listener that another process has too.
func (s *Listener) CloseHere() {
	l := s.lab
	l.step("close %s in this process", s.name)
	s.letGo()
}

// Shutdown shuts the listener down; how is unix.SHUT_RD, SHUT_WR or SHUT_RDWR. SHUT_WR leaves it listening.
func (s *Listener) Shutdown(how int) {
	l := s.lab
	l.step("shutdown %s, %s", s.name, map[int]string{unix.SHUT_RD: "SHUT_RD", unix.SHUT_WR: "SHUT_WR", unix.SHUT_RDWR: "SHUT_RDWR"}[how])
	l.must(wrap("shutdown", unix.Shutdown(s.fd, how)))
	s.notListening = how != unix.SHUT_WR
}

// Disconnect dissolves the listener with connect(AF_UNSPEC) (connect(2)).
func (s *Listener) Disconnect() {
	l := s.lab
	l.step("connect %s to AF_UNSPEC", s.name)
	l.must(wrap("connect", tcp.Disconnect(s.fd)))
	s.notListening = true
}

// Destroy has sock_diag(7) destroy the listener, as ss -K does (needs CONFIG_INET_DIAG_DESTROY).
func (s *Listener) Destroy() {
	l := s.lab
	l.step("destroy %s over sock_diag", s.name)
	l.must(l.diag.Destroy(netip.AddrPortFrom(l.cfg.Family.Listen, l.cfg.Port), s.inode))
	s.notListening = true
}

// ProbeDestroy tells whether sock_diag destroys sockets here.
func ProbeDestroy() error {
	err := kernel.ProbeDestroy()
	if errors.Is(err, unix.EOPNOTSUPP) {
		return &kernel.NotSupportedError{
			Reason: "sock_diag destroys no sockets here",
			Next:   "boot a kernel that has CONFIG_INET_DIAG_DESTROY",
		}
	}
	return err
}

// State is the listener's state, as its descriptor in this process tells it: "LISTEN", "CLOSE".
func (s *Listener) State() string {
	info, err := unix.GetsockoptTCPInfo(s.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	s.lab.must(wrap("getsockopt TCP_INFO", err))
	return kernel.State(info.State).String()
}

// LogFact is what the kernel's log has of a listener's end by BPF. It is not noted where the log cannot be read.
const LogFact = "the kernel's log of it"

// DestroyByBPF has a BPF iterator destroy the listener, and notes whether the kernel complains of that in its log.
func (s *Listener) DestroyByBPF() {
	l := s.lab
	l.step("destroy %s by BPF", s.name)
	cookie, err := unix.GetsockoptUint64(s.fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	l.must(wrap("getsockopt SO_COOKIE", err))
	log, err := kernel.OpenLog()
	if err == nil {
		defer log.Close()
	}
	l.must(kernel.DestroyByBPF(cookie))
	s.notListening = true
	if err != nil {
		return
	}
	if said, err := log.Splats("inet_csk_listen_stop", "bpf_sock_destroy"); err == nil {
		l.Fact(LogFact, cmp.Or(strings.Join(said, "; "), "no splat"))
	}
}

// Chown gives the socket of a listener to another user.
func (s *Listener) Chown(uid int) {
	l := s.lab
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

// RouteByParity makes the group send a SYN from an even port to the listener that came first, and one from an odd port
// to the second. A mode with a program has it do so with both slots, and choose in the same way for what migrates, if it
// chooses at all. In other modes it is a classic BPF program, which the kernel never asks about a migration.
func (s *Listener) RouteByParity() {
	l := s.lab
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
	l.must(tcp.AttachClassic(s.fd,
		bpf.LoadAbsolute{Off: off, Size: 2},
		bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 1},
		bpf.RetA{},
	))
}

// RouteToNumber has a classic BPF program send every SYN to one listener of the group, by its number there, from 0. The kernel
// asks no such program about a migration.
func (s *Listener) RouteToNumber(n int) {
	s.lab.step("a classic BPF program says number %d", n)
	s.lab.must(tcp.AttachClassic(s.fd, bpf.RetConstant{Val: uint32(n)}))
}
