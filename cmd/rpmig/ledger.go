//go:build linux

package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"github.com/rpmig/rpmig/capture"
	"github.com/rpmig/rpmig/result"
)

// readLedger reads the ledger of a run by its folder, or by the name that the run printed when it ended.
func readLedger(ctx context.Context, path string) (*result.Run, error) {
	var run *result.Run
	if err := unlessEnded(ctx, func() (err error) {
		run, err = openLedger(path) // a pipe may stay silent, and a million cells take half a minute
		return err
	}); err != nil {
		return nil, err
	}
	return run, nil
}

func openLedger(path string) (*result.Run, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, ledgerName)
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &usageError{"report: " + err.Error(), "rpmig run all --out DIR && rpmig report DIR"}
	} else if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	defer func() { _ = f.Close() }()
	text, err := ledgerText(path, f)
	if err != nil {
		return nil, err
	}
	run, err := result.Read(text)
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	if errors.Is(err, result.ErrNoHeader) {
		return nil, &hintedError{err, "a ledger is the run.jsonl that rpmig run --out=DIR writes: rpmig report DIR"}
	}
	return run, err
}

// What files begin with that people take for a ledger. A tar file has its magic behind the first name and what goes with it.
const (
	byteOrderMark = "\xef\xbb\xbf"
	gzipMagic     = "\x1f\x8b"
	zstdMagic     = "\x28\xb5\x2f\xfd"
	tarMagic      = "ustar"
	tarMagicAt    = 257
)

// others are what is no ledger, and what takes it.
var others = []struct{ magic, what, hint string }{
	{"PK\x03\x04", "a zip file", "unzip, and then the same again"},
	{"\xff\xfe", "text in UTF-16", "iconv -f UTF-16 -t UTF-8, and then the same again"},
	{"\xfe\xff", "text in UTF-16", "iconv -f UTF-16 -t UTF-8, and then the same again"},
	{"[", "a JSON array, and a ledger has an object a line", "jq -c '.[]', and then the same again"},
}

// zstdWindow is how far back a ledger that zstd has packed may look, in bytes: as far as --ultra makes it, and no further than memory
// is to be had for a file that may be anybody's.
const zstdWindow = 128 << 20

// unpacked reads what gzip or zstd has packed, and all else as it is.
func unpacked(in *bufio.Reader) (*bufio.Reader, error) {
	switch {
	case starts(in, gzipMagic):
		zip, err := gzip.NewReader(in)
		if err != nil {
			return nil, err
		}
		return bufio.NewReader(zip), nil
	case starts(in, zstdMagic):
		// One at a time starts no goroutine, so that there is nothing to close.
		zip, err := zstd.NewReader(in, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(zstdWindow))
		if err != nil {
			return nil, err
		}
		return bufio.NewReader(zip), nil
	default:
		return in, nil
	}
}

// ledgerText is the text of a ledger, also of one that gzip, zstd or an editor has had. What is something else is named.
func ledgerText(name string, r io.Reader) (io.Reader, error) {
	in, err := unpacked(bufio.NewReader(r))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if head, _ := in.Peek(tarMagicAt + len(tarMagic)); bytes.HasSuffix(head, []byte(tarMagic)) {
		return nil, &usageError{name + " is no ledger, but a tar file", bundleHint(name)}
	}
	if head, _ := in.Peek(4); capture.IsCapture(head) {
		return nil, &usageError{name + " is no ledger, but a packet capture", captureHint(name)}
	}
	for _, o := range others {
		if starts(in, o.magic) {
			return nil, &usageError{fmt.Sprintf("%s is no ledger, but %s", name, o.what), o.hint}
		}
	}
	if starts(in, byteOrderMark) {
		_, _ = in.Discard(len(byteOrderMark)) // they are there
	}
	return in, nil
}

func starts(in *bufio.Reader, magic string) bool {
	head, _ := in.Peek(len(magic)) // an error comes again when it is read
	return string(head) == magic
}
