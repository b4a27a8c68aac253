//go:build linux

package main

import (
	"bytes"
	"errors"
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/published"
)

var update = flag.Bool("update", false, "rewrite what the scripts compare with")

// TestScripts plays the txtar scripts of testdata/script with the real main, in processes of their own.
func TestScripts(t *testing.T) {
	schema := published.Look("junit-10.xsd") // of the Jenkins xUnit plugin
	testscript.Run(t, testscript.Params{
		Dir:           filepath.Join("testdata", "script"),
		UpdateScripts: *update,
		Setup: func(e *testscript.Env) error {
			e.Setenv("RPMIG_BIN", filepath.Dir(rpmigPath(t)))
			e.Setenv("GORACE", os.Getenv("GORACE"))
			e.Setenv("JUNIT_SCHEMA", schema)
			return nil
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "play":
				return canPlay(), nil
			case "bpf":
				return canBPF(), nil
			case "schema":
				return schema != "", nil
			case "iptables":
				_, err := exec.LookPath("iptables")
				return err == nil, nil
			default:
				return false, errors.New("no such condition")
			}
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code": cmdCode, "refused": cmdRefused, "tree": cmdTree, "trim": cmdTrim,
		},
	})
}

// canPlay tells whether this user may make network namespaces, with a user namespace's help or without.
func canPlay() bool {
	return netns.Probe() == nil || netns.ProbeUserNS() == nil
}

// canBPF tells whether this user and this kernel can have the migrate program.
func canBPF() bool {
	return netns.Do(func() error {
		modes, err := migrate.Parse("bpf")
		if err != nil {
			return err
		}
		return modes[0].Probe()
	}) == nil
}

// cmdCode is "code STATUS program args…": the program must end with the status.
func cmdCode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code STATUS program [args...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%v: exit status %d, want %d\nstderr: %s", args[1:], got, want, ts.ReadFile("stderr"))
	}
}

// cmdRefused is "refused ERROR HINT program args…": wrong usage, said in two lines on stderr and nothing on stdout.
func cmdRefused(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: refused ERROR HINT program [args...]")
	}
	cmdCode(ts, false, append([]string{"64"}, args[2:]...))
	if out := ts.ReadFile("stdout"); out != "" {
		ts.Fatalf("%v: stdout: %q", args[2:], out)
	}
	lines := strings.Split(ts.ReadFile("stderr"), "\n")
	if len(lines) != 3 || !matches(`^rpmig: error: .*`+args[0], lines[0]) || !matches(`^rpmig: hint: `+args[1], lines[1]) {
		ts.Fatalf("%v: stderr: %q", args[2:], lines)
	}
}

// cmdTree prints the files below a folder, sorted, to stdout.
func cmdTree(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: tree DIR")
	}
	var files []string
	root := ts.MkAbs(args[0])
	ts.Check(filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, rerr := filepath.Rel(root, path)
			files, err = append(files, rel), rerr
		}
		return err
	}))
	slices.Sort(files)
	_, err := ts.Stdout().Write([]byte(strings.Join(files, "\n") + "\n"))
	ts.Check(err)
}

// cmdTrim takes the newline off the end of a file, which txtar cannot do.
func cmdTrim(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: trim FILE")
	}
	name := ts.MkAbs(args[0])
	b, err := os.ReadFile(name)
	ts.Check(err)
	ts.Check(os.WriteFile(name, bytes.TrimRight(b, "\n"), 0o644))
}
