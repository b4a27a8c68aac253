package bundle

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"unicode"

	"github.com/rpmig/rpmig/reports"
	"github.com/rpmig/rpmig/result"
)

// Checked is what a good bundle holds.
type Checked struct {
	Run   *result.Run
	Files int
}

// Check reads a bundle and verifies it. Nothing is written to disk, whatever the archive names. Refused are
//   - an archive that is cut short, too large, or followed by something;
//   - a file that is not plain, that is there twice, or whose name is not a clean path below the archive;
//   - a file that the manifest does not list with its size and sum, or that it lists and that is not there;
//   - a report, page, table or timeline that is not what this rpmig makes of the ledger: the error is a ReplayError;
//   - a capture that the ledger names and that is neither there nor among what was left out;
//   - a file that does not belong in a bundle.
func Check(ctx context.Context, r io.Reader) (*Checked, error) {
	a, err := unpack(&interruptible{ctx, r}, MaxBytes)
	if err != nil {
		return nil, err
	}
	return a.check(ctx)
}

// interruptible ends with its context: a bundle may be as large as it may.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (i *interruptible) Read(p []byte) (int, error) {
	if i.ctx.Err() != nil {
		return 0, context.Cause(i.ctx)
	}
	return i.r.Read(p)
}

// check holds what was unpacked against its manifest and its ledger.
func (a *contents) check(ctx context.Context) (*Checked, error) {
	if err := a.manifest(); err != nil {
		return nil, fmt.Errorf("%s: %w", manifestName, err)
	}
	for _, name := range []string{ledgerName, envName} {
		if _, ok := a.kept[name]; !ok {
			return nil, fmt.Errorf("%s is missing", name)
		}
	}
	run, err := result.Read(bytes.NewReader(a.kept[ledgerName]))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ledgerName, err)
	}
	var env reports.Environment
	if err := json.Unmarshal(a.kept[envName], &env); err != nil {
		return nil, fmt.Errorf("%s: %w", envName, err)
	}
	if err := a.replay(ctx, run, &env); err != nil {
		return nil, err
	}
	return &Checked{run, len(a.files)}, nil
}

// contents are the sums of an archive's files, and those files that have to be read.
type contents struct {
	files map[string]file
	kept  map[string][]byte
}

// unpack reads the archive, no more than so many bytes of it whatever it says of itself.
func unpack(r io.Reader, most int64) (*contents, error) {
	packed := bufio.NewReader(r) // gzip takes no more than it needs from an io.ByteReader
	zip, err := gzip.NewReader(packed)
	if err != nil {
		return nil, fmt.Errorf("not a bundle: %w", short(err))
	}
	zip.Multistream(false)
	a, err := readArchive(&bounded{r: zip, left: most})
	if err != nil {
		return nil, err
	}
	// Behind the sum of the whole is nothing.
	if _, err := packed.ReadByte(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the archive")
	}
	return a, nil
}

// readArchive reads the tar, and what fills its last record.
func readArchive(plain io.Reader) (*contents, error) {
	archive := tar.NewReader(plain)
	a := &contents{files: map[string]file{}, kept: map[string][]byte{}}
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("read the archive: %w", short(err))
		}
		if err := a.take(h, archive); err != nil {
			return nil, err
		}
	}
	if err := onlyZeros(plain); err != nil {
		return nil, fmt.Errorf("read behind the archive: %w", short(err))
	}
	return a, nil
}

// take reads one file of the archive.
func (a *contents) take(h *tar.Header, r io.Reader) error {
	switch {
	case !fs.ValidPath(h.Name) || h.Name == "." || len(h.Name) > 1024 || strings.ContainsRune(h.Name, '\\') || strings.ContainsFunc(h.Name, unicode.IsControl):
		return fmt.Errorf("%q is no name for a file of a bundle", h.Name[:min(len(h.Name), 1024)])
	case h.Typeflag != tar.TypeReg:
		return fmt.Errorf("%q is no plain file", h.Name)
	case h.Size > MaxBytes: // a sparse file is larger than what is read of it
		return fmt.Errorf("%q: %w", h.Name, errTooBig)
	case len(a.files) >= MaxFiles:
		return fmt.Errorf("more than %d files", MaxFiles)
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return fmt.Errorf("%q is no plain file", h.Name)
		}
	}
	if _, ok := a.files[h.Name]; ok {
		return fmt.Errorf("%q is there twice", h.Name)
	}
	sum := sha256.New()
	to := io.Writer(sum)
	var keep bytes.Buffer
	switch h.Name {
	case ledgerName, envName, manifestName:
		if h.Size > maxMemory {
			return fmt.Errorf("%s: larger than %d MiB", h.Name, maxMemory>>20)
		}
		to = io.MultiWriter(sum, &keep)
	}
	n, err := io.Copy(to, r)
	if err != nil {
		return fmt.Errorf("read %q: %w", h.Name, short(err))
	}
	if to != io.Writer(sum) {
		a.kept[h.Name] = keep.Bytes()
	}
	a.files[h.Name] = file{h.Name, n, hex.EncodeToString(sum.Sum(nil))}
	return nil
}

// manifest holds what the archive says of its files against them.
func (a *contents) manifest() error {
	text, ok := a.kept[manifestName]
	if !ok {
		return errors.New("missing: not a bundle, or not all of one")
	}
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return err
	}
	if m.Schema != manifestSchema {
		return fmt.Errorf("has schema %d; this rpmig reads %d", m.Schema, manifestSchema)
	}
	listed := map[string]bool{}
	for _, want := range m.Files {
		got, ok := a.files[want.Name]
		switch {
		case listed[want.Name]:
			return fmt.Errorf("lists %q twice", want.Name)
		case !ok || want.Name == manifestName:
			return fmt.Errorf("lists %q, which is not there", want.Name)
		case got != want:
			return fmt.Errorf("%q is not what was put in: want %d bytes with sum %.12q, got %d with %.12q",
				want.Name, want.Size, want.SHA256, got.Size, got.SHA256)
		}
		listed[want.Name] = true
	}
	for name := range a.files {
		if !listed[name] && name != manifestName {
			return fmt.Errorf("does not list %q", name)
		}
	}
	return nil
}

// replay makes again what is made from the ledger. What is left over must be what a bundle may hold besides.
func (a *contents) replay(ctx context.Context, run *result.Run, env *reports.Environment) error {
	rest := map[string]bool{}
	for name := range a.files {
		rest[name] = true
	}
	for _, e := range derived(run, env) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		data, err := e.make()
		if err != nil {
			return fmt.Errorf("make %s again: %w", e.name, err)
		}
		got, ok := a.files[e.name]
		switch {
		case !ok:
			return fmt.Errorf("%s is missing", e.name)
		case got.SHA256 != sum(data):
			return &ReplayError{e.name, env.Rpmig}
		}
		delete(rest, e.name)
	}
	for _, name := range []string{manifestName, configName} {
		delete(rest, name)
	}
	if run.Header.Guest != nil {
		delete(rest, consoleFile)
	}
	left := map[string]bool{}
	for _, l := range env.LeftOut {
		left[l.File] = true
	}
	for i := range run.Cells {
		folder := run.Cells[i].Folder()
		if f := run.Cells[i].Capture.File; f != "" {
			if f != path.Join(folder, captureFile) {
				return fmt.Errorf("%s: %s says that its capture is %q", ledgerName, run.Cells[i].ID(), f)
			}
			if !rest[f] && !left[f] {
				return fmt.Errorf("%s is missing", f)
			}
			delete(rest, f)
		}
		delete(rest, path.Join(folder, panicFile))
	}
	for name := range rest {
		if programFile.MatchString(name) {
			continue
		}
		return fmt.Errorf("%q does not belong in a bundle", name)
	}
	return nil
}

// ReplayError says that a file is not what the ledger beside it makes.
type ReplayError struct {
	Name string
	By   string // the version of rpmig that made the bundle
}

func (e *ReplayError) Error() string {
	return fmt.Sprintf("%s is not what its %s makes", e.Name, ledgerName)
}

// Hint is what to do next.
func (e *ReplayError) Hint() string {
	return fmt.Sprintf("it was changed, or this is not the rpmig that made it, which was %q: check it with that one", e.By)
}

var errTooBig = fmt.Errorf("larger than the %d MiB that a bundle may have", MaxBytes>>20)

// bounded ends a bomb.
type bounded struct {
	r    io.Reader
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		// It may end just here.
		var one [1]byte
		if n, err := b.r.Read(one[:]); n == 0 {
			return 0, err
		}
		return 0, errTooBig
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	return n, err
}

func onlyZeros(r io.Reader) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if len(bytes.Trim(buf[:n], "\x00")) > 0 {
			return errors.New("there is something")
		}
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// short says in words that a file ended too early.
func short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("it was cut short: %w", err)
	}
	return err
}
