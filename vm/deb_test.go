package vm

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestUnpackDeb(t *testing.T) {
	const image = "./boot/vmlinuz-6.1"
	good := filesTar(t, [][2]string{
		{image, "kernel"}, {"./lib/modules/6.1/kernel/net/x.ko", "module"}, {"./lib/modules/6.1/kernel/sound/y.ko", "no"},
		{"./usr/share/doc/big", "no"}, {"./etc/passwd", "no"},
	})
	file := tar.TypeReg
	one := func(h tar.Header, data string) []byte { return tarOf(t, []tar.Header{h}, []string{data}) }
	control := string(filesTar(t, [][2]string{{"control", "Package: x\n"}}))
	for _, c := range []struct {
		name string
		deb  []byte
		want string // files
		err  string
	}{
		{"plain", debOf(t, "p", "", good), "boot/vmlinuz-6.1 lib/modules/6.1/kernel/net/x.ko", ""},
		{"gz", debOf(t, "p", ".gz", good), "boot/vmlinuz-6.1 lib/modules/6.1/kernel/net/x.ko", ""},
		{"xz", debOf(t, "p", ".xz", good), "boot/vmlinuz-6.1 lib/modules/6.1/kernel/net/x.ko", ""},
		{"zst", debOf(t, "p", ".zst", good), "boot/vmlinuz-6.1 lib/modules/6.1/kernel/net/x.ko", ""},
		{"bz2", debOf(t, "p", ".bz2", good), "", `compressed as ".bz2"`},
		{"no archive", []byte("#!/bin/sh"), "", "no ar archive"},
		{"empty archive", []byte(arMagic), "", "debian-binary"},
		{"another archive", arOf([2]string{"x.o/", "code"}), "", "debian-binary"},
		{"another format", arOf([2]string{"debian-binary", "3.0\n"}), "", "its format"},
		{"no data", arOf([2]string{"debian-binary", "2.0\n"}, [2]string{"control.tar", control}), "", "lacks"},
		{"no control", arOf([2]string{"debian-binary", "2.0\n"}, [2]string{"control.tar", string(good)}), "", "no file control"},
		{"cut off", debOf(t, "p", ".xz", good)[:400], "", "it ends"},
		{"damaged", bytes.Replace(debOf(t, "p", ".gz", good), []byte("`\ndata"), []byte("`\ndata"), 1)[:len(debOf(t, "p", ".gz", good))-8], "", "it ends early"},
		{"size below zero", []byte(arMagic + "debian-binary   0           0     0     100644  -60       `\n2.0\n"), "", "no header"},
		{"many files", append(arOf([2]string{"debian-binary", "2.0\n"}), bytes.Repeat(arOf([2]string{"x", ""})[len(arMagic):], 100)...), "", "more than 16 files"},
		{"..", debOf(t, "p", ".gz", one(tar.Header{Name: "../../boot/vmlinuz-6.1", Typeflag: byte(file)}, "x")), "", "outside"},
		{".. within", debOf(t, "p", ".gz", one(tar.Header{Name: "boot/../../boot/vmlinuz-6.1", Typeflag: byte(file)}, "x")), "", "outside"},
		{"from the root", debOf(t, "p", ".gz", one(tar.Header{Name: "/boot/vmlinuz-6.1", Typeflag: byte(file)}, "x")), "", "outside"},
		{"a link, and a file through it", debOf(t, "p", ".gz", tarOf(t, []tar.Header{
			{Name: "boot", Typeflag: tar.TypeSymlink, Linkname: "/tmp"}, {Name: image, Typeflag: byte(file)},
		}, []string{"", "x"})), "boot/vmlinuz-6.1", ""},
		{"a link as the image", debOf(t, "p", ".gz", one(tar.Header{Name: image, Typeflag: tar.TypeSymlink, Linkname: "/etc/shadow"}, "")), "", ""},
		{"a device as the image", debOf(t, "p", ".gz", one(tar.Header{Name: image, Typeflag: tar.TypeChar}, "")), "", ""},
		{"twice", debOf(t, "p", ".gz", filesTar(t, [][2]string{{image, "x"}, {image, "y"}})), "boot/vmlinuz-6.1", "file exists"},
	} {
		dir := t.TempDir()
		info, err := unpackDeb(context.Background(), bytes.NewReader(c.deb), int64(len(c.deb)), dir)
		if got := strings.Join(filesBelow(t, dir), " "); got != c.want {
			t.Errorf("%s: got the files %q, want %q", c.name, got, c.want)
		}
		if c.err == "" && (err != nil || info != debControl{"p", "1.2-3", "amd64"}) {
			t.Errorf("%s: got %+v, %v", c.name, info, err)
		}
		if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: got the error %v; want %s", c.name, err, c.err)
		}
	}
}

// TestUnpackDebBounds holds that what a package promises is not believed without end.
func TestUnpackDebBounds(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, size := range map[string]int64{"./x": mostListed + 1} {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: size, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
	}
	deb := debOf(t, "p", ".gz", b.Bytes())
	_, err := unpackDeb(context.Background(), bytes.NewReader(deb), int64(len(deb)), t.TempDir())
	if err == nil || !strings.Contains(err.Error(), "it is no package of a kernel") {
		t.Errorf("a file of 4 GiB: %v", err)
	}
	b.Reset()
	w = tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "boot/vmlinuz-6", Size: mostKept + 1, Typeflag: tar.TypeReg}); err != nil {
		t.Fatal(err)
	}
	deb = debOf(t, "p", ".gz", b.Bytes())
	if _, err := unpackDeb(context.Background(), bytes.NewReader(deb), int64(len(deb)), t.TempDir()); err == nil || !strings.Contains(err.Error(), "more than 1024 MiB of kernel") {
		t.Errorf("a kernel of 1 GiB: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := unpackDeb(ctx, bytes.NewReader(deb), int64(len(deb)), t.TempDir()); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

func filesBelow(t testing.TB, dir string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			p, err = filepath.Rel(dir, p)
			found = append(found, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// FuzzDeb holds that no package breaks what unpacks it, and that nothing is written but what is wanted.
func FuzzDeb(f *testing.F) {
	for _, end := range []string{"", ".gz", ".xz", ".zst"} {
		f.Add(debOf(f, "p", end, filesTar(f, [][2]string{{"./boot/vmlinuz-6", "kernel"}, {"../x", ""}})))
	}
	above := f.TempDir()
	dir := filepath.Join(above, "dir")
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		_, _ = unpackDeb(context.Background(), bytes.NewReader(b), int64(len(b)), dir)
		for _, name := range filesBelow(t, above) {
			if below, ok := strings.CutPrefix(name, "dir/"); !ok || !keptFiles.MatchString(below) {
				t.Errorf("it wrote %s", name)
			}
		}
	})
}
