//go:build linux

package main

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/rpmig/rpmig/result"
)

// manyCells is how many cells the ledgers of TestManyCells have: 1,000,000 with make test-million. It takes some thousand to have each kind
// of cell more than once.
var manyCells = flag.Int("cells", 3000, "how many `cells` the ledgers of TestManyCells have: a multiple of 1000")

// The kinds of cells of such a ledger, a thousand.
const (
	manyCases = 100
	manyFails = 997 // one cell of so many has failed
)

var (
	manyFamilies = []string{"ipv4", "ipv6"}
	manyModes    = []string{"off", "sysctl", "bpf", "bpf-pass", "bpf-drop"}
)

// manyWriter writes a ledger of any number of cells of 1.3 kB, and holds none.
type manyWriter struct {
	cells   int
	planned int // as the header says
	shard   *result.Shard
	begin   string                                // before the header
	end     string                                // of a line
	line    func(n int, head, rest string) string // makes another line n of one, from 1; nil: all are as they are
	after   string                                // all cells
}

// rest is what follows the name of a cell, as result.Writer writes it.
func (m *manyWriter) rest(c result.Cell) string {
	var b strings.Builder
	c.Scenario, c.Family, c.Mode, c.Repeat = "x", "x", "x", 1
	c.Reason, c.Control, c.Elapsed, c.DropBackend = "lived, as expected: migrated, no RST", result.Controlled, 0.2454, "iptables (nf_tables)"
	c.Connections, c.Capture = result.Connections{Staged: 1, Survived: 1}, result.Capture{Packets: 18}
	c.Counters = map[string]int64{"ActiveOpens": 1, "InSegs": 16, "OutSegs": 17, "PassiveOpens": 1, "RetransSegs": 1, result.MigrateSuccess: 1}
	c.Steps = result.Steps{{Name: "A listens", At: 1.813e-06}, {Name: `1 client connects and sends "Hello World"`, At: 0.0055}, {Name: "B listens", At: 0.00554}, {Name: "close A", At: 0.0067}}
	c.Flow = []result.Segment{
		{Time: 0.005516352, Frame: 1, FromClient: true, Role: result.RoleSYN, Text: "S seq 0", Note: "the client connects"},
		{Time: 0.005523633, Frame: 2, Role: result.RoleSYNACK, Text: "S. seq 0, ack 1", Note: "the server answers the SYN"},
		{Time: 0.005541129, Frame: 4, FromClient: true, Role: result.RoleData, Dropped: true, Text: "P. seq 1:12, ack 1", Note: "the client sends; dropped by the rule"},
	}
	w, err := result.NewWriter(io.Discard, result.Header{})
	if err == nil {
		err = w.WriteChanged(&c, func(text []byte) []byte { b.Write(text); return text })
	}
	if err != nil {
		panic(err)
	}
	return b.String()[strings.Index(b.String(), `"status"`):]
}

func (m *manyWriter) write(w io.Writer) error {
	check := result.Check{Name: "request sockets", Witness: result.Staging, Want: "1", Got: "1", OK: true}
	wrong := result.Check{Name: "accepted with their data", Witness: result.Application, Want: "1", Got: "0"}
	pass := m.rest(result.Cell{Status: result.Pass, Checks: []result.Check{check, check, check, check}})
	fail := m.rest(result.Cell{Status: result.Fail, Checks: []result.Check{check, check, check, wrong}})
	h := result.Header{Version: "0.1.0", Kernel: "6.18.44", Machine: "x86_64", Cells: m.planned, Port: 80, Shard: m.shard}
	for _, name := range manyModes {
		h.Modes = append(h.Modes, result.Mode{Name: name, Doc: "a way to migrate"})
	}
	out := bufio.NewWriterSize(w, 1<<20)
	_, _ = out.WriteString(m.begin)
	if _, err := result.NewWriter(out, h); err != nil {
		return err
	}
	first := 0
	if m.shard != nil {
		first = (m.shard.Index - 1) * m.cells
	}
	for n := first + 1; n <= first+m.cells; n++ {
		k := (n - 1) % (manyCases * len(manyFamilies) * len(manyModes))
		head := manyHead(k/len(manyModes)/len(manyFamilies), manyFamilies[k/len(manyModes)%len(manyFamilies)], manyModes[k%len(manyModes)], 1+(n-1)/1000)
		rest := pass
		if n%manyFails == 0 {
			rest = fail
		}
		if m.line != nil {
			head, rest = "", m.line(n, head, rest)
		}
		_, _ = out.WriteString(head)
		_, _ = out.WriteString(rest)
		if _, err := out.WriteString(m.end + "\n"); err != nil {
			return err
		}
	}
	_, _ = out.WriteString(m.after)
	return out.Flush()
}

func manyHead(scenario int, family, mode string, repeat int) string {
	return fmt.Sprintf(`{"scenario":"case-%03d","family":"%s","mode":"%s","repeat":%d,`, scenario, family, mode, repeat)
}

// file writes it to a file.
func (m *manyWriter) file(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err == nil {
		err = errors.Join(m.write(f), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// many is what a command came to that was given many cells.
type many struct {
	code, held int           // MiB
	took       time.Duration // of the processors
	lines      int
	head, last string // of stdout
	stderr     string
}

// runMany runs a command, with what comes to its standard input, if anything.
func runMany(t *testing.T, in func(w io.Writer) error, args ...string) many {
	t.Helper()
	cmd, held := measured(t, shipped(t), args...)
	var out lineCounter
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if in != nil {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stdin = r
		go func() {
			defer w.Close()
			_ = in(w) // it may have read enough
		}()
		defer r.Close()
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	m := many{
		code: cmd.ProcessState.ExitCode(), held: held(), took: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(),
		lines: out.lines, head: string(out.head), last: string(out.last), stderr: stderr.String(),
	}
	t.Logf("%4d MiB, %5.1f s of CPU: rpmig %s: %d: %.300s", m.held, m.took.Seconds(), strings.Join(args, " "), m.code, strings.ReplaceAll(m.stderr, "\n", " "))
	return m
}

// lineCounter counts lines, and keeps the beginning and the end of a text.
type lineCounter struct {
	lines      int
	head, last []byte
}

func (l *lineCounter) Write(p []byte) (int, error) {
	const kept = 4096
	l.lines += bytes.Count(p, []byte("\n"))
	l.head = append(l.head, p[:min(len(p), kept-len(l.head))]...)
	l.last = append(l.last, p[max(len(p)-kept, 0):]...)
	l.last = append([]byte(nil), l.last[max(len(l.last)-kept, 0):]...)
	return len(p), nil
}

// want holds it against what was wanted: the exit status, no more than so many MiB, and what is in the texts.
func (m many) want(t *testing.T, code, most int, texts ...string) {
	t.Helper()
	if m.code != code {
		t.Errorf("exit status: want %d, got %d: %s", code, m.code, m.stderr)
	}
	if m.held > most {
		t.Errorf("it took %d MiB, and not up to %d", m.held, most)
	}
	all := strings.Join(strings.Fields(m.head+m.last+m.stderr), " ")
	for _, text := range texts {
		if !strings.Contains(all, text) {
			t.Errorf("want %q:\n%s\n%s\n%s", text, m.head, m.last, m.stderr)
		}
	}
}

// within fails if it took longer.
func (m many) within(t *testing.T, most time.Duration) {
	t.Helper()
	if m.took > most {
		t.Errorf("it took %v of the processors, and not up to %v", m.took, most)
	}
}

// stdin is the standard input, as a file to be read.
const stdin = "/dev/stdin"

// What commands may hold, in MiB, of any number of cells: those whose report is written as the ledger is read, and all others.
const (
	manyStreamed = 100
	zstdWindow   = 128 // that package unpack lets zstd look back
	manyHeld     = 600
)

// TestManyCells: no command takes more memory for a ledger of very many cells than it promises; one that cannot take them says so at once.
//
// Of a million cells, 1.3 GB, on two busy processors (MiB, seconds of CPU): text 83, 53; jsonl 77, 51; ktap and tap 83, 51; junit 85, 56; lava 84, 50; markdown 79, 24; explain
// 81, 24; merge of two halves 121, 74; compare of two 187, 19; baseline 175, 10. A page is refused after 1.5 s, a bundle after 0.1.
func TestManyCells(t *testing.T) {
	t.Parallel()
	cells := *manyCells
	fails := cells / manyFails
	sum := fmt.Sprintf("%d cells: %d PASS, %d FAIL", cells, cells-fails, fails)
	totals := fmt.Sprintf("# Totals: pass:%d fail:%d xfail:0", cells-fails, fails)
	dir := t.TempDir()
	ledger := filepath.Join(dir, ledgerName)
	(&manyWriter{cells: cells, planned: cells}).file(t, ledger)
	for _, c := range []struct {
		format string
		lines  int // at least
		texts  []string
	}{
		{"text", 100, []string{sum}},
		{"jsonl", cells + 1, nil},
		{"ktap", cells, []string{fmt.Sprintf("1..%d", cells), totals}},
		{"tap", cells, []string{fmt.Sprintf("1..%d", cells), totals}},
		{"junit", cells, []string{fmt.Sprintf(`<testsuites name="rpmig" tests="%d" failures="%d"`, cells, fails), "</testsuites>"}},
		{"lava", cells, nil},
		{"markdown", 5, []string{fmt.Sprintf("| %d | %d | %d |", cells, cells-fails, fails)}},
	} {
		t.Run(c.format, func(t *testing.T) {
			t.Parallel()
			m := runMany(t, nil, "report", ledger, "--format="+c.format)
			m.want(t, result.ExitOK, manyStreamed, c.texts...)
			if m.lines < c.lines {
				t.Errorf("want %d lines, got %d", c.lines, m.lines)
			}
		})
	}
	for _, format := range []string{"html", "kcidb --kcidb-origin=me --kcidb-build=me:1 --kcidb-id=1", "nipa"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			m := runMany(t, nil, append([]string{"report", ledger}, strings.Fields("--format="+format)...)...)
			if cells > 100_000 {
				m.want(t, result.ExitUsage, manyHeld, "cells that --format=", "these take any number")
				m.within(t, 20*time.Second)
			} else {
				m.want(t, result.ExitOK, manyHeld)
			}
		})
	}
	t.Run("compare", func(t *testing.T) {
		t.Parallel()
		runMany(t, nil, "compare", ledger, ledger).want(t, result.ExitOK, 300, "still failing")
	})
	t.Run("baseline", func(t *testing.T) {
		t.Parallel()
		if m := runMany(t, nil, "baseline", ledger); m.lines != min(cells, 1000)+1 {
			t.Errorf("%d lines", m.lines)
		} else {
			m.want(t, result.ExitOK, 300)
		}
	})
	t.Run("explain", func(t *testing.T) {
		t.Parallel()
		id := fmt.Sprintf("case-050/ipv4/sysctl/%d", cells/1000)
		runMany(t, nil, "explain", filepath.Join(dir, id)).want(t, result.ExitOK, manyStreamed, "PASS "+id, "S. seq 0, ack 1")
	})
	t.Run("bundle", func(t *testing.T) {
		t.Parallel()
		m := runMany(t, nil, "bundle", dir, "-o", filepath.Join(t.TempDir(), "b.tar.gz"))
		if cells > 25_000 {
			m.want(t, result.ExitSoftware, 250, "run fewer scenarios or repeats, and bundle those")
			m.within(t, 10*time.Second)
		} else {
			m.want(t, result.ExitOK, 250)
		}
	})
	t.Run("merge", func(t *testing.T) {
		t.Parallel()
		args := []string{"merge"}
		for i := range 2 {
			shard := filepath.Join(t.TempDir(), ledgerName)
			(&manyWriter{cells: cells / 2, planned: cells / 2, shard: &result.Shard{Index: i + 1, Of: 2, Planned: cells}}).file(t, shard)
			args = append(args, filepath.Dir(shard))
		}
		to := filepath.Join(t.TempDir(), "merged")
		runMany(t, nil, append(args, "-o", to)...).want(t, result.ExitFail, 150, sum)
	})
	for _, c := range manyDamaged(cells) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			missing := fmt.Sprintf("cut short: %d of %d cells are missing", c.missing, cells)
			switch {
			case c.missing == 0:
				missing = ""
			case c.missing < 0:
				missing = fmt.Sprintf(" of %d cells are missing", cells)
			}
			m := runMany(t, c.write, "report", stdin, "--format=markdown") // which is the fastest
			m.want(t, result.ExitOK, c.most, missing)
			const block = 2000 // cells that packers write together, at most
			row := strings.Fields(m.head[strings.Index(m.head, "6.18.44"):])
			switch got, err := strconv.Atoi(row[4]); {
			case err != nil:
				t.Error(err)
			case c.missing >= 0 && got != cells-c.missing, got < cells-block, c.missing < 0 && got == cells:
				t.Errorf("%d cells of %d", got, cells)
			}
		})
	}
	for _, c := range manyHostile(cells) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			format := "--format=markdown"
			if c.refused == "" {
				format = "--format=text" // which keeps most
			}
			for _, args := range [][]string{{"report", stdin, format}, {"baseline", stdin}} {
				m := runMany(t, c.write, args...)
				if c.refused == "" {
					m.want(t, result.ExitOK, manyHeld)
				} else {
					m.want(t, result.ExitSoftware, manyHeld, c.refused)
				}
				m.within(t, time.Minute+time.Duration(cells)*100*time.Microsecond)
			}
		})
	}
}

// manyText is a text of many cells: what it is called, how it is written, and what it comes to.
type manyText struct {
	name    string
	write   func(io.Writer) error
	most    int    // MiB
	missing int    // cells; less than 0: some
	refused string // what is said of it; "": nothing, it is read
}

// manyDamaged are ledgers that something has happened to, most often at their end.
func manyDamaged(cells int) []manyText {
	whole := func() *manyWriter { return &manyWriter{cells: cells, planned: cells} }
	short := func() *manyWriter { return &manyWriter{cells: cells - 1, planned: cells} }
	part := manyHead(99, "ipv6", "bpf-drop", cells/1000) + `"status":"PA`
	marked := whole()
	marked.begin = byteOrderMark
	crlf := whole()
	crlf.end = "\r"
	empty, between := whole(), whole()
	empty.after = "\n"
	between.line = func(n int, head, rest string) string { return head + rest + strings.Repeat("\n", n%2) }
	cut, zeros := short(), short()
	cut.after, zeros.after = part, part+strings.Repeat("\x00", 4096)
	return []manyText{
		{"cut in the last line", cut.write, manyStreamed, 1, ""},
		{"zeros of a power cut", zeros.write, manyStreamed, 1, ""},
		{"an empty line at the end", empty.write, manyStreamed, 0, ""},
		{"empty lines between", between.write, manyStreamed, 0, ""},
		{"a byte order mark", marked.write, manyStreamed, 0, ""},
		{"CRLF", crlf.write, manyStreamed, 0, ""},
		{"gzip", packed(gzipped, whole(), 0), manyStreamed, 0, ""},
		{"zstd", packed(zstded, whole(), 0), manyStreamed + zstdWindow, 0, ""},
		{"gzip, cut at its end", packed(gzipped, whole(), 20), manyStreamed, -1, ""},
		{"zstd, cut at its end", packed(zstded, whole(), 20), manyStreamed + zstdWindow, -1, ""},
	}
}

func gzipped(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriterLevel(w, gzip.BestSpeed) }

func zstded(w io.Writer) (io.WriteCloser, error) {
	return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
}

// packed packs a ledger, and leaves out so many of the last bytes.
func packed(with func(io.Writer) (io.WriteCloser, error), m *manyWriter, cut int) func(io.Writer) error {
	return func(w io.Writer) error {
		held := &holdBack{w: w, most: cut}
		zip, err := with(held)
		if err != nil {
			return err
		}
		return errors.Join(m.write(zip), zip.Close())
	}
}

// holdBack writes all but the last bytes.
type holdBack struct {
	w    io.Writer
	most int
	held []byte
}

func (h *holdBack) Write(p []byte) (int, error) {
	h.held = append(h.held, p...)
	n := max(len(h.held)-h.most, 0)
	_, err := h.w.Write(h.held[:n])
	h.held = append([]byte(nil), h.held[n:]...)
	return len(p), err
}

// manyHostile are ledgers that somebody has made on purpose.
func manyHostile(cells int) []manyText {
	at := func(name, refused string, line int, make func(n int, head, rest string) string) manyText {
		m := &manyWriter{cells: cells, planned: cells, line: func(n int, head, rest string) string {
			if line != 0 && n != line {
				return head + rest
			}
			return make(n, head, rest)
		}}
		return manyText{name: name, write: m.write, refused: refused}
	}
	last := fmt.Sprintf("line %d: ", cells+1)
	replace := func(old, by string) func(int, string, string) string {
		return func(_ int, head, rest string) string { return strings.Replace(head+rest, old, by, 1) }
	}
	named := func(field string, most int) manyText { // a name for each cell
		refused := ""
		if cells > most {
			refused = fmt.Sprintf("line %d: ", most+2)
		}
		return at("as many names of "+field+" as cells", refused, 0, func(n int, head, rest string) string {
			i := strings.Index(head, `"`+field+`":"`) + len(field) + 4
			return head[:i] + fmt.Sprintf("n%d-", n) + head[i:] + rest
		})
	}
	more := &manyWriter{cells: cells, planned: cells}
	more.after = manyHead(0, "ipv4", "off", 1+cells) + more.rest(result.Cell{Status: result.Pass}) + "\n"
	vast := &manyWriter{cells: cells, planned: 1_000_000_000}
	endless := func(text string, times int) func(io.Writer) error {
		return func(w io.Writer) error {
			zip, err := gzipped(w)
			for i := 0; i < times && err == nil; i++ {
				_, err = io.WriteString(zip, text)
			}
			return errors.Join(err, zip.Close())
		}
	}
	head := `{"schema":2,"cells":1,"modes":[]}` + "\n"
	wordy := func(name string, edit func(n int, rest string) string) manyText {
		return at(name, "", 0, func(n int, head, rest string) string { return head + edit(n, rest) })
	}
	const mib = 1 << 20
	text := func(s string) func(io.Writer) error {
		return func(w io.Writer) error { _, err := io.WriteString(w, s); return err }
	}
	return []manyText{
		at("a status against its checks", last+"case-099/ipv6/bpf-drop/", cells, replace(`"got":"1","ok":true`, `"got":"0","ok":false`)),
		at("99 of 1", last+"case-099/ipv6/bpf-drop/", cells, replace(`"survived":1`, `"survived":99`)),
		at("there twice", last+"case-000/ipv4/off/1 contradicts itself: it is there already", cells,
			func(_ int, _, rest string) string { return manyHead(0, "ipv4", "off", 1) + rest }),
		at("a mode of none", last+"case-099/ipv6/sideways/", cells, replace("bpf-drop", "sideways")),
		{name: "one more than planned", write: more.write, refused: fmt.Sprintf("line %d: case-000/ipv4/off/%d contradicts itself: it is one more than the %d cells", cells+2, cells+1, cells)},
		{name: "10^9 planned", write: vast.write},
		at("a line of 17 MiB", "line 12: longer than 16 MiB", 11, func(_ int, head, _ string) string { return head + `"reason":"` + strings.Repeat("x", 17*mib) + `"}` }),
		at("deep JSON", "line 12: ", 11, func(_ int, head, _ string) string { return head + `"checks":` + strings.Repeat("[", 8*mib) }),
		at("values without end", "line 12: more than 262144 values", 11, func(_ int, head, rest string) string {
			return head + `"events":[` + strings.Repeat("null,", 3*mib) + `null],` + rest
		}),
		{name: "a gzip bomb of zeros", write: endless(head+strings.Repeat("\x00", 64*mib), 64), refused: "line 2: longer than 16 MiB"},
		{name: "a gzip bomb of lines", write: endless(head+strings.Repeat("\n", 64*mib), 64), refused: "line 10002: it is empty"},
		{name: "a vast window of zstd", write: text("\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00"), refused: "window size exceeded rpmig: hint: zstd -d --long=31"},
		{name: "a header of modes", write: text(strings.Replace(head, "[]", "["+strings.Repeat(`{"name":"a"},`, mib)+`{"name":"a"}]`, 1)), refused: "line 1: "},
		{name: "a header of scenarios", write: text(strings.Replace(head, "}", `,"scenarios":[`+strings.Repeat(`{"name":"a"},`, 20_000)+`{"name":"a"}]}`, 1)), refused: "line 1: 20001 scenarios: want no more than 10000"},
		named("scenario", 100_000),
		named("family", 100_000),
		named("mode", 0),
		wordy("a reason for each", func(n int, rest string) string {
			return `"status":"SKIP","reason":"because of ` + fmt.Sprint(n) + `","control":"uncontrolled","connections":{},"capture":{},"elapsed":0}`
		}),
		wordy("words for each", func(n int, rest string) string {
			rest = strings.Replace(rest, "iptables", fmt.Sprintf("tables-%d", n), 1)
			rest = strings.Replace(rest, "request sockets", fmt.Sprintf("check %d", n), 1)
			return strings.Replace(rest, "ActiveOpens", fmt.Sprintf("Counter%d", n), 1)
		}),
	}
}
