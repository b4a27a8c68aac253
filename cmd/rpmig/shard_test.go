//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rpmig/rpmig/result"
)

// TestMergedIsWhole: a run in 1, 2, 3 or 7 parts that are merged is the run that was played at once, but for times and ports: the
// ledger, and the evidence beside it.
func TestMergedIsWhole(t *testing.T) {
	t.Parallel()
	needPlay(t)
	dir := t.TempDir()
	bin := rpmigPath(t)
	play := func(args ...string) {
		t.Helper()
		args = append([]string{"run", "quiz*,late-listener-quiz*,drain-quiz1", "--migrate=off,sysctl", "--family=ipv4,ipv6", "--repeat=2", "--trace=off", "-q"}, args...)
		if out, err := exec.Command(bin, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	same := filepath.Join(dir, "same")
	if out, err := exec.Command("go", "build", "-o", same, "../../bench/same").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	whole := filepath.Join(dir, "whole")
	play("--out", whole)
	want := readRun(t, whole)
	for _, of := range []int{1, 2, 3, 7} {
		merge := []string{"merge", "-o", filepath.Join(dir, fmt.Sprint("merged", of))}
		for i := 1; i <= of; i++ {
			part := filepath.Join(dir, fmt.Sprintf("part%d-%d", of, i))
			play(fmt.Sprintf("--shard=%d/%d", i, of), "--out="+part)
			merge = append(merge, part)
		}
		if out, err := exec.Command(bin, merge...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", merge, err, out)
		}
		if out, err := exec.Command(same, whole, merge[2]).CombinedOutput(); err != nil {
			t.Errorf("%d shards: %v\n%s", of, err, out)
		}
		got := readRun(t, merge[2])
		if g, w := got.Header, want.Header; g.Cells != w.Cells || g.Shard != nil || len(got.Cells) != len(want.Cells) || fmt.Sprint(g.Command) != fmt.Sprint(w.Command[:len(w.Command)-2]) {
			t.Errorf("%d shards: %d of %d cells, %v, %q", of, len(got.Cells), g.Cells, g.Shard, g.Command)
		}
	}
}

func readRun(t *testing.T, dir string) *result.Run {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, ledgerName))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	run, err := result.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	return run
}
