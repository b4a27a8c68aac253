package vm

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Contents is what is in a cache. Sizes are in bytes, as files are long.
type Contents struct {
	Dir       string    `json:"dir"`
	Packages  []Package `json:"packages"`
	Initramfs int       `json:"initramfs"` // how many, with the unpacked kernels
	// InitramfsSize is that of all of them.
	InitramfsSize int64 `json:"initramfs_bytes"`
	ListsSize     int64 `json:"apt_bytes"` // of apt's state
}

// Contents lists what is in the cache.
func (c *Cache) Contents() (*Contents, error) {
	all := &Contents{Dir: c.dir, Packages: []Package{}}
	named, err := c.named()
	if err != nil {
		return nil, err
	}
	names, err := namesIn(c.path(packagesDir))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		p, err := c.readPackage(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it is being removed
		}
		if err != nil {
			return nil, failed(err, "rpmig kernels --prune", "read %s", c.path(packagesDir, name))
		}
		if v, ok := named[name]; ok {
			p.From = "debian:" + v
		}
		p.Path = c.path(packagesDir, name, packageTree)
		if _, p.Size, err = sizeOf(p.Path); err != nil {
			return nil, err
		}
		all.Packages = append(all.Packages, p)
	}
	slices.SortFunc(all.Packages, func(a, b Package) int {
		return cmp.Or(byNumbers(a.Package, b.Package), cmp.Compare(a.Package, b.Package), cmp.Compare(a.SHA256, b.SHA256))
	})
	if all.Initramfs, all.InitramfsSize, err = sizeOf(c.path(initramfsDir)); err != nil {
		return nil, err
	}
	_, all.ListsSize, err = sizeOf(c.path("apt"))
	return all, err
}

// named tells by the name of a package in the cache which debian:VERSION it was fetched for.
func (c *Cache) named() (map[string]string, error) {
	versions, err := namesIn(c.path(debianDir))
	if err != nil {
		return nil, err
	}
	named := map[string]string{}
	for _, v := range versions {
		packages, err := c.fetched(v)
		if err != nil {
			return nil, err
		}
		for _, p := range packages {
			named[p] = v
		}
	}
	return named, nil
}

func namesIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, failed(err, "", "read the cache")
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// sizeOf is how many files are below a folder, and their size in bytes. What another process removes meanwhile is not counted.
func sizeOf(dir string) (files int, size int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		files++
		size += info.Size()
		return nil
	})
	if err != nil {
		err = failed(err, "", "measure the cache")
	}
	return files, size, err
}

// Prune empties the cache, and returns how many bytes there were. It refuses while another process has the cache open.
func (c *Cache) Prune() (size int64, err error) {
	if err := unix.Flock(c.lock, unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return 0, failed(nil, "again, once it has ended", "another rpmig uses the cache %s", c.dir)
		}
		return 0, failed(err, "", "lock the cache %s", c.dir)
	}
	if _, size, err = sizeOf(c.dir); err != nil {
		return 0, err
	}
	names, err := namesIn(c.dir)
	if err != nil {
		return 0, err
	}
	for _, name := range names {
		if err := os.RemoveAll(c.path(name)); err != nil {
			return 0, failed(err, "", "empty the cache %s", c.dir)
		}
	}
	return size, nil
}
