//go:build linux

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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
	"github.com/rpmig/rpmig/lab"
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
	// Facts are what the detail says, for programs.
	Facts map[string]any `json:"facts,omitempty"`
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
	// facts are what there is to tell programs, whatever the answer; nil: no more than that.
	facts func() map[string]any
}

func (e *env) doctorCommand() *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "tell what this kernel and this user can do",
		Description: "Exit status: 0 where all of \"rpmig run all\" can be played, else 1. Lines without\n" +
			"a star are not needed for that.",
		Flags: append([]cli.Flag{boolFlag("json", "", "as JSON"), noColorFlag()}, machineFlags()...),
		Action: func(c *cli.Context) error {
			if err := cmp.Or(noArgs(c), checkMachine(c)); err != nil {
				return err
			}
			if c.IsSet("kernel") {
				return e.askThere(c)
			}
			here := migrateReqHere() // before anything is in another namespace
			var status exitStatus
			if fit(harness.Options{}) == nil && errors.As(reexecInUserNS(), &status) {
				return status
			}
			answers := runChecks(e.checks(c.Context, here))
			if err := e.tell(c.Context, answers, c.Bool("json"), e.colorOut && !c.Bool("no-color")); err != nil {
				return fmt.Errorf("write the answers: %w", err)
			}
			return allNeeded(answers)
		},
	}
}

// allNeeded is the exit status that goes with the answers.
func allNeeded(answers []checked) error {
	for _, a := range answers {
		if a.Needed && a.Answer != "yes" {
			return exitStatus(result.ExitFail)
		}
	}
	return nil
}

// checks are in the order in which a user would fix what is missing.
func (e *env) checks(ctx context.Context, here migrateReq) []check {
	iptables, nftables := sync.OnceValues(askIPTables(ctx)), sync.OnceValues(inNS(askNFTables(ctx)))
	return []check{
		{name: "kernel", ask: askKernel},
		{name: "migration is on here", ask: here.ask, facts: here.facts},
		{name: "privileges", ask: askPrivileges},
		{name: "limits", needed: true, first: true, ask: askLimits},
		{name: "user namespaces", ask: yes("usable without root", netns.ProbeUserNS)},
		{name: "network namespaces", needed: true, first: true, ask: yes("made and left again", netns.Probe)},
		{name: "sysctls", needed: true, ask: inNS(yes("writable inside the namespace", func() error {
			return netns.CheckSysctls(netns.BaseSysctls(1, 80, true))
		}))},
		{name: "listener's port", needed: true, ask: inNS(yes("80 can be had", func() error { return netns.CheckPort(80) }))},
		{name: "socket tables", needed: true, ask: inNS(yes("by sock_diag", func() error { return kernel.ProbeDiag([]uint8{unix.AF_INET}) }))},
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
	if c.facts != nil {
		d.Facts = c.facts()
	}
	detail, err := c.ask()
	if err == nil {
		d.Answer, d.Detail = "yes", detail
		return d
	}
	d.Answer, d.Detail = "unknown", err.Error()
	var refused *netns.UnshareError
	var denied *kernel.DeniedError
	if errors.Is(err, kernel.ErrNotSupported) || errors.As(err, &refused) || errors.As(err, &denied) || errors.Is(err, netns.ErrNoIPTables) {
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

// migrateReq is what the sysctl was in the network namespace in which rpmig was started.
type migrateReq struct {
	value string
	err   error
}

// migrateReqVariable tells a re-executed rpmig, which is in another namespace, what it was in the first. (/proc/sys/net is that of
// whoever opens a file in it: net/sysctl_net.c, net_ctl_header_lookup.)
const migrateReqVariable = "RPMIG_TCP_MIGRATE_REQ"

// migrateReqHere reads the sysctl, and writes nothing.
func migrateReqHere() migrateReq {
	has, err := netns.HasSysctl(netns.MigrateReq)
	switch {
	case err != nil:
		return migrateReq{err: err}
	case !has:
		return migrateReq{err: &kernel.NotSupportedError{
			Reason: "this kernel has no " + netns.MigrateReq + " (Linux 5.14 has it)", Next: "boot Linux 5.14 or later"}}
	case netns.InUserNS():
		value := os.Getenv(migrateReqVariable)
		if value == "" {
			err = fmt.Errorf("%s could not be read where rpmig was started", netns.MigrateReq)
		}
		return migrateReq{value, err}
	}
	value, err := netns.Get(netns.MigrateReq)
	if err == nil {
		err = os.Setenv(migrateReqVariable, value)
	}
	return migrateReq{value, err}
}

// ask says whether a server that runs where rpmig was started has its connections migrated, and what there is to know before one
// changes that.
func (m migrateReq) ask() (string, error) {
	if m.err != nil {
		return "", m.err
	}
	said := fmt.Sprintf("%s is %s in the network namespace in which rpmig was started", netns.MigrateReq, m.value)
	if fresh, err := freshMigrateReq(); err == nil {
		said += ". A new namespace, as of a container, begins with " + fresh
	}
	// reuseport_stop_listen_sock and reuseport_migrate_sock read it when a listener closes, and not when it begins to listen.
	said += ". It acts on listeners that listen already: what counts is its value when one closes, and afterwards it is too late " +
		"(rpmig run 'sysctl-flip-*')"
	if m.value == "0" {
		return "", &kernel.NotSupportedError{
			Reason: said, Next: "where the server runs, no restart needed: sysctl -w " + netns.MigrateReq + "=1; or a BPF program (rpmig explain quiz1)"}
	}
	return said, nil
}

// freshMigrateReq is the sysctl in a namespace that has just been made.
func freshMigrateReq() (value string, err error) {
	err = netns.Do(func() (err error) { value, err = netns.Get(netns.MigrateReq); return err })
	return value, err
}

// facts are what ask says: the sysctl here and in a new namespace, and that it is read when a listener closes.
func (m migrateReq) facts() map[string]any {
	if m.err != nil {
		return nil
	}
	facts := map[string]any{netns.MigrateReq: m.value, "read_when": "a listener closes", "acts_on_listening_sockets": true}
	if fresh, err := freshMigrateReq(); err == nil {
		facts[netns.MigrateReq+" of a new namespace"] = fresh
	}
	return facts
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

// askLimits asks whether one cell can be played, as the limits on this process go.
func askLimits() (string, error) {
	err := fit(harness.Options{})
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		err = &kernel.NotSupportedError{Reason: err.Error(), Next: hinted.Hint()}
	}
	return "threads, memory and descriptors suffice", err
}

func askCapture() (string, error) {
	ring, err := capture.Open("lo", 1)
	if err == nil {
		ring.Close()
	}
	return "AF_PACKET ring on lo", kernel.Explain(err, false, "CAP_NET_RAW")
}

func askIPTables(ctx context.Context) func() (string, error) {
	return func() (string, error) {
		d, err := netns.NewDropper(ctx, "iptables")
		if err != nil {
			return "", err
		}
		return d.Name(), nil
	}
}

func askNFTables(ctx context.Context) func() (string, error) {
	return func() (string, error) {
		d, err := netns.NewDropper(ctx, "nftables")
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

// askTrace asks whether the kernel tells why it resets, by having it reset a connection in this thread's namespace.
func askTrace() (detail string, err error) {
	t, err := trace.Open()
	if err != nil {
		return "", err
	}
	defer func() { _ = t.Close() }()
	// In a virtual machine the kernel may skip an event now and then: see trace.Recording.Untraced.
	for range 3 {
		if detail, err = askReset(t); err == nil {
			break
		}
	}
	if err == nil && t.NoBPF != nil {
		detail += ", because: " + t.NoBPF.Error()
	}
	return detail, err
}

// askReset asks what the kernel tells of one reset.
func askReset(t *trace.Tracer) (string, error) {
	watch, err := t.WatchThread()
	if err != nil {
		return "", err
	}
	err = resetOne()
	said, err2 := watch.Stop()
	if err := cmp.Or(err, err2); err != nil {
		return "", err
	}
	said.Claim(trace.Own{Thread: unix.Gettid()})
	return whatItTells(said)
}

// resetOne has the kernel reset a connection: it is closed with unread data (TCP_ABORT_ON_CLOSE). So the reset
// has a socket. Before Linux 6.10 tcp_v4_send_reset traces no other one, such as that to a port without a listener.
func resetOne() (err error) {
	open := func() int {
		fd, serr := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		err = cmp.Or(err, serr)
		return fd
	}
	listener, client := open(), open()
	defer unix.Close(listener)
	defer unix.Close(client)
	try := func(f func() error) {
		if err == nil {
			err = f()
		}
	}
	var at unix.Sockaddr
	child := -1
	try(func() error { return unix.Bind(listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}) })
	try(func() error { return unix.Listen(listener, 1) })
	try(func() (err error) { at, err = unix.Getsockname(listener); return err })
	try(func() error { return unix.Connect(client, at) })
	try(func() (err error) { child, _, err = unix.Accept4(listener, unix.SOCK_CLOEXEC); return err })
	if child >= 0 {
		defer unix.Close(child)
	}
	try(func() error { _, err := unix.Write(client, []byte("unread")); return err })
	try(func() error {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(child), Events: unix.POLLIN}}, 1000)
		if n == 0 && err == nil {
			return errors.New("no data came in a second")
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("have a connection reset: %w", err)
	}
	return nil
}

// whatItTells judges what was recorded of a connection that was reset.
func whatItTells(said *trace.Recording) (string, error) {
	reset := trace.ResetSent.String()
	if slices.Contains(said.Missing, reset) {
		return "", &kernel.NotSupportedError{Reason: "this kernel has no tracepoint " + reset, Next: "boot Linux 5.14 or later"}
	}
	i := slices.IndexFunc(said.Events, func(e trace.Event) bool { return e.Kind == trace.ResetSent })
	if i < 0 {
		return "", &hintedError{errors.New("the kernel told nothing of a reset that it sent"), "rpmig run quiz1 --trace=tracefs -v"}
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
	families, err := lab.ParseFamilies("ipv4")
	if err != nil {
		return "", err
	}
	quiz, err := harness.Select(e.scenarios, "quiz1")
	if err != nil {
		return "", err
	}
	var cells collector
	err = harness.Run(ctx, harness.Options{
		Settings:  lab.Settings{Port: 80, TimeoutMul: 1},
		Scenarios: quiz, Families: families, Modes: modes, Repeat: 1, Connections: 1,
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

// tell prints the answers, for a program or for a person.
func (e *env) tell(ctx context.Context, all []checked, asJSON, color bool) error {
	if !asJSON {
		return printTo(ctx, e.textOut(), e.checksText(all, color))
	}
	return e.asJSON(ctx, all)
}

// checksText shows the answers, each hint under its line; on a narrow terminal what is answered has a line of its own.
func (e *env) checksText(all []checked, color bool) string {
	width := e.width()
	var b strings.Builder
	paint := map[string]string{"yes": "\x1b[32m", "no": "\x1b[31m", "unknown": "\x1b[33m"}
	indent := 35
	if width < narrow {
		indent = 4
	}
	margin := strings.Repeat(" ", indent)
	for _, c := range all {
		answer := fmt.Sprintf("%-7s", c.Answer)
		if color {
			answer = paint[c.Answer] + answer + "\x1b[0m"
		}
		star := " "
		if c.Needed {
			star = "*"
		}
		detail := strings.Join(wrapWords(printable(e.asStarted(strings.Join(strings.Fields(c.Detail), " "))), width-indent), "\n"+margin)
		if width < narrow {
			fmt.Fprintf(&b, "%s %s %s\n%s%s\n", answer, star, c.Name, margin, detail)
		} else {
			fmt.Fprintf(&b, "%s %s %-23s  %s\n", answer, star, c.Name, detail)
		}
		if c.Hint != "" {
			hang(&b, width, margin+"hint: ", e.asStarted(c.Hint))
		}
	}
	fmt.Fprintln(&b, e.asStarted("\n* needed for all of rpmig run all"))
	return b.String()
}
