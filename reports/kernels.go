package reports

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rpmig/rpmig/result"
)

// kernelRun is a run among several, each in a kernel of its own.
type kernelRun struct {
	*result.Run
	name string  // unique among them
	o    Options // Dir is its own folder
}

// Render writes a run, or several, each in a kernel of its own, as one report. It fails only where there is no run, and where w or the
// encoding of a run fails.
func (f Format) Render(w io.Writer, runs []*result.Run, o Options) error {
	all := kernelRuns(runs, o)
	switch {
	case len(all) == 0:
		return errors.New("no run to report on")
	case len(all) > 1:
		return f.all(w, all, o)
	case o.Names == nil: // o.Dir is its own folder
		return f.one(w, runs[0], o)
	default:
		return f.one(w, all[0].Run, all[0].o)
	}
}

// kernelRuns gives each run its name: that of Options.Names, or of its guest, or its kernel's release. A name that
// another run has is told apart by its number.
func kernelRuns(runs []*result.Run, o Options) []*kernelRun {
	var all []*kernelRun
	taken := map[string]bool{}
	for i, run := range runs {
		name := run.Header.Kernel
		switch {
		case i < len(o.Names):
			name = o.Names[i]
		case run.Header.Guest != nil:
			name = cmp.Or(run.Header.Guest.Name, name)
		}
		k := &kernelRun{run, unique(cmp.Or(name, "unknown"), taken), o}
		k.o.Names, k.o.Dir = nil, ""
		if o.Dir != "" && filepath.IsLocal(name) { // a ledger may come from a stranger
			k.o.Dir = filepath.Join(o.Dir, name)
		}
		all = append(all, k)
	}
	return all
}

// runsOf are the runs without what is known of each besides.
func runsOf(all []*kernelRun) []*result.Run {
	var runs []*result.Run
	for _, k := range all {
		runs = append(runs, k.Run)
	}
	return runs
}

// modesOf is the header of the first run that lists its modes: a guest that did not come up has none.
func modesOf(all []*kernelRun) *result.Header {
	for _, k := range all {
		if len(k.Header.Modes) > 0 {
			return &k.Header
		}
	}
	return &all[0].Header
}

// versions are those of rpmig that made the runs, one mostly.
func versions(all []*kernelRun) string {
	var said []string
	for _, k := range all {
		if !slices.Contains(said, k.Header.Version) {
			said = append(said, k.Header.Version)
		}
	}
	return strings.Join(said, " and ")
}

// onKernels is "rpmig 0.1.0 on 3 kernels".
func onKernels(all []*kernelRun) string {
	return printable(fmt.Sprintf("rpmig %s on %s", versions(all), result.Plural(len(all), "kernel", "kernels")))
}

// onKernel is "rpmig 0.1.0 on Linux 6.18.5 x86_64".
func onKernel(h *result.Header) string {
	return strings.TrimRight(printable(fmt.Sprintf("rpmig %s on Linux %s %s", h.Version, h.Release(), h.Machine)), " ")
}

// virtualTime is what to say of a guest whose clock is that of the instructions it runs.
const virtualTime = "virtual, counted in the guest's instructions: no figure of a machine"

// imageFact is the name of a fact: the sum of the kernel's image.
const imageFact = "image SHA-256"

// fact is something that is known of a run besides its cells.
type fact struct{ Name, Value string }

// guestFacts are what is known of the guest in which a run was played; nil: it was on the machine's own kernel.
func guestFacts(g *result.Guest) []fact {
	if g == nil {
		return nil
	}
	facts := []fact{{"guest", fmt.Sprintf("%s, %s, %d MiB, %s", g.Emulator, g.Accelerator, g.Memory, result.Plural(g.CPUs, "CPU", "CPUs"))}}
	add := func(name, value string) {
		if value != "" {
			facts = append(facts, fact{name, printable(value)})
		}
	}
	facts[0].Value = printable(facts[0].Value)
	add("kernel from", g.From)
	add(imageFact, g.Image)
	add("config", g.Config)
	if g.Virtual {
		add("time", virtualTime)
	}
	return facts
}

// notWhole says why a run is not whole; "" of one that is.
func notWhole(run *result.Run) string {
	said := ""
	if run.Ending != nil {
		said = run.Ending.Why
	}
	if n := run.Missing(); n > 0 {
		if said != "" {
			said += "; "
		}
		said += fmt.Sprintf("%d planned cells were not played", n)
	}
	return said
}
