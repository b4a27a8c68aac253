//go:build linux

package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/scenarios"
)

// TestSchema1: a ledger of the first schema still makes every report, tells each cell, and goes into a bundle.
func TestSchema1(t *testing.T) {
	dir := t.TempDir()
	ledger, err := os.ReadFile(filepath.Join("..", "..", "result", "testdata", "schema1.jsonl"))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, ledgerName), ledger, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	run, err := readLedger(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "run.tar.gz")
	commands := [][]string{{"bundle", dir, "-o", file}, {"bundle", "--check", file}}
	for _, format := range formatNames() {
		report := []string{"report", dir, "--format=" + format}
		if format == "kcidb" {
			report = append(report, "--kcidb-origin=lab", "--kcidb-build=lab:1", "--kcidb-id=1")
		}
		commands = append(commands, report, append(slices.Clone(report), "-v"))
	}
	for i := range run.Cells {
		commands = append(commands, []string{"explain", filepath.Join(dir, run.Cells[i].ID())})
	}
	for _, args := range commands {
		status, stdout, stderr := inProcess(t.Context(), scenarios.All(), args...)
		if status != result.ExitOK || stdout == "" && args[0] != "bundle" {
			t.Errorf("%q: exit status %d\n%s%s", args, status, stdout, stderr)
		}
	}
}
