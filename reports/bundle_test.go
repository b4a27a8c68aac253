package reports

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rpmig/rpmig/result"
)

// failing is a run of quiz2 in which the sysctl did not help, with all that is noted where evidence is kept.
func failing() *result.Run {
	run := &result.Run{Header: mixed().Header}
	run.Header.Command = []string{"run", "quiz2", "--migrate=sysctl", "--out", "it's here"}
	for _, mode := range []string{"off", "sysctl"} {
		c := traced("quiz2", "off", 56564)
		c.Mode, c.DropBackend = mode, "iptables (nf_tables)"
		c.Namespace = &result.Namespace{
			Sysctls: map[string]string{"net.ipv4.tcp_migrate_req": "0", "net.ipv4.tcp_syncookies": "0", "net.core.somaxconn": "4096"},
			Rules: []string{
				"ip filter INPUT: meta l4proto == tcp tcp flags & (syn|ack) == ack tcp dport == 80 counter packets 2 bytes 115 drop",
			},
			Counters: map[string][2]int64{"Tcp.OutRsts": {0, 1}, "TcpExt.TCPLossProbes": {0, 1}},
		}
		if mode == "sysctl" {
			c.Status, c.Control = result.Fail, result.Controlled
			c.Reason = "not migrated: the sysctl is there and the code is not"
			c.Namespace.Sysctls["net.ipv4.tcp_migrate_req"] = "1"
			c.Namespace.Unknown = []string{"net.ipv4.tcp_sack: permission denied"}
			c.Checks = []result.Check{{Name: "accepted", Witness: result.Application, Want: "1", Got: "0"}}
		}
		run.Cells = append(run.Cells, c)
	}
	return run
}

func environment() *Environment {
	return &Environment{
		Release: "6.18.5", Version: "#1 SMP", Machine: "x86_64", Tainted: "0", Tables: "iptables v1.8.9 (nf_tables)",
		Sysctls: map[string]string{"net.ipv4.tcp_migrate_req": "0"}, Rpmig: "0.1.0", Go: "go1.26",
		LeftOut: []LeftOut{{"kernel.config", "which was not found"}},
	}
}

func TestBundleGolden(t *testing.T) {
	run := failing()
	for name, got := range map[string]string{
		"bundle.report": Bundle(run, environment()), "bundle.sockets": Sockets(&run.Cells[1]), "bundle.namespace": Namespace(&run.Cells[1]),
	} {
		golden(t, name, got)
	}
}

// TestKnownBug: the report names the bug where a cell did what it does, and blames nothing on one that did not show.
func TestKnownBug(t *testing.T) {
	for status, want := range map[result.Status]bool{result.XFail: true, result.Fail: true, result.Pass: false} {
		run := failing()
		for i := range run.Cells {
			c := &run.Cells[i]
			c.Status, c.Bug, c.Reason = status, "CVE-1", "r"
		}
		if got := strings.Contains(Bundle(run, environment()), "This is what the known bug CVE-1 does"); got != want {
			t.Errorf("%s: it is what the bug does: %t", status, got)
		}
	}
}

func TestLeftOut(t *testing.T) {
	for want, l := range map[string]LeftOut{
		"kernel.config, which was not found": {"kernel.config", "which was not found"},
		"a program: no mode has one":         {Why: "a program: no mode has one"},
	} {
		if got := l.String(); got != want {
			t.Errorf("want %q, got %q", want, got)
		}
	}
}

// TestPeers: a cell is compared with the first that was played of each mode.
func TestPeers(t *testing.T) {
	run := quizzes()
	for i := range quizzes().Cells {
		again := run.Cells[i]
		again.Repeat = 2
		unplayed := run.Cells[i]
		unplayed.Repeat, unplayed.Connections = 0, result.Connections{}
		run.Cells = append(run.Cells, again, unplayed)
	}
	// The first off cell proves nothing where it lived, so the next one is taken.
	run.Cells[0].Connections = result.Connections{Staged: 1, Survived: 1}
	stories := NewStories(run)
	for scenario, off := range map[string]int{"quiz1": 2, "quiz2": 1} {
		var got []string
		for _, p := range stories.of(&result.Cell{Scenario: scenario, Family: "ipv4"}) {
			got = append(got, p.ID())
		}
		want := []string{fmt.Sprintf("%s/ipv4/off/%d", scenario, off), scenario + "/ipv4/sysctl/1", scenario + "/ipv4/bpf/1"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}

func TestTaint(t *testing.T) {
	for value, want := range map[string]string{
		"": "not known", "0": "0", "512": "512 (W)", "12289": "12289 (POE)", "1048576": "1048576", "-1": "-1", "many": "many",
	} {
		if got := taint(value); got != want {
			t.Errorf("%q: want %q, got %q", value, want, got)
		}
	}
}

// TestTurn: the tables that are quoted are those around the close, and none where nothing is known.
func TestTurn(t *testing.T) {
	c := traced("quiz2", "off", 56564)
	before, after := turn(&c)
	if before.Step != 5 || after.Step != 9 {
		t.Errorf("before is of step %d, after of %d", before.Step, after.Step)
	}
	c.Tables = c.Tables[:1]
	if before, after = turn(&c); before != after || before != &c.Tables[0] {
		t.Errorf("of one table: %v and %v", before, after)
	}
	c.Tables = nil
	if before, after = turn(&c); before != nil || after != nil {
		t.Errorf("of none: %v and %v", before, after)
	}
}

// fill puts a text into every string below a value, and one more into each of its lists and maps of texts.
func fill(v reflect.Value, text string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Pointer:
		if !v.IsNil() {
			fill(v.Elem(), text)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(v.Field(i), text)
			}
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.String {
			v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
		}
		for i := range v.Len() {
			fill(v.Index(i), text)
		}
	case reflect.Map:
		if v.IsNil() {
			return
		}
		value := reflect.New(v.Type().Elem()).Elem()
		fill(value, text)
		v.SetMapIndex(reflect.ValueOf(text), value)
	}
}

// TestBundleIsSound: whatever a ledger and an environment say, what a person reads of it has no control character and
// fits the screen, but for the two lines that must stay whole.
func TestBundleIsSound(t *testing.T) {
	all := htmlRuns()
	all["failing"] = failing()
	filled := failing()
	fill(reflect.ValueOf(filled), poison+"\x1b[2J\x1b]0;x\x07\r\u202e")
	all["filled"] = filled
	for name, run := range all {
		env := environment()
		fill(reflect.ValueOf(env), poison+"\x1b[2J")
		texts := []string{Bundle(run, env)}
		for i := range run.Cells {
			texts = append(texts, Sockets(&run.Cells[i]), Namespace(&run.Cells[i]))
		}
		for _, text := range texts {
			for i, line := range strings.Split(text, "\n") {
				if printable(line) != line {
					t.Errorf("%s: got through: %q", name, line)
				}
				if whole := i == 0 || strings.HasPrefix(line, "  rpmig run "); !whole && columns(line) > 80 {
					t.Errorf("%s: %d columns: %q", name, columns(line), line)
				}
			}
		}
	}
}
