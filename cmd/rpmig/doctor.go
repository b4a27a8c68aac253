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

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/capture"
	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/kernel/trace"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/result"
)

// symptom is one line of the doctor's: what was asked of this machine, and the answer.
type symptom struct {
	Name   string `json:"name"`
	Answer string `json:"answer"` // yes, no, or unknown where the question could not be put
	Detail string `json:"detail"`
	Hint   string `json:"hint,omitempty"`
	// Needed tells whether "run all" wants a yes here.
	Needed bool `json:"needed"`
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
			if status, done, err := elsewhere(); done && err == nil {
				return exitStatus(status)
			}
			symptoms := e.examine(c.Context)
			if c.Bool("json") {
				enc := json.NewEncoder(e.stdout)
				enc.SetEscapeHTML(false)
				enc.SetIndent("", "  ")
				if err := enc.Encode(symptoms); err != nil {
					return err
				}
			} else {
				e.prescribe(symptoms, e.colorOut && !c.Bool("no-color"))
			}
			for _, s := range symptoms {
				if s.Needed && s.Answer != "yes" {
					return exitStatus(result.ExitFail)
				}
			}
			return nil
		},
	}
}

// examine asks, in the order in which a user would mend things.
func (e *env) examine(ctx context.Context) []symptom {
	var all []symptom
	ask := func(name string, needed bool, question func() (string, error)) bool {
		s := symptom{Name: name, Answer: "yes", Needed: needed}
		detail, err := question()
		if s.Detail = detail; err != nil {
			s.Answer, s.Detail = "unknown", err.Error()
			var no *kernel.NotSupportedError
			var refused *netns.UnshareError
			if errors.As(err, &no) || errors.As(err, &refused) || errors.Is(err, netns.ErrNoIPTables) {
				s.Answer = "no"
			}
			var hinted interface{ Hint() string }
			if errors.As(err, &hinted) {
				s.Hint = hinted.Hint()
			}
		}
		all = append(all, s)
		return err == nil
	}
	inNS := func(question func() (string, error)) func() (string, error) {
		return func() (detail string, err error) {
			err = netns.Do(func() (err error) { detail, err = question(); return err })
			return detail, err
		}
	}
	modeProbe := func(name string) func() error {
		modes, err := migrate.Parse(name)
		if err != nil {
			return func() error { return err }
		}
		return modes[0].Probe
	}

	ask("kernel", false, func() (string, error) {
		release, machine, err := uname()
		return "Linux " + release + " " + machine, err
	})
	ask("privileges", false, func() (string, error) {
		switch {
		case netns.InUserNS():
			return "an ordinary user, in a user namespace of its own", nil
		case os.Geteuid() == 0:
			return "root", nil
		default:
			return fmt.Sprintf("user %d", os.Geteuid()), nil
		}
	})
	ask("user namespaces", false, func() (string, error) { return "usable without root", netns.ProbeUserNS() })
	if !ask("network namespaces", true, func() (string, error) { return "made and left again", netns.Probe() }) {
		return all
	}
	ask("sysctls", true, inNS(func() (string, error) {
		return "writable inside the namespace", netns.SetWeather(netns.Weather(1, 80, true))
	}))
	ask("capture", true, inNS(func() (string, error) {
		ring, err := capture.Open("lo", 1)
		if err == nil {
			ring.Close()
		}
		return "AF_PACKET ring on lo", err
	}))
	ask("iptables", false, func() (string, error) {
		d, err := netns.NewDropper("iptables")
		if err != nil {
			return "", err
		}
		return d.Name(), nil
	})
	ask("nftables", false, inNS(func() (string, error) {
		d, err := netns.NewDropper("nftables")
		if err != nil {
			return "", err
		}
		r, err := d.Drop(false, 80)
		if err != nil {
			return "", err
		}
		return "over netlink, without a binary", r.Remove()
	}))
	ask("drop rule", true, func() (string, error) {
		for _, s := range all {
			if (s.Name == "iptables" || s.Name == "nftables") && s.Answer == "yes" {
				return "by " + s.Name, nil
			}
		}
		return "", &kernel.NotSupportedError{
			Reason: "neither iptables nor nftables works", Next: "modprobe nf_tables, or apt-get install iptables"}
	})
	ask("sysctl tcp_migrate_req", true, inNS(func() (string, error) {
		return "the file is there, which proves nothing yet", modeProbe("sysctl")()
	}))
	ask("BPF migrate program", true, inNS(func() (string, error) {
		return "the verifier accepts it", modeProbe("bpf")()
	}))
	ask("kernel's trace", false, inNS(traced))
	for _, mode := range []string{"sysctl", "bpf"} {
		ask("migration by "+mode, true, func() (string, error) { return e.stage(ctx, mode) })
	}
	return all
}

// traced proves that the kernel tells why it resets, by having a connection refused in this thread's namespace.
func traced() (string, error) {
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

// refused connects to where nobody listens.
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

// stage proves that migration happens, by playing quiz1 in the mode and in its control.
func (e *env) stage(ctx context.Context, mode string) (string, error) {
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
	var cells sinkhole
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

// sinkhole keeps the cells of a run and writes nothing.
type sinkhole []result.Cell

func (*sinkhole) Begin(int) error { return nil }

func (s *sinkhole) Cell(c *result.Cell, _ harness.Evidence) error {
	*s = append(*s, *c)
	return nil
}

// prescribe prints the symptoms, each hint under its line.
func (e *env) prescribe(all []symptom, color bool) {
	paint := map[string]string{"yes": "\x1b[32m", "no": "\x1b[31m", "unknown": "\x1b[33m"}
	for _, s := range all {
		answer := fmt.Sprintf("%-7s", s.Answer)
		if color {
			answer = paint[s.Answer] + answer + "\x1b[0m"
		}
		star := " "
		if s.Needed {
			star = "*"
		}
		const indent = 35
		detail := strings.Join(wrapWords(printable(s.Detail), 80-indent), "\n"+strings.Repeat(" ", indent))
		fmt.Fprintf(e.stdout, "%s %s %-23s  %s\n", answer, star, s.Name, detail)
		if s.Hint != "" {
			hint := strings.Join(wrapWords(s.Hint, 80-indent-6), "\n"+strings.Repeat(" ", indent+6))
			fmt.Fprintf(e.stdout, "%*shint: %s\n", indent, "", hint)
		}
	}
	fmt.Fprintln(e.stdout, "\n* needed for all of rpmig run all")
}
