//go:build linux

package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
)

// interleave lets flags stand before or after a command and its arguments. The library stops reading flags at the first
// argument and would run with their defaults, so they are put in front of it here; the name of a subcommand stays first.
// "help X" is "X --help", and the help of what is no subcommand, such as a pattern of scenarios, is the command's.
func interleave(app *cli.App, args []string) []string {
	switch {
	case len(args) == 0:
		return args
	case args[0] == "help":
		args = append(slices.Clone(args[1:]), "--help")
	case args[0] == "--version":
		return append([]string{"version"}, args[1:]...)
	}
	at := slices.IndexFunc(args, func(a string) bool { return app.Command(a) != nil || !isFlag(a) })
	if at < 0 || app.Command(args[at]) == nil {
		return args
	}
	cmd := app.Command(args[at])
	var flags, rest []string
	help, lacking := false, false // lacking: a flag has no value, and what follows it is not to become one
	args = slices.Concat(args[:at], args[at+1:])
	for i := 0; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			rest = append(rest, args[i+1:]...)
			i = len(args)
		case isFlag(arg):
			flags = append(flags, arg)
			help = help || slices.Contains(cli.HelpFlag.Names(), strings.TrimLeft(arg, "-"))
			if takesValue(cmd, arg) {
				// The name of an option is no file's: who has one may say ./-q.
				if i++; i >= len(args) || args[i] == "--" || isPath(cmd, strings.TrimLeft(arg, "-")) && isOption(cmd, args[i]) {
					lacking, i = true, len(args)
				} else {
					flags = append(flags, args[i])
				}
			}
		case cmd.Name == reloadName: // the rest is another command
			rest = append(rest, args[i:]...)
			i = len(args)
		default:
			rest = append(rest, arg)
		}
	}
	out := []string{cmd.Name}
	if len(rest) > 0 && subcommand(cmd, rest[0]) != nil {
		out, rest = append(out, rest[0]), rest[1:]
	} else if help {
		rest = nil
	}
	out = append(out, flags...)
	if len(rest) > 0 && !lacking {
		// Nothing behind this is a flag or a subcommand.
		out = append(append(out, "--"), rest...)
	}
	return out
}

func isFlag(arg string) bool { return len(arg) > 1 && arg[0] == '-' }

func subcommand(cmd *cli.Command, name string) *cli.Command {
	for _, sub := range cmd.Subcommands {
		if sub.HasName(name) {
			return sub
		}
	}
	return nil
}

// takesValue tells whether the argument is a flag of the command whose value is the argument behind it.
func takesValue(cmd *cli.Command, arg string) bool {
	for _, f := range cmd.Flags {
		if slices.Contains(f.Names(), strings.TrimLeft(arg, "-")) {
			_, isBool := f.(*cli.BoolFlag)
			return !isBool
		}
	}
	return false
}

// isOption tells whether the argument is an option of the command, with a value or without.
func isOption(cmd *cli.Command, arg string) bool {
	name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	return isFlag(arg) && slices.ContainsFunc(cmd.Flags, func(f cli.Flag) bool { return slices.Contains(f.Names(), name) })
}

var noOption = regexp.MustCompile(`^flag provided but not defined: -(.*)$`)

// libraryWords are what package flag says of a bad command line, and what rpmig says.
var libraryWords = []struct {
	pattern *regexp.Regexp
	say     func(c *cli.Command, groups []string) string
}{
	{noOption, func(_ *cli.Command, g []string) string {
		return "there is no option " + dashed(g[1])
	}},
	{regexp.MustCompile(`^flag needs an argument: -(.*)$`), func(_ *cli.Command, g []string) string {
		return dashed(g[1]) + " wants a value"
	}},
	{regexp.MustCompile(`^invalid (boolean )?value (".*") for (?:flag )?-(\S+): (.*)$`), func(c *cli.Command, g []string) string {
		problem := "not " + wanted(c, g[3])
		switch {
		case g[1] != "":
			problem = "not true or false"
		case g[4] == "value out of range":
			problem = "too large"
		}
		return fmt.Sprintf("%s: %s is %s", dashed(g[3]), g[2], problem)
	}},
}

// wanted is what the value of an option has to be that is no word.
func wanted(c *cli.Command, option string) string {
	for _, f := range c.Flags {
		if !slices.Contains(f.Names(), option) {
			continue
		}
		switch f.(type) {
		case *cli.DurationFlag:
			return "a time such as 90s"
		case *cli.Uint64Flag:
			return "a number from 0 up"
		}
	}
	return "a number"
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

func badUsage(c *cli.Context, err error, _ bool) error {
	what, meant := err.Error(), ""
	for _, w := range libraryWords {
		groups := w.pattern.FindStringSubmatch(what)
		if groups == nil {
			continue
		}
		if what = w.say(c.Command, groups); w.pattern == noOption {
			meant = meantOption(c.Command, groups[1])
		}
	}
	return &usageError{what, meant + strings.TrimSpace(c.Command.HelpName) + " --help"}
}

// meantOption asks whether the option that is most like a name was meant; empty: none is like it.
func meantOption(c *cli.Command, name string) string {
	var long []string
	for _, f := range c.VisibleFlags() {
		long = append(long, dashed(f.Names()[0]))
	}
	return didYouMean(dashed(name), long)
}

// quote makes one word of a text in a shell.
func quote(text string) string {
	if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) || r == utf8.RuneError }) {
		return quoteControl(text)
	}
	if text != "" && !strings.ContainsFunc(text, func(r rune) bool {
		return !strings.ContainsRune("+,-./:=@_", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}) {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// quoteControl quotes a text with characters that a terminal would act on (bash(1), QUOTING; POSIX has it since 2024).
func quoteControl(text string) string {
	var b strings.Builder
	for len(text) > 0 {
		r, n := utf8.DecodeRuneInString(text)
		if unicode.IsPrint(r) && r != utf8.RuneError && r != '\'' && r != '\\' {
			b.WriteRune(r)
		} else {
			for _, c := range []byte(text[:n]) {
				fmt.Fprintf(&b, `\x%02x`, c)
			}
		}
		text = text[n:]
	}
	return "$'" + b.String() + "'"
}
