//go:build linux

package main

import (
	"fmt"
	"regexp"
	"strings"
)

// programName is what texts call this program, whatever it was started as.
const programName = "rpmig"

// startedAs is the word by which a shell in the same folder starts rpmig again. What was found in PATH is found there again.
func startedAs(arg0 string) string {
	if !strings.Contains(arg0, "/") {
		return programName
	}
	return quote(arg0)
}

// asStarted makes commands of a text that is about to be printed such as can be pasted: rpmig is started as it was this time, and
// "rpmig …" is the same command again. Only what is printed for whoever has typed the command goes through here: data, pages and
// bundles are read elsewhere, and have rpmig. So have the words of a guest, which come through here on the host.
func (e *env) asStarted(text string) string {
	if e.home != nil || !strings.Contains(text, programName+" ") {
		return text
	}
	return e.ownCommand().ReplaceAllStringFunc(text, func(found string) string {
		before, rest, is := strings.Cut(found, programName)
		switch {
		case !is || strings.Contains(before, "'"): // a quoted word
			return found
		case rest == " …":
			return before + e.again()
		default:
			return before + e.name() + rest
		}
	})
}

// ownCommand finds commands of rpmig's in a text, and words in quotes, so that no name of a file is taken for one. It is made
// once, and not before it is needed.
func (e *env) ownCommand() *regexp.Regexp {
	if e.ownCommands != nil {
		return e.ownCommands
	}
	words := []string{"…", "--help", "COMMAND"}
	for _, c := range e.app().Commands {
		words = append(words, c.Name+`\b`)
	}
	e.ownCommands = regexp.MustCompile(`\B'[^']*'(?:\\''[^']*')*|(?:^|[\s(])` + programName + ` (?:` + strings.Join(words, "|") + `)`)
	return e.ownCommands
}

// again is the command line with which rpmig was started.
func (e *env) again() string {
	words := []string{e.name()}
	for _, a := range e.args {
		words = append(words, quote(a))
	}
	return strings.Join(words, " ")
}

// name is what a shell calls this rpmig.
func (e *env) name() string { return startedAs(e.arg0) }

// advise says on stderr what to type next.
func (e *env) advise(format string, args ...any) {
	fmt.Fprintf(e.stderr, "rpmig: %s\n", e.asStarted(fmt.Sprintf(format, args...)))
}
