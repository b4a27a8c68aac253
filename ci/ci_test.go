// Package ci tests the files beside it.
package ci

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rpmig/rpmig/published"
)

// TestFiles: each file is taken by the linter or the types of its own system, which refuse it once something in it is not of that
// system.
func TestFiles(t *testing.T) {
	check := checker(t)
	for _, c := range []struct {
		kind, file string
		old, new   string // makes it wrong
	}{
		{kind: "github", file: "github/workflow.yml", old: "fail-fast:", new: "fail-slow:"},
		{kind: "github", file: "github/workflow.yml", old: "matrix.kernel }}", new: "matrix.kernal }}"},
		{kind: "kubernetes", file: "kubernetes/job.yaml", old: "activeDeadlineSeconds:", new: "activeDedlineSeconds:"},
		{kind: "kubernetes", file: "kubernetes/job.yaml", old: "backoffLimitPerIndex:", new: "backoffLimit:"},
		{kind: "kubernetes", file: "kubernetes/job.yaml", old: "completions: 4", new: "completions: 5"},
		{kind: "dockerfile", file: "Dockerfile", old: "ENTRYPOINT", new: "ENTERPOINT"},
	} {
		t.Run(c.file, func(t *testing.T) {
			args := []string{c.kind, c.file}
			if out, err := exec.Command(check, args...).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			args[1] = broken(t, c.file, c.old, c.new)
			if exec.Command(check, args...).Run() == nil {
				t.Errorf("it is also taken with %q", c.new)
			}
		})
	}
}

// TestAction: what the workflow gives the composite action, that has. actionlint knows no file of an action by itself, but holds a
// local one against the workflow that uses it.
func TestAction(t *testing.T) {
	check := checker(t)
	dir := t.TempDir()
	workflow, err := os.ReadFile("github/workflow.yml")
	if err != nil {
		t.Fatal(err)
	}
	action, err := os.ReadFile("github/action.yml")
	if err != nil {
		t.Fatal(err)
	}
	workflow = bytes.ReplaceAll(workflow, []byte("rpmig/rpmig/ci/github@main"), []byte("./ci/github"))
	for _, d := range []string{".github/workflows", "ci/github", ".git"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "ci/github/action.yml"), action, 0o644); err != nil {
		t.Fatal(err)
	}
	lint := func(text []byte) ([]byte, error) {
		name := filepath.Join(dir, ".github/workflows/rpmig.yml")
		if err := os.WriteFile(name, text, 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(check, "github", name)
		cmd.Dir = dir
		return cmd.CombinedOutput()
	}
	if out, err := lint(workflow); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := lint(bytes.Replace(workflow, []byte("scenarios: all"), []byte("scenarioz: all"), 1)); err == nil {
		t.Error("an input that the action has not is taken")
	}
}

// TestGitLab: gitlab-ci-local, which holds a file against GitLab's own schema and then plans its jobs, finds those that are meant.
func TestGitLab(t *testing.T) {
	const name = "gitlab/rpmig.gitlab-ci.yml"
	local, node := published.Package(t, "gitlab-ci-local/dist/index.js"), published.Node(t)
	plan := func(file string) (jobs []string, err error) {
		dir := t.TempDir() // it writes beside the file
		text, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, filepath.Base(file)), text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(node, local, "--file", filepath.Base(file), "--list-csv")
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "HOME="+dir) // where it looks for settings
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("%w: %s", err, &said)
		}
		for line := range strings.Lines(string(out)) {
			job, _, _ := strings.Cut(line, ";")
			jobs = append(jobs, job)
		}
		return jobs, nil
	}
	jobs, err := plan(name)
	if want := []string{"name", "rpmig: [1/4]", "rpmig: [2/4]", "rpmig: [3/4]", "rpmig: [4/4]", "rpmig-together"}; err != nil || !slices.Equal(jobs, want) {
		t.Errorf("%q, %v, want %q", jobs, err, want)
	}
	for _, c := range []struct{ old, new string }{
		{"parallel: 4", "parallel: many"}, {"when: always", "when: sometimes"}, {"before_script:", "before_scrip:"},
		{"needs: [rpmig]", "needs: [rpmlg]"}, {"extends: .rpmig", "extends: .rpmlg"}, {"stages: [rpmig,", "stages: [rpmlg,"},
	} {
		if jobs, err := plan(broken(t, name, c.old, c.new)); err == nil {
			t.Errorf("it is also taken with %q: %q", c.new, jobs)
		}
	}
}

// TestLAVA holds the definition against LAVA's own schema.
func TestLAVA(t *testing.T) {
	const validate = `
import sys, yaml
from lava_common.schemas.test import testdef
testdef.validate(yaml.safe_load(open(sys.argv[1])))`
	run := func(file string) (string, error) {
		out, err := exec.Command("/usr/bin/python3", "-c", validate, file).CombinedOutput()
		return string(out), err
	}
	out, err := run("lava/rpmig.yaml")
	if strings.Contains(out, "No module named") || os.IsNotExist(err) {
		t.Skip("lava-common is not there: make deps")
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if _, err := run(broken(t, "lava/rpmig.yaml", "Definition 1.0", "Definition 9")); err == nil {
		t.Error("it is also taken with a format that there is not")
	}
}

// checker builds the program that has the code of the other systems in it, a module of its own.
func checker(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("to build what checks them takes a minute")
	}
	download := exec.Command("go", "mod", "download")
	download.Dir = "check"
	if out, err := download.CombinedOutput(); err != nil {
		t.Skipf("the modules of ci/check cannot be had: %v: %.300s", err, out)
	}
	bin := filepath.Join(t.TempDir(), "check")
	build := exec.Command("go", "build", "-o", bin, ".")
	build.Dir = "check"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return bin
}

// broken is a copy of a file that is wrong in one place.
func broken(t *testing.T, name, old, new string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte(old)) {
		t.Fatalf("%s has no %q", name, old)
	}
	file := filepath.Join(t.TempDir(), filepath.Base(name))
	if err := os.WriteFile(file, bytes.Replace(text, []byte(old), []byte(new), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}
