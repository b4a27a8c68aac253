package netns

import (
	"context"
	"errors"
	"fmt"

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
	// RunsProgram tells whether it runs a program in the namespace, whose sockets are freed after it has ended.
	RunsProgram() bool
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

// NewDropper returns the backend of that name; "auto" is that of Auto. The context is the run's: it ends what the backend
// has started.
func NewDropper(ctx context.Context, backend string) (Dropper, error) {
	switch backend {
	case "nftables":
		return nft{}, nil
	case "iptables":
		return newIPT(ctx)
	case "auto":
		d, _ := Auto(ctx)
		return d, nil
	default:
		return nil, fmt.Errorf("no packet-drop backend %q", backend)
	}
}

// Auto returns iptables if it works in a new namespace, and otherwise nftables over netlink, which needs no binary, with the
// reason.
func Auto(ctx context.Context) (d Dropper, why error) {
	d, why = newIPT(ctx)
	if why != nil {
		return nft{}, why
	}
	return d, nil
}

// Cheapest returns the backend that costs least for many rules: nftables, which starts no process, if it works here, and
// otherwise that of Auto. Starting iptables takes 3 ms of CPU, a third of a whole cell.
func Cheapest(ctx context.Context) (d Dropper, why error) {
	if tried(nft{}) != nil {
		return Auto(ctx)
	}
	return nft{}, nil
}

// tried installs a rule in a new namespace, and reads its counter before anybody leans on it. The rule goes with the
// namespace: to remove it would take some 15 ms.
func tried(d Dropper) error {
	return Do(func() error {
		r, err := d.Drop(false, 1)
		if err != nil {
			return err
		}
		defer r.Close()
		n, err := r.Packets()
		if err == nil && n != 0 {
			err = fmt.Errorf("read the drop rule's counter: %d, of a rule that no packet has met", n)
		}
		return err
	})
}

// nft uses the same hook over netlink.
type nft struct{}

func (nft) Name() string { return "nftables" }

func (nft) RunsProgram() bool { return false }

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
