// Package nameless makes files without a name, which the kernel takes back however this process ends (open(2), O_TMPFILE).
package nameless

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ownFD is where such a file can be linked from.
const ownFD = "/proc/self/fd"

// Open makes one in the folder, to which Link can give a name. Not every file system has such files.
func Open(dir string) (*os.File, error) {
	if _, err := os.Lstat(ownFD); err != nil {
		return nil, err
	}
	return os.OpenFile(dir, unix.O_TMPFILE|os.O_RDWR, 0o600)
}

// Link gives a file of Open a name, which is fs.ErrExist if there is one.
func Link(f *os.File, name string) error {
	from := fmt.Sprintf("%s/%d", ownFD, f.Fd())
	if err := unix.Linkat(unix.AT_FDCWD, from, unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW); err != nil {
		return &os.LinkError{Op: "link", Old: from, New: name, Err: err}
	}
	return nil
}

// TempError says that no file can be made where temporary files are.
type TempError struct{ Err error }

func (e *TempError) Error() string { return "make a temporary file: " + e.Err.Error() }

func (e *TempError) Unwrap() error { return e.Err }

// Hint is what to do next.
func (e *TempError) Hint() string { return "set TMPDIR to a folder that you may write to" }

// Temp makes one where temporary files are. Where the file system has none it has a name for a moment.
func Temp() (*os.File, error) { return tempBy(Open) }

// tempBy is Temp where files are opened so.
func tempBy(open func(dir string) (*os.File, error)) (*os.File, error) {
	dir := os.TempDir()
	if f, err := open(dir); err == nil {
		return f, nil
	}
	f, err := os.CreateTemp(dir, ".rpmig-*")
	if err != nil {
		return nil, &TempError{err}
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
