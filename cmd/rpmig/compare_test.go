//go:build linux

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/result"
)

// TestCompareTakesLittle: two ledgers of 100,000 cells each, of 2.4 kB, are compared in 300 MiB. What it takes of the processor is
// for BenchmarkCompare to say, as this machine may be any.
func TestCompareTakesLittle(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("half a gigabyte goes through pipes")
	}
	var names []string
	for _, broken := range []int{0, largeBroken} {
		name := filepath.Join(t.TempDir(), "ledger")
		if err := unix.Mkfifo(name, 0o600); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
		go func() { // ends with its reader
			f, err := os.OpenFile(name, os.O_WRONLY, 0)
			if err != nil {
				return
			}
			defer f.Close()
			_ = writeLarge(f, broken)
		}()
	}
	_, held := compareLarge(t, shipped(t), names)
	const most = 300 // MiB
	t.Logf("%d MiB", held)
	if held > most {
		t.Errorf("it took %d MiB, want %d or less", held, most)
	}
}

// BenchmarkCompare is what that takes of a machine, given files: on two idle processors less than 3 s.
func BenchmarkCompare(b *testing.B) {
	var names []string
	for _, broken := range []int{0, largeBroken} {
		f, err := os.Create(filepath.Join(b.TempDir(), "ledger"))
		if err != nil {
			b.Fatal(err)
		}
		if err := errors.Join(writeLarge(f, broken), f.Close()); err != nil {
			b.Fatal(err)
		}
		names = append(names, f.Name())
	}
	bin := shipped(b)
	var cpu time.Duration
	most := 0
	for b.Loop() {
		used, held := compareLarge(b, bin, names)
		cpu += used
		most = max(most, held)
	}
	b.ReportMetric(cpu.Seconds()/float64(b.N), "cpu-s/op")
	b.ReportMetric(float64(most), "MiB")
}

// The cells of a large ledger, and of how many one has failed.
const largeCells, largeBroken = 100_000, 5000

// compareLarge compares two of writeLarge's, and says what it took of the processors, and the most memory that it held, in MiB.
func compareLarge(t testing.TB, bin string, names []string) (cpu time.Duration, held int) {
	t.Helper()
	cmd, most := measured(t, bin, append([]string{"compare"}, names...)...)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != result.ExitFail || !strings.Contains(string(out), "20 regressed, 99980 as before") {
		t.Fatalf("%v\n%.2000s", err, out)
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), most()
}

// writeLarge writes a ledger of which one cell in so many has failed; 0: none.
func writeLarge(w io.Writer, broken int) error {
	out := bufio.NewWriterSize(w, 1<<20)
	fmt.Fprintf(out, `{"schema":%d,"version":"v","kernel":"6.18.44","machine":"x86_64","command":[],"cells":%d,"port":80,"modes":[]}`+"\n", result.Schema, largeCells)
	var check = `{"name":"accepted on the new listener","witness":"application","want":"1","got":"1","ok":true},`
	rest := `"control":"controlled","connections":{"staged":1,"survived":1,"lost":0},"resets":[],"counters":{"OutSegs":5,"TCPMigrateReqSuccess":1},"checks":[` +
		strings.TrimSuffix(strings.Repeat(check, 22), ",") + `],"steps":[{"name":"close A","at":0.0361}],"flow":[],"capture":{"packets":6,"lost":0},"elapsed":0.25}` + "\n"
	for i := range largeCells {
		status, rest := "PASS", rest
		if broken > 0 && i%broken == 0 {
			status, rest = "FAIL", strings.Replace(rest, `"got":"1","ok":true`, `"got":"0","ok":false`, 1)
		}
		fmt.Fprintf(out, `{"scenario":"case-%d","family":"ipv4","mode":"sysctl","repeat":1,"status":%q,"reason":"as expected",%s`, i, status, rest)
	}
	return out.Flush()
}

// TestParseShard: I and N come from where the flag says, and from nowhere else.
func TestParseShard(t *testing.T) {
	gitlab := map[string]string{"CI_NODE_INDEX": "2", "CI_NODE_TOTAL": "3"}
	buildkite := map[string]string{"BUILDKITE_PARALLEL_JOB": "0", "BUILDKITE_PARALLEL_JOB_COUNT": "4"}
	kubernetes := map[string]string{"JOB_COMPLETION_INDEX": "4"}
	for _, c := range []struct {
		text string
		env  map[string]string
		want harness.Shard // zero: refused
	}{
		{"1/1", nil, harness.Shard{Index: 1, Of: 1}},
		{"2/7", gitlab, harness.Shard{Index: 2, Of: 7}},
		{"auto", gitlab, harness.Shard{Index: 2, Of: 3}},
		{"auto/3", gitlab, harness.Shard{Index: 2, Of: 3}},
		{"auto", buildkite, harness.Shard{Index: 1, Of: 4}},
		{"auto/5", kubernetes, harness.Shard{Index: 5, Of: 5}},
		{"auto/4", kubernetes, harness.Shard{}},
		{"auto/4", gitlab, harness.Shard{}},
		{"auto", kubernetes, harness.Shard{}},
		{"auto", nil, harness.Shard{}},
		{"auto/3", nil, harness.Shard{}},
		{"auto", map[string]string{"CI_NODE_INDEX": "1", "CI_NODE_TOTAL": "2", "JOB_COMPLETION_INDEX": "1"}, harness.Shard{}},
		{"auto", map[string]string{"CI_NODE_INDEX": "1"}, harness.Shard{}},
		{"auto", map[string]string{"CI_NODE_INDEX": "x", "CI_NODE_TOTAL": "2"}, harness.Shard{}},
		{"", nil, harness.Shard{}},
		{"1", nil, harness.Shard{}},
		{"0/3", nil, harness.Shard{}},
		{"4/3", nil, harness.Shard{}},
		{"1/0", nil, harness.Shard{}},
		{"1/1000000", nil, harness.Shard{}},
		{"1/3/5", nil, harness.Shard{}},
		{"-1/3", nil, harness.Shard{}},
	} {
		got, err := parseShard(c.text, func(name string) string { return c.env[name] })
		if got != c.want || (err == nil) != (c.want != harness.Shard{}) {
			t.Errorf("%q with %v: %+v, %v; want %+v", c.text, c.env, got, err, c.want)
		}
		var usage *usageError
		if err != nil && !errors.As(err, &usage) {
			t.Errorf("%q: %v is no wrong usage", c.text, err)
		}
	}
}

// TestReplaceFile: what was there stays until all of the new is.
func TestReplaceFile(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "base")
	for _, text := range []string{"one", "two"} {
		if err := replaceFile(t.Context(), name, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, []byte(text)) {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
	if err := replaceFile(t.Context(), filepath.Join(dir, "none", "base"), nil); err == nil {
		t.Error("written into no folder")
	}
}
