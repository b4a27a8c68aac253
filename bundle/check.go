package bundle

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode"

	"github.com/rpmig/rpmig/reports"
	"github.com/rpmig/rpmig/result"
)

// Checked is what a good bundle holds.
type Checked struct {
	Run   *result.Run
	Files int
	// Repack says how it differs from what rpmig writes, though all that is in it holds: somebody has packed it again. Then nothing is
	// known of the bytes of the archive that rpmig wrote. Empty: nothing speaks for that.
	Repack []string
	// Without are the captures that were left out when it was made, as they could not be read or were not those of their cells.
	Without []reports.LeftOut
}

// Check reads a bundle and verifies it. Nothing is written to disk, whatever the archive names. Refused are
//   - an archive that is cut short, too large, or followed by something;
//   - a file that is neither plain nor the folder of one, that is there twice, or whose name is not a clean path below the archive;
//   - a file that the manifest does not list with its size and sum, or that it lists and that is not there;
//   - a report, page, table or timeline that is not what this rpmig makes of the ledger: the error is a ReplayError;
//   - a capture that the ledger names and that is neither there nor among what was left out;
//   - a capture that cannot be read, or that has not the frames which the ledger names;
//   - a file that does not belong in a bundle.
//
// It may be compressed by whatever package unpack reads or not at all, and in a folder.
func Check(ctx context.Context, r io.Reader) (*Checked, error) {
	a, err := readBundle(&interruptible{ctx, r}, MaxBytes)
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
		if _, ok := a.files[name]; !ok {
			return nil, fmt.Errorf("%s is missing", name)
		}
	}
	ledger := a.ledgers[ledgerName]
	if ledger.err != nil {
		return nil, fmt.Errorf("%s: %w", ledgerName, ledger.err)
	}
	run := ledger.run
	var env reports.Environment
	if err := json.Unmarshal(a.kept[envName], &env); err != nil {
		return nil, fmt.Errorf("%s: %w", envName, err)
	}
	if err := a.replay(ctx, run, &env); err != nil {
		return nil, err
	}
	without := slices.DeleteFunc(slices.Clone(env.LeftOut), func(l reports.LeftOut) bool { return path.Base(l.File) != captureFile })
	return &Checked{run, len(a.files), a.repack, without}, nil
}

// contents are the sums of an archive's files, and what has to be known of some of them.
type contents struct {
	files    map[string]file
	order    []string // of the files
	kept     map[string][]byte
	ledgers  map[string]ledger
	captures map[string]*seen
	folders  map[string]bool
	top      string   // the folder that the first name begins with, or else that name
	repack   []string // as in Checked
}

// ErrNoManifest says that an archive lacks the list of what a bundle has.
var ErrNoManifest = errors.New("missing: not a bundle, or not all of one")

// NoArchiveError says that what was to be a bundle is no tar file.
type NoArchiveError struct {
	Head []byte // what it begins with, unpacked: TarHead bytes, if there are as many
}

func (e *NoArchiveError) Error() string {
	if len(e.Head) == 0 {
		return "not a bundle: it was cut short: it is empty"
	}
	return "not a bundle: no tar file"
}

// TarHead is how many bytes of a file IsTar asks for: a block, which has the magic behind the first name and what goes with it.
const TarHead = 512

// IsTar tells whether a file that begins so is a tar file (tar(5)).
func IsTar(head []byte) bool {
	const magicAt = 257
	return len(head) > magicAt && bytes.HasPrefix(head[magicAt:], []byte("ustar"))
}

// ledger is what came of reading one.
type ledger struct {
	run *result.Run
	err error
}

func newContents() *contents {
	return &contents{
		files: map[string]file{}, kept: map[string][]byte{}, ledgers: map[string]ledger{}, captures: map[string]*seen{}, folders: map[string]bool{},
	}
}

// readBundle reads the archive, no more than so many bytes of it whatever it says of itself.
func readBundle(r io.Reader, most int64) (*contents, error) {
	a := newContents()
	plain, left, err := a.decompress(bufio.NewReader(r))
	if err != nil {
		return nil, fmt.Errorf("not a bundle: %w", short(err))
	}
	head, broken := plain.Peek(TarHead)
	head = bytes.Clone(head)
	err = a.archive(&bounded{r: plain, left: most})
	switch {
	case len(a.order)+len(a.folders) == 0 && !IsTar(head) && (broken == nil || errors.Is(broken, io.EOF)) &&
		(err == nil || errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF)):
		return nil, &NoArchiveError{head}
	case err != nil:
		return nil, err
	}
	// Behind the sum of the whole is nothing.
	if left() {
		return nil, errors.New("something follows the archive")
	}
	return a, nil
}

// readArchive reads a tar file.
func readArchive(plain io.Reader) (*contents, error) {
	a := newContents()
	if err := a.archive(plain); err != nil {
		return nil, err
	}
	return a, nil
}

// archive reads the tar, and what fills its last record.
func (a *contents) archive(plain io.Reader) error {
	archive := tar.NewReader(plain)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("read the archive: %w", short(err))
		}
		if err := a.take(h, archive); err != nil {
			return err
		}
	}
	if err := onlyZeros(plain); err != nil {
		return fmt.Errorf("read behind the archive: %w", short(err))
	}
	a.unwrap()
	return a.noEmptyFolder()
}

// take reads one entry of the archive.
func (a *contents) take(h *tar.Header, r io.Reader) error {
	name := a.header(h)
	if h.Typeflag == tar.TypeDir && (name == "" || name == ".") {
		return nil // where all is
	}
	if err := a.mayTake(name); err != nil {
		return err
	}
	switch {
	case h.Typeflag == tar.TypeDir:
		a.folders[name] = true
		return nil
	case h.Typeflag != tar.TypeReg:
		return fmt.Errorf("%q is no plain file", name)
	case h.Size > MaxBytes: // a sparse file is larger than what is read of it
		return fmt.Errorf("%q: %w", name, errTooBig)
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return fmt.Errorf("%q is no plain file", name)
		}
	}
	return a.read(name, r)
}

// mayTake refuses a name that cannot be that of a file or folder of a bundle.
func (a *contents) mayTake(name string) error {
	_, twice := a.files[name]
	switch {
	case !fs.ValidPath(name) || name == "." || len(name) > 1024 || strings.ContainsRune(name, '\\') || strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("%q is no name for a file of a bundle", name[:min(len(name), 1024)])
	case len(a.files)+len(a.folders) >= 2*MaxFiles || len(a.files) >= MaxFiles:
		return fmt.Errorf("more than %d files", MaxFiles)
	case twice || a.folders[name]:
		return fmt.Errorf("%q is there twice", name)
	}
	return nil
}

// read reads a file.
func (a *contents) read(name string, r io.Reader) error {
	sum := sha256.New()
	var size counter
	r = io.TeeReader(r, io.MultiWriter(sum, &size))
	switch own := strings.TrimPrefix(name, a.top+"/"); {
	case own == ledgerName:
		run, err := result.Read(io.LimitReader(r, maxMemory))
		a.ledgers[name] = ledger{run, err}
	case own == envName || own == manifestName:
		text, err := io.ReadAll(io.LimitReader(r, maxMemory+1))
		if err == nil && len(text) > maxMemory {
			return fmt.Errorf("%s: larger than %d MiB", name, maxMemory>>20)
		} else if err != nil {
			return fmt.Errorf("read %q: %w", name, short(err))
		}
		a.kept[name] = text
	case path.Base(name) == captureFile:
		a.captures[name] = readCapture(r)
	}
	// What is left of it; an error that was met before comes again.
	if _, err := io.Copy(io.Discard, r); err != nil {
		return fmt.Errorf("read %q: %w", name, short(err))
	}
	if _, ok := a.ledgers[name]; ok && size > maxMemory {
		return fmt.Errorf("%s: larger than %d MiB", name, maxMemory>>20)
	}
	a.files[name] = file{name, int64(size), hex.EncodeToString(sum.Sum(nil))}
	a.order = append(a.order, name)
	return nil
}

// counter counts bytes.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// manifest holds what the archive says of its files against them.
func (a *contents) manifest() error {
	text, ok := a.kept[manifestName]
	if !ok {
		return ErrNoManifest
	}
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return err
	}
	if m.Schema != manifestSchema {
		return fmt.Errorf("has schema %d; this rpmig reads %d", m.Schema, manifestSchema)
	}
	listed := map[string]bool{}
	for i, want := range m.Files {
		if i < len(a.order) && a.order[i] != want.Name && !slices.Contains(a.repack, inFolder) {
			a.note(byTar) // which took them in another order
		}
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
		want, _, err := e.made()
		if err != nil {
			return fmt.Errorf("make %s again: %w", e.name, err)
		}
		got, ok := a.files[e.name]
		switch {
		case !ok:
			return fmt.Errorf("%s is missing", e.name)
		case got != want:
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
			if s := a.captures[f]; s != nil {
				if err := s.holds(&run.Cells[i]); err != nil {
					return fmt.Errorf("%s %w", f, err)
				}
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
