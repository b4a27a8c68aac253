package bundle

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/rpmig/rpmig/nameless"
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

// openNameless opens the file of a draft. The tests replace it.
var openNameless = nameless.Open

// newDraft makes one in the folder. Not every file system has files without a name; there it has one, which only SIGKILL
// leaves behind.
func newDraft(dir string) (*draft, error) {
	if f, err := openNameless(dir); err == nil {
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
		err := nameless.Link(d.f, name)
		if !force || !errors.Is(err, fs.ErrExist) {
			return err
		}
		// A link replaces no file, and what is renamed has a name: for these two system calls there is one.
		hidden := filepath.Join(filepath.Dir(name), hiddenName+rand.Text())
		if err := nameless.Link(d.f, hidden); err != nil {
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

// discard frees what it holds, and takes it back unless it was published.
func (d *draft) discard() {
	_ = d.f.Close()
	if d.hidden != "" {
		_ = os.Remove(d.hidden)
	}
}
