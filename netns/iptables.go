package netns

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-iptables/iptables"
	"golang.org/x/sys/unix"
)

// ipt runs the iptables and ip6tables binaries, which act on the namespace of the thread that starts them.
//
// coreos/go-iptables can run them too, but then nothing ends them: it takes no context, and no Pdeathsig. One that hangs
// would hold the run up, and outlive it together with the cell's namespace. So they are started here, and the library reads
// what they print.
type ipt struct {
	ctx context.Context // of the run
	nft bool            // the binary is iptables-nft
}

// ErrNoIPTables says that the binaries are missing or do not do what they should.
var ErrNoIPTables = errors.New("iptables does not work here")

// ErrInterrupted says that iptables was ended because the run was.
var ErrInterrupted = errors.New("iptables was interrupted")

const (
	// iptablesLimit is how long iptables may take. It needs some milliseconds, so no --timeout-mul stretches this.
	iptablesLimit = 5 * time.Second
	// lockWait is how many seconds of that it may wait for its lock.
	lockWait = "3"
	// mostPrinted is how much it may print: a rule is a line.
	mostPrinted = 64 << 10
)

func newIPT(ctx context.Context) (*ipt, error) {
	// The legacy binary locks a file that all namespaces share and that would stay on the host. Rules of a private
	// namespace need no lock. iptables(8) 1.8.3 and later reads the variable, and iptables-nft has no lock.
	if err := os.Setenv("XTABLES_LOCKFILE", os.DevNull); err != nil {
		return nil, err
	}
	var v4 string
	var err4, err6 error
	var asking sync.WaitGroup // both run a binary
	asking.Go(func() { v4, err4 = iptablesVersion(ctx, binaryOf(false)) })
	asking.Go(func() { _, err6 = iptablesVersion(ctx, binaryOf(true)) })
	asking.Wait()
	d := &ipt{ctx: ctx, nft: strings.Contains(v4, "(nf_tables)")}
	err := cmp.Or(err4, err6)
	if err == nil {
		err = tried(d) // a binary that exists may still lack its kernel modules or the rights
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoIPTables, err)
	}
	return d, nil
}

func binaryOf(v6 bool) string {
	if v6 {
		return "ip6tables"
	}
	return "iptables"
}

// IPTablesVersion is what iptables says of itself, "iptables v1.8.9 (nf_tables)"; empty where there is none.
func IPTablesVersion(ctx context.Context) string {
	version, _ := iptablesVersion(ctx, binaryOf(false))
	return version
}

func iptablesVersion(ctx context.Context, binary string) (string, error) {
	out, err := runIPTables(ctx, binary, "--version")
	if err != nil {
		return "", err
	}
	if !strings.HasPrefix(out, binary+" v") {
		return "", fmt.Errorf("%s --version: it says %.40q", binary, out)
	}
	return strings.TrimSpace(firstLine(out)), nil
}

// runIPTables runs a binary in the calling thread's namespace, and returns what it prints. It is killed when it takes too
// long, when the context ends and when this process does, and all that it has started with it.
func runIPTables(ctx context.Context, binary string, args ...string) (string, error) {
	// Pdeathsig fires when the thread that forked ends (prctl(2)), which it may if it is free for other goroutines.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	limited, stop := context.WithTimeout(ctx, iptablesLimit)
	defer stop()
	cmd := exec.CommandContext(limited, binary, args...)
	var out, complaint printed
	cmd.Stdout, cmd.Stderr = &out, &complaint
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: unix.SIGKILL,
		// The first process of a PID namespace takes all others with it (pid_namespaces(7)): a script's children have no
		// Pdeathsig. It costs 0.1 ms.
		Cloneflags: unix.CLONE_NEWPID,
		Setpgid:    true, // a terminal's Ctrl-C is for rpmig, which then ends this
	}
	defer BeginExec()()
	err := cmd.Run()
	command := strings.Join(cmd.Args, " ")
	switch {
	case err == nil:
		return out.String(), nil
	case ctx.Err() != nil:
		return "", ErrInterrupted
	case limited.Err() != nil:
		return "", fmt.Errorf("%s: it did not end in %v", command, iptablesLimit)
	}
	if said := firstLine(complaint.String()); said != "" {
		return "", fmt.Errorf("%s: %w: %s", command, err, said)
	}
	return "", fmt.Errorf("%s: %w", command, err)
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

// printed is what a binary prints. One that prints without end finds its pipe closed.
type printed struct{ buf bytes.Buffer }

func (p *printed) Write(b []byte) (int, error) {
	if p.buf.Len()+len(b) > mostPrinted {
		return 0, errors.New("it prints more than iptables would")
	}
	return p.buf.Write(b)
}

func (p *printed) String() string { return p.buf.String() }

func (d *ipt) Name() string {
	if d.nft {
		return "iptables (nf_tables)"
	}
	return "iptables (legacy)"
}

func (*ipt) RunsProgram() bool { return true }

func (d *ipt) Drop(v6 bool, port uint16) (Rule, error) {
	r := &iptRule{ctx: d.ctx, v6: v6, spec: []string{
		"-p", "tcp", "--dport", strconv.Itoa(int(port)), "--tcp-flags", "SYN,ACK", "ACK", "-j", "DROP",
	}}
	if _, err := r.run(append([]string{"-A", "INPUT"}, r.spec...)...); err != nil {
		return nil, fmt.Errorf("put the drop rule in: %w", err)
	}
	if !d.nft {
		return r, nil
	}
	// A rule of iptables-nft is an nf_tables rule. To read it and to remove it over netlink saves two more runs of the
	// binary, each with 3 ms of CPU, and the second with 15 ms of waiting.
	return newNFTRule("filter", "INPUT", v6)
}

// iptRule is a rule of the legacy iptables, which only its binary can read.
type iptRule struct {
	ctx  context.Context
	v6   bool
	spec []string
	seen []iptables.Stat
}

// run gives the binary an order about the filter table.
func (r *iptRule) run(order ...string) (string, error) {
	return runIPTables(r.ctx, binaryOf(r.v6), slices.Concat([]string{"-t", "filter"}, order, []string{"--wait", lockWait})...)
}

func (r *iptRule) Packets() (uint64, error) {
	out, err := r.run("-L", "INPUT", "-n", "-v", "-x")
	if err == nil {
		r.seen, err = rulesOf(out)
	}
	if err == nil && len(r.seen) != 1 {
		err = fmt.Errorf("%d rules in INPUT, want 1", len(r.seen))
	}
	if err != nil {
		return 0, fmt.Errorf("read the drop rule's counter: %w", err)
	}
	return r.seen[0].Packets, nil
}

// rulesOf reads what iptables -nvxL prints of a chain: its name, headings, and a line for each rule. The library's own
// reader takes all of that for granted, and ends the program where it is not so.
func rulesOf(out string) ([]iptables.Stat, error) {
	lines := slices.DeleteFunc(strings.Split(out, "\n"), func(line string) bool {
		return strings.TrimSpace(line) == "" || strings.HasPrefix(line, "#") // a warning
	})
	if len(lines) < 2 || !strings.HasPrefix(lines[0], "Chain ") {
		return nil, fmt.Errorf("iptables lists no chain: %.40q", out)
	}
	var rules []iptables.Stat
	for _, line := range lines[2:] {
		const source, options = 7, 9 // fields, counted from 0
		fields := strings.Fields(line)
		// ip6tables has nothing but blanks where iptables has the field "opt", "--".
		if len(fields) >= source {
			if _, err := netip.ParsePrefix(fields[source-1]); err == nil {
				fields = slices.Insert(fields, 4, "")
			}
		}
		if len(fields) < options {
			return nil, fmt.Errorf("iptables lists no rule: %.80q", line)
		}
		rule, err := new(iptables.IPTables).ParseStat(append(fields[:options:options], strings.Join(fields[options:], " ")))
		if err != nil {
			return nil, fmt.Errorf("iptables lists no rule: %.80q: %w", line, err)
		}
		rules = append(rules, rule)
	}
	return rules, nil
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
	if _, err := r.run(append([]string{"-D", "INPUT"}, r.spec...)...); err != nil {
		return fmt.Errorf("take the drop rule out: %w", err)
	}
	return nil
}
