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

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/result"
)

// TestCompareTakesLittle: two ledgers of 100,000 cells each, of 2.6 kB, are compared in 300 MiB. The processor's time, of
// two goroutines, is logged and not judged, as this machine may be any.
func TestCompareTakesLittle(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("half a gigabyte goes through pipes")
	}
	const cells, most = 100_000, 300 // MiB
	// Not the test binary, whose race detector takes several times the memory.
	bin := shipped(t)
	var names []string
	for _, broken := range []int{0, 5000} {
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
			writeLarge(f, cells, broken)
		}()
	}
	cmd, held := measured(t, bin, append([]string{"compare"}, names...)...)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != result.ExitFail || !strings.Contains(string(out), "20 regressed, 99980 as before") {
		t.Fatalf("%v\n%.2000s", err, out)
	}
	t.Logf("%d MiB, %v of processor time", held(), cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
	if held() > most {
		t.Errorf("it took %d MiB, want %d or less", held(), most)
	}
}

// writeLarge writes a ledger of which one cell in so many has failed; 0: none.
func writeLarge(w io.Writer, cells, broken int) {
	out := bufio.NewWriterSize(w, 1<<20)
	defer out.Flush()
	fmt.Fprintf(out, `{"schema":%d,"version":"v","kernel":"6.18.44","machine":"x86_64","command":[],"cells":%d,"port":80,"modes":[]}`+"\n", result.Schema, cells)
	var check = `{"name":"accepted on the new listener","witness":"application","want":"1","got":"1","ok":true},`
	rest := `"control":"controlled","connections":{"staged":1,"survived":1,"lost":0},"resets":[],"counters":{"OutSegs":5,"TCPMigrateReqSuccess":1},"checks":[` +
		strings.TrimSuffix(strings.Repeat(check, 22), ",") + `],"steps":[{"name":"close A","at":0.0361}],"flow":[],"capture":{"packets":6,"lost":0},"elapsed":0.25}` + "\n"
	for i := range cells {
		status := "PASS"
		if broken > 0 && i%broken == 0 {
			status = "FAIL"
		}
		fmt.Fprintf(out, `{"scenario":"case-%d","family":"ipv4","mode":"sysctl","repeat":1,"status":%q,"reason":"as expected",%s`, i, status, rest)
	}
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
		if err := replaceFile(name, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, []byte(text)) {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
	if err := replaceFile(filepath.Join(dir, "none", "base"), nil); err == nil {
		t.Error("written into no folder")
	}
}
