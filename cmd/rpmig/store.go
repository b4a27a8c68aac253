//go:build linux

package main

import (
	"archive/zip"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/rpmig/rpmig/nameless"
)

// store is a run's folder in one file without a name, for a run that keeps its evidence only until it is bundled: the kernel
// takes it back however rpmig ends. It is an evidence.Place.
type store struct {
	f   *os.File
	zip *zip.Writer
}

// newStore makes one where temporary files are.
func newStore() (*store, error) {
	f, err := nameless.Temp()
	if err != nil {
		return nil, err
	}
	return &store{f, zip.NewWriter(f)}, nil
}

// Create implements evidence.Place. Nothing is compressed, as the bundle is.
func (s *store) Create(name string) (io.WriteCloser, error) {
	w, err := s.zip.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
	return stored{w}, err
}

// stored is a file of a store, which the next one ends.
type stored struct{ io.Writer }

func (stored) Close() error { return nil }

// files returns what was put in, once all is.
func (s *store) files() (fs.FS, error) {
	if err := s.zip.Close(); err != nil {
		return nil, err
	}
	size, err := s.f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	files, err := zip.NewReader(s.f, size)
	if err != nil {
		return nil, fmt.Errorf("read the evidence: %w", err)
	}
	return files, nil
}

func (s *store) close() { _ = s.f.Close() }
