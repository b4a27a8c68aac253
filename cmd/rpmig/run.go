//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/reports"
)

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
				return e.whichScenarios()
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

// whichScenarios asks for one, and says how many there are of each section.
func (e *env) whichScenarios() error {
	ask := &choiceError{usageError: usageError{"run: which scenario?", "rpmig run all, or rpmig run 'quiz*'; rpmig list names them:"}}
	for _, section := range lab.Sections() {
		if n := len(e.ofSection(section)); n > 0 {
			ask.of = append(ask.of, fmt.Sprintf("%4d  %s", n, section))
		}
	}
	return ask
}

// severalScenarios refuses further arguments. If all of them are scenarios, it tells how to ask for several.
func (e *env) severalScenarios(c *cli.Context, args []string) error {
	list := strings.Join(args, ",")
	if _, err := harness.Select(e.scenarios, list); err != nil || list == "all" {
		return noArgs(c)
	}
	return &usageError{fmt.Sprintf("run: several scenarios are a comma list, not %q", strings.Join(args, " ")), "rpmig run " + quote(list)}
}

func runFlags(family string) []cli.Flag {
	return slices.Concat([]cli.Flag{
		&cli.StringFlag{Name: "migrate", Value: "off,sysctl,bpf", Usage: "ask for migration in these `MODES`: a comma list of " + strings.Join(migrate.Names(), ", ") + "; or all"},
		&cli.StringFlag{Name: "family", Value: family, Usage: "address `FAMILIES`: a comma list of " + strings.Join(lab.FamilyNames(), ", ") + "; or all"},
		&cli.IntFlag{Name: "connections", Aliases: []string{"n"}, DefaultText: "as the scenario says", Usage: "stage `N` connections at once"},
		&cli.IntFlag{Name: "port", Value: 80, Usage: "the listeners' `PORT`, inside the namespace"},
		&cli.StringFlag{Name: "drop", Value: "auto", Usage: "drop the ACK with `BACKEND`: " + strings.Join(netns.DropBackends, ", ") + "; auto is iptables where it works, but nftables for many scenarios and for repeats after the first"},
		&cli.StringFlag{Name: "trace", Value: "auto", Usage: "record by `HOW` why the kernel resets and drops, and the socket tables: " + strings.Join(traces, ", ") + "; auto leaves it out under --repeat, but for a --bundle; tracefs does without BPF, one cell at a time, and auto has it for one scenario where BPF cannot be had"},
		boolFlag("no-control", "", "do not play the off cell beside other modes"),
		&cli.IntFlag{Name: "repeat", Value: 1, Usage: "play each cell `N` times"},
		boolFlag("until-fail", "", "stop at the first FAIL or ERROR; without --repeat, go on until there is one"),
		&cli.IntFlag{Name: "parallel", DefaultText: "as suits the machine", Usage: "play `N` cells side by side"},
		boolFlag("real-timers", "", "play with the talk's tcp_synack_retries=5, which takes a minute"),
		boolFlag("strict", "", "make what a known kernel bug explains a FAIL, not an XFAIL"),
		boolFlag("bisect", "", "end with what git bisect run wants: 0 good, 1 bad, 125 no verdict, 128 rpmig cannot run"),
		boolFlag("no-confirm", "", "play each cell once, neither a FAIL nor a measurement that was void again: for those who count how often one comes"),
		&cli.PathFlag{Name: "baseline", Usage: "let only what differs from `FILE` make the run fail: what rpmig baseline or an earlier run wrote"},
		alphaFlag(),
		&cli.StringFlag{Name: "shard", Usage: "play part `I/N` of the plan, for rpmig merge; auto takes both numbers from GitLab or Buildkite, auto/N takes I from Kubernetes"},
		&cli.Float64Flag{Name: "timeout-mul", Value: 1, Usage: "stretch every deadline by `X`, for slow machines"},
		formatFlag(),
		&cli.PathFlag{Name: "out", Usage: "write run.jsonl and every capture to `DIR`"},
		packetsFlag(),
		&cli.PathFlag{Name: "bundle", Usage: "put the run into one `FILE`.tar.gz, as rpmig bundle does"},
		boolFlag("force", "", "write over the FILE of --bundle"),
		verboseFlag(),
		boolFlag("quiet", "q", "say nothing but the summary and what went wrong"),
		noColorFlag(),
	}, kcidbOptions(), machineFlags())
}

func formatFlag() cli.Flag {
	return &cli.StringFlag{Name: "format", Value: "text", Usage: "print the report as `FORMAT`: " + strings.Join(formatNames(), ", ")}
}

func noColorFlag() cli.Flag { return boolFlag("no-color", "", "no colours; NO_COLOR does the same") }

func verboseFlag() cli.Flag {
	return boolFlag("verbose", "v", "tell the story of each cell, with its counters and checks")
}

// boolFlag is a switch. Its help does not say that it is off by default, which goes without saying.
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
