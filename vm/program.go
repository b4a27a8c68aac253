package vm

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Program are the files that a program of this machine needs to run elsewhere: itself, the loader that it names, and the
// libraries that it is linked to.
func Program(path string) ([]File, error) {
	p := &program{seen: map[string]bool{}}
	if err := p.add(path, 0o755); err != nil {
		return nil, failed(err, "", "take %s along", path)
	}
	return p.files, nil
}

type program struct {
	files []File
	seen  map[string]bool
}

// add adds a file as it is, whatever links lead to it, and what it is linked to.
func (p *program) add(path string, mode uint32) error {
	if p.seen[path] {
		return nil
	}
	p.seen[path] = true
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	p.files = append(p.files, File{Name: path, Mode: mode, Data: data})
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer func() { _ = f.Close() }()
	for _, s := range f.Progs {
		if s.Type == elf.PT_INTERP {
			name := make([]byte, s.Filesz)
			if _, err := s.ReadAt(name, 0); err != nil {
				return err
			}
			if err := p.add(strings.TrimRight(string(name), "\x00"), 0o755); err != nil {
				return err
			}
		}
	}
	libraries, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for _, lib := range libraries {
		found, err := library(lib, f)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := p.add(found, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// libraryFolders are where a loader looks (ld.so(8)), those of the distributions that have a folder an architecture included.
var libraryFolders = []string{"/lib", "/usr/lib", "/lib64", "/usr/lib64", "/lib/*-linux-gnu*", "/usr/lib/*-linux-gnu*", "/usr/local/lib"}

// library finds a library that is for the same machine as the program.
func library(name string, of *elf.File) (string, error) {
	for _, pattern := range libraryFolders {
		found, _ := filepath.Glob(filepath.Join(pattern, name)) // the pattern is good
		for _, path := range found {
			f, err := elf.Open(path)
			if err != nil {
				continue
			}
			fits := f.Machine == of.Machine && f.Class == of.Class
			_ = f.Close()
			if fits {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("its library %s was not found: %w", name, os.ErrNotExist)
}

// WithPlugins adds those of a program's plugins that this machine has, which it looks for in a folder of that name.
func WithPlugins(files []File, folder string, names ...string) ([]File, error) {
	p := &program{files: files, seen: map[string]bool{}}
	for _, f := range files {
		p.seen[f.Name] = true
	}
	for _, pattern := range libraryFolders {
		for _, name := range names {
			found, _ := filepath.Glob(filepath.Join(pattern, folder, name))
			for _, path := range found {
				if err := p.add(path, 0o644); err != nil && !errors.Is(err, os.ErrNotExist) {
					return nil, failed(err, "", "take %s along", path)
				}
			}
		}
	}
	return p.files, nil
}
