package vm

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestOpenCache(t *testing.T) {
	home, xdg, tmp := t.TempDir(), t.TempDir(), t.TempDir()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, xdg, home, want, err string }{
		{"XDG_CACHE_HOME", xdg, home, xdg + "/rpmig", ""},
		{"HOME", "", home, home + "/.cache/rpmig", ""},
		{"neither", "", "", tmp + "/rpmig-cache-", ""},
		{"a HOME that is not there", "", file + "/x", tmp + "/rpmig-cache-", ""},
		{"XDG_CACHE_HOME below a file", file, home, "", "not a directory"},
		{"XDG_CACHE_HOME that is relative", "x", home, "", "no absolute path"},
	} {
		t.Setenv("XDG_CACHE_HOME", c.xdg)
		t.Setenv("HOME", c.home)
		t.Setenv("TMPDIR", tmp)
		cache, err := OpenCache()
		if c.err != "" {
			var e *Error
			if !errors.As(err, &e) || e.Hint() == "" || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: got the error %v; want %s", c.name, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if !strings.HasPrefix(cache.Dir(), c.want) {
			t.Errorf("%s: got %s, want %s", c.name, cache.Dir(), c.want)
		}
		cache.Close()
	}
}

// TestOpenCacheOfAnother holds that what another user may have put where temporary files are is not booted.
func TestOpenCacheOfAnother(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("XDG_CACHE_HOME", "")
	t.Setenv("HOME", "")
	t.Setenv("TMPDIR", tmp)
	c, err := OpenCache()
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	for name, spoil := range map[string]func() error{
		"all may write": func() error { return os.Chmod(c.Dir(), 0o777) },
		"a link":        func() error { return errors.Join(os.Remove(c.Dir()), os.Symlink(tmp, c.Dir())) },
		"another's": func() error {
			if os.Geteuid() != 0 { // who may not give a folder away
				return os.Chmod(c.Dir(), 0o770)
			}
			return errors.Join(os.RemoveAll(c.Dir()), os.Mkdir(c.Dir(), 0o700), os.Chown(c.Dir(), 1, 1))
		},
	} {
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenCache(); err == nil || !strings.Contains(err.Error(), "not a folder of this user's alone") {
			t.Errorf("%s: got the error %v", name, err)
		}
		if err := errors.Join(os.RemoveAll(c.Dir()), os.Mkdir(c.Dir(), 0o700)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCacheSideBySide holds that processes that make the same thing, and one that sweeps, do not hurt each other.
func TestCacheSideBySide(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			c, err := OpenCache() // sweeps
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			err = c.make("things/one", func(dir string) error {
				if err := os.Mkdir(dir, 0o755); err != nil {
					return err
				}
				return errors.Join(os.WriteFile(filepath.Join(dir, "a"), []byte("a"), 0o644), os.WriteFile(filepath.Join(dir, "b"), []byte("b"), 0o644))
			})
			if err != nil {
				t.Error(err)
			}
			if got := strings.Join(filesBelow(t, c.path("things")), " "); got != "one/a one/b" {
				t.Errorf("got the files %s", got)
			}
		})
	}
	all.Wait()
}

// TestCacheSweep holds that what a killed process left is taken away, and what one is making is not.
func TestCacheSweep(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	c, err := OpenCache()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	left := c.path(unfinished + "left")
	if err := os.Mkdir(left, 0o755); err != nil {
		t.Fatal(err)
	}
	busy, lock, err := c.workshop()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(lock)
	other, err := OpenCache()
	if err != nil {
		t.Fatal(err)
	}
	other.Close()
	if exists(left) || !exists(busy) {
		t.Errorf("what was left is there: %v; what is being made is there: %v", exists(left), exists(busy))
	}
	failure := errors.New("no")
	if err := c.make("thing", func(dir string) error { return errors.Join(os.Mkdir(dir, 0o755), failure) }); !errors.Is(err, failure) {
		t.Errorf("got the error %v", err)
	}
	if exists(c.path("thing")) {
		t.Error("a thing half made has its name")
	}
}

func TestPrune(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	c, err := OpenCache()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.file("things/one", []byte("four")); err != nil {
		t.Fatal(err)
	}
	other, err := OpenCache()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Prune(); err == nil || !strings.Contains(err.Error(), "another rpmig uses the cache") {
		t.Errorf("while another has it open: %v", err)
	}
	other.Close()
	if size, err := c.Prune(); err != nil || size != 4 {
		t.Errorf("got %d bytes, %v", size, err)
	}
	if left := filesBelow(t, c.Dir()); left != nil {
		t.Errorf("there is still %v", left)
	}
}
