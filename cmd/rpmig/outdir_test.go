//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/evidence"
	"github.com/rpmig/rpmig/result"
)

// TestOwnOut lays the way to a folder as another user could in one that all may write to, as /tmp. The same that is one's own is fine.
func TestOwnOut(t *testing.T) {
	needRoot(t) // to give files to another user
	for _, c := range []struct {
		name    string
		open    bool // others may write where it is
		link    bool
		owner   int
		below   string
		refused bool
	}{
		{name: "their link", open: true, link: true, owner: nobody, refused: true},
		{name: "below their link", open: true, link: true, owner: nobody, below: "sub", refused: true},
		{name: "their folder", open: true, owner: nobody, refused: true},
		{name: "below their folder", open: true, owner: nobody, below: "a/b", refused: true},
		{name: "our link", open: true, link: true},
		{name: "our folder", open: true},
		{name: "their folder, where only we write", owner: nobody},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := t.TempDir()
			if c.open {
				if err := os.Chmod(at, 0o777|os.ModeSticky); err != nil {
					t.Fatal(err)
				}
			}
			way, aim := filepath.Join(at, "way"), t.TempDir()
			err := os.Mkdir(way, 0o755)
			if c.link {
				err = errors.Join(os.Remove(way), os.Symlink(aim, way))
			}
			if err := errors.Join(err, os.Lchown(way, c.owner, c.owner)); err != nil {
				t.Fatal(err)
			}
			err = makeFolder("--out", filepath.Join(way, c.below))
			var usage *usageError
			if refused := errors.As(err, &usage); refused != c.refused || !refused && err != nil {
				t.Errorf("got %v, want it refused: %v", err, c.refused)
			}
			// A file may be in a folder of theirs, and is behind no link of theirs.
			if err := ownFile("bundle", filepath.Join(way, "file")); errors.As(err, &usage) != (c.refused && c.link) {
				t.Errorf("a file there: %v", err)
			}
			if made, _ := os.ReadDir(aim); c.refused && len(made) > 0 {
				t.Errorf("it was refused, and %v was made behind the link", made)
			}
		})
	}
}

// TestNoWayOut has a link lead out of the folder of a run, from where evidence is written to.
func TestNoWayOut(t *testing.T) {
	dir, aim := t.TempDir(), t.TempDir()
	if err := os.Symlink(aim, filepath.Join(dir, "cells")); err != nil {
		t.Fatal(err)
	}
	if err := evidence.Put(evidence.Dir(dir), "cells/quiz1/x", nil); err == nil {
		t.Error("it was written behind the link")
	}
	if made, _ := os.ReadDir(aim); len(made) > 0 {
		t.Errorf("%v was made behind the link", made)
	}
	if err := evidence.Put(evidence.Dir(dir), "bpf/x", []byte("x")); err != nil {
		t.Errorf("beside the link: %v", err)
	}
}

// TestNothingBehindLinks: each command that writes a file or a folder asks whose link leads there.
func TestNothingBehindLinks(t *testing.T) {
	needRoot(t)
	needPlay(t)
	at, aim := t.TempDir(), t.TempDir()
	ours, link := filepath.Join(at, "run"), filepath.Join(at, "link")
	if out, err := exec.Command(rpmigPath(t), "run", "quiz1", "--migrate=off", "--family=ipv4", "--shard=1/1", "--out", ours).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := errors.Join(os.Symlink(aim, link), os.Lchown(link, nobody, nobody), os.Chmod(at, 0o777|os.ModeSticky)); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"run", "quiz1", "--out", link}, {"run", "quiz1", "--bundle", filepath.Join(link, "x")}, {"bundle", ours, "-o", filepath.Join(link, "x")},
		{"baseline", ours, "-o", filepath.Join(link, "x")}, {"baseline", ours, "-o", link}, {"merge", ours, "-o", link},
	} {
		out, err := exec.Command(rpmigPath(t), args...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != result.ExitUsage || !strings.Contains(string(out), " is a link of user ") {
			t.Errorf("%q: %v\n%s", args, err, out)
		}
	}
	if made, _ := os.ReadDir(aim); len(made) > 0 {
		t.Errorf("%v was made behind the link", made)
	}
}

// TestCannot has files and folders be what they may not be. Each error says what was attempted, what the kernel said, and what decides.
func TestCannot(t *testing.T) {
	needRoot(t) // to be another user, who may do less
	needPlay(t)
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o755)); err != nil {
		t.Fatal(err)
	}
	write := func(name string, mode os.FileMode) {
		if err := errors.Join(os.WriteFile(filepath.Join(dir, name), []byte("x\n"), mode), os.Chmod(filepath.Join(dir, name), mode)); err != nil {
			t.Fatal(err)
		}
	}
	write("file", 0o644)
	write("secret", 0o600)
	if err := os.Mkdir(filepath.Join(dir, "closed"), 0o700); err != nil {
		t.Fatal(err)
	}
	const play = "run quiz1 --migrate=off --family=ipv4"
	cmd := exec.Command(rpmigPath(t), append(strings.Fields(play), "--shard=1/1", "--out=run", "-q")...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const usage, failed = result.ExitUsage, result.ExitSoftware
	for _, c := range []struct {
		who, tmp, args string
		status         int
		said, hint     string
	}{
		// What decides is the option, or TMPDIR where there is none.
		{"nobody", "", play + " --out=x", failed, "write the run: mkdir x: permission denied", "choose a folder that you may write to with --out$"},
		{"nobody", "", play + " --out=closed/x", failed, "write the run: lstat closed/x/.*: permission denied", "choose a folder that you may write to with --out$"},
		{"nobody", "", play + " --out=.", failed, "write the run: open run.jsonl: permission denied", "choose a folder that you may write to with --out$"},
		{"root", "", play + " --out=file", usage, "write the run: mkdir file: not a directory", "choose another folder with --out$"},
		{"root", "/nowhere", play + " --bundle=x.tar.gz", failed, "write the run: make a temporary file: .*/nowhere.*: no such file",
			"set TMPDIR to a folder that you may write to, or add --out=DIR$"},
		{"root", "/nowhere", "bundle run -o x.tar.gz", failed, "write the bundle: make a temporary file: .*: no such file", "set TMPDIR to a folder that you may write to$"},
		{"nobody", "", "merge run -o x", failed, "mkdir x: permission denied", "choose a folder that you may write to with -o$"},
		{"root", "", "merge run -o file/x", usage, "mkdir file: not a directory", "choose another folder with -o$"},
		// A run is not played first.
		{"nobody", "", play + " --bundle=x.tar.gz", failed, `write the bundle: write to \.: permission denied`, "choose a file in a folder that .* you may write to$"},
		{"nobody", "", play + " --bundle=closed/x/y", failed, "write the bundle: stat closed/x: permission denied", "choose a file in a folder that .* you may write to$"},
		{"root", "", play + " --bundle=file/x", usage, "file is no folder", "choose a file in a folder that is there$"},
		{"nobody", "", "bundle run -o x.tar.gz", failed, `write the bundle: write to \.: permission denied`, "choose a file in a folder that .* you may write to$"},
		{"nobody", "", "baseline run -o x", failed, "write the baseline: .*: permission denied", "choose a file in a folder that you may write to$"},
		{"root", "", "baseline run -o run", usage, "write the baseline: .*: is a directory", "choose a file: run/known.jsonl$"},
		{"root", "", "baseline run -o nowhere/x", usage, "write the baseline: .*: no such file", "choose a file in a folder that is there$"},
		{"root", "", "baseline run -o /dev/full", failed, "write the baseline: write /dev/full: no space left", "the disk is full: df -h$"},
		// What is read.
		{"nobody", "", "report secret", failed, "read the ledger: open secret: permission denied", "who may: ls -ld secret; as root: sudo rpmig report secret$"},
		{"nobody", "", "explain closed/x.pcap", failed, "explain: stat closed/x.pcap: permission denied", "who may: ls -ld closed/x.pcap; as root: sudo rpmig "},
		{"nobody", "", "compare run secret", failed, "open secret: permission denied", "who may: ls -ld secret; as root: sudo rpmig compare run secret$"},
		{"nobody", "", "bundle --check secret", failed, "bundle: open secret: permission denied", "who may: ls -ld secret; as root: sudo rpmig bundle "},
		{"nobody", "", play + " --baseline=secret", failed, "--baseline: open secret: permission denied", "who may: ls -ld secret; as root: sudo rpmig run "},
		{"nobody", "", "reload --reload rolling --cwd closed -- ls", usage, `--cwd: enter "closed": permission denied`, "rpmig reload --help$"},
		{"root", "", "report file/x", usage, "read the ledger: open file/x: not a directory", "rpmig run all --out DIR && "},
		{"root", "", "compare run file/x", usage, "stat file/x: not a directory", "rpmig run all --out DIR, "},
		{"root", "", "explain file/x.pcap", usage, "explain: there is no file file/x.pcap", "tcpdump "},
	} {
		cmd := exec.Command(rpmigPath(t), strings.Fields(c.args)...)
		cmd.Dir = dir
		if c.tmp != "" {
			cmd.Env = append(os.Environ(), "TMPDIR="+c.tmp)
		}
		if c.who == "nobody" {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		}
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		lines := strings.Split(stderr.String(), "\n")
		if cmd.ProcessState.ExitCode() != c.status || stdout.Len() > 0 || len(lines) != 3 ||
			!matches("^rpmig: error: .*"+c.said, lines[0]) || !matches("^rpmig: hint: "+c.hint, lines[1]) {
			t.Errorf("%s: %s: %v, want status %d, %q and %q\n%s%s", c.who, c.args, err, c.status, c.said, c.hint, &stdout, &stderr)
		}
	}
}

// TestHintOf: what the kernel has said decides what there is to do, where an error knows no better.
func TestHintOf(t *testing.T) {
	full := func(path string) error { return &fs.PathError{Op: "write", Path: path, Err: unix.ENOSPC} }
	for _, c := range []struct {
		err  error
		want string
	}{
		{full("/x"), "the disk is full: df -h"},
		{full(os.TempDir()), "the disk is full: set TMPDIR to another folder"},
		{bundleError("/x/y", full(os.TempDir())), "the disk is full: set TMPDIR to another folder"},
		{bundleError("/x/y", full("/x")), "the disk is full, and nothing was left on it: choose a file on another one"},
		{&outputError{full("/x"), "--out"}, "the disk is full: choose another folder with --out"},
		{&outputError{full("/x"), "-o"}, "the disk is full: choose another folder with -o"},
		{&outputError{full("/x"), temporary}, "the disk is full: set TMPDIR to another folder, or add --out=DIR"},
		{&usageError{what: "no"}, ""},
		{unix.EIO, ""},
	} {
		if got := hintOf(fmt.Errorf("do it: %w", c.err)); got != c.want {
			t.Errorf("%v: got %q, want %q", c.err, got, c.want)
		}
	}
}
