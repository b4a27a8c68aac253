package vm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// debianVersion is what may stand behind "debian:", the end of the name of a package (Debian Policy 5.6.7).
var debianVersion = regexp.MustCompile(`^[0-9][a-z0-9.+-]*$`)

// debian adds a kernel of the machine's distribution, which it fetches where the cache does not have it.
func (f *finder) debian(ctx context.Context, from, version string) error {
	if !debianVersion.MatchString(version) {
		return refuse("--kernel debian:6.1.0-56-cloud-"+runtime.GOARCH+", and apt-cache search linux-image names others",
			"kernel %s: want what stands behind linux-image- in the name of the package", from)
	}
	c, err := f.cache()
	if err != nil {
		return err
	}
	names, err := c.fetched(version)
	if err != nil {
		return err
	}
	if names == nil {
		if names, err = f.fetch(ctx, from, version); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := f.cached(from, name); err != nil {
			return err
		}
	}
	return nil
}

const debianDir = "debian"

// fetched are the packages of a version that were fetched before; nil: it was not, or a package is gone.
func (c *Cache) fetched(version string) ([]string, error) {
	b, err := os.ReadFile(c.path(debianDir, version))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, failed(err, "rpmig kernels --prune", "read the cache")
	}
	names := strings.Fields(string(b))
	for _, name := range names {
		if _, err := c.readPackage(name); err != nil {
			return nil, nil
		}
	}
	return names, nil
}

// debianArch is the architecture that a version is for: that of its flavour, else this machine's.
func debianArch(version string) string {
	for arch := range emulators {
		if strings.HasSuffix(version, "-"+arch) {
			return arch
		}
	}
	return runtime.GOARCH
}

// fetch downloads and unpacks the packages of a version, and returns their names in the cache.
func (f *finder) fetch(ctx context.Context, from, version string) ([]string, error) {
	a := &apt{cache: f.Cache, arch: debianArch(version), say: f.say}
	release, err := a.prepare(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	names, err := f.Cache.fetched(version) // by who held the lock before
	if names != nil || err != nil {
		return names, err
	}
	if !a.fresh() {
		if err := a.renew(ctx); err != nil {
			return nil, err
		}
	}
	names, err = f.take(ctx, a, from, version)
	var gone *aptError
	if errors.Is(err, errNotToBeHad) || errors.As(err, &gone) { // lists grow old: old point releases leave the archive
		if err := a.renew(ctx); err != nil {
			return nil, err
		}
		names, err = f.take(ctx, a, from, version)
	}
	switch {
	case errors.Is(err, errNotToBeHad) && a.trouble != nil:
		return nil, failed(errors.New(strings.Join(a.trouble, "; ")), "see what apt-get update says, or --kernel FILE",
			"no linux-image-%s was found, and not all lists of packages could be fetched", version)
	case errors.Is(err, errNotToBeHad):
		return nil, refuse(a.instead(ctx, version), "kernel %s: the machine's sources of packages have no linux-image-%s", from, version)
	case errors.As(err, &gone):
		return nil, failed(err, "see what apt-get download linux-image-"+version+" says", "fetch kernel %s", from)
	case err != nil:
		return nil, err
	}
	return names, f.Cache.put(filepath.Join(debianDir, version), []byte(strings.Join(names, "\n")+"\n"))
}

var errNotToBeHad = errors.New("no source has it")

// listsAge is how old apt's lists may be before they are fetched again.
const listsAge = 24 * time.Hour

func (a *apt) fresh() bool {
	info, err := os.Stat(a.dir("updated"))
	return err == nil && time.Since(info.ModTime()) < listsAge
}

// renew fetches the lists, once in a run of rpmig.
func (a *apt) renew(ctx context.Context) error {
	if a.renewed {
		return nil
	}
	a.renewed = true
	if err := a.update(ctx); err != nil {
		return err
	}
	if err := os.WriteFile(a.dir("updated"), nil, 0o644); err != nil {
		return failed(err, "", "write to the cache")
	}
	return nil
}

// take downloads what a version consists of, and unpacks it: one package, or from 7.x on three.
func (f *finder) take(ctx context.Context, a *apt, from, version string) ([]string, error) {
	var names []string
	one := "linux-image-" + version
	if size, ok, err := a.has(ctx, one); err != nil {
		return nil, err
	} else if ok {
		name, err := f.takePackage(ctx, a, from, one, size)
		if err != nil {
			return nil, err
		}
		found, err := imagesIn(f.Cache.path(packagesDir, name, packageTree))
		if err != nil {
			return nil, failed(err, "", "read the cache")
		}
		if len(found) > 0 {
			names = append(names, name)
			return names, nil
		}
	}
	for _, pkg := range []string{"linux-binary-" + version, "linux-modules-" + version, "linux-base-" + version} {
		size, ok, err := a.has(ctx, pkg)
		if err != nil {
			return nil, err
		}
		if !ok && strings.HasPrefix(pkg, "linux-base-") {
			continue // it has the .config
		}
		if !ok {
			return nil, fmt.Errorf("%s: %w", pkg, errNotToBeHad)
		}
		name, err := f.takePackage(ctx, a, from, pkg, size)
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, nil
}

func (f *finder) takePackage(ctx context.Context, a *apt, from, pkg, size string) (string, error) {
	dir, lock, err := f.Cache.workshop()
	if err != nil {
		return "", failed(err, "", "make a folder of the cache")
	}
	defer unix.Close(lock)
	defer func() { _ = os.RemoveAll(dir) }()
	file, err := a.download(ctx, pkg, size, dir)
	if err != nil {
		return "", err
	}
	return f.unpacked(ctx, from, file)
}

// instead is the hint for a version that cannot be had: those nearest to it that can.
func (a *apt) instead(ctx context.Context, version string) string {
	names, err := a.kernels(ctx)
	if err != nil || len(names) == 0 {
		return "look at the sources of packages in /etc/apt, and at what apt-get update says"
	}
	const around = 2
	at, _ := slices.BinarySearchFunc(names, version, byNumbers)
	first := max(0, min(at-around, len(names)-2*around))
	return "there are debian:" + strings.Join(names[first:min(first+2*around, len(names))], ", debian:")
}
