//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/netns"
)

// ownOut refuses a folder for a run to which others have laid the way, in a folder that they may write to, as /tmp: a link of theirs,
// which may lead anywhere, or a folder of theirs, in which they may make links later. What does not exist yet is fine. Below the
// folder evidence.Dir follows no link that leads out of it.
//
// In a user namespace all others are one, and nothing can be told of them: rpmig has looked before it went there.
func ownOut(option, dir string) error { return ownWay(option, dir, true) }

// ownFile refuses a file to which others have laid the way by a link. A folder of theirs is fine: nothing is written behind the file's
// own name.
func ownFile(option, name string) error { return ownWay(option, filepath.Dir(name), false) }

func ownWay(option, dir string, folders bool) error {
	if netns.InUserNS() {
		return nil
	}
	way, err := wayTo(dir)
	if err != nil {
		return fmt.Errorf("%s: %w", option, err)
	}
	for i, name := range way[1:] {
		var parent, at unix.Stat_t
		if unix.Stat(way[i], &parent) != nil || unix.Lstat(name, &at) != nil {
			return nil // nothing is there, or what makes it says why it cannot
		}
		me := uint32(os.Geteuid())
		open := parent.Mode&unix.S_IWOTH != 0
		theirs := at.Uid != me && at.Uid != 0
		kind := ""
		switch {
		case at.Mode&unix.S_IFMT == unix.S_IFLNK && at.Uid != me && (open || parent.Uid != me && parent.Uid != 0):
			kind = "link"
		case folders && at.Mode&unix.S_IFMT == unix.S_IFDIR && theirs && open:
			kind = "folder"
		default:
			continue
		}
		return &usageError{
			fmt.Sprintf("%s: %s is a %s of user %d, in a folder that others may write to: rpmig writes nothing there", option, name, kind, at.Uid),
			"choose another folder; mktemp -d makes one that is yours",
		}
	}
	return nil
}

// wayTo is each folder on the way from the root, which is the first, to a name.
func wayTo(name string) ([]string, error) {
	name, err := filepath.Abs(name)
	if err != nil {
		return nil, err
	}
	way := []string{name}
	for name != "/" {
		name = filepath.Dir(name)
		way = append(way, name)
	}
	slices.Reverse(way)
	return way, nil
}

// makeFolder makes the folder, if its way is not that of others, and looks again: another may have been faster.
func makeFolder(option, dir string) error {
	if err := ownOut(option, dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return &outputError{err, option}
	}
	return ownOut(option, dir)
}

// notThere tells whether an error says that there is no such file, and that what was named is none.
func notThere(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) }

// freeOut refuses a folder that holds a run already.
func freeOut(dir string) error {
	if _, err := os.Lstat(filepath.Join(dir, ledgerName)); err == nil {
		return &usageError{fmt.Sprintf("--out: %s holds a run already", dir), "choose another folder, or: rpmig report " + quote(dir)}
	} else if !notThere(err) {
		return &outputError{err, "--out"}
	}
	return nil
}
