package vm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Cache is a folder of what is costly to get and can be made again: unpacked kernels, initramfs, apt's lists. Several rpmigs
// may use it side by side: what is in it appears whole or not at all, and does not change.
type Cache struct {
	dir  string
	lock int // of the folder, shared, for as long as it is open: see Prune
}

// OpenCache opens $XDG_CACHE_HOME/rpmig, else $HOME/.cache/rpmig. Where neither can be had, it is a folder of this user's
// alone where temporary files are.
func OpenCache() (*Cache, error) {
	if dir := os.Getenv("XDG_CACHE_HOME"); dir != "" {
		if !filepath.IsAbs(dir) {
			return nil, refuse("XDG_CACHE_HOME=/an/absolute/path", "XDG_CACHE_HOME is %q, which is no absolute path", dir)
		}
		dir = filepath.Join(dir, "rpmig")
		if err := usable(dir); err != nil {
			return nil, failed(err, "XDG_CACHE_HOME=DIR, with a folder that you can write to", "make the cache")
		}
		return openCache(dir)
	}
	if home := os.Getenv("HOME"); filepath.IsAbs(home) {
		if dir := filepath.Join(home, ".cache", "rpmig"); usable(dir) == nil {
			return openCache(dir)
		}
	}
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("rpmig-cache-%d", os.Geteuid()))
	const next = "XDG_CACHE_HOME=DIR, with a folder of yours"
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, failed(err, next, "make the cache")
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return nil, failed(err, next, "look at the cache %s", dir)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() || st.Mode&0o077 != 0 {
		return nil, failed(nil, next, "%s is not a folder of this user's alone, so that it is no cache to boot kernels from", dir)
	}
	return openCache(dir)
}

// usable makes a folder, and tells whether files can be made in it.
func usable(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return &fs.PathError{Op: "write to", Path: dir, Err: err}
	}
	return nil
}

func openCache(dir string) (*Cache, error) {
	lock, err := lockDir(dir, unix.LOCK_SH)
	if err != nil {
		return nil, failed(err, "XDG_CACHE_HOME=DIR, with a folder of this machine", "lock the cache %s", dir)
	}
	c := &Cache{dir, lock}
	if err := c.sweep(); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close lets go of the cache: it may be emptied then.
func (c *Cache) Close() { unix.Close(c.lock) }

// Dir is the cache's folder.
func (c *Cache) Dir() string { return c.dir }

// path is that of a file or folder of the cache.
func (c *Cache) path(name ...string) string {
	return filepath.Join(append([]string{c.dir}, name...)...)
}

// unfinished begins the names of what is being made. Its maker holds a lock on it, so that what a killed one left can be told.
const unfinished = "making-"

// sweep takes away what killed processes left half made.
func (c *Cache) sweep() error {
	left, err := filepath.Glob(c.path(unfinished + "*"))
	if err != nil {
		return failed(err, "", "look for what was left in the cache %s", c.dir)
	}
	for _, dir := range left {
		lock, err := lockDir(dir, unix.LOCK_EX|unix.LOCK_NB)
		if err != nil {
			continue // it is being made, or gone
		}
		err = os.RemoveAll(dir)
		unix.Close(lock)
		if err != nil {
			return failed(err, "", "remove what was left in the cache")
		}
	}
	return nil
}

func lockDir(dir string, how int) (fd int, err error) {
	fd, err = unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Flock(fd, how); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// make has a folder filled, and then gives what is in it its name: a path below the cache. Where another process was faster,
// its work is kept: the same name means the same content.
func (c *Cache) make(name string, fill func(dir string) error) (err error) {
	to := c.path(name)
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return failed(err, "", "make a folder of the cache")
	}
	dir, lock, err := c.workshop()
	if err != nil {
		return failed(err, "", "make a folder of the cache")
	}
	defer unix.Close(lock)
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	made := filepath.Join(dir, "made")
	if err := fill(made); err != nil {
		return err
	}
	err = os.Rename(made, to)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		return nil
	}
	if err != nil {
		return failed(err, "", "put %s into the cache", name)
	}
	return nil
}

// workshop is a locked folder in which something is made.
func (c *Cache) workshop() (dir string, lock int, err error) {
	for {
		dir, err = os.MkdirTemp(c.dir, unfinished)
		if err != nil {
			return "", -1, err
		}
		lock, err = lockDir(dir, unix.LOCK_EX)
		if errors.Is(err, fs.ErrNotExist) {
			continue // another process swept it away before the lock
		}
		if err != nil {
			return "", -1, err
		}
		if _, err := os.Lstat(dir); err == nil {
			return dir, lock, nil
		}
		unix.Close(lock)
	}
}

// file makes a file of the cache whose name tells its content, and returns its path.
func (c *Cache) file(name string, data []byte) (string, error) {
	to := c.path(name)
	if info, err := os.Stat(to); err == nil && info.Size() == int64(len(data)) {
		c.use(name)
		return to, nil
	}
	return to, c.put(name, data)
}

// use notes that a file of the cache is in use: see forgetInitramfs.
func (c *Cache) use(name string) {
	now := time.Now()
	_ = os.Chtimes(c.path(name), now, now)
}

// put makes a file of the cache, or replaces it.
func (c *Cache) put(name string, data []byte) error {
	return c.make(name, func(path string) error {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return failed(err, moreSpace, "write to the cache")
		}
		return nil
	})
}

// moreSpace is the hint for who could not write to the cache.
const moreSpace = "free some space, or XDG_CACHE_HOME=DIR"

// fitName makes a name fit for a folder.
func fitName(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("._+~-", r):
			return r
		default:
			return '_'
		}
	}, s)
	return strings.TrimLeft(s, ".-")
}
