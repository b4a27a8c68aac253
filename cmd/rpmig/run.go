//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"unicode"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/kernel/trace"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/reports"
	"github.com/rpmig/rpmig/result"
)

// manyScenarios are more than anybody plays to see iptables at work; to start it for each cell would take a tenth of the
// time.
const manyScenarios = 5

// maxConnections is far below the number of ephemeral ports, which is what a client's address has.
const maxConnections = 10000

func (e *env) runCommand() *cli.Command {
	cmd := &cli.Command{
		Name:        "run",
		Usage:       "play scenarios and judge what the kernel did",
		UsageText:   "rpmig run SCENARIO [options]\nrpmig run all [options]\nrpmig run 'quiz*' [options]",
		Description: strings.Join(wrapWords("Exit status: "+exitStatuses, helpWidth), "\n"),
		Flags:       runFlags("all"),
		Action: func(c *cli.Context) error {
			switch c.NArg() {
			case 0:
				return &usageError{"run: which scenario?", "rpmig run all, or one of: " + strings.Join(e.names(), ", ")}
			case 1:
				return e.play(c, c.Args().First())
			default:
				return e.severalScenarios(c, c.Args().Slice())
			}
		},
	}
	sub := func(name, usage, family string) {
		cmd.Subcommands = append(cmd.Subcommands, &cli.Command{
			Name: name, Usage: usage, Flags: runFlags(family),
			Action: func(c *cli.Context) error {
				if c.Args().Present() {
					return e.severalScenarios(c, append([]string{name}, c.Args().Slice()...))
				}
				return e.play(c, name)
			},
		})
	}
	sub("all", "every scenario", "all")
	for i := range e.scenarios {
		s := &e.scenarios[i]
		// One scenario is played in one family, ipv4 if it can be.
		family := "ipv4"
		if s.Families != nil && !slices.Contains(s.Families, family) {
			family = s.Families[0]
		}
		sub(s.Name, s.Title(), family)
	}
	return cmd
}

// severalScenarios refuses what is left over on the command line, and tells who meant several scenarios how to say so.
func (e *env) severalScenarios(c *cli.Context, args []string) error {
	list := strings.Join(args, ",")
	if _, err := harness.Select(e.scenarios, list); err != nil || list == "all" {
		return noArgs(c)
	}
	return &usageError{fmt.Sprintf("run: several scenarios are a comma list, not %q", strings.Join(args, " ")), "rpmig run " + quote(list)}
}

// quote makes one word of a text in a shell.
func quote(text string) string {
	if text != "" && !strings.ContainsFunc(text, func(r rune) bool {
		return !strings.ContainsRune("+,-./:=@_", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// explain is a scenario's help text: what it plays, where in the kernel, and what to expect.
func explain(s *harness.Scenario) string { return s.Story() + "\n\n" + expectations(s) }

func expectations(s *harness.Scenario) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Kernel path:\n  %s\n\nExpected:\n", s.Path)
	for _, m := range migrate.Modes() {
		if s.PlaysMode(m) {
			fmt.Fprintf(&b, "  %-11s %s\n", m.Name, s.Expect(m))
		}
	}
	return strings.TrimSpace(b.String())
}

func runFlags(family string) []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "migrate", Value: "off,sysctl,bpf", Usage: "ask for migration in these `MODES`: a comma list of " + strings.Join(migrate.Names(), ", ") + "; or all"},
		&cli.StringFlag{Name: "family", Value: family, Usage: "address `FAMILIES`: a comma list of " + strings.Join(harness.FamilyNames(), ", ") + "; or all"},
		&cli.IntFlag{Name: "connections", Aliases: []string{"n"}, DefaultText: "as the scenario says", Usage: "stage `N` connections at once"},
		&cli.IntFlag{Name: "port", Value: 80, Usage: "the listeners' `PORT`, inside the namespace"},
		&cli.StringFlag{Name: "drop", Value: "auto", Usage: "drop the ACK with `BACKEND`: " + strings.Join(netns.DropBackends, ", ") + "; auto is iptables where it works, but nftables for many scenarios and for repeats after the first"},
		&cli.StringFlag{Name: "trace", Value: "auto", Usage: "record why the kernel resets and drops, and the socket tables: " + strings.Join(traces, ", ") + "; auto leaves it out under --repeat, but for a --bundle; tracefs does without BPF, one cell at a time, and auto has it for one scenario where the kernel has no BTF"},
		boolFlag("no-control", "", "do not play the off cell beside other modes"),
		&cli.IntFlag{Name: "repeat", Value: 1, Usage: "play each cell `N` times"},
		boolFlag("until-fail", "", "stop at the first FAIL or ERROR; without --repeat, go on until there is one"),
		&cli.IntFlag{Name: "parallel", DefaultText: "as suits the machine", Usage: "play `N` cells side by side"},
		boolFlag("real-timers", "", "play with the talk's tcp_synack_retries=5, which takes a minute"),
		boolFlag("strict", "", "make what a known kernel bug explains a FAIL, not an XFAIL"),
		&cli.Float64Flag{Name: "timeout-mul", Value: 1, Usage: "stretch every deadline by `X`, for slow machines"},
		formatFlag(),
		&cli.PathFlag{Name: "out", Usage: "write run.jsonl and every capture to `DIR`"},
		&cli.PathFlag{Name: "bundle", Usage: "put the run into one `FILE`.tar.gz, as rpmig bundle does"},
		boolFlag("force", "", "write over the FILE of --bundle"),
		verboseFlag(),
		boolFlag("quiet", "q", "say nothing but the summary and what went wrong"),
		noColorFlag(),
	}
}

func formatFlag() cli.Flag {
	return &cli.StringFlag{Name: "format", Value: "text", Usage: "print the report as `FORMAT`: " + strings.Join(formatNames(), ", ")}
}

func noColorFlag() cli.Flag { return boolFlag("no-color", "", "no colours; NO_COLOR does the same") }

func verboseFlag() cli.Flag {
	return boolFlag("verbose", "v", "tell the story of each cell, with its counters and checks")
}

// boolFlag is a switch; that it is off when nobody switches it on need not be said.
func boolFlag(name, alias, usage string) cli.Flag {
	f := &cli.BoolFlag{Name: name, Usage: usage, DisableDefaultText: true}
	if alias != "" {
		f.Aliases = []string{alias}
	}
	return f
}

func formatNames() []string {
	var names []string
	for _, f := range reports.Formats() {
		names = append(names, f.Name)
	}
	return names
}

func (e *env) names() []string {
	var names []string
	for _, s := range e.scenarios {
		names = append(names, s.Name)
	}
	return names
}

// options reads the command line into what the harness takes. Nothing that is wrong becomes a default.
func (e *env) options(c *cli.Context, selector string) (harness.Options, error) {
	o := harness.Options{
		NoControl:   c.Bool("no-control"),
		Strict:      c.Bool("strict"),
		Repeat:      c.Int("repeat"),
		UntilFail:   c.Bool("until-fail"),
		Parallel:    c.Int("parallel"),
		Connections: c.Int("connections"),
		TimeoutMul:  c.Float64("timeout-mul"),
		RealTimers:  c.Bool("real-timers"),
		Port:        uint16(c.Int("port")),
	}
	if o.UntilFail && !c.IsSet("repeat") {
		o.Repeat = 0
	}
	wrong := func(what, hint string) (harness.Options, error) { return o, &usageError{what, hint} }
	var err error
	if o.Scenarios, err = harness.Select(e.scenarios, selector); err != nil {
		return wrong(err.Error(), "rpmig list")
	}
	if o.Modes, err = migrate.Parse(c.String("migrate")); err != nil {
		return wrong("--migrate: "+err.Error(), "rpmig list")
	}
	if o.Families, err = harness.ParseFamilies(c.String("family")); err != nil {
		return wrong("--family: "+err.Error(), "rpmig list")
	}
	for _, f := range []struct {
		name     string
		min, max int
	}{{"connections", 1, maxConnections}, {"port", 1, math.MaxUint16}, {"repeat", 1, math.MaxInt32}, {"parallel", 1, 4096}} {
		if n := c.Int(f.name); c.IsSet(f.name) && (n < f.min || n > f.max) {
			return wrong(fmt.Sprintf("--%s: %d is not between %d and %d", f.name, n, f.min, f.max), c.Command.HelpName+" --help")
		}
	}
	if x := o.TimeoutMul; !(x >= 0.01 && x <= 1000) { // NaN is neither
		return wrong(fmt.Sprintf("--timeout-mul: %v is not between 0.01 and 1000", x), c.Command.HelpName+" --help")
	}
	if t := c.String("trace"); !slices.Contains(traces, t) {
		return wrong(fmt.Sprintf("--trace: no %q: want one of %s", t, strings.Join(traces, ", ")), c.Command.HelpName+" --trace=off")
	}
	if c.Bool("q") && c.Bool("v") {
		return wrong("-q and -v contradict each other", c.Command.HelpName+" --help")
	}
	if c.IsSet("out") && c.Path("out") == "" {
		return wrong("--out: which folder?", c.Command.HelpName+" --help")
	}
	if c.IsSet("force") && !c.IsSet("bundle") {
		return wrong("--force: to write over which bundle?", c.Command.HelpName+" --bundle FILE.tar.gz --force")
	}
	if c.IsSet("bundle") {
		if c.Path("bundle") == "" {
			return wrong("--bundle: which file?", c.Command.HelpName+" --help")
		}
		if err := freeForBundle(c.Path("bundle"), c.Bool("force"), "add --force to the same command"); err != nil {
			return o, err
		}
	}
	return o, nil
}

// play is the main job: it plays what the command line asks for and reports on it.
func (e *env) play(c *cli.Context, selector string) error {
	o, err := e.options(c, selector)
	if err != nil {
		return err
	}
	if o.Kernel, _, err = uname(); err != nil {
		return err
	}
	format, err := lookupFormat(c)
	if err != nil {
		return err
	}
	if err := validDrop(c.String("drop")); err != nil {
		return err
	}
	if status, done, err := elsewhere(); done {
		if err != nil {
			return err
		}
		return exitStatus(status)
	}
	want := c.String("trace")
	if want == "auto" && o.Repeat != 1 && !c.IsSet("bundle") {
		want = "off" // it would cost more than a tenth, and one telling is enough
	}
	o.Tables = want != "off"
	o.Keep = c.IsSet("out") || c.IsSet("bundle")
	o.Story = format.Story || c.Bool("v")
	// It waits for the kernel for tens of milliseconds, and so does all that comes before a cell's first packet.
	o.Tracer = sync.OnceValues(func() (*trace.Tracer, error) { return tracer(want, len(o.Scenarios) == 1) })
	opening := make(chan struct{})
	go func() {
		defer close(opening)
		// Every cell waits for it, so it should not have to wait for a processor while cells get ready. Who may not do that
		// waits a little longer. The thread ends with the goroutine.
		runtime.LockOSThread()
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, -10)
		_, _ = o.Tracer()
	}()
	defer func() {
		<-opening
		if t, _ := o.Tracer(); t != nil {
			_ = t.Close()
		}
	}()
	if want == "on" || want == "tracefs" { // a "no" is best told before anything else has been
		if _, err := o.Tracer(); err != nil {
			return err
		}
	}
	auto := c.String("drop") == "auto"
	if auto && len(o.Scenarios) > manyScenarios {
		o.Dropper, err = netns.Cheapest()
	} else {
		o.Dropper, err = netns.NewDropper(c.String("drop"))
	}
	if errors.Is(err, netns.ErrNoIPTables) {
		return &hintedError{err, "apt-get install iptables, or: rpmig run " + quote(selector) + " --drop=nftables"}
	} else if err != nil {
		return err
	}
	if auto && o.Repeat != 1 {
		if o.Again, err = netns.Cheapest(); err != nil {
			return err
		}
	}
	out, err := newOutput(e, c)
	if err != nil {
		return err
	}
	out.modes = o.Modes
	bundling, err := newBundling(c, out)
	if err != nil {
		return err
	}
	o.Progress = out.live.estimate()
	runErr := harness.Run(c.Context, o, out)
	if err := bundling.end(c.Context, out); runErr == nil {
		runErr = err
	}
	if len(out.run.Cells) > 0 {
		if err := e.render(c, format, &out.run); err != nil {
			return err
		}
		e.next(c, format, &out.run, out.dir)
	}
	if errors.Is(runErr, harness.ErrNothingToPlay) {
		return &usageError{runErr.Error(), "rpmig explain " + quote(selector)}
	}
	if errors.Is(runErr, context.Canceled) {
		return &interruptedError{played: len(out.run.Cells), of: out.run.Header.Cells}
	}
	if runErr != nil {
		return runErr
	}
	return exitStatus(out.run.ExitCode())
}

// render writes the report. With -q a run in which all went well is one line to a person.
func (e *env) render(c *cli.Context, format reports.Format, run *result.Run) error {
	if c.Bool("q") && format.Name == "text" && run.ExitCode() == result.ExitOK {
		_, err := fmt.Fprintln(e.stdout, run.Summary())
		return err
	}
	o := reports.Options{Color: e.colorOut && !c.Bool("no-color"), Width: e.widthOut, Verbose: c.Bool("v")}
	if err := format.Render(e.stdout, run, o); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

// traces are the values of --trace.
var traces = []string{"auto", "on", "off", "tracefs"}

// tracer opens the kernel's trace if it is wanted. "auto" does without it where this kernel or this user cannot have it, and
// where it is not worth it: for more than one scenario, if it can only be of the whole host.
func tracer(want string, one bool) (*trace.Tracer, error) {
	if want == "off" {
		return nil, nil
	}
	// Its programs and maps hold some forty descriptors.
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); want == "auto" && err == nil && files.Cur < 256 {
		return nil, nil
	}
	t, err := trace.OpenWith(trace.Options{Tracefs: want == "tracefs"})
	if errors.Is(err, kernel.ErrNotSupported) && want == "auto" {
		return nil, nil
	}
	if err == nil && !worthIt(want, t.HostWide, one) {
		return nil, t.Close()
	}
	return t, err
}

// worthIt tells whether a trace is wanted at the price of playing cells one at a time, if it is of the whole host.
func worthIt(want string, hostWide, one bool) bool { return want != "auto" || !hostWide || one }

func lookupFormat(c *cli.Context) (reports.Format, error) {
	f, err := reports.Lookup(c.String("format"))
	if err != nil {
		return f, &usageError{"--format: " + err.Error(), c.Command.HelpName + " --help"}
	}
	return f, nil
}

func validDrop(backend string) error {
	for _, b := range netns.DropBackends {
		if b == backend {
			return nil
		}
	}
	return &usageError{
		fmt.Sprintf("--drop: no backend %q: want one of %s", backend, strings.Join(netns.DropBackends, ", ")),
		"rpmig run quiz2 --drop=nftables",
	}
}

// elsewhere runs rpmig again in a user namespace when this user has no right to make network namespaces. It tells
// whether that was done; if not, go on here.
func elsewhere() (status int, done bool, err error) {
	err = netns.Probe()
	var refused *netns.UnshareError
	switch {
	case err == nil:
		return 0, false, nil
	case !errors.As(err, &refused) || !refused.NotAllowed() || netns.InUserNS():
		return 0, true, err
	}
	status, err = netns.Reexec()
	return status, true, err
}

// interruptedError says that a signal ended the run.
type interruptedError struct{ played, of int }

func (e *interruptedError) Error() string {
	if e.of == 0 {
		return fmt.Sprintf("interrupted after %d cells", e.played)
	}
	return fmt.Sprintf("interrupted: %d of %d cells were played", e.played, e.of)
}
