package vm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
)

// part is an unpacked package that has no image, and may have the modules of another's.
type part struct {
	from string
	pkg  string
	dir  string
	used bool
}

// Package is a package that is in the cache.
type Package struct {
	Package      string `json:"package"`
	Version      string `json:"version"`
	Architecture string `json:"architecture"`
	From         string `json:"from"`   // what it was unpacked for, as a user names a kernel
	SHA256       string `json:"sha256"` // of the package's file, in hexadecimal

	// What follows is not in the cache, but found out when it is listed.
	Path string `json:"path,omitempty"` // of what it was unpacked to
	Size int64  `json:"bytes,omitempty"`
}

const (
	packagesDir = "packages"
	packageFile = "package.json" // of an unpacked package; its files are beside it, in packageTree
	packageTree = "tree"
)

// cache is where packages are unpacked.
func (f *finder) cache() (c *Cache, err error) {
	if f.Cache == nil {
		f.Cache, err = OpenCache()
	}
	return f.Cache, err
}

// deb adds a package, which it unpacks where the cache does not have it.
func (f *finder) deb(ctx context.Context, from, file string) error {
	if _, err := f.cache(); err != nil {
		return err
	}
	name, err := f.unpacked(ctx, from, file)
	if err != nil {
		return err
	}
	return f.cached(from, name)
}

// unpacked unpacks a package into the cache, and returns its name there.
func (f *finder) unpacked(ctx context.Context, from, file string) (string, error) {
	r, err := os.Open(file)
	if err != nil {
		return "", missing(err, file)
	}
	defer func() { _ = r.Close() }()
	sum := sha256.New()
	size, err := io.Copy(sum, &untilDone{ctx, r})
	if err != nil {
		return "", failed(err, "", "read %s", file)
	}
	if full, err := filepath.Abs(from); err == nil && from == file {
		from = full
	}
	p := Package{From: from, SHA256: hex.EncodeToString(sum.Sum(nil))}
	name := p.SHA256[:32]
	if _, err := f.Cache.readPackage(name); err == nil {
		return name, nil
	}
	f.say("unpacking %s", filepath.Base(file))
	return name, f.Cache.make(filepath.Join(packagesDir, name), func(dir string) error {
		tree := filepath.Join(dir, packageTree)
		if err := os.MkdirAll(tree, 0o755); err != nil {
			return failed(err, "", "make a folder of the cache")
		}
		c, err := unpackDeb(ctx, r, size, tree)
		var path *os.PathError
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &path):
			return failed(err, moreSpace, "unpack %s", from)
		case err != nil:
			return refuse("dpkg-deb --info "+file, "kernel %s is no package that can be unpacked: %v", file, err)
		}
		p.Package, p.Version, p.Architecture = c.name, c.version, c.arch
		b, err := json.Marshal(p)
		if err != nil {
			return failed(err, "", "describe %s", from)
		}
		if err := os.WriteFile(filepath.Join(dir, packageFile), b, 0o644); err != nil {
			return failed(err, moreSpace, "unpack %s", from)
		}
		return nil
	})
}

func (c *Cache) readPackage(name string) (p Package, err error) {
	b, err := os.ReadFile(c.path(packagesDir, name, packageFile))
	if err != nil {
		return p, err
	}
	return p, json.Unmarshal(b, &p)
}

// cached adds a package of the cache.
func (f *finder) cached(from, name string) error {
	p, err := f.Cache.readPackage(name)
	if err != nil {
		return failed(err, "rpmig kernels --prune", "read %s from the cache", from)
	}
	tree := f.Cache.path(packagesDir, name, packageTree)
	found, err := imagesIn(tree)
	switch {
	case err != nil:
		return failed(err, "", "kernel %s", from)
	case len(found) > 0:
		if err := f.image(from, found[0]); err != nil {
			return err
		}
		f.packaged = append(f.packaged, f.found[len(f.found)-1])
		return nil
	}
	f.parts = append(f.parts, &part{from: from, pkg: p.Package, dir: tree})
	return nil
}

// joinPackages gives kernels the modules that came in packages of their own, as those of Debian do from 7.x on.
func (f *finder) joinPackages() error {
	for _, k := range f.found {
		for _, p := range f.parts {
			f.join(k, p)
		}
	}
	for _, k := range f.packaged {
		if k.Modules == "" {
			return refuse("name its package with the modules too: linux-modules-"+k.Release, "kernel %s: the package has no modules", k.From)
		}
	}
	for _, p := range f.parts {
		if !p.used {
			return refuse("name the package with its image too: linux-image-V or linux-binary-V",
				"kernel %s: package %s has no image of a kernel, and goes with none that is named", p.from, p.pkg)
		}
	}
	return nil
}

// join gives a kernel what a package has for its release.
func (f *finder) join(k *Kernel, p *part) {
	if k.Release == "" {
		return
	}
	dir := firstFolder([]string{filepath.Join(p.dir, "lib/modules", k.Release), filepath.Join(p.dir, "usr/lib/modules", k.Release)})
	config := firstFile(configsBeside(filepath.Join(p.dir, "boot"), "", dir, k.Release))
	p.used = p.used || dir != "" || config != ""
	if k.Modules == "" && hasModules(dir) {
		k.Modules = dir
	}
	if k.Config == "" {
		k.Config = config
	}
}

// hasModules tells whether a folder has modules in it, and not but a list of them or an image.
func hasModules(dir string) bool {
	if dir == "" {
		return false
	}
	m, err := listModules(dir)
	if err != nil {
		return false
	}
	for name := range m.files {
		if m.file(name) != "" {
			return true
		}
	}
	return false
}
