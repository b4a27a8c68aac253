package bundle

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/rpmig/rpmig/unpack"
)

// What rpmig does not write and other tools do, in words.
const (
	byGzip   = "another gzip"
	byNone   = "not compressed"
	byTar    = "another tar"
	inFolder = "unpacked into a folder"
)

// CheckFolder is Check of a bundle that was unpacked.
func CheckFolder(ctx context.Context, files fs.FS) (*Checked, error) {
	a, err := readFolder(ctx, files, MaxBytes)
	if err != nil {
		return nil, err
	}
	return a.check(ctx)
}

// readFolder reads what is in a folder, no more than so many bytes of it.
func readFolder(ctx context.Context, files fs.FS, left int64) (*contents, error) {
	a := newContents()
	a.note(inFolder)
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name == ".":
			return nil
		}
		if err := a.mayTake(name); err != nil {
			return err
		}
		if d.IsDir() {
			a.folders[name] = true
			return nil
		}
		if !d.Type().IsRegular() { // a pipe would not end, and a link may lead anywhere
			return fmt.Errorf("%q is no plain file", name)
		}
		f, err := files.Open(name)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		in := &bounded{r: &interruptible{ctx, f}, left: left}
		err = a.read(name, in)
		left = in.left
		return err
	})
	if err == nil {
		err = a.noEmptyFolder()
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

// decompress reads what was packed, or a plain tar file. left tells whether something follows.
func (a *contents) decompress(packed *bufio.Reader) (plain *bufio.Reader, left func() bool, err error) {
	r, by, err := unpack.Reader(packed)
	if err != nil {
		return nil, nil, err
	}
	left = func() bool { return false } // it is read to its end
	switch zip, isGzip := r.(*gzip.Reader); {
	case isGzip:
		zip.Multistream(false) // it takes no more than it needs from an io.ByteReader
		const unknownOS = 255  // RFC 1952; the gzip of Go writes no other
		if h := zip.Header; h.OS != unknownOS || !h.ModTime.IsZero() || h.Name != "" {
			a.note(byGzip)
		}
		left = func() bool {
			_, err := packed.ReadByte()
			return !errors.Is(err, io.EOF)
		}
	case by == "":
		a.note(byNone)
	default:
		a.note(by)
	}
	return bufio.NewReader(r), left, nil
}

// note takes down that the bundle is not as rpmig has written it.
func (a *contents) note(by string) {
	if !slices.Contains(a.repack, by) {
		a.repack = append(a.repack, by)
	}
}

// header takes note of an entry that is not as rpmig writes them, and returns its name without a leading "./".
func (a *contents) header(h *tar.Header) string {
	name, dotted := strings.CutPrefix(h.Name, "./")
	folder := h.Typeflag == tar.TypeDir
	if dotted || folder || h.Mode != 0o644 || h.ModTime.Unix() != 0 || h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" {
		a.note(byTar)
	}
	if folder {
		name = strings.TrimSuffix(name, "/")
	}
	if a.top == "" {
		a.top, _, _ = strings.Cut(name, "/")
	}
	return name
}

// unwrap takes away the folder in which all is, if it is one.
func (a *contents) unwrap() {
	top := a.top + "/"
	if _, ok := a.files[top+manifestName]; !ok {
		return
	}
	for _, name := range a.order {
		if !strings.HasPrefix(name, top) {
			return
		}
	}
	a.note(byTar)
	for i, name := range a.order {
		a.order[i] = strings.TrimPrefix(name, top)
	}
	a.files, a.kept, a.captures = below(top, a.files), below(top, a.kept), below(top, a.captures)
	a.ledgers, a.folders = below(top, a.ledgers), below(top, a.folders)
	for name, f := range a.files {
		f.Name = name
		a.files[name] = f
	}
}

// below is what is in a folder, by the names there.
func below[V any](top string, all map[string]V) map[string]V {
	inside := map[string]V{}
	for name, v := range all {
		if name, ok := strings.CutPrefix(name, top); ok {
			inside[name] = v
		}
	}
	return inside
}

// noEmptyFolder refuses a folder that holds no file: rpmig has put none in.
func (a *contents) noEmptyFolder() error {
	if len(a.folders) == 0 {
		return nil
	}
	used := map[string]bool{}
	for name := range a.files {
		for dir := path.Dir(name); dir != "." && !used[dir]; dir = path.Dir(dir) {
			used[dir] = true
		}
	}
	for name := range a.folders {
		if !used[name] {
			return fmt.Errorf("%q is an empty folder", name)
		}
	}
	return nil
}
