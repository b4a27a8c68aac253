package vm

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/rpmig/rpmig/unpack"
)

// The bounds of what a package may unpack to. Debian's largest kernels have some 5000 files, of 120 MiB.
const (
	mostKept    = 1 << 30 // bytes that are written
	mostListed  = 4 << 30 // bytes of all files in it
	mostFiles   = 100_000
	mostControl = 1 << 20 // bytes of the package's own description
)

// keptFiles are the files of a kernel's package that a run needs. Of the modules these are the kinds that carry packets and
// what those depend on: most of the others are for hardware.
var keptFiles = regexp.MustCompile(`^(boot/(vmlinuz|Image|config)-[^/]+` +
	`|(usr/)?lib/modules/[^/]+/(vmlinuz|config|modules\.builtin|modules\.order` +
	`|kernel/((arch|block|crypto|lib|mm|net|drivers/(char|virtio|crypto))/.+|drivers/(net/)?[^/]+)\.ko(\.xz|\.zst|\.gz)?))$`)

// debControl is what a package says of itself.
type debControl struct{ name, version, arch string }

// unpackDeb writes the files of a kernel's package below a folder, which must be empty. What is in the package is not trusted:
// only regular files are written, below the folder, and no more than the bounds allow.
func unpackDeb(ctx context.Context, r io.ReaderAt, size int64, dir string) (debControl, error) {
	var c debControl
	members, err := readAr(r, size)
	if err != nil {
		return c, err
	}
	if len(members) == 0 || members[0].name != "debian-binary" {
		return c, errors.New("its first file is not debian-binary")
	}
	version, err := io.ReadAll(io.LimitReader(members[0].data, 64))
	if err != nil || !strings.HasPrefix(string(version), "2.") {
		return c, fmt.Errorf("its format is %.10q, and 2.0 is known", version)
	}
	var seenControl, seenData bool
	for _, m := range members[1:] {
		kind, ok := strings.CutPrefix(m.name, "control.tar")
		isControl := ok && !seenControl
		if !isControl {
			kind, ok = strings.CutPrefix(m.name, "data.tar")
			if !ok || seenData {
				continue
			}
		}
		err := withTar(&untilDone{ctx, m.data}, kind, func(t *tar.Reader) (err error) {
			if isControl {
				seenControl = true
				c, err = readControl(t)
				return err
			}
			seenData = true
			return writeFiles(t, dir)
		})
		if err != nil {
			return c, fmt.Errorf("%s: %w", m.name, err)
		}
	}
	if !seenControl || !seenData {
		return c, errors.New("it lacks control.tar or data.tar")
	}
	return c, nil
}

// untilDone ends a reader with the context.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u *untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

// withTar reads an archive. How it is compressed its first bytes tell; the end of its name has to be one of those of deb(5).
func withTar(r io.Reader, kind string, read func(*tar.Reader) error) error {
	if !slices.Contains([]string{"", ".gz", ".xz", ".zst"}, kind) {
		return fmt.Errorf("compressed as %q, and xz, zst and gz are known", kind)
	}
	plain, _, err := unpack.Reader(bufio.NewReader(r))
	if err != nil {
		return err
	}
	return read(tar.NewReader(plain))
}

// readControl reads the fields that matter of the file control (deb-control(5)).
func readControl(t *tar.Reader) (debControl, error) {
	var c debControl
	for n := 0; n < mostFiles; n++ {
		h, err := t.Next()
		if err != nil {
			return c, fmt.Errorf("no file control: %w", err)
		}
		if h.Size > mostControl {
			return c, fmt.Errorf("%s has %d bytes", h.Name, h.Size)
		}
		if path.Clean(h.Name) != "control" {
			continue
		}
		b, err := io.ReadAll(io.LimitReader(t, mostControl))
		if err != nil {
			return c, err
		}
		for line := range strings.Lines(string(b)) {
			key, value, _ := strings.Cut(line, ":")
			value = strings.TrimSpace(value)
			switch strings.ToLower(key) {
			case "package":
				c.name = value
			case "version":
				c.version = value
			case "architecture":
				c.arch = value
			}
		}
		if c.name == "" {
			return c, errors.New("control names no package")
		}
		return c, nil
	}
	return c, errors.New("no file control")
}

// writeFiles writes the files of a package that matter.
func writeFiles(t *tar.Reader, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	var listed, kept int64
	for n := 0; ; n++ {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		listed += max(h.Size, 0)
		name := path.Clean(h.Name)
		switch {
		case !filepath.IsLocal(name):
			return fmt.Errorf("a file of it would lie outside of it: %q", h.Name)
		case n > mostFiles, listed > mostListed:
			return fmt.Errorf("more than %d files or %d MiB: it is no package of a kernel", mostFiles, mostListed>>20)
		case h.Typeflag != tar.TypeReg || !keptFiles.MatchString(name):
			continue
		}
		if kept += h.Size; kept > mostKept {
			return fmt.Errorf("more than %d MiB of kernel and modules", mostKept>>20)
		}
		if err := writeFile(root, name, t); err != nil {
			return err
		}
	}
}

func writeFile(root *os.Root, name string, r io.Reader) (err error) {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.Copy(f, r)
	return err
}
