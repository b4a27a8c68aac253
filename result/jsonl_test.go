package result

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

//go:embed run.schema.json
var lineSchema string

// schema1 is a ledger that rpmigs of schema 1 wrote, of quiz1, quiz2, synack-timer and hot-reload-drain on Linux 6.18.
//
//go:embed testdata/schema1.jsonl
var schema1 string

var equalAddrs = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

func header(cells int) Header {
	return Header{
		Schema: Schema, Version: "0.1.0", Kernel: "6.1.0-52-cloud-amd64", Upstream: "6.1.180", Machine: "x86_64",
		Command: []string{"run", "quiz2", "--migrate=bpf"}, Cells: cells, Port: 80, Started: Time{time.Date(2026, 1, 2, 3, 4, 5, 60e6, time.UTC)},
		Modes: []Mode{{Name: "off", Doc: "no migration"}, {Name: "bpf", Doc: "a program", Saves: "a BPF program"}},
	}
}

func passed() Cell {
	return Cell{
		Scenario: "quiz2", Family: "ipv4", Mode: "off", Repeat: 1,
		Status: Pass, Reason: "lost, as expected: RST <- ACK of the handshake", Control: IsControl,
		Connections: Connections{Staged: 1, Lost: 1},
		Resets: []Reset{{
			Time: 0.2071, Frame: 6, Flavour: BareRST, Step: 2,
			From: netip.MustParseAddrPort("127.0.0.1:80"), To: netip.MustParseAddrPort("127.0.0.1:39258"),
		}},
		Counters: map[string]int64{"OutRsts": 1},
		Checks:   []Check{{Name: "accept on B", Witness: Application, Want: "EAGAIN", Got: "EAGAIN", OK: true}},
		Steps:    []Step{{Name: "listen A"}, {Name: "close A", At: 0.0012}},
		Flow:     []Segment{},
		Namespace: &Namespace{
			Sysctls: map[string]string{"net.ipv4.tcp_migrate_req": "0"}, Rules: []string{"ip filter INPUT: counter packets 2 bytes 115 drop"},
			Counters: map[string][2]int64{"Tcp.OutRsts": {0, 1}},
		},
		DropBackend: "iptables (nf_tables)",
		Capture:     Capture{Packets: 6, File: "cells/quiz2/ipv4/off/1/capture.pcapng"},
		At:          0.5, Elapsed: 0.231,
	}
}

func failed() Cell {
	c := passed()
	c.Mode, c.Status, c.Control = "bpf", Fail, Controlled
	c.Namespace.Unknown = []string{"counters: permission denied"}
	c.Reason = "not migrated: the program was asked and the connection was lost"
	c.Resets[0].From, c.Resets[0].To = netip.MustParseAddrPort("[::1]:80"), netip.MustParseAddrPort("[::1]:39258")
	c.Program = &Program{SYN: 1}
	c.Checks = []Check{{Name: "accept on B", Witness: Application, Want: "1 connection", Got: "EAGAIN"}}
	return c
}

// skipped has nothing but what must be there.
func skipped() Cell {
	return Cell{
		Scenario: "quiz2", Family: "ipv6", Mode: "bpf", Repeat: 2,
		Status: Skip, Reason: "needs CAP_BPF", Control: Uncontrolled,
	}
}

func ledger(t testing.TB, h Header, cells ...Cell) string {
	t.Helper()
	var buf bytes.Buffer
	w, err := NewWriter(&buf, h)
	if err != nil {
		t.Fatal(err)
	}
	for i := range cells {
		if err := w.Write(&cells[i]); err != nil {
			t.Fatal(err)
		}
	}
	return buf.String()
}

func TestRoundTrip(t *testing.T) {
	want := &Run{Header: header(3), Cells: []Cell{passed(), failed(), filled(skipped())}}
	got, err := Read(strings.NewReader(ledger(t, want.Header, want.Cells...)))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, equalAddrs); diff != "" {
		t.Errorf("what was read differs from what was written (-want +got):\n%s", diff)
	}
}

func TestLinesFollowSchema(t *testing.T) {
	c := jsonschema.NewCompiler()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(lineSchema))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.AddResource("run.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("run.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	check := func(line string) error {
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(line))
		if err != nil {
			t.Fatal(err)
		}
		return schema.Validate(v)
	}

	empty := header(0)
	empty.Command, empty.UntilFail = nil, &UntilFail{Most: 4}
	lines := strings.Split(strings.TrimSuffix(ledger(t, empty, passed(), failed(), skipped(), streamed()), "\n"), "\n")
	for _, line := range lines {
		if err := check(line); err != nil {
			t.Errorf("refused: %s\n%v", line, err)
		}
	}

	pass := lines[1]
	for _, tt := range []struct{ name, old, new string }{
		{"extra field", `"repeat":1`, `"repeat":1,"colour":"red"`},
		{"extra field in a reset", `"frame":6`, `"frame":6,"ttl":64`},
		{"mistyped field", `"repeat":1`, `"repeat":"1"`},
		{"unknown status", `"PASS"`, `"OK"`},
		{"null list", `"steps":[{"name":"listen A","at":0},{"name":"close A","at":0.0012}]`, `"steps":null`},
		{"negative count", `"survived":0`, `"survived":-1`},
		{"path in a name", `"quiz2"`, `"../quiz2"`},
		{"extra field of a namespace", `"rules":`, `"chains":`},
		{"one value of a counter", `[0,1]`, `[0]`},
		{"missing field", `"mode":"off",`, ``},
	} {
		t.Run(tt.name, func(t *testing.T) {
			line := strings.Replace(pass, tt.old, tt.new, 1)
			if line == pass {
				t.Fatalf("%s is not in %s", tt.old, pass)
			}
			if check(line) == nil {
				t.Errorf("accepted: %s", line)
			}
		})
	}
}

func TestReadCutShort(t *testing.T) {
	whole := ledger(t, header(2), passed(), failed())
	lastLine := strings.LastIndex(strings.TrimSuffix(whole, "\n"), "\n") + 1
	for cut := lastLine; cut <= len(whole); cut++ {
		run, err := Read(strings.NewReader(whole[:cut]))
		if err != nil {
			t.Fatalf("cut after %d bytes: %v", cut, err)
		}
		want := 1
		if cut >= len(whole)-1 { // the closing brace is there
			want = 2
		}
		if len(run.Cells) != want || run.Missing() != 2-want {
			t.Errorf("cut after %d bytes: want %d cells, got %d and %d missing", cut, want, len(run.Cells), run.Missing())
		}
	}
}

// TestReadForgives: what an editor, a pipe or a power cut does to a ledger takes no cell from it.
func TestReadForgives(t *testing.T) {
	head := ledger(t, header(2))
	cell := strings.TrimPrefix(ledger(t, header(2), passed()), head)
	for name, text := range map[string]string{
		"empty line at the end":   head + cell + "\n",
		"empty line between":      head + "\n \r\n" + cell,
		"blanks at the end":       head + cell + "  ",
		"zeros at the end":        head + cell + strings.Repeat("\x00", 5000),
		"zeros after a part":      head + cell + cell[:50] + "\x00\x00\x00",
		"carriage returns":        strings.ReplaceAll(head+cell, "\n", "\r\n"),
		"zeros without a newline": head + strings.TrimSuffix(cell, "\n") + "\x00",
		"empty lines in front":    "\n \r\n" + head + cell,
		"a newline after a part":  head + cell + cell[:50] + "\n",
		"more after a part":       head + cell + cell[:50] + "\r\n \n\x00\x00",
		"a newline in a text":     head + cell + `{"scenario":"qui` + "\n",
	} {
		run, err := Read(strings.NewReader(text))
		if err != nil || len(run.Cells) != 1 || run.Missing() != 1 {
			t.Errorf("%s: got %+v, %v", name, run, err)
		}
	}
}

// TestReadBroken: the end of a packed file may be missing, and takes no whole cell away. What the disk cannot read is told.
func TestReadBroken(t *testing.T) {
	text := ledger(t, header(2), passed())
	for _, tt := range []struct {
		name, text string
		err        error
		want       string
	}{
		{"packed, in a line", text + `{"scenario":"qui`, io.ErrUnexpectedEOF, ""},
		{"packed, between lines", text, io.ErrUnexpectedEOF, ""},
		{"packed, in the header", text[:50], io.ErrUnexpectedEOF, "no header"},
		{"packed, before it", "", io.ErrUnexpectedEOF, "line 1: unexpected EOF"},
		{"disk, in a line", text + `{"scenario":"qui`, syscall.EIO, "input/output error"},
		{"disk, between lines", text, syscall.EIO, "line 3: input/output error"},
		{"disk, behind a part", text + `{"scenario":"qui` + "\n", syscall.EIO, "line 3: "},
	} {
		run, err := Read(io.MultiReader(strings.NewReader(tt.text), iotest.ErrReader(tt.err)))
		switch {
		case tt.want == "" && (err != nil || len(run.Cells) != 1 || run.Missing() != 1):
			t.Errorf("%s: %+v, %v", tt.name, run, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: want %q, got %v", tt.name, tt.want, err)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	head := ledger(t, header(2))
	cell := strings.TrimPrefix(ledger(t, header(2), passed()), head)
	change := func(old, new string) string {
		if !strings.Contains(cell, old) {
			t.Fatalf("%s is not in %s", old, cell)
		}
		return head + strings.Replace(cell, old, new, 1)
	}
	for _, tt := range []struct{ name, text, want string }{
		{"empty file", "", "line 1: no header"},
		{"no header", cell, "line 1: no header"},
		{"header cut short", head[:20], "line 1: no header"},
		{"header cut short behind an empty line", "\n" + head[:20], "line 2: no header"},
		{"nothing but lines", "\n\n", "no header: the file is empty"},
		{"cut short behind one that is", head + cell[:50] + "\n" + cell[:60], "line 2: "},
		{"garbage and a newline at the end", head + cell + "garbage\n", "line 3: "},
		{"a header cut short, and a newline", head + cell + head[:50] + "\n", "line 3: "},
		{"a long line behind one that was cut", head + cell[:50] + "\n" + strings.Repeat(" ", maxLine+1), "line 2: "},
		{"shard 0", strings.Replace(head, `"cells":2`, `"cells":2,"shard":{"index":0,"of":2,"planned":4}`, 1), "line 1: it cannot be that shard 0/2 has 2 of 4 cells"},
		{"shard 3 of 2", strings.Replace(head, `"cells":2`, `"cells":2,"shard":{"index":3,"of":2,"planned":4}`, 1), "shard 3/2"},
		{"more than all shards", strings.Replace(head, `"cells":2`, `"cells":2,"shard":{"index":2,"of":2,"planned":1}`, 1), "has 2 of 1 cell"},
		{"negative time", change(`"elapsed":0.231`, `"elapsed":-0.231`), "it began after 0.5 s, and took -0.231 s"},
		{"before the run", change(`"at":0.5`, `"at":-0.5`), "it began after -0.5 s"},
		{"foreign file", "GET / HTTP/1.1\n", "line 1: no header"},
		{"schema 0", `{"schema":0}` + "\n", "line 1: no header"},
		{"negative plan", `{"schema":1,"cells":-1}` + "\n", "line 1: cells is negative"},
		{"mistyped header", `{"schema":1,"kernel":6}` + "\n", "line 1: "},
		{"cut in the middle", head + cell[:50] + "\n" + cell, "line 2: "},
		{"garbage at the end", head + cell + "garbage", "line 3: "},
		{"two ledgers", head + cell + head, "several runs, one after another: 2"},
		{"two ledgers, the second newer", head + cell + strings.Replace(head, `"schema":2`, `"schema":7`, 1), "schema 7"},
		{"two ledgers, the second mistyped", head + cell + strings.Replace(head, `"cells":2`, `"cells":-2`, 1), "line 3: cells is negative"},
		{"two ledgers, the first cut short", head + cell[:50] + head + cell, "line 2: "},
		{"two ledgers, the second cut short in its header", head + cell + head[:50], "line 3: the header of another run, cut short"},
		{"played twice", head + cell + cell, "line 3: quiz2/ipv4/off/1 contradicts itself: it is there already"},
		{"no scenario", change(`"quiz2"`, `""`), `line 2: scenario ""`},
		{"leading separator", change(`"quiz2"`, `"/quiz2"`), "line 2: scenario"},
		{"up and away", change(`"quiz2"`, `"quiz2/../../x"`), "line 2: scenario"},
		{"backslash", change(`"ipv4"`, `"a\\b"`), "line 2: family"},
		{"parent folder", change(`"off"`, `".."`), "line 2: mode"},
		{"NUL", change(`"off"`, `"o\u0000ff"`), "line 2: mode"},
		{"newline", change(`"off"`, `"off\n"`), "line 2: mode"},
		{"repeat 0", change(`"repeat":1`, `"repeat":0`), "line 2: repeat 0"},
		{"unknown status", change(`"PASS"`, `"pass"`), `line 2: quiz2/ipv4/off/1: unknown status "pass"`},
		{"unknown control", change(`"control":"control"`, `"control":""`), `unknown control ""`},
		{"negative staged", change(`"staged":1`, `"staged":-1`), "connections.staged is negative"},
		{"negative capture", change(`"packets":6`, `"packets":-6`), "capture.packets is negative"},
		{"long line", head + strings.Repeat("x", maxLine+1), "line 2: longer than 16 MiB"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Read(strings.NewReader(tt.text))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("want an error with %q, got %v", tt.want, err)
			}
		})
	}
}

func TestReadNewerSchema(t *testing.T) {
	_, err := Read(strings.NewReader(`{"schema":7,"kernel":{"release":"8.0"}}` + "\n"))
	var schemaErr *SchemaError
	if !errors.As(err, &schemaErr) || *schemaErr != (SchemaError{Got: 7, Known: Schema}) {
		t.Fatalf("want a SchemaError, got %v", err)
	}
	if want := "this ledger has schema 7; this rpmig reads up to 2; use a newer rpmig"; schemaErr.Error() != want {
		t.Errorf("want %q\ngot  %q", want, schemaErr)
	}
}

// TestReadSchema1: what an old ledger said in words is in the fields that have taken their place.
func TestReadSchema1(t *testing.T) {
	run, err := Read(strings.NewReader(schema1))
	if err != nil {
		t.Fatal(err)
	}
	cells := map[string]*Cell{}
	for i := range run.Cells {
		cells[run.Cells[i].Scenario+" "+run.Cells[i].Mode] = &run.Cells[i]
	}
	if run.Header.Schema != Schema || run.Header.Mode("sysctl").Saves == "" || run.Header.Mode("off").Saves != "" {
		t.Errorf("header: %+v", run.Header)
	}
	for _, tt := range []struct{ cell, reset, flow string }{
		{"quiz1 off", "close A", "syn, syn+ack, handshake ack, data, ack, reset"},
		{"quiz2 off", "await the retransmission", "syn, syn+ack, handshake ack dropped, data dropped, data again, reset"},
		{"synack-timer sysctl", "", "syn, syn+ack, handshake ack dropped, data dropped, data again dropped, data again dropped, data again dropped, " +
			"syn+ack again, ack dropped, data again, ack"},
	} {
		c := cells[tt.cell]
		var flow []string
		for _, s := range c.Flow {
			words := string(s.Role)
			if s.Again {
				words += " again"
			}
			if s.Dropped {
				words += " dropped"
			}
			flow = append(flow, words)
		}
		if got := strings.Join(flow, ", "); got != tt.flow {
			t.Errorf("%s: flow: %s\nwant %s", tt.cell, got, tt.flow)
		}
		reset := ""
		if len(c.Resets) > 0 {
			reset = c.StepName(c.Resets[0].Step)
		}
		if reset != tt.reset {
			t.Errorf("%s: the reset was sent during %q, want %q", tt.cell, reset, tt.reset)
		}
		if len(c.Tables) != len(c.Steps) {
			t.Errorf("%s: %d tables of %d steps", tt.cell, len(c.Tables), len(c.Steps))
		}
		for i, table := range c.Tables {
			if table.Step != i+1 {
				t.Errorf("%s: table %d is of step %d", tt.cell, i+1, table.Step)
			}
		}
		changes := 0
		for _, e := range c.Events {
			if e.Old != "" {
				changes++
			}
			if strings.Contains(e.State, "→") {
				t.Errorf("%s: state %q", tt.cell, e.State)
			}
		}
		if changes == 0 {
			t.Errorf("%s: no socket changed its state", tt.cell)
		}
	}
	if c := cells["hot-reload-drain off"]; c.Stream.Failed() != 2 || c.Stream.Failed() != c.Connections.Lost {
		t.Errorf("its stream has lost %d, and it %d, want 2", c.Stream.Failed(), c.Connections.Lost)
	}
}

// TestEstimate: the interval after Wilson, against the values of R's prop.test(correct=FALSE).
func TestEstimate(t *testing.T) {
	for _, tt := range []struct {
		lost, n         int
		rate, low, high float64
	}{{0, 100, 0, 0, 36994}, {5, 100, 50000, 21543, 111752}, {200, 200, 1e6, 981155, 1e6}, {0, 0, 0, 0, 1e6}} {
		s := Stream{Connections: tt.n, Lost: tt.lost}
		s.Estimate()
		near := func(a, b float64) bool { return math.Abs(a-b) < 10 }
		if !near(s.PerMillion, tt.rate) || !near(s.Low, tt.low) || !near(s.High, tt.high) {
			t.Errorf("%d of %d: %.0f (%.0f to %.0f)", tt.lost, tt.n, s.PerMillion, s.Low, s.High)
		}
	}
}

func TestReadIgnoresUnknownFields(t *testing.T) {
	text := ledger(t, header(1), passed())
	text = strings.ReplaceAll(text, "{", `{"later":[1],`)
	for _, names := range []string{"counters", "sysctls"} { // whose names are no fields
		text = strings.ReplaceAll(text, `"`+names+`":{"later":[1],`, `"`+names+`":{`)
	}
	run, err := Read(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Cell{passed()}, run.Cells, equalAddrs); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// disk counts writes and takes so many bytes before it is full.
type disk struct {
	bytes.Buffer
	room, writes int
}

var errFull = errors.New("no space left on device")

func (d *disk) Write(p []byte) (int, error) {
	d.writes++
	n := min(len(p), d.room-d.Len())
	d.Buffer.Write(p[:n])
	if n < len(p) {
		return n, errFull
	}
	return n, nil
}

func TestWriteOnePerLine(t *testing.T) {
	d := &disk{room: 1 << 20}
	w, err := NewWriter(d, header(2))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []Cell{passed(), failed()} {
		if err := w.Write(&c); err != nil {
			t.Fatal(err)
		}
	}
	if lines := strings.Count(d.String(), "\n"); lines != 3 || d.writes != 3 {
		t.Errorf("want 3 lines in 3 writes, got %d in %d", lines, d.writes)
	}
}

func TestWriteFullDisk(t *testing.T) {
	if _, err := NewWriter(&disk{room: 10}, header(2)); !errors.Is(err, errFull) {
		t.Errorf("header: want %v, got %v", errFull, err)
	}

	d := &disk{room: 500}
	w, err := NewWriter(d, header(2))
	if err != nil {
		t.Fatal(err)
	}
	a, b := passed(), skipped()
	if err := w.Write(&a); !errors.Is(err, errFull) {
		t.Errorf("want %v, got %v", errFull, err)
	}
	d.room = 1 << 20 // somebody tidied up
	if err := w.Write(&b); !errors.Is(err, errFull) {
		t.Errorf("want the first error to stay, got %v", err)
	}
	run, err := Read(bytes.NewReader(d.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if run.Missing() != 2 {
		t.Errorf("want 2 missing, got %d", run.Missing())
	}
}

func TestWriteRefusesWhatReadRefuses(t *testing.T) {
	var buf bytes.Buffer
	w, err := NewWriter(&buf, header(1))
	if err != nil {
		t.Fatal(err)
	}
	before := buf.Len()
	c := passed()
	c.Status = ""
	if err := w.Write(&c); err == nil || buf.Len() != before {
		t.Errorf("want an error and nothing written, got %v and %d bytes", err, buf.Len()-before)
	}
	c.Status = Pass
	if err := w.Write(&c); err != nil {
		t.Errorf("a refused cell must not end the ledger: %v", err)
	}
}

// TestReadAll: ledgers after one another are runs, each with its own plan, cells and ending.
func TestReadAll(t *testing.T) {
	guest := header(2)
	guest.Guest = &Guest{Name: "mine", From: "bzImage", Emulator: "QEMU 7.2.22", Accelerator: "tcg", Memory: 768, CPUs: 1, Virtual: true}
	died := &Ending{Why: "the kernel died: BUG: unable to handle page fault", Died: true, Console: []string{"] Call Trace:"}}
	want := []*Run{
		{Header: header(2), Cells: []Cell{passed(), failed()}},
		{Header: guest, Cells: []Cell{passed()}, Ending: died},
		{Header: header(1)},
		{Header: header(1), Cells: []Cell{filled(skipped())}},
	}
	text := write(t, want)
	got, err := ReadAll(strings.NewReader(text), 0)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, equalAddrs); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got, err := ReadAll(strings.NewReader(text[:len(text)-20]), 0); err != nil || len(got) != 4 || got[3].Missing() != 1 {
		t.Errorf("cut short: got %d runs, %v", len(got), err)
	}
	if _, err := Read(strings.NewReader(text)); !errors.Is(err, ErrSeveral) {
		t.Errorf("read as one: want %v, got %v", ErrSeveral, err)
	}
	// One of an older schema is read by its own.
	if got, err := ReadAll(strings.NewReader(text+schema1), 0); err != nil || len(got) != 5 || got[4].Header.Modes == nil || len(got[4].Cells) == 0 {
		t.Errorf("of an older schema: got %d runs, %v", len(got), err)
	}
}

// write writes ledgers one after another.
func write(t testing.TB, runs []*Run) string {
	t.Helper()
	var all strings.Builder
	for _, r := range runs {
		all.WriteString(ledger(t, r.Header, r.Cells...))
		if r.Ending != nil {
			if err := (&Writer{w: &all}).End(*r.Ending); err != nil {
				t.Fatal(err)
			}
		}
	}
	return all.String()
}

// TestExitCode: of several runs it is the worst, and what was skipped counts only if all was.
func TestExitCode(t *testing.T) {
	run := func(statuses ...Status) *Run {
		r := &Run{Header: Header{Cells: len(statuses)}}
		for _, s := range statuses {
			r.Cells = append(r.Cells, Cell{Status: s})
		}
		return r
	}
	pass, fail, skip, broken := run(Pass, XFail), run(Pass, Fail), run(Skip, Skip), run(Fail, Error)
	cut := run(Pass)
	cut.Header.Cells = 2
	died := run(Pass)
	died.Ending = &Ending{Why: "the guest was lost"}
	for _, tt := range []struct {
		name string
		runs []*Run
		want int
	}{
		{"none", nil, ExitOK},
		{"good", []*Run{pass, pass}, ExitOK},
		{"skipped", []*Run{skip, skip}, ExitSkip},
		{"skipped and good", []*Run{skip, pass}, ExitOK},
		{"skipped and failed", []*Run{skip, fail}, ExitFail},
		{"good and failed", []*Run{pass, fail, pass}, ExitFail},
		{"failed and no conclusion", []*Run{fail, broken}, ExitSoftware},
		{"failed and cut short", []*Run{cut, fail}, ExitSoftware},
		{"skipped and died", []*Run{skip, died}, ExitSoftware},
	} {
		if got := ExitCode(tt.runs); got != tt.want {
			t.Errorf("%s: want %d, got %d", tt.name, tt.want, got)
		}
	}
}

func FuzzRead(f *testing.F) {
	whole := ledger(f, header(3), passed(), failed(), skipped())
	f.Add([]byte(whole))
	f.Add([]byte(whole[:len(whole)-40]))
	f.Add([]byte(strings.Replace(whole, `"schema":2`, `"schema":3`, 1)))
	f.Add([]byte(schema1))
	f.Add([]byte("\x00\xff{]\n\n"))
	guest := header(2)
	guest.Guest = &Guest{Name: "mine"}
	f.Add([]byte(write(f, []*Run{{Header: guest, Cells: []Cell{passed()}, Ending: &Ending{Why: "lost", Console: []string{"Oops"}}}, {Header: header(1)}})))
	f.Add([]byte(whole + schema1))
	f.Add([]byte(strings.Replace(whole, `"modes":[`, `"families":[],"bugs":[],"modes":[`, 1) + `{"ending":{"why":"lost","console":[]}}` + "\n"))
	f.Add([]byte(strings.Replace(whole, `"modes":[`, `"started":"2026-07-01T10:00:00.1234567+02:00","modes":[`, 1)))
	f.Fuzz(func(t *testing.T, data []byte) {
		runs, err := ReadAll(bytes.NewReader(data), 0)
		stored, storedErr := ReadStored(bytes.NewReader(data), bytes.NewReader(data), 0)
		if one := err == nil && len(runs) == 1; one != (storedErr == nil) {
			t.Fatalf("in memory: %d, %v; stored: %v", len(runs), err, storedErr)
		} else if one {
			got := &Run{Header: stored.Header, Ending: stored.Ending}
			if err := stored.Each(func(c *Cell) error { got.Cells = append(got.Cells, *c); return nil }); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(runs[0], got, equalAddrs); diff != "" || stored.Summary() != runs[0].Summary() {
				t.Fatalf("-in memory +stored:\n%s", diff)
			}
		}
		if err != nil {
			return
		}
		again, err := ReadAll(strings.NewReader(write(t, runs)), 0)
		if err != nil {
			t.Fatalf("accepted, written and refused: %v", err)
		}
		// A list that is empty is not written, and nothing tells it from one that is not there.
		if diff := cmp.Diff(runs, again, equalAddrs, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("-first +second:\n%s", diff)
		}
	})
}

func TestEnding(t *testing.T) {
	var b bytes.Buffer
	w, err := NewWriter(&b, Header{Cells: 3, Guest: &Guest{Name: "6.12", From: "bzImage", Emulator: "QEMU 7.2", Accelerator: "tcg", Memory: 768, CPUs: 1}})
	if err != nil {
		t.Fatal(err)
	}
	want := Ending{Why: "the kernel died: Oops", Died: true, Console: []string{"Oops", "Call Trace:"}}
	if err := w.End(want); err != nil {
		t.Fatal(err)
	}
	run, err := Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&want, run.Ending); diff != "" {
		t.Errorf("ending:\n%s", diff)
	}
	if run.Header.Guest == nil || run.Header.Guest.Name != "6.12" {
		t.Errorf("guest: got %v", run.Header.Guest)
	}
	if _, err := Read(strings.NewReader(`{"schema":2}` + "\n" + `{"ending":{"why":""}}` + "\n")); err == nil {
		t.Error("an ending without a reason was read")
	}
}

// TestUntilFail: a run that was to go on until something fails did not end by itself where nothing has, whoever reads it.
func TestUntilFail(t *testing.T) {
	const endless, most = "it was to go on until something fails, and nothing has", "it was to go on until something fails, or for 2 cells, and has 1"
	said := Ending{Why: "interrupted after 1 cell"}
	for _, tt := range []struct {
		name   string
		header *UntilFail
		cells  []Cell
		ending *Ending
		want   string // why it did not end by itself; empty: it did
	}{
		{"an older ledger", nil, []Cell{passed()}, nil, ""},
		{"nothing has failed", &UntilFail{}, []Cell{passed(), skipped()}, nil, endless},
		{"nothing was played", &UntilFail{}, nil, nil, endless},
		{"nothing can be played", &UntilFail{}, []Cell{skipped()}, nil, ""},
		{"one has failed", &UntilFail{}, []Cell{failed(), passed()}, nil, ""},
		{"a line says how", &UntilFail{}, []Cell{passed()}, &said, said.Why},
		{"all repeats", &UntilFail{Most: 2}, []Cell{passed(), skipped()}, nil, ""},
		{"one is missing", &UntilFail{Most: 2}, []Cell{passed()}, nil, most},
		{"one has failed before", &UntilFail{Most: 2}, []Cell{failed()}, nil, ""},
	} {
		h := header(0)
		h.UntilFail = tt.header
		text := write(t, []*Run{{Header: h, Cells: tt.cells, Ending: tt.ending}})
		why := func(runs []*Run, err error) string {
			if err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			if runs[0].Ending == nil {
				return ""
			}
			return runs[0].Ending.Why
		}
		skimmed, err := Skim(strings.NewReader(text), func(*Run, *Cell) error { return nil })
		got := []string{why(skimmed, err)}
		// Another run behind it changes nothing, nor that it is cut short itself.
		both, err := ReadAll(strings.NewReader(text+write(t, []*Run{{Header: h, Cells: tt.cells}})[:len(ledger(t, h))]), 0)
		got = append(got, why(both, err))
		stored, err := ReadStored(strings.NewReader(text), strings.NewReader(text), 0)
		got = append(got, why([]*Run{stored}, err))
		for i, g := range got {
			if g != tt.want {
				t.Errorf("%s, read in way %d: %q; want %q", tt.name, i, g, tt.want)
			}
		}
	}
	for name, h := range map[string]string{"a plan": `"cells":2,"until_fail":{}`, "less than nothing": `"until_fail":{"most":-1}`} {
		_, err := Read(strings.NewReader(`{"schema":2,` + h + "}\n"))
		if err == nil || !strings.Contains(err.Error(), "line 1: a run until something fails has no plan") {
			t.Errorf("%s: %v", name, err)
		}
	}
	h := header(0)
	h.UntilFail = &UntilFail{Most: 1}
	_, err := Read(strings.NewReader(ledger(t, h, passed(), failed())))
	if err == nil || !strings.Contains(err.Error(), "one more than the 1 cell that there are at most") {
		t.Errorf("more than most: %v", err)
	}
}

// TestBounds: a text that would take much more memory than its size is refused by its line.
func TestBounds(t *testing.T) {
	whole := ledger(t, header(0), passed())
	for _, tt := range []struct{ name, text, want string }{
		{"scenarios", strings.Replace(whole, `"modes"`, `"scenarios":[`+strings.Repeat(`{"name":"a"},`, 10_000)+`{}],"modes"`, 1), "line 1: 10001 scenarios: want no more than 10000"},
		{"bugs", strings.Replace(whole, `"modes"`, `"bugs":[`+strings.Repeat(`{"id":"a"},`, 1000)+`{}],"modes"`, 1), "line 1: 1001 bugs"},
		{"modes", `{"schema":2,"modes":[` + strings.Repeat("{},", 100) + "{}]}\n", "line 1: 101 modes"},
		{"objects", strings.Replace(whole, `"resets":[`, `"resets":[`+strings.Repeat("{},", maxValues), 1), "line 2: more than 262144 values"},
		{"nulls", strings.Replace(whole, `"resets":[`, `"resets":[`+strings.Repeat("null,", maxValues), 1), "line 2: more than 262144 values"},
		{"empty lines", whole + strings.Repeat("\n", maxEmpty+1), "line 10003: it is empty, as are the 10000 before it"},
	} {
		if _, err := Read(strings.NewReader(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: want %q, got %v", tt.name, tt.want, err)
		}
	}
	if _, err := Read(strings.NewReader(strings.ReplaceAll(whole, "\n", strings.Repeat("\n", maxEmpty)))); err != nil {
		t.Error(err)
	}
	if _, err := ReadAll(strings.NewReader(ledger(t, header(2), passed(), failed())), 1); !errors.Is(err, ErrManyCells) {
		t.Errorf("two cells, where one is wanted: %v", err)
	}
}

// TestKindsWithoutEnd: what is kept grows with how many different cells there are, and not with how often each was played.
func TestKindsWithoutEnd(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"schema":2,"modes":[]}` + "\n")
	for i := range maxKinds + 1 {
		fmt.Fprintf(&b, `{"scenario":"s%d","family":"ipv4","mode":"off","repeat":1,"status":"PASS","control":"control"}`+"\n", i)
	}
	_, err := Skim(strings.NewReader(b.String()), func(*Run, *Cell) error { return nil })
	if want := fmt.Sprintf("line %d: s%d/ipv4/off/1 contradicts itself: it is one more than %[3]d different cells", maxKinds+2, maxKinds, maxKinds); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("want %q, got %v", want, err)
	}
}

// TestEndsEarly: a packed text that is cut short has the cells up to there, wherever that is; what cannot be read for another reason is an
// error.
func TestEndsEarly(t *testing.T) {
	whole := ledger(t, header(2), passed(), failed())
	one := strings.LastIndex(strings.TrimSuffix(whole, "\n"), "\n") + 1
	for _, n := range []int{one, one + 20} {
		run, err := Read(io.MultiReader(strings.NewReader(whole[:n]), iotest.ErrReader(io.ErrUnexpectedEOF)))
		if err != nil || len(run.Cells) != 1 || run.Missing() != 1 {
			t.Errorf("after %d bytes: %+v, %v", n, run, err)
		}
		if _, err := Read(io.MultiReader(strings.NewReader(whole[:n]), iotest.ErrReader(errors.New("a bad disk")))); err == nil || !strings.Contains(err.Error(), "line 3: a bad disk") {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}
