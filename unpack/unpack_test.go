package unpack

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// TestReader: what each has packed is read, and told; what is cut short is an error; all else is as it was.
func TestReader(t *testing.T) {
	text := []byte("hello\n")
	written := func(open func(io.Writer) (io.WriteCloser, error)) []byte {
		var b bytes.Buffer
		w, err := open(&b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(text); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	// The standard library writes no bzip2: this is by bzip2(1).
	bz, err := hex.DecodeString("425a6839314159265359c1c080e2000001410000100244a00030cd00c3462997177245385090c1c080e2")
	if err != nil {
		t.Fatal(err)
	}
	for by, packed := range map[string][]byte{
		"":      text,
		"gzip":  written(func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil }),
		"zstd":  written(func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) }),
		"xz":    written(func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) }),
		"bzip2": bz,
	} {
		plain, told, err := Reader(bufio.NewReader(bytes.NewReader(packed)))
		if err != nil || told != by {
			t.Fatalf("%q is told to be by %q: %v", by, told, err)
		}
		if got, err := io.ReadAll(plain); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%q: got %q, %v", by, got, err)
		}
		if by == "" {
			continue
		}
		plain, _, err = Reader(bufio.NewReader(bytes.NewReader(packed[:len(packed)-4])))
		if err == nil {
			_, err = io.ReadAll(plain)
		}
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q, cut short: %v", by, err)
		}
	}
}
