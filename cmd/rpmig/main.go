//go:build linux

// Command rpmig plays the socket-migration scenarios of SO_REUSEPORT on the running kernel and proves what happened.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/scenarios"
	"github.com/rpmig/rpmig/vm"
	"github.com/rpmig/rpmig/worker"
)

// env is all that rpmig takes from the outside.
type env struct {
	arg0           string   // by what name it was started; empty: rpmig
	args           []string // without the program's name
	stdout, stderr io.Writer
	colorOut       bool       // stdout is a terminal that shows colours
	ascii          bool       // the locale has no more
	widthOut       int        // columns of the terminal that stdout is; 0: it is no terminal
	personErr      bool       // stderr is a terminal
	liveErr        func() int // its columns, now; nil: it cannot be drawn on
	scenarios      []lab.Scenario
	unwritten      error               // why help could not be written
	getenv         func(string) string // an environment variable; nil: there are none
	second         context.Context     // ends when rpmig is asked to end for the second time; nil: it never is
	home           *vm.Home            // of a run in a guest; nil: it is none
	homeKeeps      bool                // the evidence of every cell is kept there
	ownCommands    *regexp.Regexp      // see ownCommand
}

func main() {
	worker.RunIfWorker()
	vm.RunIfGuest()
	// Memory is plenty and processors are few.
	debug.SetGCPercent(800)
	first, second := untilSignal()
	e := env{
		args: os.Args[min(1, len(os.Args)):], stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv, scenarios: scenarios.All(),
		widthOut: columns(os.Stdout), ascii: asciiLocale(os.Getenv), second: second, home: vm.HomeOfRun(), homeKeeps: os.Getenv(keepVariable) != "",
	}
	if len(os.Args) > 0 { // else it was started with no argument at all
		e.arg0 = os.Args[0]
	}
	e.stderr = e.plain(e.stderr)
	dumb := os.Getenv("TERM") == "dumb"
	e.colorOut = e.widthOut > 0 && !dumb && os.Getenv("NO_COLOR") == "" // https://no-color.org
	e.personErr = columns(os.Stderr) > 0
	if !dumb && e.personErr {
		e.liveErr = func() int { return columns(os.Stderr) }
	}
	os.Exit(run(first, e))
}

// columns is the width of the terminal that a file is; 0 if it is no terminal.
func columns(f *os.File) int {
	width, _, err := term.GetSize(int(f.Fd()))
	switch {
	case err != nil:
		return 0
	case width == 0:
		return helpWidth // a serial console does not know
	default:
		return width
	}
}

// run is rpmig without its process: it returns the exit status.
func run(ctx context.Context, e env) int {
	if err := lab.Validate(e.scenarios); err != nil {
		return e.fail(err)
	}
	// The library has one printer for the process: an app and its commands can only have templates of their own, which
	// cannot wrap lines.
	cli.HelpPrinter = func(w io.Writer, _ string, about any) {
		if err := unlessEnded(ctx, func() error { return e.printHelp(w, about) }); err != nil { // the library leaves no way to tell
			e.unwritten = fmt.Errorf("write the help: %w", err)
		}
	}
	app := e.app()
	bisects := asksBisect(e.args)
	if bisects {
		// A crash is then SIGABRT's 134, with which git bisect ends: Go's own status, 2, would say that the kernel is bad.
		debug.SetTraceback("crash")
	}
	if len(e.args) > 0 && e.args[0] == completeCommand {
		return e.fail(e.complete(app, e.args[1:]))
	}
	err := app.RunContext(ctx, append([]string{app.Name}, interleave(app, e.args)...))
	err = cmp.Or(err, e.unwritten)
	if err != nil && bisects && !errors.As(err, new(exitStatus)) && !errors.As(err, new(*bisectError)) {
		err = &bisectError{err, bisectAbort}
	}
	return e.fail(err)
}

// fail says what went wrong and what to do next, and returns the exit status that goes with it.
func (e *env) fail(err error) int {
	var status exitStatus
	switch {
	case err == nil:
		return result.ExitOK
	case errors.As(err, &status):
		return int(status)
	}
	fmt.Fprintf(e.stderr, "rpmig: error: %s\n", oneLine(err))
	if hint := hintOf(err); hint != "" {
		e.advise("hint: %s", printable(hint))
	}
	var choice *choiceError
	if errors.As(err, &choice) {
		for _, line := range choice.of {
			fmt.Fprintf(e.stderr, "rpmig: %s\n", printable(line))
		}
	}
	var bisect *bisectError
	if errors.As(err, &bisect) {
		return bisect.status
	}
	var usage *usageError
	var named interface{ Usage() bool }
	if errors.As(err, &usage) || errors.As(err, &named) && named.Usage() {
		return result.ExitUsage
	}
	return result.ExitSoftware
}

// hintOf is what to do next: what an error itself knows of, or else what goes with what the kernel has said.
func hintOf(err error) string {
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) && hinted.Hint() != "" {
		return hinted.Hint()
	}
	var path *fs.PathError
	switch {
	case errors.As(err, &path) && errors.Is(path, fs.ErrPermission):
		hint := "who may: ls -ld " + quote(path.Path)
		if os.Geteuid() != 0 || netns.InUserNS() {
			hint += "; as root: sudo rpmig …"
		}
		return hint
	case errors.Is(err, unix.ENOSPC) && path != nil && path.Path == os.TempDir(): // it is the name of a file that has none
		return "the disk is full: set TMPDIR to another folder"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return "the disk is full: df -h"
	default:
		return ""
	}
}

// exitStatus ends rpmig with a status, without another word.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// usageError says what is wrong with the command line.
type usageError struct{ what, hint string }

func (e *usageError) Error() string { return e.what }

func (e *usageError) Hint() string { return e.hint }

// choiceError is a usageError with what there is to choose from, in a line each.
type choiceError struct {
	usageError
	of []string
}

func (e *choiceError) Unwrap() error { return &e.usageError }

// hintedError is an error with what to do next.
type hintedError struct {
	error
	hint string
}

func (e *hintedError) Unwrap() error { return e.error }

func (e *hintedError) Hint() string { return e.hint }

// printable escapes what does not show, so that a text from outside can neither drive the terminal nor begin a line.
func printable(s string) string { return result.Printable(s) }

// oneLine is what an error says, in a line. Errors that were joined are told one after another; any other newline is of a name.
func oneLine(err error) string {
	said := err.Error()
	var unjoin func(error)
	unjoin = func(err error) {
		if one := errors.Unwrap(err); one != nil {
			unjoin(one)
		}
		several, ok := err.(interface{ Unwrap() []error })
		if !ok {
			return
		}
		var parts []string
		for _, part := range several.Unwrap() {
			parts = append(parts, part.Error())
		}
		if err.Error() == strings.Join(parts, "\n") {
			said = strings.Replace(said, err.Error(), strings.Join(parts, "; "), 1)
		}
		for _, part := range several.Unwrap() {
			unjoin(part)
		}
	}
	unjoin(err)
	return printable(said)
}

// asJSON prints a value for programs.
func (e *env) asJSON(ctx context.Context, v any) error {
	text, err := result.JSON(v, "  ")
	if err != nil {
		return err
	}
	return printTo(ctx, e.stdout, string(text))
}

// printTo prints a text, unless nobody reads it until a signal comes.
func printTo(ctx context.Context, w io.Writer, text string) error {
	return unlessEnded(ctx, func() error {
		_, err := io.WriteString(w, text)
		return err
	})
}

// printing are the commands that do nothing but print, and have nothing to take back: who reads it may have stopped.
var printing = []string{"list", "explain", "docs", "completion", "man", "version"}

func (e *env) app() *cli.App {
	app := &cli.App{
		Name:      "rpmig",
		Usage:     "play TCP SO_REUSEPORT migration on this kernel, and prove it",
		UsageText: "rpmig COMMAND [options]",
		Description: "When a listener closes, the connections in its accept queue (quiz1) and those\n" +
			"still in the handshake (quiz2) die with it, though others listen on the port.\n" +
			"Linux 5.14 can migrate them. rpmig shows both, with a capture for each verdict.\n\n" +
			"Begin with: rpmig run all",
		Commands: []*cli.Command{
			e.runCommand(), e.reloadCommand(), e.reportCommand(), e.compareCommand(), e.baselineCommand(), e.mergeCommand(), e.bundleCommand(),
			e.listCommand(), e.explainCommand(), e.doctorCommand(), e.kernelsCommand(), e.docsCommand(),
			e.completionCommand(), e.manCommand(), e.versionCommand(),
		},
		HideHelpCommand: true,
		HideVersion:     true,
		// A command for the shell may have commas in it.
		DisableSliceFlagSeparator: true,
		Writer:                    e.stdout,
		ErrWriter:                 e.stderr,
		ExitErrHandler:            func(*cli.Context, error) {}, // run maps errors itself
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return e.noCommand(c.App, c.Args().First())
			}
			return cli.ShowAppHelp(c)
		},
	}
	app.OnUsageError = badUsage
	for _, c := range app.Commands {
		if slices.Contains(printing, c.Name) {
			for _, c := range append(c.Subcommands, c) {
				action := c.Action
				c.Action = func(c *cli.Context) error {
					return unlessEnded(c.Context, func() error { return action(c) })
				}
			}
		}
		c.OnUsageError = badUsage
		c.HideHelpCommand = true
		for _, sub := range c.Subcommands {
			sub.OnUsageError = badUsage
			sub.HideHelpCommand = true
		}
	}
	return app
}

// noArgs refuses what is left over on the command line.
func noArgs(c *cli.Context) error {
	if c.Args().Present() {
		return &usageError{
			fmt.Sprintf("%s: unexpected argument %q", c.Command.HelpName, c.Args().First()),
			c.Command.HelpName + " --help",
		}
	}
	return nil
}
