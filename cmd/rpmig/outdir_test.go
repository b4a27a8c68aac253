//go:build linux

package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

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
