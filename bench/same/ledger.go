package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/rpmig/rpmig/result"
)

func compare(before, after string, rename *strings.Replacer) ([]string, error) {
	oldHeader, oldCells, err := readLedger(before, rename)
	if err != nil {
		return nil, err
	}
	newHeader, newCells, err := readLedger(after, strings.NewReplacer())
	if err != nil {
		return nil, err
	}
	gone, come := said{}, said{}
	split := func(place string, old, new map[string]bool) {
		for fact := range old {
			if !new[fact] {
				gone.add(fact, place)
			}
		}
		for fact := range new {
			if !old[fact] {
				come.add(fact, place)
			}
		}
	}
	split("header", headerFacts(oldHeader), headerFacts(newHeader))
	oldEvents, newEvents := map[string]bool{}, map[string]bool{}
	for id, was := range oldCells {
		is, ok := newCells[id]
		if !ok {
			gone.add("a cell", id)
			continue
		}
		deaf := was.Trace != nil && was.Trace.Lost > 0 || is.Trace != nil && is.Trace.Lost > 0
		split(id, was.facts(deaf), is.facts(deaf))
		was.events(oldEvents)
		is.events(newEvents)
	}
	split("the run", oldEvents, newEvents)
	for id := range newCells {
		if _, ok := oldCells[id]; !ok {
			come.add("a cell", id)
		}
	}
	oldFiles, err := files(before)
	if err != nil {
		return nil, err
	}
	newFiles, err := files(after)
	if err != nil {
		return nil, err
	}
	split("the folder", name(oldFiles), name(newFiles))
	return differences(gone, come), nil
}

func name(files map[string]bool) map[string]bool {
	named := map[string]bool{}
	for f := range files {
		named["file "+f] = true
	}
	return named
}

func readLedger(folder string, rename *strings.Replacer) (*result.Header, map[string]cell, error) {
	file := filepath.Join(folder, "run.jsonl")
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, err
	}
	run, err := result.Read(strings.NewReader(rename.Replace(string(text))))
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", file, err)
	}
	cells := map[string]cell{}
	for i := range run.Cells {
		cells[run.Cells[i].ID()] = cell{&run.Cells[i]}
	}
	return &run.Header, cells, nil
}

func headerFacts(h *result.Header) map[string]bool {
	return map[string]bool{
		fmt.Sprintf("kernel %s %s", h.Kernel, h.Machine): true,
		fmt.Sprintf("%d cells planned", h.Cells):         true,
	}
}

// cell is one of a ledger, of which facts are told.
type cell struct{ *result.Cell }

// known are the counters that verdicts and reports know by name.
var known = []string{result.EstabResets, result.OutRsts, result.MigrateFailure, result.MigrateSuccess}

// facts is all that is comparable in a cell, each in a line. Of a deaf one the trace counts for nothing.
func (c cell) facts(deaf bool) map[string]bool {
	facts := map[string]bool{}
	say := func(format string, args ...any) { facts[fmt.Sprintf(format, args...)] = true }
	// amount masks what depends on how many clients came.
	amount := func(v any) string {
		if c.Stream != nil {
			return masked(fmt.Sprintf("%+v", v))
		}
		return fmt.Sprintf("%+v", v)
	}
	say("status %s, control %s, bug %q", c.Status, c.Control, c.Bug)
	say("reason: %s", masked(strings.ReplaceAll(c.Reason, `during "stop dropping"`, fmt.Sprintf("during %q", c.afterDropping()))))
	say("connections: %s", amount(c.Connections))
	say("BPF program: %s", amount(c.Program))
	say("packet-drop rule by %q", c.DropBackend)
	say("capture %q, lost frames: %t", c.Capture.File, c.Capture.Lost > 0)
	say("client %s", ends(c.Client))
	for _, k := range c.Checks {
		if deaf && (k.Witness == "trace" || strings.HasPrefix(k.Name, "trace and ")) {
			continue
		}
		got := amount(k.Got)
		if strings.Contains(got, "(") {
			got = "(…)"
		}
		say("check of the %s: %s: want %s, got %s, ok: %t", k.Witness, k.Name, amount(k.Want), got, k.OK)
	}
	for _, k := range known {
		say("counter %s: %s", k, amount(c.Counters[k]))
	}
	last, n := "", 0
	for _, s := range c.Steps {
		if name := step(s.Name); name != last || c.Stream != nil {
			n++
			last = name
		}
		if c.Stream != nil {
			say("step: %s", masked(last)) // as many as there was time for
		} else {
			say("step %d: %s", n, last)
		}
	}
	if c.Stream == nil {
		c.resetFacts(deaf, say)
		c.flowFacts(say)
	}
	if c.Trace != nil && !deaf {
		say("trace: host-wide %t, missing %q", c.Trace.HostWide, c.Trace.Missing)
	}
	c.tableFacts(say)
	if c.Namespace != nil {
		say("sysctls %v", c.Namespace.Sysctls)
		for _, r := range c.Namespace.Rules {
			say("rule %s", masked(r))
		}
		say("unknown of the namespace: %q", c.Namespace.Unknown)
	}
	return facts
}

func (c cell) resetFacts(deaf bool, say func(string, ...any)) {
	resets := map[string]int{}
	for _, r := range c.Resets {
		during := served.ReplaceAllString(c.during(r.Step), "shutdown some server")
		fact := fmt.Sprintf("%s from %s to %s during %q", r.Flavour, ends(r.From), ends(r.To), during)
		if !deaf {
			fact += fmt.Sprintf(", owner %q, reason %q, state %q", r.Owner, r.Reason, r.State)
		}
		resets[fact]++
	}
	for fact, n := range resets {
		say("resets: %d %s", n, fact)
	}
}

func (c cell) flowFacts(say func(string, ...any)) {
	for _, s := range c.Flow {
		from := "server"
		if s.FromClient {
			from = "client"
		}
		if ack.MatchString(s.Text) || strings.HasPrefix(s.Text, "FP. ") {
			continue
		}
		say("segment of the %s: %s: %s, dropped: %t", from, s.Text, s.Role, s.Dropped)
	}
}

func (c cell) tableFacts(say func(string, ...any)) {
	for _, t := range c.Tables {
		name, sockets := c.during(t.Step), map[string]int{}
		for _, s := range t.Sockets {
			if s.State == "LISTEN" || t.More == 0 && !served.MatchString(name) {
				sockets[fmt.Sprintf("%s %s %s", s.State, s.Name, ends(s.Local))]++
			}
		}
		say("table after %q: %v", name, sockets)
	}
}

// events adds the cell's trace to what the whole run's has told.
func (c cell) events(told map[string]bool) {
	if c.Stream != nil {
		return
	}
	for _, e := range c.Events {
		told[fmt.Sprintf("event %s: reason %q, state %q → %q, by %q", e.Kind, e.Reason, e.Old, e.State, e.By)] = true
	}
}

// stopDropping is the step that lets a timer be heard: what happens during it is counted to the step behind it.
const stopDropping = "stop dropping"

// during is the name of a step by its number.
func (c cell) during(n int) string {
	if c.StepName(n) == stopDropping && n < len(c.Steps) {
		n++
	}
	return step(c.StepName(n))
}

// afterDropping is the name of the step behind the last stopDropping.
func (c cell) afterDropping() string {
	for n := len(c.Steps); n > 0; n-- {
		if c.StepName(n) == stopDropping {
			return c.during(n)
		}
	}
	return ""
}

var (
	numbers  = regexp.MustCompile(`(^|[^A-Za-z0-9])[0-9]+(\.[0-9]+)?`)
	numbered = regexp.MustCompile(`^accept on [A-Z][0-9]+$`)
	served   = regexp.MustCompile(`^shutdown server [0-9]+`)
	pinned   = regexp.MustCompile(`^stay on CPU [0-9]+$`)
	// A segment that brings nothing but an acknowledgement, as tcpdump prints it.
	ack = regexp.MustCompile(`^\. (seq [0-9]+, )?ack [0-9]+`)
)

// masked has no numbers in it but those that belong to a name, as in quiz1.
func masked(s string) string { return numbers.ReplaceAllString(s, "${1}#") }

// step is a step's name without what is drawn by lot.
func step(name string) string {
	switch {
	case numbered.MatchString(name):
		return "accept on one of a numbered group"
	case pinned.MatchString(name):
		return "stay on a CPU"
	}
	return name
}

// ends is an address with its port, unless the kernel picked that.
func ends(a netip.AddrPort) string {
	if a.Port() >= 1024 {
		return fmt.Sprintf("%s, some port", a.Addr())
	}
	return a.String()
}
