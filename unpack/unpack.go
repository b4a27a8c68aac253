// Package unpack reads files that gzip, zstd, xz or bzip2 may have packed, in bounded memory: they may be anybody's.
package unpack

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/zstd"
	"github.com/xi2/xz"
)

// window is how far back zstd and xz may look, in bytes: as far as zstd --ultra -22 and xz -9 make it.
const window = 128 << 20

// format is a way to pack, told by what a file begins with.
type format struct {
	name, magic string
	open        func(io.Reader) (io.Reader, error)
}

// formats are those that are read.
var formats = []format{
	{"gzip", "\x1f\x8b", func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }},
	// One at a time starts no goroutine, so that there is nothing to close.
	{"zstd", "\x28\xb5\x2f\xfd", func(r io.Reader) (io.Reader, error) {
		return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(window))
	}},
	{"xz", "\xfd7zXZ\x00", func(r io.Reader) (io.Reader, error) {
		zip, err := xz.NewReader(r, window)
		return &xzReader{zip}, err
	}},
	{"bzip2", "BZh", func(r io.Reader) (io.Reader, error) { return bzip2.NewReader(r), nil }},
}

// Reader reads what was packed, and all else as it is. by is the program that has packed it; empty: none. A *gzip.Reader has read
// nothing but the header.
func Reader(in *bufio.Reader) (plain io.Reader, by string, err error) {
	for _, f := range formats {
		if head, _ := in.Peek(len(f.magic)); f.begins(head) { // an error comes again when it is read
			plain, err := f.open(in)
			return plain, f.name, err
		}
	}
	return in, "", nil
}

// IsPacked tells whether Reader unpacks what begins so.
func IsPacked(head []byte) bool {
	return slices.ContainsFunc(formats, func(f format) bool { return f.begins(head) })
}

func (f *format) begins(head []byte) bool { return bytes.HasPrefix(head, []byte(f.magic)) }

// xzReader says of what is cut short that it is, as the others do.
type xzReader struct{ *xz.Reader }

func (x *xzReader) Read(p []byte) (int, error) {
	n, err := x.Reader.Read(p)
	if errors.Is(err, xz.ErrBuf) {
		err = fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, err)
	}
	return n, err
}
