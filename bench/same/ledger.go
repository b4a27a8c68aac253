package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// maxLine is longer than any line of a ledger.
const maxLine = 64 << 20

// header is the part of a ledger's first line that two runs have in common, whatever was asked for.
type header struct {
	Schema  int
	Kernel  string
	Machine string
	Cells   int
}

// cell is a line of a ledger, of whichever schema.
type cell struct {
	Scenario, Family, Mode string
	Repeat                 int
	Status, Control, Bug   string
	Reason                 string
	Connections            map[string]int
	Program                map[string]int
	Counters               map[string]int64
	Checks                 []struct {
		Name, Witness, Want, Got string
		OK                       bool
	}
	Steps  []struct{ Name string }
	Resets []struct {
		From, To                      netip.AddrPort
		Flavour, Reason, State, Owner string
		Step                          any // schema 1: its name
	}
	Client netip.AddrPort
	Flow   []struct {
		FromClient bool `json:"from_client"`
		Role       string
		Dropped    bool
		Text       string
	}
	Tables []struct {
		Step    any // schema 1: its name
		Sockets []struct {
			State, Name    string
			Local          netip.AddrPort
			Queue, Backlog int
		}
		More int
	}
	Events []struct {
		Kind, Reason, State, Old, By string
	}
	Trace *struct {
		Lost     int
		Missing  []string
		HostWide bool `json:"host_wide"`
	}
	Stream    map[string]float64
	Namespace *struct {
		Sysctls map[string]string
		Rules   []string
		Unknown []string
	}
	DropBackend string `json:"drop_backend"`
	Capture     struct {
		Lost int
		File string
	}
}

func (c *cell) id() string {
	return fmt.Sprintf("%s/%s/%s/%d", c.Scenario, c.Family, c.Mode, c.Repeat)
}

func compareFolders(before, after string, rename *strings.Replacer) ([]string, error) {
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
	split("header", oldHeader.facts(), newHeader.facts())
	oldEvents, newEvents := map[string]bool{}, map[string]bool{}
	for id, was := range oldCells {
		is, ok := newCells[id]
		if !ok {
			gone.add("a cell", id)
			continue
		}
		deaf := was.Trace != nil && was.Trace.Lost > 0 || is.Trace != nil && is.Trace.Lost > 0
		roles := was.hasRoles() && is.hasRoles()
		split(id, was.facts(deaf, roles), is.facts(deaf, roles))
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

func readLedger(folder string, rename *strings.Replacer) (h header, cells map[string]*cell, err error) {
	f, err := os.Open(filepath.Join(folder, "run.jsonl"))
	if err != nil {
		return h, nil, err
	}
	defer func() { _ = f.Close() }()
	cells = map[string]*cell{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxLine)
	for n := 1; lines.Scan(); n++ {
		if n == 1 {
			err = json.Unmarshal(lines.Bytes(), &h)
		} else {
			c := &cell{}
			if err = json.Unmarshal([]byte(rename.Replace(lines.Text())), c); err == nil {
				cells[c.id()] = c
			}
		}
		if err != nil {
			return h, nil, fmt.Errorf("%s: line %d: %w", f.Name(), n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return h, nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return h, cells, nil
}

func (h *header) facts() map[string]bool {
	return map[string]bool{
		fmt.Sprintf("kernel %s %s", h.Kernel, h.Machine): true,
		fmt.Sprintf("%d cells planned", h.Cells):         true,
	}
}

// known are the counters that verdicts and reports know by name.
var known = []string{"EstabResets", "OutRsts", "TCPMigrateReqFailure", "TCPMigrateReqSuccess"}

// facts is all that is comparable in a cell, each in a line. Of a deaf one the trace counts for nothing; roles tells whether
// segments are compared by them.
func (c *cell) facts(deaf, roles bool) map[string]bool {
	facts := map[string]bool{}
	say := func(format string, args ...any) { facts[fmt.Sprintf(format, args...)] = true }
	// amount masks what depends on how many clients came.
	amount := func(v any) string {
		if c.Stream != nil {
			return masked(fmt.Sprint(v))
		}
		return fmt.Sprint(v)
	}
	say("status %s, control %s, bug %q", c.Status, c.Control, c.Bug)
	say("reason: %s", masked(strings.ReplaceAll(c.Reason, `during "stop dropping"`, fmt.Sprintf("during %q", c.stepName("stop dropping")))))
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
		c.flowFacts(roles, say)
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

func (c *cell) resetFacts(deaf bool, say func(string, ...any)) {
	resets := map[string]int{}
	for _, r := range c.Resets {
		during := served.ReplaceAllString(c.stepName(r.Step), "shutdown some server")
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

func (c *cell) flowFacts(roles bool, say func(string, ...any)) {
	for _, s := range c.Flow {
		from := "server"
		if s.FromClient {
			from = "client"
		}
		if ack.MatchString(s.Text) || strings.HasPrefix(s.Text, "FP. ") {
			continue
		}
		say("segment of the %s: %s", from, s.Text)
		if roles {
			say("segment of the %s: %s: %s, dropped: %t", from, s.Text, s.Role, s.Dropped)
		}
	}
}

func (c *cell) tableFacts(say func(string, ...any)) {
	for _, t := range c.Tables {
		name, sockets := c.stepName(t.Step), map[string]int{}
		for _, s := range t.Sockets {
			if s.State == "LISTEN" || t.More == 0 && !served.MatchString(name) {
				sockets[fmt.Sprintf("%s %s %s", s.State, s.Name, ends(s.Local))]++
			}
		}
		say("table after %q: %v", name, sockets)
	}
}

// events adds the cell's trace to what the whole run's has told.
func (c *cell) events(told map[string]bool) {
	if c.Stream != nil {
		return
	}
	for _, e := range c.Events {
		kind := e.Kind[strings.Index(e.Kind, ":")+1:] // schema 1 has its group too
		state := e.State
		if e.Old != "" {
			state = e.Old + " → " + e.State // as in schema 1
		}
		told[fmt.Sprintf("event %s: reason %q, state %q, by %q", kind, e.Reason, state, e.By)] = true
	}
}

func (c *cell) hasRoles() bool { return len(c.Flow) > 0 && c.Flow[0].Role != "" }

// stepName is the name of a step that is given by name or by place. What happens during "stop dropping" is counted to the
// step behind it.
func (c *cell) stepName(s any) string {
	at := -1
	switch s := s.(type) {
	case float64:
		at = int(s) - 1
	case string:
		if s != "stop dropping" {
			return step(s)
		}
		for i := range c.Steps {
			if c.Steps[i].Name == s {
				at = i
			}
		}
	}
	if at < 0 || at >= len(c.Steps) {
		return ""
	}
	if c.Steps[at].Name == "stop dropping" && at+1 < len(c.Steps) {
		at++
	}
	return step(c.Steps[at].Name)
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
