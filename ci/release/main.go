// Command release builds what is published of a version, from the checkout in which it is started: for each architecture a tarball
// and a Debian package with the static binary, the manual page and completion, and a bill of materials; and the sums of all.
//
//	release -version 0.1.0 -time 1764288000 -tree ../.. -out ../../bin/release
//
// The same commit and the same Go give the same bytes: no time, name or path of the machine gets in. It is a module of its own, as
// none of this is part of rpmig.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// architectures are those that a release is made for.
var architectures = []string{"amd64", "arm64"}

// release is one that is being made.
type release struct {
	version string
	at      time.Time // of the commit, which all files get
	tree    string    // the checkout
	out     string    // the folder that it goes to
}

func main() {
	r := release{}
	seconds := flag.Int64("time", 0, "seconds since 1970 that all files get")
	flag.StringVar(&r.version, "version", "", "version, without a v")
	flag.StringVar(&r.tree, "tree", "../..", "folder of the checkout")
	flag.StringVar(&r.out, "out", "", "folder that is written to; it is made anew")
	flag.Parse()
	r.at = time.Unix(*seconds, 0).UTC()
	if r.version == "" || r.out == "" || flag.NArg() > 0 || *seconds <= 0 {
		flag.Usage()
		os.Exit(64)
	}
	if err := r.make(); err != nil {
		fmt.Fprintln(os.Stderr, "release: error:", err)
		os.Exit(1)
	}
}

func (r *release) make() error {
	if err := errors.Join(os.RemoveAll(r.out), os.MkdirAll(r.out, 0o755)); err != nil {
		return err
	}
	stage, err := os.MkdirTemp("", "rpmig-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(stage)
	for _, arch := range architectures {
		if err := r.build(arch, filepath.Join(stage, arch)); err != nil {
			return fmt.Errorf("build for %s: %w", arch, err)
		}
	}
	texts, err := r.texts(stage)
	if err != nil {
		return err
	}
	for _, arch := range architectures {
		files, binary := slices.Clone(texts), filepath.Join(stage, arch)
		program, err := os.ReadFile(binary)
		if err != nil {
			return err
		}
		files = append(files, file{"rpmig", program, 0o755})
		for _, write := range []func(string, []file) error{r.tarball, r.debian} {
			if err := write(arch, files); err != nil {
				return fmt.Errorf("pack for %s: %w", arch, err)
			}
		}
		if err := r.bill(arch, binary); err != nil {
			return fmt.Errorf("bill of materials for %s: %w", arch, err)
		}
	}
	return r.sums()
}

// build makes the static binary, as make build does.
func (r *release) build(arch, to string) error {
	cmd := exec.Command("go", "build", "-tags", "urfave_cli_no_docs", "-trimpath", "-buildvcs=false",
		"-ldflags", "-s -w -buildid= -X main.madeVersion="+r.version, "-o", to, "./cmd/rpmig")
	cmd.Dir, cmd.Stderr = r.tree, os.Stderr
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOFLAGS=", "GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=")
	return cmd.Run()
}

// file is one of a package.
type file struct {
	name string // in the tarball
	data []byte
	mode int64
}

// The names of what is written by rpmig itself.
const (
	manual         = "rpmig.8"
	bashCompletion = "completion/rpmig.bash"
	zshCompletion  = "completion/_rpmig"
	fishCompletion = "completion/rpmig.fish"
)

// texts are the same for all architectures. The binary for this machine writes its own.
func (r *release) texts(stage string) ([]file, error) {
	here := filepath.Join(stage, runtime.GOARCH)
	if _, err := os.Stat(here); err != nil {
		if err := r.build(runtime.GOARCH, here); err != nil {
			return nil, err
		}
	}
	var files []file
	for name, args := range map[string][]string{
		manual: {"man"}, bashCompletion: {"completion", "bash"}, zshCompletion: {"completion", "zsh"}, fishCompletion: {"completion", "fish"},
	} {
		text, err := exec.Command(here, args...).Output()
		if err != nil {
			return nil, fmt.Errorf("rpmig %s: %w", strings.Join(args, " "), err)
		}
		files = append(files, file{name, text, 0o644})
	}
	for _, name := range []string{"README.md", "CHANGELOG.md", "LICENSE"} {
		text, err := os.ReadFile(filepath.Join(r.tree, name))
		if err != nil {
			return nil, err
		}
		files = append(files, file{name, text, 0o644})
	}
	return files, nil
}

func (r *release) create(name string, write func(io.Writer) error) error {
	f, err := os.Create(filepath.Join(r.out, name))
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}

func (r *release) tarball(arch string, files []file) error {
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	folder := fmt.Sprintf("rpmig-%s-linux-%s", r.version, arch)
	return r.create(folder+".tar.gz", func(w io.Writer) error {
		z, _ := gzip.NewWriterLevel(w, gzip.BestCompression)
		t := tar.NewWriter(z)
		for _, f := range files {
			h := &tar.Header{Name: folder + "/" + f.name, Mode: f.mode, Size: int64(len(f.data)), ModTime: r.at, Format: tar.FormatUSTAR}
			if err := t.WriteHeader(h); err != nil {
				return err
			}
			if _, err := t.Write(f.data); err != nil {
				return err
			}
		}
		return errors.Join(t.Close(), z.Close())
	})
}

// packed is gzip's, without a name or a time.
func packed(data []byte) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	_, _ = z.Write(data)
	_ = z.Close()
	return b.Bytes()
}

// sums writes SHA256SUMS, as sha256sum -c reads it.
func (r *release) sums() error {
	entries, err := os.ReadDir(r.out)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join(r.out, entry.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%x  %s\n", sha256.Sum256(data), entry.Name())
	}
	return os.WriteFile(filepath.Join(r.out, "SHA256SUMS"), []byte(b.String()), 0o644)
}
