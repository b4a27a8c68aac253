//go:build linux

package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// interleave lets flags stand before or after the arguments of a command. The library stops reading flags at the first
// argument and would run with their defaults, so they are put in front of it here; the name of a subcommand stays first.
func interleave(app *cli.App, args []string) []string {
	if len(args) == 0 {
		return args
	}
	cmd := app.Command(args[0])
	// What the shell asks for completions ends in this flag, and must be seen as it was typed.
	if cmd == nil || args[len(args)-1] == "--generate-bash-completion" {
		return args
	}
	takesValue := map[string]bool{}
	for _, f := range cmd.Flags {
		_, isBool := f.(*cli.BoolFlag)
		for _, name := range f.Names() {
			takesValue[name] = !isBool
		}
	}
	var flags, rest []string
	for i := 1; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			rest = append(rest, args[i+1:]...)
			i = len(args)
		case len(arg) > 1 && arg[0] == '-':
			flags = append(flags, arg)
			if takesValue[strings.TrimLeft(arg, "-")] && i+1 < len(args) {
				i++
				flags = append(flags, args[i])
			}
		default:
			rest = append(rest, arg)
		}
	}
	out := args[:1:1]
	isSub := func(c *cli.Command) bool { return len(rest) > 0 && c.HasName(rest[0]) }
	if slices.ContainsFunc(cmd.Subcommands, isSub) {
		out, rest = append(out, rest[0]), rest[1:]
	}
	out = append(out, flags...)
	if len(rest) > 0 {
		// Nothing behind this is a flag or a subcommand.
		out = append(append(out, "--"), rest...)
	}
	return out
}
