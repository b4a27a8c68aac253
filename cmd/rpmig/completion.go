//go:build linux

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/netns"
)

// completeCommand is what the shells' scripts call, with the words of the command line up to the one being typed.
const completeCommand = "__complete"

var completionScripts = []struct{ shell, script string }{
	{"bash", `# source <(rpmig completion bash)
_rpmig() {
	local line=${COMP_LINE:0:COMP_POINT} words
	read -ra words <<<"$line"
	[[ $line == *[[:space:]] ]] && words+=("")
	mapfile -t COMPREPLY < <("${words[0]}" __complete "${words[@]:1}" 2>/dev/null)
	local cur=${words[-1]}
	# What readline replaces begins behind the "=".
	[[ $cur == --*=* ]] && COMPREPLY=("${COMPREPLY[@]#"${cur%%=*}="}")
	return 0
}
complete -o default -F _rpmig rpmig
`},
	{"zsh", `#compdef rpmig
# source <(rpmig completion zsh)
_rpmig() {
	local -a fit
	fit=(${(f)"$("${words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)"})
	(( $#fit )) && compadd -- $fit || _files
}
if [[ $funcstack[1] == _rpmig ]]; then _rpmig; else compdef _rpmig rpmig; fi
`},
	{"fish", `# rpmig completion fish | source
complete -c rpmig -a '(rpmig __complete (commandline -opc)[2..-1] (commandline -ct))'
`},
}

func (e *env) completionCommand() *cli.Command {
	cmd := &cli.Command{
		Name:      "completion",
		Usage:     "print the completion script of a shell",
		UsageText: "rpmig completion bash|zsh|fish",
		Action: func(c *cli.Context) error {
			return &usageError{"completion: want bash, zsh or fish", "rpmig completion bash"}
		},
	}
	for _, s := range completionScripts {
		cmd.Subcommands = append(cmd.Subcommands, &cli.Command{
			Name: s.shell, Usage: "for " + s.shell,
			Action: func(c *cli.Context) error {
				if err := noArgs(c); err != nil {
					return err
				}
				_, err := fmt.Fprint(e.stdout, s.script)
				return err
			},
		})
	}
	return cmd
}

// complete prints what may stand in the place of the last word, one a line. The library's own answer looks at os.Args,
// and knows no values.
func (e *env) complete(app *cli.App, words []string) error {
	if len(words) == 0 {
		words = []string{""}
	}
	before, cur := words[:len(words)-1], words[len(words)-1]
	cmd := &cli.Command{Subcommands: app.Commands}
	option := "" // whose value is being typed
	for _, w := range before {
		switch sub := subcommand(cmd, w); {
		case option != "":
			option = ""
		case takesValue(cmd, w):
			option = strings.TrimLeft(w, "-")
		case sub != nil:
			cmd = sub
		}
	}
	var fit []string
	lead := ""
	if name, value, ok := strings.Cut(cur, "="); ok && isFlag(name) {
		option, lead, cur = strings.TrimLeft(name, "-"), name+"=", value
	}
	switch {
	case option != "":
		fit = optionValues(cmd.Name, option)
		if i := strings.LastIndexByte(cur, ','); i >= 0 { // of a list
			lead, cur = lead+cur[:i+1], cur[i+1:]
		}
	case strings.HasPrefix(cur, "-"):
		fit = append(fit, "--help")
		for _, f := range cmd.VisibleFlags() {
			fit = append(fit, dashed(f.Names()[0]))
		}
	default:
		for _, sub := range cmd.Subcommands {
			fit = append(fit, sub.Name)
		}
	}
	slices.Sort(fit)
	for _, word := range fit {
		if strings.HasPrefix(word, cur) {
			if _, err := fmt.Fprintln(e.stdout, lead+word); err != nil {
				return err
			}
		}
	}
	return nil
}

// optionValues are the words that an option of a command takes; none for one that takes anything.
func optionValues(command, option string) []string {
	switch option {
	case "migrate":
		return append(migrate.Names(), "all")
	case "family":
		names := []string{"all"}
		for _, f := range lab.Families() {
			names = append(names, f.Name)
		}
		return names
	case "format":
		if command == "compare" {
			return compareFormats()
		}
		return formatNames()
	case "drop":
		return slices.Clone(netns.DropBackends)
	case "fetch", "kernel":
		return []string{"host"}
	case "accel":
		return slices.Clone(accels)
	case "time":
		return slices.Clone(times)
	case "trace":
		return slices.Clone(traces)
	case "packets":
		return slices.Clone(packetChoices)
	default:
		return nil
	}
}
