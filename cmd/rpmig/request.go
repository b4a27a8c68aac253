//go:build linux

package main

import (
	"fmt"
	"math"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/rpmig/rpmig/compare"
	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/reports"
	"github.com/rpmig/rpmig/result"
)

// maxConnections is far below the number of ephemeral ports, which is what a client's address has.
const maxConnections = 10000

// traces are the values of --trace.
var traces = []string{"auto", "on", "off", "tracefs"}

// request is what a command line of rpmig run asks for.
type request struct {
	harness.Options
	selector string // of the scenarios, as it was typed
	kernel   string // as uname -r
	machine  string // as uname -m
	format   reports.Format
	drop     string          // --drop
	trace    string          // --trace, or "off" where "auto" leaves the trace out
	baseline []*compare.Side // --baseline, by kernel if there are several; nil: there is none
	played   []*result.Run   // what was played, once it was
	relayed  bool            // the run is that of another rpmig, which has ended with its status
	noTrace  error           // why "auto" does without it; it is known once the tracer has been waited for
}

// request reads the command line. Nothing that is wrong becomes a default.
func (e *env) request(c *cli.Context, selector string) (*request, error) {
	mul, slow := e.slowMachine(c)
	r := &request{
		Options: harness.Options{
			Settings: lab.Settings{
				Port:       uint16(c.Int("port")),
				TimeoutMul: mul,
				Slow:       slow,
				RealTimers: c.Bool("real-timers"),
				Strict:     c.Bool("strict"),
				Started:    time.Now(),
			},
			NoControl:   c.Bool("no-control"),
			NoConfirm:   c.Bool("no-confirm"),
			Repeat:      c.Int("repeat"),
			UntilFail:   c.Bool("until-fail"),
			Parallel:    c.Int("parallel"),
			Connections: c.Int("connections"),
		},
		selector: selector,
		drop:     c.String("drop"),
		trace:    c.String("trace"),
	}
	if r.UntilFail && !c.IsSet("repeat") {
		r.Repeat = 0
	}
	if r.trace == "auto" && r.Repeat != 1 && !c.IsSet("bundle") {
		r.trace = "off" // it would take a tenth of the time, and tell the same again
	}
	var err error
	if err = r.choose(c, e.scenarios); err != nil {
		return nil, err
	}
	for _, check := range []func(*cli.Context) error{checkNumbers, checkWords, checkFiles, checkMachine, checkAlpha} {
		if err := check(c); err != nil {
			return nil, err
		}
	}
	if r.format, err = lookupFormat(c); err != nil {
		return nil, err
	}
	if _, err := e.kcidb(c, r.format); err != nil {
		return nil, err
	}
	if c.IsSet("shard") {
		if r.Shard, err = parseShard(c.String("shard"), e.lookupEnv); err != nil {
			return nil, err
		}
	}
	if r.baseline, err = openBaseline(c); err != nil {
		return nil, err
	}
	switch {
	case c.IsSet("out") || c.IsSet("bundle") || e.homeKeeps:
		r.Detail = lab.EvidenceDetail
	case r.format.Story || c.Bool("v"):
		r.Detail = lab.StoryDetail
	}
	r.Upstream = kernel.Upstream()
	r.kernel, r.machine, err = uname()
	return r, err
}

// choose finds the scenarios, modes and families.
func (r *request) choose(c *cli.Context, all []lab.Scenario) (err error) {
	if r.Scenarios, err = selectScenarios(all, r.selector); err != nil {
		return err
	}
	if r.Modes, err = migrate.Parse(c.String("migrate")); err != nil {
		return &usageError{"--migrate: " + err.Error(), didYouMean(c.String("migrate"), append(migrate.Names(), "all")) + "rpmig list"}
	}
	if r.Families, err = lab.ParseFamilies(c.String("family")); err != nil {
		return &usageError{"--family: " + err.Error(), didYouMean(c.String("family"), append(lab.FamilyNames(), "all")) + "rpmig list"}
	}
	return nil
}

// checkNumbers refuses numbers that are out of range.
func checkNumbers(c *cli.Context) error {
	help := c.Command.HelpName + " --help"
	for _, f := range []struct {
		name     string
		min, max int
	}{{"connections", 1, maxConnections}, {"port", 1, math.MaxUint16}, {"repeat", 1, math.MaxInt32}, {"parallel", 1, 4096}} {
		if n := c.Int(f.name); c.IsSet(f.name) && (n < f.min || n > f.max) {
			return &usageError{fmt.Sprintf("--%s: %d is not between %d and %d", f.name, n, f.min, f.max), help}
		}
	}
	if x := c.Float64("timeout-mul"); !(x >= 0.01 && x <= 1000) { // NaN is neither
		return &usageError{fmt.Sprintf("--timeout-mul: %v is not between 0.01 and 1000", x), help}
	}
	return nil
}

// checkWords refuses words that mean nothing, and those that contradict each other.
func checkWords(c *cli.Context) error {
	for _, err := range []error{
		notOneOf(c, "trace", traces, c.Command.HelpName+" --trace=off"), notOneOf(c, "drop", netns.DropBackends, "rpmig run quiz2 --drop=nftables"),
		checkPackets(c),
	} {
		if err != nil {
			return err
		}
	}
	if c.Bool("until-fail") && c.IsSet("shard") {
		return &usageError{"--shard and --until-fail contradict each other: a run without an end has no parts", c.Command.HelpName + " --help"}
	}
	if c.Bool("bisect") && c.IsSet("baseline") {
		return &usageError{"--bisect and --baseline contradict each other: git bisect asks what a kernel does, whatever is known of it", c.Command.HelpName + " --help"}
	}
	if c.Bool("q") && c.Bool("v") {
		return &usageError{"-q and -v contradict each other", c.Command.HelpName + " --help"}
	}
	return nil
}

// checkFiles refuses a folder or file to which the run could not be written.
func checkFiles(c *cli.Context) error {
	switch {
	case c.IsSet("out") && c.Path("out") == "":
		return &usageError{"--out: which folder?", c.Command.HelpName + " --help"}
	case c.IsSet("out") && ownOut("--out", c.Path("out")) != nil:
		return ownOut("--out", c.Path("out"))
	case c.IsSet("force") && !c.IsSet("bundle"):
		return &usageError{"--force: to write over which bundle?", c.Command.HelpName + " --bundle FILE.tar.gz --force"}
	case c.IsSet("bundle") && c.Path("bundle") == "":
		return &usageError{"--bundle: which file?", c.Command.HelpName + " --help"}
	case c.IsSet("bundle"):
		return freeForBundle(c.Path("bundle"), c.Bool("force"), "add --force to the same command")
	default:
		return nil
	}
}
