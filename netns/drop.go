package netns

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"

	"github.com/coreos/go-iptables/iptables"
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Dropper installs the rule of Quiz 2: in the INPUT hook, drop TCP segments to a port that carry ACK and not SYN. That is
// the final ACK of a handshake, and all that follows it.
type Dropper interface {
	// Name is the backend's name in reports.
	Name() string
	// Drop installs the rule in the calling thread's namespace.
	Drop(v6 bool, port uint16) (Rule, error)
}

// Rule is an installed rule. Its methods act on the calling thread's namespace.
type Rule interface {
	Packets() (uint64, error) // dropped so far
	// Text is the chain that has the rule, as Packets last read it, with its counters: one line for each rule.
	Text() []string
	// Close frees the connection to the kernel. It may be called on any thread. After Remove it waits some 15 ms, so overlap
	// it with other work.
	Close()
	Remove() error
}

// DropBackends are the values of --drop.
var DropBackends = []string{"auto", "iptables", "nftables"}

// NewDropper returns the backend of that name. "auto" is iptables if the binary works in a new namespace, and otherwise
// nftables over netlink, which needs no binary.
func NewDropper(backend string) (Dropper, error) {
	switch backend {
	case "nftables":
		return nft{}, nil
	case "iptables":
		return newIPT()
	case "auto":
		d, err := newIPT()
		if err != nil {
			return nft{}, nil
		}
		return d, nil
	default:
		return nil, fmt.Errorf("no packet-drop backend %q", backend)
	}
}

// ipt runs the iptables and ip6tables binaries, which act on the namespace of the thread that starts them.
type ipt struct {
	nft    bool // the binary is iptables-nft
	v4, v6 *iptables.IPTables
}

// ErrNoIPTables says that the binaries are missing or cannot install a rule.
var ErrNoIPTables = errors.New("iptables does not work here")

func newIPT() (*ipt, error) {
	// The legacy binary locks a file that all namespaces share and that would stay on the host. Rules of a private
	// namespace need no lock. iptables(8) 1.8.3 and later reads the variable, and iptables-nft has no lock.
	if err := os.Setenv("XTABLES_LOCKFILE", os.DevNull); err != nil {
		return nil, err
	}
	d := &ipt{}
	// The longest wait for a lock, in seconds; 0 would wait for ever.
	var err4, err6 error
	var asking sync.WaitGroup // both run a binary
	asking.Go(func() { d.v4, err4 = iptables.New(iptables.IPFamily(iptables.ProtocolIPv4), iptables.Timeout(5)) })
	asking.Go(func() { d.v6, err6 = iptables.New(iptables.IPFamily(iptables.ProtocolIPv6), iptables.Timeout(5)) })
	asking.Go(func() { d.nft = iptablesDrivesNFT() })
	asking.Wait()
	if err := cmp.Or(err4, err6); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoIPTables, err)
	}
	// A binary that exists may still lack its kernel modules or the rights.
	if err := tried(d); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoIPTables, err)
	}
	return d, nil
}

// tried installs a rule in a new namespace. The rule goes with the namespace: to remove it would take some 15 ms.
func tried(d Dropper) error {
	return Do(func() error {
		r, err := d.Drop(false, 1)
		if err != nil {
			return err
		}
		r.Close()
		return nil
	})
}

// Cheapest returns the backend that costs least for many rules: nftables, which starts no process, if it works here, and
// otherwise the one of "auto". Starting iptables takes 3 ms of CPU, a third of a whole cell.
func Cheapest() (Dropper, error) {
	if tried(nft{}) != nil {
		return NewDropper("auto")
	}
	return nft{}, nil
}

// iptablesDrivesNFT tells iptables-nft, which says "iptables v1.8.9 (nf_tables)", from the legacy binary.
func iptablesDrivesNFT() bool {
	out, err := exec.Command("iptables", "--version").Output()
	return err == nil && bytes.Contains(out, []byte("(nf_tables)"))
}

func (d *ipt) Name() string {
	if d.nft {
		return "iptables (nf_tables)"
	}
	return "iptables (legacy)"
}

func (d *ipt) Drop(v6 bool, port uint16) (Rule, error) {
	r := &iptRule{tables: d.v4, spec: []string{
		"-p", "tcp", "--dport", strconv.Itoa(int(port)), "--tcp-flags", "SYN,ACK", "ACK", "-j", "DROP",
	}}
	if v6 {
		r.tables = d.v6
	}
	over := BeginExec()
	err := r.tables.Append("filter", "INPUT", r.spec...)
	over()
	if interrupted(err) {
		return nil, fmt.Errorf("put the drop rule in: %w", ErrInterrupted)
	} else if err != nil {
		return nil, fmt.Errorf("put the drop rule in: %w", err)
	}
	if !d.nft {
		return r, nil
	}
	// A rule of iptables-nft is an nf_tables rule. To read it and to remove it over netlink saves two more runs of the
	// binary, each with 3 ms of CPU, and the second with 15 ms of waiting.
	return newNFTRule("filter", "INPUT", v6)
}

// ErrInterrupted says that a signal ended iptables: a terminal's Ctrl-C reaches the children too, perhaps before rpmig has
// cancelled the run.
var ErrInterrupted = errors.New("iptables was interrupted")

func interrupted(err error) bool {
	var e *iptables.Error
	if !errors.As(err, &e) {
		return false
	}
	ws, ok := e.Sys().(syscall.WaitStatus)
	return ok && ws.Signaled() && (ws.Signal() == unix.SIGINT || ws.Signal() == unix.SIGTERM || ws.Signal() == unix.SIGHUP)
}

// iptRule is a rule of the legacy iptables, which only its binary can read.
type iptRule struct {
	tables *iptables.IPTables
	spec   []string
	seen   []iptables.Stat
}

func (r *iptRule) Packets() (uint64, error) {
	defer BeginExec()()
	stats, err := r.tables.StructuredStats("filter", "INPUT")
	if err != nil {
		return 0, fmt.Errorf("read the drop rule's counter: %w", err)
	}
	r.seen = stats
	if len(stats) != 1 {
		return 0, fmt.Errorf("read the drop rule's counter: %d rules in INPUT, want 1", len(stats))
	}
	return stats[0].Packets, nil
}

// Text returns the rules in the format of iptables -nvL.
func (r *iptRule) Text() []string {
	var lines []string
	for _, s := range r.seen {
		lines = append(lines, fmt.Sprintf("filter INPUT: prot %s %s pkts %d bytes %d target %s", s.Protocol, s.Options, s.Packets, s.Bytes, s.Target))
	}
	return lines
}

func (*iptRule) Close() {}

func (r *iptRule) Remove() error {
	defer BeginExec()()
	if err := r.tables.Delete("filter", "INPUT", r.spec...); err != nil {
		return fmt.Errorf("take the drop rule out: %w", err)
	}
	return nil
}

// nft uses the same hook over netlink.
type nft struct{}

func (nft) Name() string { return "nftables" }

func (nft) Drop(v6 bool, port uint16) (Rule, error) {
	r, err := newNFTRule("rpmig", "input", v6)
	if err != nil {
		return nil, err
	}
	r.conn.AddTable(r.table)
	r.chain.Type, r.chain.Hooknum, r.chain.Priority = nftables.ChainTypeFilter, nftables.ChainHookInput, nftables.ChainPriorityFilter
	r.conn.AddChain(r.chain)
	const dport, flags = 2, 13 // offsets in the TCP header, RFC 9293 section 3.1
	const syn, ack = 0x02, 0x10
	r.conn.AddRule(&nftables.Rule{Table: r.table, Chain: r.chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: dport, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: flags, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{syn | ack}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{ack}},
		&expr.Counter{},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}})
	if err := r.conn.Flush(); err != nil {
		r.Close()
		return nil, fmt.Errorf("put the drop rule in: %w", err)
	}
	return r, nil
}

// nftRule is the one rule of a chain.
type nftRule struct {
	conn  *nftables.Conn
	table *nftables.Table
	chain *nftables.Chain
	seen  []*nftables.Rule
}

func newNFTRule(table, chain string, v6 bool) (*nftRule, error) {
	// One socket for everything: closing one waits a grace period until all that was removed over any socket is freed
	// (net/netfilter/nf_tables_api.c:nft_rcv_nl_event).
	c, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, fmt.Errorf("open nf_tables netlink: %w", err)
	}
	r := &nftRule{conn: c, table: &nftables.Table{Name: table, Family: nftables.TableFamilyIPv4}}
	if v6 {
		r.table.Family = nftables.TableFamilyIPv6
	}
	r.chain = &nftables.Chain{Name: chain, Table: r.table}
	return r, nil
}

func (r *nftRule) Packets() (uint64, error) {
	rules, err := r.conn.GetRules(r.table, r.chain)
	if err != nil {
		return 0, fmt.Errorf("read the drop rule's counter: %w", err)
	}
	r.seen = rules
	for _, rule := range rules {
		for _, e := range rule.Exprs {
			if c, ok := e.(*expr.Counter); ok {
				return c.Packets, nil
			}
		}
	}
	return 0, errors.New("read the drop rule's counter: the rule is gone")
}

// Text returns the rules in the format of nft(8).
func (r *nftRule) Text() []string {
	var lines []string
	for _, rule := range r.seen {
		family := "ip"
		if r.table.Family == nftables.TableFamilyIPv6 {
			family = "ip6"
		}
		lines = append(lines, fmt.Sprintf("%s %s %s: %s", family, r.table.Name, r.chain.Name, ruleWords(rule.Exprs)))
	}
	return lines
}

func (r *nftRule) Remove() error {
	r.conn.FlushChain(r.chain)
	if err := r.conn.Flush(); err != nil {
		return fmt.Errorf("take the drop rule out: %w", err)
	}
	return nil
}

func (r *nftRule) Close() { _ = r.conn.CloseLasting() }
