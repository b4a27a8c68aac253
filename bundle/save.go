package bundle

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Save writes a bundle to a file that is there as a whole or not at all. Only with force is one written over; else the
// error is fs.ErrExist. What is there and no plain file, such as a device, is never replaced: the error is ErrNotPlain.
func Save(ctx context.Context, name string, force bool, src Source) error {
	if err := Free(name, force); err != nil {
		return err
	}
	d, err := newDraft(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer d.discard()
	// What makes a page of a million cells looks at no context, so it is not waited for. It finds the file closed.
	written := make(chan error, 1)
	go func() { written <- Write(ctx, d.f, src) }()
	select {
	case err = <-written:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	// A disk may be found full as late as here.
	if err := errors.Join(d.f.Chmod(0o644), d.f.Sync()); err != nil {
		return err
	}
	if err := Free(name, force); err != nil {
		return err
	}
	return d.publish(name, force)
}

// ErrNotPlain says that a bundle cannot be written to what is no plain file.
var ErrNotPlain = errors.New("no plain file")

// Free tells whether Save would write to a file of that name.
func Free(name string, force bool) error {
	if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if !force {
		return &fs.PathError{Op: "write", Path: name, Err: fs.ErrExist}
	}
	// Also behind a link: /dev/stdout is one, and its name would be taken away from all.
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return &fs.PathError{Op: "write", Path: name, Err: ErrNotPlain}
	}
	return nil
}

// draft is a file that gets its name once it is whole.
type draft struct {
	f *os.File
	// hidden is its name until then. Empty: it has none, and the kernel takes it back however this process ends.
	hidden string
}

// hiddenName begins the names of drafts that have one.
const hiddenName = ".rpmig-bundle-"

// ownFD is where a file without a name can be linked from (open(2), O_TMPFILE).
const ownFD = "/proc/self/fd"

// nameless is openNameless for drafts. The tests replace it.
var nameless = openNameless

// openNameless opens a file without a name.
func openNameless(dir string) (*os.File, error) {
	if _, err := os.Lstat(ownFD); err != nil {
		return nil, err
	}
	return os.OpenFile(dir, unix.O_TMPFILE|os.O_RDWR, 0o600)
}

// Temp makes a file without a name where temporary files are: the kernel takes it back however this process ends. Not every file
// system has such files; there it has a name for a moment.
func Temp() (*os.File, error) { return tempBy(openNameless) }

// tempBy is Temp where files are opened so.
func tempBy(open func(dir string) (*os.File, error)) (*os.File, error) {
	dir := os.TempDir()
	if f, err := open(dir); err == nil {
		return f, nil
	}
	f, err := os.CreateTemp(dir, hiddenName+"*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// newDraft makes one in the folder. Not every file system has files without a name; there it has one, which only SIGKILL
// leaves behind.
func newDraft(dir string) (*draft, error) {
	if f, err := nameless(dir); err == nil {
		return &draft{f: f}, nil
	}
	f, err := os.CreateTemp(dir, hiddenName+"*")
	if err != nil {
		return nil, err
	}
	return &draft{f, f.Name()}, nil
}

// publish gives it its name.
func (d *draft) publish(name string, force bool) error {
	if d.hidden == "" {
		err := d.link(name)
		if !force || !errors.Is(err, fs.ErrExist) {
			return err
		}
		// A link replaces no file, and what is renamed has a name: for these two system calls there is one.
		hidden := filepath.Join(filepath.Dir(name), hiddenName+rand.Text())
		if err := d.link(hidden); err != nil {
			return err
		}
		d.hidden = hidden
	}
	err := os.Rename(d.hidden, name)
	if err == nil {
		d.hidden = ""
	}
	return err
}

func (d *draft) link(name string) error {
	from := fmt.Sprintf("%s/%d", ownFD, d.f.Fd())
	if err := unix.Linkat(unix.AT_FDCWD, from, unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW); err != nil {
		return &os.LinkError{Op: "link", Old: from, New: name, Err: err}
	}
	return nil
}

// discard frees what it holds, and takes it back unless it was published.
func (d *draft) discard() {
	_ = d.f.Close()
	if d.hidden != "" {
		_ = os.Remove(d.hidden)
	}
}
