package bundle

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"
)

// again packs the files of a bundle as another tar does: with folders, owners, times, in another order.
func again(all []member, prefix string) []member {
	reg := func(name string) tar.Header {
		return tar.Header{Typeflag: tar.TypeReg, Name: prefix + name, Mode: 0o600, Uid: 1000, Uname: "joe", ModTime: time.Unix(1_700_000_000, 0)}
	}
	var out []member
	made := map[string]bool{}
	folder := func(name string) {
		if name != "" && !made[name] {
			made[name] = true
			out = append(out, member{tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}, nil})
		}
	}
	folder(prefix)
	for _, m := range slices.Backward(all) {
		if dir := path.Dir(m.h.Name); dir != "." {
			folder(prefix + dir + "/")
		}
		out = append(out, member{reg(m.h.Name), m.data})
	}
	return out
}

// unpackTo writes the files of a bundle into a folder.
func unpackTo(t *testing.T, all []member) string {
	t.Helper()
	dir := t.TempDir()
	for _, m := range all {
		name := filepath.Join(dir, m.h.Name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, m.data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// repacks are the ways to pack a bundle's files again, and what Check calls them.
var repacks = []struct {
	name  string
	want  []string
	check func(t *testing.T, all []member) (*Checked, error)
}{
	{"another tar", []string{byTar}, func(t *testing.T, all []member) (*Checked, error) { return checkBytes(t, archive(t, again(all, ""))) }},
	{"below a dot", []string{byTar}, func(t *testing.T, all []member) (*Checked, error) { return checkBytes(t, archive(t, again(all, "./"))) }},
	{"in a folder of the tar", []string{byTar}, func(t *testing.T, all []member) (*Checked, error) {
		return checkBytes(t, archive(t, again(all, "run/")))
	}},
	{"gzip -9", []string{byGzip}, func(t *testing.T, all []member) (*Checked, error) {
		return gzipAgain(t, all, gzip.Header{OS: 3}) // Unix
	}},
	{"gzip of a file", []string{byGzip}, func(t *testing.T, all []member) (*Checked, error) {
		return gzipAgain(t, all, gzip.Header{OS: 255, Name: "run.tar"})
	}},
	{"gzip with a time", []string{byGzip}, func(t *testing.T, all []member) (*Checked, error) {
		return gzipAgain(t, all, gzip.Header{OS: 255, ModTime: time.Unix(1_700_000_000, 0)})
	}},
	{"zstd", []string{"zstd"}, func(t *testing.T, all []member) (*Checked, error) {
		var b bytes.Buffer
		zip, err := zstd.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		return checkBytes(t, through(t, zip, &b, unpacked(t, archive(t, all))))
	}},
	{"xz", []string{"xz"}, func(t *testing.T, all []member) (*Checked, error) {
		var b bytes.Buffer
		zip, err := xz.NewWriter(&b)
		if err != nil {
			t.Fatal(err)
		}
		return checkBytes(t, through(t, zip, &b, unpacked(t, archive(t, all))))
	}},
	{"no compression", []string{byNone}, func(t *testing.T, all []member) (*Checked, error) {
		return checkBytes(t, unpacked(t, archive(t, all)))
	}},
	{"unpacked", []string{inFolder}, func(t *testing.T, all []member) (*Checked, error) {
		return CheckFolder(t.Context(), os.DirFS(unpackTo(t, all)))
	}},
}

func gzipAgain(t *testing.T, all []member, head gzip.Header) (*Checked, error) {
	t.Helper()
	var b bytes.Buffer
	zip, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	zip.Header = head
	return checkBytes(t, through(t, zip, &b, unpacked(t, archive(t, all))))
}

func checkBytes(t *testing.T, data []byte) (*Checked, error) {
	return Check(t.Context(), bytes.NewReader(data))
}

func through(t *testing.T, w io.WriteCloser, to *bytes.Buffer, data []byte) []byte {
	t.Helper()
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return to.Bytes()
}

// TestRepack: who packs a bundle again loses the bytes of the archive, and nothing else: one byte, one file more or one less is
// refused, as it is in the bundle itself.
func TestRepack(t *testing.T) {
	data := pack(t, source(t))
	if c, err := checkBytes(t, data); err != nil || c.Repack != nil {
		t.Fatalf("of the bundle itself: %v, %v", c, err)
	}
	good := members(t, data)
	for _, how := range repacks {
		t.Run(how.name, func(t *testing.T) {
			checked, err := how.check(t, good)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(checked.Repack, how.want) || checked.Files != len(good) || len(checked.Run.Cells) != 2 {
				t.Errorf("got %q, %d files, want %q and %d", checked.Repack, checked.Files, how.want, len(good))
			}
			for i, m := range good {
				switch path.Base(m.h.Name) {
				case reportName, ledgerName, manifestName, captureFile, panicFile: // one of each kind
				default:
					continue
				}
				changed := slices.Clone(good)
				changed[i].data = flip(m.data, len(m.data)/2)
				if _, err := how.check(t, changed); err == nil {
					t.Errorf("a changed byte of %s was not noticed", m.h.Name)
				}
				if _, err := how.check(t, slices.Delete(slices.Clone(good), i, i+1)); err == nil {
					t.Errorf("without %s it was whole", m.h.Name)
				}
			}
			more := append(slices.Clone(good), member{tar.Header{Typeflag: tar.TypeReg, Name: "cells/notes.txt"}, []byte("x")})
			if _, err := how.check(t, more); err == nil || !strings.Contains(err.Error(), `does not list "cells/notes.txt"`) {
				t.Errorf("a file more: %v", err)
			}
		})
	}
}

// TestAnotherTar: each thing alone that rpmig does not write tells that another tar has.
func TestAnotherTar(t *testing.T) {
	good := members(t, pack(t, source(t)))
	for name, edit := range map[string]func(*tar.Header){
		"as it was": func(*tar.Header) {}, "mode": func(h *tar.Header) { h.Mode = 0o600 }, "time": func(h *tar.Header) { h.ModTime = time.Unix(1, 0) },
		"user": func(h *tar.Header) { h.Uid = 1 }, "group": func(h *tar.Header) { h.Gid = 1 },
		"user's name": func(h *tar.Header) { h.Uname = "joe" }, "group's name": func(h *tar.Header) { h.Gname = "joe" },
		"dot": func(h *tar.Header) { h.Name = "./" + h.Name },
	} {
		changed := slices.Clone(good)
		edit(&changed[1].h)
		want := []string{byTar}
		if name == "as it was" {
			want = nil
		}
		if c, err := checkBytes(t, archive(t, changed)); err != nil || !slices.Equal(c.Repack, want) {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
	folder := member{tar.Header{Typeflag: tar.TypeDir, Name: "cells" + "/", Mode: 0o644}, nil}
	if c, err := checkBytes(t, archive(t, append([]member{folder}, good...))); err != nil || !slices.Equal(c.Repack, []string{byTar}) {
		t.Errorf("folder: %v, %v", c, err)
	}
	swapped := slices.Clone(good)
	swapped[1], swapped[2] = swapped[2], swapped[1]
	if c, err := checkBytes(t, archive(t, swapped)); err != nil || !slices.Equal(c.Repack, []string{byTar}) {
		t.Errorf("order: %v, %v", c, err)
	}
}

// TestBesideTheFolder: where all but one file is in a folder, that one is not passed over.
func TestBesideTheFolder(t *testing.T) {
	beside := member{tar.Header{Typeflag: tar.TypeReg, Name: "x", Mode: 0o644}, nil}
	if _, err := checkBytes(t, archive(t, append(again(members(t, pack(t, source(t))), "run/"), beside))); err == nil {
		t.Error("taken")
	}
}

// TestFolderBounded: all files of a folder together are no larger than a bundle.
func TestFolderBounded(t *testing.T) {
	files := fstest.MapFS{"a": {Data: make([]byte, 60)}, "b": {Data: make([]byte, 40)}}
	for most, want := range map[int64]error{100: nil, 99: errTooBig} {
		if _, err := readFolder(t.Context(), files, most); !errors.Is(err, want) {
			t.Errorf("of at most %d bytes: %v", most, err)
		}
	}
}

// TestFolderRefuses: what is no file is not opened, and no link is followed.
func TestFolderRefuses(t *testing.T) {
	good := members(t, pack(t, source(t)))
	for _, tt := range []struct {
		name, want string
		change     func(dir string) error
	}{
		{"fifo", "no plain file", func(dir string) error { return unix.Mkfifo(filepath.Join(dir, "x"), 0o600) }},
		{"link", "no plain file", func(dir string) error { return os.Symlink("report.txt", filepath.Join(dir, "x")) }},
		{"link for a folder", "no plain file", func(dir string) error { return os.Symlink("/etc", filepath.Join(dir, "x")) }},
		{"empty folder", "empty folder", func(dir string) error { return os.Mkdir(filepath.Join(dir, "x"), 0o700) }},
		{"huge file", errTooBig.Error(), func(dir string) error {
			return os.Truncate(filepath.Join(dir, pageName), MaxBytes+1) // it has holes
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := unpackTo(t, good)
			if err := tt.change(dir); err != nil {
				t.Fatal(err)
			}
			if _, err := CheckFolder(t.Context(), os.DirFS(dir)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("want %q, got %v", tt.want, err)
			}
		})
	}
}
