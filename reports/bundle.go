package reports

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/rpmig/rpmig/result"
)

// Environment is what was found out about the machine when a bundle was made, which may be later than the run, and on
// another machine.
type Environment struct {
	Release string            `json:"kernel_release"` // uname -r
	Version string            `json:"kernel_version"` // uname -v
	Machine string            `json:"machine"`        // uname -m
	Tainted string            `json:"tainted"`        // /proc/sys/kernel/tainted; empty: not known
	UserNS  bool              `json:"in_user_namespace"`
	Sysctls map[string]string `json:"sysctls"`  // those that this kernel has, as the host has them
	Tables  string            `json:"iptables"` // what iptables --version says; empty: there is none
	Rpmig   string            `json:"rpmig"`    // the version that made the bundle
	Go      string            `json:"go"`
	Build   map[string]string `json:"build"`    // the settings of that rpmig's build
	LeftOut []LeftOut         `json:"left_out"` // what the bundle lacks
}

// LeftOut is something that a bundle could have and does not.
type LeftOut struct {
	File string `json:"file,omitempty"` // its name in the bundle; empty where it is several files
	Why  string `json:"why"`            // what goes on after "FILE, ", or a sentence of its own
}

func (l LeftOut) String() string {
	if l.File == "" {
		return l.Why
	}
	return l.File + ", " + l.Why
}

// The report of a bundle is read in a mail, so it quotes no more cells than a maintainer would scroll through.
const (
	mailWidth = 76
	mailCells = 8
	mailLines = 6 // of a kind, of one cell
)

// Bundle is the report that goes with a bundle, to be pasted into a mail to those who maintain the kernel. It is a pure
// function of what the bundle holds, so that a person who has the bundle can make it again.
func Bundle(run *result.Run, env *Environment) string {
	m := newMail(run, env)
	m.line(printable(subject(run, m.shown))) // never folded: it is to be a subject
	m.played()
	m.ended()
	m.judged()
	m.reasons()
	m.turns()
	m.again()
	m.where()
	m.timelines()
	m.enclosed()
	return m.String()
}

// mail is the report of a bundle as it is written, a section a method.
type mail struct {
	*page
	run      *result.Run
	env      *Environment
	stories  *Stories
	shown    []*result.Cell // what the report is about: FAIL and ERROR, or else all that was played
	quoted   []*result.Cell // some of those
	alike    map[*result.Cell][]string
	unquoted int
}

func newMail(run *result.Run, env *Environment) *mail {
	m := &mail{page: &page{width: mailWidth}, run: run, env: env, stories: NewStories(run)}
	all := sorted(run)
	m.shown = slices.DeleteFunc(slices.Clone(all), func(c *result.Cell) bool { return !c.Bad() })
	if len(m.shown) == 0 {
		m.shown = slices.DeleteFunc(all, func(c *result.Cell) bool { return c.Status == result.Skip })
	}
	m.quoted, m.alike = quote(m.shown)
	m.unquoted = max(len(m.quoted)-mailCells, 0)
	m.quoted = m.quoted[:len(m.quoted)-m.unquoted]
	return m
}

func (m *mail) played() {
	m.heading("What was run")
	m.fold("rpmig " + quoteAll(m.run.Header.Command))
	m.fold(m.run.Summary())
	m.fold("Each cell is one scenario in one address family and one mode of migration, in a network namespace of its own, over loopback.")
}

// ended says how a run ended that did not end by itself, with all that is known of its console.
func (m *mail) ended() {
	e := m.run.Ending
	if e == nil {
		return
	}
	m.heading("How it ended")
	m.fold("It did not end by itself: " + e.Why)
	for _, line := range e.Console {
		m.say(4, 6, plain, "", printable(line))
	}
}

func (m *mail) judged() {
	m.heading("What was expected, and what was seen")
	for _, c := range m.quoted {
		m.fold(fmt.Sprintf("%s: %s, %s: %s", place(c), c.Status, c.Fact(), c.Reason))
		if again := measuredAgain(c); again != "" {
			m.fold(again)
		}
		failed := c.Failed()
		for _, k := range failed[:min(len(failed), mailLines)] {
			m.say(4, 6, plain, "", printable(fmt.Sprintf("%s (%s)", k.Name, k.Witness)))
			m.say(6, 11, plain, "want ", printable(k.Want))
			m.say(6, 11, plain, "got  ", printable(k.Got))
		}
		m.more(len(failed)-mailLines, "checks that did not hold")
		if also := m.alike[c]; len(also) > 0 {
			m.say(4, 6, plain, "", printable("and so in "+strings.Join(also, " and ")+", which are in page.html"))
		}
	}
	m.more(m.unquoted, "cells; page.html has all")
}

func (m *mail) reasons() {
	m.heading("Why")
	for _, c := range m.quoted {
		m.why(c, m.stories)
	}
	m.more(m.unquoted, "cells; page.html has all")
}

func (m *mail) turns() {
	if !slices.ContainsFunc(m.quoted, func(c *result.Cell) bool { return len(c.Tables) > 0 }) {
		return
	}
	m.heading("The sockets, before a listener went and at the end")
	for _, c := range m.quoted {
		m.turn(c)
	}
	m.more(m.unquoted, "cells; cells/ has all, step by step")
}

func (m *mail) again() {
	m.heading("How to repeat it")
	if len(m.shown) > 0 {
		m.line("  " + repeatLine(&m.run.Header, m.shown)) // never folded: it is to be pasted
	}
	m.fold("rpmig doctor tells what a machine lacks for that.")
}

func (m *mail) where() {
	h, env := &m.run.Header, m.env
	m.heading("Where")
	m.fold(fmt.Sprintf("kernel: Linux %s %s", h.Release(), h.Machine))
	for _, f := range guestFacts(h.Guest) {
		m.fold(f.Name + ": " + f.Value)
	}
	m.fold("rpmig: " + h.Version)
	m.sysctls(m.quoted)
	m.fold("All below was gathered when this bundle was made, not during the run, and outside its namespaces.")
	if env.Release != h.Kernel || env.Machine != h.Machine {
		m.fold(fmt.Sprintf("That was on another kernel than the run's: Linux %s %s.", env.Release, env.Machine))
	}
	m.fold("kernel build: " + cmp.Or(env.Version, "not known"))
	m.fold("tainted: " + taint(env.Tainted))
	m.fold("iptables: " + cmp.Or(env.Tables, "none"))
	if backends := dropBackends(sorted(m.run)); len(backends) > 0 {
		m.fold("packets were dropped by: " + strings.Join(backends, " and "))
	}
	for _, name := range slices.Sorted(maps.Keys(env.Sysctls)) {
		m.fold(name + " = " + env.Sysctls[name])
	}
	if env.UserNS {
		m.fold("These sysctls were read in a user and network namespace of rpmig's own.")
	}
	m.fold(fmt.Sprintf("bundle made by rpmig %s, built with %s", env.Rpmig, env.Go))
}

func (m *mail) timelines() {
	m.heading("Timelines")
	for _, c := range m.quoted {
		m.fold(c.ID() + ":")
		m.line("")
		m.WriteString(m.stories.Timeline(c))
		m.line("")
	}
	m.more(m.unquoted, "cells; timelines/ has all")
}

func (m *mail) enclosed() {
	m.heading("With this report")
	m.fold("run.jsonl, from which rpmig makes this and every other report again; page.html; timelines/; cells/, each with its capture, its socket tables, and what its namespace was like: sysctls, rules, counters; bpf/, the program and what the verifier said; environment.json; manifest.json, with a sum of each file.")
	if m.run.Header.Guest != nil {
		m.fold("console.txt, all that the guest's console said.")
	}
	for _, l := range m.env.LeftOut {
		m.fold("Not here: " + l.String())
	}
}

// quote picks those cells that a report quotes: of a scenario in a mode that ended in the same way the first. It tells the
// families of the others.
func quote(shown []*result.Cell) (quoted []*result.Cell, alike map[*result.Cell][]string) {
	type kind struct {
		scenario, mode string
		status         result.Status
	}
	first := map[kind]*result.Cell{}
	alike = map[*result.Cell][]string{}
	for _, c := range shown {
		k := kind{c.Scenario, c.Mode, c.Status}
		q := first[k]
		if q == nil {
			first[k] = c
			quoted = append(quoted, c)
		} else if c.Family != q.Family && !slices.Contains(alike[q], c.Family) {
			alike[q] = append(alike[q], c.Family)
		}
	}
	return quoted, alike
}

// subject is the first line: what a maintainer sees in a list of mails.
func subject(run *result.Run, shown []*result.Cell) string {
	what := "nothing could be played"
	switch {
	case len(shown) > 0 && !shown[0].Bad():
		what = run.Summary()
	case len(shown) == 1:
		what = fmt.Sprintf("%s: %s, %s", place(shown[0]), shown[0].Status, shown[0].Fact())
	case len(shown) > 1:
		what = fmt.Sprintf("%s and %d more of %d cells are not as expected", place(shown[0]), len(shown)-1, len(run.Cells))
	}
	return fmt.Sprintf("tcp: SO_REUSEPORT migration on Linux %s: %s", run.Header.Kernel, what)
}

// fold writes a paragraph of a section.
func (p *page) fold(s string) { p.say(2, 4, plain, "", printable(s)) }

// more says what was left out of a list, if anything was.
func (p *page) more(n int, what string) {
	if n > 0 {
		p.say(4, 6, plain, "", fmt.Sprintf("and %d more %s", n, what))
	}
}

// why says what became of the connections of a cell and in whose name.
func (p *page) why(c *result.Cell, stories *Stories) {
	happened, remedy := stories.Outcome(c)
	if c.Bug != "" && c.Status != result.Pass { // a PASS names one that it does not have
		happened = fmt.Sprintf("This is what the known bug %s does (rpmig list --bugs tells in which versions it is). %s", c.Bug, happened)
	}
	p.fold(place(c) + ": " + happened)
	p.say(4, 6, plain, "", remedy)
	resets := killers(c)
	for _, r := range resets[:min(len(resets), mailLines)] {
		line := resetLine(c, r)
		if r.State != "" {
			line += printable(", sent by a socket in " + r.State)
		}
		p.say(4, 6, plain, "", line)
	}
	p.more(len(resets)-mailLines, "connections that were reset")
	if n := dropped(c); n > 0 {
		p.say(4, 6, plain, "", printable(fmt.Sprintf("segments of the connection shown that rpmig's own rule (%s) dropped, as the scenario wants: %d", c.DropBackend, n)))
	}
	if n := filtered(c); n > 0 {
		by := "by the kernel's trace"
		if c.Trace != nil && c.Trace.HostWide {
			by += ", which does not tell of what segments"
		}
		p.say(4, 6, plain, "", fmt.Sprintf("drops of the whole cell for the reason NETFILTER_DROP, %s: %d", by, n))
	}
	if c.Namespace != nil {
		for _, r := range c.Namespace.Rules {
			p.say(4, 6, plain, "", printable("the rule, when it was last read: "+r))
		}
	}
	var counters []string
	for _, name := range slices.Sorted(maps.Keys(c.Counters)) {
		if n := c.Counters[name]; n != 0 {
			counters = append(counters, fmt.Sprintf("%s %+d", name, n))
		}
	}
	if len(counters) > 0 {
		p.say(4, 6, plain, "", printable("counters, before to after: "+strings.Join(counters, ", ")))
	}
}

// taint writes /proc/sys/kernel/tainted with the letters that an oops shows (Documentation/admin-guide/tainted-kernels.rst).
func taint(value string) string {
	const letters = "PFSRMBUDAWCIOELKXTNJ" // by bit
	bits, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		return cmp.Or(value, "not known")
	}
	var set []byte
	for i := range letters {
		if bits&(1<<i) != 0 {
			set = append(set, letters[i])
		}
	}
	if len(set) == 0 {
		return value
	}
	return fmt.Sprintf("%s (%s)", value, set)
}

// turn shows the sockets of a cell around what happened.
func (p *page) turn(c *result.Cell) {
	before, after := turn(c)
	if after == nil {
		return
	}
	p.fold(place(c) + ", " + c.Fact() + ":")
	if before != after {
		p.sockets(c, before, 4)
	}
	p.sockets(c, after, 4)
}

// sysctls says how the namespaces were set: all of the first cell's, and of others what differs from those.
func (p *page) sysctls(cells []*result.Cell) {
	var first map[string]string
	for _, c := range cells {
		if c.Namespace == nil {
			continue
		}
		var words []string
		for _, name := range slices.Sorted(maps.Keys(c.Namespace.Sysctls)) {
			if v := c.Namespace.Sysctls[name]; first == nil || first[name] != v {
				words = append(words, name+"="+v)
			}
		}
		switch {
		case first == nil:
			first = c.Namespace.Sysctls
			p.fold("sysctls in the namespace of " + place(c) + ": " + strings.Join(words, ", "))
		case len(words) > 0:
			p.fold("and of " + place(c) + ": " + strings.Join(words, ", "))
		}
	}
}

// dropped counts the segments in Flow that the drop rule took.
func dropped(c *result.Cell) int {
	n := 0
	for _, s := range c.Flow {
		if s.Dropped {
			n++
		}
	}
	return n
}

// filtered counts the segments that the kernel says a packet filter dropped.
func filtered(c *result.Cell) int {
	n := 0
	for _, e := range c.Events {
		if e.Reason == "NETFILTER_DROP" {
			n++
		}
	}
	return n
}

// runFlags are the flags of rpmig run by what becomes of them in the line that repeats a run: those that change what is
// played stay; where a run was written, and how often, does not matter.
var runFlags = map[string]struct{ value, keep bool }{
	"connections": {true, true}, "n": {true, true}, "port": {true, true}, "drop": {true, true}, "trace": {true, true},
	"timeout-mul": {true, true}, "no-control": {false, true}, "real-timers": {false, true}, "strict": {false, true}, "no-confirm": {false, true},
	"migrate": {true, false}, "family": {true, false}, "repeat": {true, false}, "parallel": {true, false},
	"format": {true, false}, "out": {true, false}, "bundle": {true, false}, "packets": {true, false},
}

// repeatLine is the command that plays these cells again. Their controls come by themselves.
func repeatLine(h *result.Header, cells []*result.Cell) string {
	var scenarios, families, modes []string
	add := func(list []string, s string) []string {
		if slices.Contains(list, s) {
			return list
		}
		return append(list, s)
	}
	for _, c := range cells {
		scenarios, families, modes = add(scenarios, c.Scenario), add(families, c.Family), add(modes, c.Mode)
	}
	slices.SortFunc(modes, modeOrder(h))
	words := []string{"run", strings.Join(scenarios, ","), "--family=" + strings.Join(families, ","), "--migrate=" + strings.Join(modes, ",")}
	command := h.Command
	for i := 0; i < len(command); i++ {
		name, _, joined := strings.Cut(strings.TrimLeft(command[i], "-"), "=")
		f, known := runFlags[name]
		if !known || !strings.HasPrefix(command[i], "-") {
			continue
		}
		flag := command[i : i+1]
		if f.value && !joined && i+1 < len(command) {
			flag = command[i : i+2]
			i++
		}
		if f.keep {
			words = append(words, flag...)
		}
	}
	return "rpmig " + quoteAll(words)
}

// quoteAll writes words as a shell reads them.
func quoteAll(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		w = printable(w)
		if w == "" || strings.ContainsFunc(w, func(r rune) bool {
			return !strings.ContainsRune("+,-./:=@_", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r)
		}) {
			w = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
		quoted[i] = w
	}
	return strings.Join(quoted, " ")
}
