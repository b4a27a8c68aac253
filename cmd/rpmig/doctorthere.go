//go:build linux

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
	"golang.org/x/sync/errgroup"

	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/vm"
)

// asked is a kernel, and what it answers the doctor.
type asked struct {
	Kernel string    `json:"kernel"`
	Checks []checked `json:"checks"`
}

// askThere asks the doctor's questions in each kernel that the command line names.
func (e *env) askThere(c *cli.Context) error {
	g, err := e.findGuests(c)
	if err != nil {
		return err
	}
	all := make([]asked, len(g.kernels))
	asking, ctx := errgroup.WithContext(c.Context)
	asking.SetLimit(g.sideBySide())
	for i, k := range g.kernels {
		asking.Go(func() (err error) {
			all[i], err = g.ask(ctx, k)
			return err
		})
	}
	if err := asking.Wait(); err != nil {
		if c.Err() != nil {
			return &interruptedError{}
		}
		return err
	}
	if err := e.tellAll(c.Context, all, c.Bool("json"), e.colorOut && !c.Bool("no-color")); err != nil {
		return fmt.Errorf("write the answers: %w", err)
	}
	for _, a := range all {
		err = cmp.Or(err, allNeeded(a.Checks))
	}
	return err
}

// answers is the vm.Sink of a doctor in a guest.
type answers struct {
	vm.Deaf
	out, words strings.Builder
}

func (a *answers) Output(stderr bool, text []byte) error {
	if stderr {
		a.words.Write(text)
	} else {
		a.out.Write(text)
	}
	return nil
}

func (g *guests) ask(ctx context.Context, k *vm.Kernel) (asked, error) {
	said := asked{Kernel: k.Name}
	guest, err := g.guest(k, vm.Order{Args: []string{"doctor", "--json"}})
	if err != nil {
		return said, err
	}
	var a answers
	ended, err := vm.Run(ctx, guest, &a)
	switch {
	case err != nil:
		return said, err
	case ended.Why != "":
		return said, &hintedError{fmt.Errorf("%s: %s%s", k.Name, ended.Why, lastWords(ended.Last)), ended.Hint}
	case ended.Status != result.ExitOK && ended.Status != result.ExitFail:
		return said, fmt.Errorf("%s: the doctor in the guest ended with status %d: %s", k.Name, ended.Status, strings.TrimSpace(a.words.String()))
	}
	if err := json.Unmarshal([]byte(a.out.String()), &said.Checks); err != nil {
		return said, fmt.Errorf("%s: read the doctor's answers: %w", k.Name, err)
	}
	return said, nil
}

// lastWords are the last lines of a console, below what is said of it.
func lastWords(console []string) string {
	const few = 5
	if len(console) == 0 {
		return ""
	}
	return "; its console said last:\n  " + strings.Join(console[max(0, len(console)-few):], "\n  ")
}

// tellAll prints the answers of each kernel. Those of one are printed as without --kernel.
func (e *env) tellAll(ctx context.Context, all []asked, asJSON, color bool) error {
	if len(all) == 1 {
		return e.tell(ctx, all[0].Checks, asJSON, color)
	}
	if asJSON {
		return e.asJSON(ctx, all)
	}
	var each []string
	for _, a := range all {
		each = append(each, a.Kernel+"\n"+e.checksText(a.Checks, color))
	}
	return printTo(ctx, e.textOut(), strings.Join(each, "\n"))
}
