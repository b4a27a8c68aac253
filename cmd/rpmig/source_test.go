//go:build linux

package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/unpack"
)

// FuzzSource: whatever file is named where a ledger is wanted, it is read or refused, and read as well from what gzip, zstd or tar makes
// of it.
func FuzzSource(f *testing.F) {
	var ledger bytes.Buffer
	if err := (&manyWriter{cells: 2, planned: 3}).write(&ledger); err != nil {
		f.Fatal(err)
	}
	whole := ledger.Bytes()
	for _, seed := range [][]byte{
		whole, whole[:len(whole)-99], append([]byte(byteOrderMark), whole...), zipped(f, whole, gzipped), zipped(f, whole, zstded), tarred(f, whole),
		zipped(f, tarred(f, whole), gzipped), []byte("[{}]"), []byte("PK\x03\x04"), []byte("\x28\xb5\x2f\xfd\x00\xa8\x01\x00\x00"),
		[]byte(`{"rpmig_baseline":1}` + "\n" + `{"cell":"quiz1.ipv4.off","status":"PASS"}`),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cells, archive, err := sourceCells(data)
		if err != nil {
			return
		}
		if _, by, _ := unpack.Reader(bufio.NewReader(bytes.NewReader(data))); by != "" {
			return // what is packed twice is refused
		}
		again := [][]byte{zipped(t, data, gzipped), zipped(t, data, zstded)}
		if !archive {
			again = append(again, tarred(t, bytes.TrimPrefix(data, []byte(byteOrderMark))))
		}
		for i, packed := range again {
			if got, _, err := sourceCells(packed); err != nil || got != cells {
				t.Errorf("packed in way %d there are %d cells, and not %d: %v", i, got, cells, err)
			}
		}
	})
}

// sourceCells reads a file as rpmig compare does, and counts what is in it.
func sourceCells(data []byte) (cells int, archive bool, err error) {
	in, is, err := unpacked("file", bytes.NewReader(data))
	if err != nil {
		return 0, false, err
	}
	count := func(_ string, text io.Reader) error {
		_, err := result.Skim(text, func(*result.Run, *result.Cell) error { cells++; return nil })
		return err
	}
	switch is {
	case isArchive:
		return cells, true, eachInBundle(in, count)
	case isLedger:
		err = count("", in)
		return cells, false, err
	default:
		return 0, false, is.refused("file", "ledger")
	}
}

// zipped is what a writer makes of a file.
func zipped(t testing.TB, data []byte, with func(io.Writer) (io.WriteCloser, error)) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := with(&b)
	if err == nil {
		_, err = w.Write(data)
		err = errors.Join(err, w.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func tarred(t testing.TB, data []byte) []byte {
	t.Helper()
	return zipped(t, data, func(w io.Writer) (io.WriteCloser, error) {
		archive := tar.NewWriter(w)
		return archive, archive.WriteHeader(&tar.Header{Name: ledgerName, Typeflag: tar.TypeReg, Size: int64(len(data)), Mode: 0o644})
	})
}
