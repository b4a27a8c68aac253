//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/capture"
	"github.com/rpmig/rpmig/evidence"
	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/kernel/trace"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/result"
)

// checked is one line of the doctor's: what was asked of this machine, and the answer.
type checked struct {
	Name   string `json:"name"`
	Answer string `json:"answer"` // yes, no, or unknown where the question could not be put
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"`
	// Needed tells whether "run all" wants a yes here.
	Needed bool `json:"needed"`
}

// check is a question to this machine.
type check struct {
	name   string
	needed bool // by "run all"
	first  bool // without a yes nothing below can be asked
	// ask returns the detail of a yes, or an error. One that says that this kernel or this user cannot is a no; any other
	// means that it could not be found out.
	ask func() (detail string, err error)
}

func (e *env) doctorCommand() *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "tell what this kernel and this user can do",
		Description: "Exit status: 0 where all of \"rpmig run all\" can be played, else 1. Lines without\n" +
			"a star are not needed for that.",
		Flags: []cli.Flag{boolFlag("json", "", "as JSON"), noColorFlag()},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			var status exitStatus
			if errors.As(reexecInUserNS(), &status) {
				return status
			}
			answers := runChecks(e.checks(c.Context))
			if c.Bool("json") {
				enc := json.NewEncoder(e.stdout)
				enc.SetEscapeHTML(false)
				enc.SetIndent("", "  ")
				if err := enc.Encode(answers); err != nil {
					return err
				}
			} else {
				e.printChecks(answers, e.colorOut && !c.Bool("no-color"))
			}
			for _, a := range answers {
				if a.Needed && a.Answer != "yes" {
					return exitStatus(result.ExitFail)
				}
			}
			return nil
		},
	}
}

// checks are in the order in which a user would fix what is missing.
func (e *env) checks(ctx context.Context) []check {
	iptables, nftables := sync.OnceValues(askIPTables), sync.OnceValues(inNS(askNFTables))
	return []check{
		{name: "kernel", ask: askKernel},
		{name: "privileges", ask: askPrivileges},
		{name: "user namespaces", ask: yes("usable without root", netns.ProbeUserNS)},
		{name: "network namespaces", needed: true, first: true, ask: yes("made and left again", netns.Probe)},
		{name: "sysctls", needed: true, ask: inNS(yes("writable inside the namespace", func() error {
			return netns.ApplySysctls(netns.BaseSysctls(1, 80, true))
		}))},
		{name: "capture", needed: true, ask: inNS(askCapture)},
		{name: "iptables", ask: iptables},
		{name: "nftables", ask: nftables},
		{name: "drop rule", needed: true, ask: func() (string, error) { return askDropRule(iptables, nftables) }},
		{name: "sysctl tcp_migrate_req", needed: true, ask: inNS(yes("the file is there, which proves nothing yet", probeMode("sysctl")))},
		{name: "BPF migrate program", needed: true, ask: inNS(yes("the verifier accepts it", probeMode("bpf")))},
		{name: "kernel's trace", ask: inNS(askTrace)},
		{name: "migration by sysctl", needed: true, ask: func() (string, error) { return e.askMigration(ctx, "sysctl") }},
		{name: "migration by bpf", needed: true, ask: func() (string, error) { return e.askMigration(ctx, "bpf") }},
	}
}

// runChecks asks one after the other.
func runChecks(all []check) []checked {
	var done []checked
	for _, c := range all {
		d := c.run()
		done = append(done, d)
		if c.first && d.Answer != "yes" {
			break
		}
	}
	return done
}

func (c *check) run() checked {
	d := checked{Name: c.name, Needed: c.needed}
	detail, err := c.ask()
	if err == nil {
		d.Answer, d.Detail = "yes", detail
		return d
	}
	d.Answer, d.Detail = "unknown", err.Error()
	var refused *netns.UnshareError
	if errors.Is(err, kernel.ErrNotSupported) || errors.As(err, &refused) || errors.Is(err, netns.ErrNoIPTables) {
		d.Answer = "no"
	}
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		d.Hint = hinted.Hint()
	}
	return d
}

// yes is a question with one good answer, that detail.
func yes(detail string, ask func() error) func() (string, error) {
	return func() (string, error) { return detail, ask() }
}

// inNS asks in a network namespace of its own.
func inNS(ask func() (string, error)) func() (string, error) {
	return func() (detail string, err error) {
		err = netns.Do(func() (err error) { detail, err = ask(); return err })
		return detail, err
	}
}

// probeMode asks whether this kernel and this user can have the mode.
func probeMode(name string) func() error {
	return func() error {
		modes, err := migrate.Parse(name)
		if err != nil {
			return err
		}
		return modes[0].Probe()
	}
}

func askKernel() (string, error) {
	release, machine, err := uname()
	return "Linux " + release + " " + machine, err
}

func askPrivileges() (string, error) {
	switch {
	case netns.InUserNS():
		return "an ordinary user, in a user namespace of its own", nil
	case os.Geteuid() == 0:
		return "root", nil
	default:
		return fmt.Sprintf("user %d", os.Geteuid()), nil
	}
}

func askCapture() (string, error) {
	ring, err := capture.Open("lo", 1)
	if err == nil {
		ring.Close()
	}
	return "AF_PACKET ring on lo", err
}

func askIPTables() (string, error) {
	d, err := netns.NewDropper("iptables")
	if err != nil {
		return "", err
	}
	return d.Name(), nil
}

func askNFTables() (string, error) {
	d, err := netns.NewDropper("nftables")
	if err != nil {
		return "", err
	}
	r, err := d.Drop(false, 80)
	if err != nil {
		return "", err
	}
	defer r.Close()
	return "over netlink, without a binary", r.Remove()
}

// askDropRule asks whether there is any way to drop the ACK.
func askDropRule(iptables, nftables func() (string, error)) (string, error) {
	if _, err := iptables(); err == nil {
		return "by iptables", nil
	}
	if _, err := nftables(); err == nil {
		return "by nftables", nil
	}
	return "", &kernel.NotSupportedError{
		Reason: "neither iptables nor nftables works", Next: "modprobe nf_tables, or apt-get install iptables"}
}

// askTrace asks whether the kernel tells why it resets, by having a connection refused in this thread's namespace.
func askTrace() (string, error) {
	t, err := trace.Open()
	if err != nil {
		return "", err
	}
	defer func() { _ = t.Close() }()
	watch, err := t.WatchThread()
	if err != nil {
		return "", err
	}
	if err := refused(); err != nil {
		return "", err
	}
	said, err := watch.Stop()
	if err != nil {
		return "", err
	}
	said.Claim(trace.Own{
		Thread: unix.Gettid(),
		Seen:   func(a, _ netip.AddrPort) bool { return a == nobodyListens }, // as good as it gets without a capture
	})
	return whatItTells(said)
}

// nobodyListens is an address in a fresh namespace.
var nobodyListens = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 80)

// refused connects to a port without a listener.
func refused() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	switch err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(nobodyListens.Port()), Addr: nobodyListens.Addr().As4()}); {
	case err == nil:
		return errors.New("connect to a port where nobody listens: it did")
	case !errors.Is(err, unix.ECONNREFUSED):
		return fmt.Errorf("connect to a port where nobody listens: %w", err)
	}
	return nil
}

// whatItTells judges what was recorded of a connection that was refused.
func whatItTells(said *trace.Recording) (string, error) {
	reset := trace.ResetSent.String()
	if slices.Contains(said.Missing, reset) {
		return "", &kernel.NotSupportedError{Reason: "this kernel has no tracepoint " + reset, Next: "boot Linux 6.10 or later"}
	}
	i := slices.IndexFunc(said.Events, func(e trace.Event) bool { return e.Kind == trace.ResetSent })
	if i < 0 {
		return "", &hintedError{errors.New("the kernel told nothing of a reset that it sent"), "rpmig doctor, once more; boot Linux 6.10 or later"}
	}
	tells := "it says why it resets and drops"
	if said.Events[i].Reason == "" {
		tells = "it tells of resets, and not why (Linux 6.10 does)"
	}
	if said.HostWide {
		tells += "; by tracefs and not to BPF, so of the whole host: cells are played one at a time"
	} else {
		tells += ", to BPF programs"
	}
	if len(said.Missing) > 0 {
		tells += "; it has no " + strings.Join(said.Missing, ", ")
	}
	return tells, nil
}

// askMigration asks whether migration happens, by playing quiz1 in the mode and in its control.
func (e *env) askMigration(ctx context.Context, mode string) (string, error) {
	modes, err := migrate.Parse(mode)
	if err != nil {
		return "", err
	}
	families, err := harness.ParseFamilies("ipv4")
	if err != nil {
		return "", err
	}
	quiz, err := harness.Select(e.scenarios, "quiz1")
	if err != nil {
		return "", err
	}
	var cells collector
	err = harness.Run(ctx, harness.Options{
		Scenarios: quiz, Families: families, Modes: modes,
		Repeat: 1, Connections: 1, Port: 80, TimeoutMul: 1,
	}, &cells)
	if err != nil {
		return "", err
	}
	for _, c := range cells {
		switch c.Status {
		case result.Pass:
		case result.Error:
			return "", fmt.Errorf("%s: %s", c.ID(), c.Reason)
		default:
			return "", &kernel.NotSupportedError{Reason: c.Reason, Next: "rpmig run " + c.Scenario + " --migrate=" + mode + " -v"}
		}
	}
	return fmt.Sprintf("%s staged one: lost when off, saved when on", quiz[0].Name), nil
}

// collector is a harness.Sink that keeps the cells of a run and writes nothing.
type collector []result.Cell

func (*collector) Begin(int) error { return nil }

func (s *collector) Cell(c *result.Cell, _ evidence.Files) error {
	*s = append(*s, *c)
	return nil
}

// printChecks prints the answers, each hint under its line.
func (e *env) printChecks(all []checked, color bool) {
	paint := map[string]string{"yes": "\x1b[32m", "no": "\x1b[31m", "unknown": "\x1b[33m"}
	for _, c := range all {
		answer := fmt.Sprintf("%-7s", c.Answer)
		if color {
			answer = paint[c.Answer] + answer + "\x1b[0m"
		}
		star := " "
		if c.Needed {
			star = "*"
		}
		const indent = 35
		detail := strings.Join(wrapWords(printable(c.Detail), 80-indent), "\n"+strings.Repeat(" ", indent))
		fmt.Fprintf(e.stdout, "%s %s %-23s  %s\n", answer, star, c.Name, detail)
		if c.Hint != "" {
			hint := strings.Join(wrapWords(c.Hint, 80-indent-6), "\n"+strings.Repeat(" ", indent+6))
			fmt.Fprintf(e.stdout, "%*shint: %s\n", indent, "", hint)
		}
	}
	fmt.Fprintln(e.stdout, "\n* needed for all of rpmig run all")
}
