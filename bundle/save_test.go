package bundle

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// onEveryFileSystem tests where a file needs no name, and where it does.
func onEveryFileSystem(t *testing.T, test func(t *testing.T)) {
	t.Run("nameless", func(t *testing.T) {
		f, err := openNameless(t.TempDir())
		if err != nil {
			t.Skipf("the file system of %s has no O_TMPFILE: %v", os.TempDir(), err)
		}
		_ = f.Close()
		test(t)
	})
	t.Run("hidden", func(t *testing.T) {
		was := openNameless
		defer func() { openNameless = was }()
		openNameless = func(string) (*os.File, error) { return nil, unix.EOPNOTSUPP }
		test(t)
	})
}

func TestSave(t *testing.T) {
	onEveryFileSystem(t, func(t *testing.T) {
		src := source(t)
		dir := t.TempDir()
		name := filepath.Join(dir, "b.tar.gz")
		if err := Save(t.Context(), name, false, src); err != nil {
			t.Fatal(err)
		}
		if err := Save(t.Context(), name, false, src); !errors.Is(err, fs.ErrExist) {
			t.Errorf("over a file: %v", err)
		}
		if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Save(t.Context(), name, true, src); err != nil {
			t.Errorf("by force: %v", err)
		}
		got, err := os.ReadFile(name)
		if err != nil || !bytes.Equal(got, pack(t, src)) {
			t.Errorf("it holds %d bytes: %v", len(got), err)
		}
		if info, err := os.Stat(name); err != nil || info.Mode() != 0o644 {
			t.Errorf("the mode is %v: %v", info.Mode(), err)
		}
		pipe, link := filepath.Join(dir, "pipe"), filepath.Join(dir, "link") // as /dev/full and /dev/stdout are
		if err := errors.Join(unix.Mkfifo(pipe, 0o600), os.Symlink(pipe, link)); err != nil {
			t.Fatal(err)
		}
		for _, special := range []string{link, pipe} {
			was, err := os.Lstat(special)
			if err != nil {
				t.Fatal(err)
			}
			if err := Save(t.Context(), special, true, src); !errors.Is(err, ErrNotPlain) {
				t.Errorf("over %s: %v", special, err)
			}
			if is, err := os.Lstat(special); err != nil || !os.SameFile(is, was) {
				t.Errorf("%s was replaced: %v", special, err)
			}
			_ = os.Remove(special)
		}
		if err := Save(t.Context(), filepath.Join(dir, "gone", "c"), false, src); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("in a folder that is gone: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := Check(ctx, bytes.NewReader(pack(t, source(t)))); !errors.Is(err, context.Canceled) {
			t.Errorf("interrupted check: %v", err)
		}
		if err := Save(ctx, filepath.Join(dir, "c"), false, source(t)); !errors.Is(err, context.Canceled) {
			t.Errorf("interrupted: %v", err)
		}
		if all := names(t, dir); !slices.Equal(all, []string{"b.tar.gz"}) {
			t.Errorf("%q are left, want the bundle alone", all)
		}
	})
}

// TestSaveInterrupted: nothing is waited for that does not look at the context, and a file that came meanwhile stays.
func TestSaveInterrupted(t *testing.T) {
	onEveryFileSystem(t, func(t *testing.T) {
		dir := t.TempDir()
		src := source(t)
		stuck := &stuckFS{FS: src.Files, reached: make(chan struct{}), free: make(chan struct{})}
		defer close(stuck.free)
		src.Files = stuck
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		saved := make(chan error)
		go func() { saved <- Save(ctx, filepath.Join(dir, "b"), false, src) }()
		<-stuck.reached
		if all := names(t, dir); t.Name() == "TestSaveInterrupted/nameless" && len(all) > 0 {
			t.Errorf("%q are there before the bundle is whole", all)
		}
		cancel()
		select {
		case err := <-saved:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("it waits for what does not end")
		}
		if all := names(t, dir); len(all) > 0 {
			t.Errorf("%q are left", all)
		}
	})
}

// stuckFS is a disk that does not answer.
type stuckFS struct {
	fs.FS
	reached, free chan struct{}
}

func (s *stuckFS) Open(name string) (fs.File, error) {
	select {
	case s.reached <- struct{}{}:
	case <-s.free:
	}
	<-s.free
	return s.FS.Open(name)
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range all {
		names = append(names, f.Name())
	}
	return names
}
