package nameless

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTemp: nothing stays behind of a temporary file, also where files have names.
func TestTemp(t *testing.T) {
	for name, open := range map[string]func(string) (*os.File, error){
		"nameless": Open,
		"hidden":   func(string) (*os.File, error) { return nil, unix.EOPNOTSUPP },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv("TMPDIR", dir)
			f, err := tempBy(open)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			if _, err := f.WriteString("x"); err != nil {
				t.Error(err)
			}
			if all, err := os.ReadDir(dir); err != nil || len(all) > 0 {
				t.Errorf("left: %v, %v", all, err)
			}
		})
	}
}

// TestLink: a file gets the name that it is given, and takes none away.
func TestLink(t *testing.T) {
	dir := t.TempDir()
	f, err := Open(dir)
	if err != nil {
		t.Skipf("the file system of %s has no O_TMPFILE: %v", dir, err)
	}
	defer func() { _ = f.Close() }()
	name := filepath.Join(dir, "a")
	_, err = f.WriteString("x")
	if err := errors.Join(err, Link(f, name)); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(name); err != nil || string(text) != "x" {
		t.Errorf("it holds %q: %v", text, err)
	}
	if err := Link(f, name); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file: %v", err)
	}
}
