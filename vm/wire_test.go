package vm

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestMessages: what is written is read, however long, also where two writers take turns.
func TestMessages(t *testing.T) {
	long := bytes.Repeat([]byte("0123456789"), maxFrame/3)
	var channel bytes.Buffer
	for _, m := range []struct {
		k    kind
		text []byte
	}{{kindHello, []byte("{}")}, {kindLedger, long}, {kindAlive, nil}} {
		if err := writeMessage(&channel, m.k, m.text); err != nil {
			t.Fatal(err)
		}
	}
	// The frames of two messages of different kinds, one in the midst of the other.
	var first, second bytes.Buffer
	if err := errors.Join(writeMessage(&first, kindData, long), writeMessage(&second, kindStdout, []byte("said"))); err != nil {
		t.Fatal(err)
	}
	channel.Write(first.Next(maxFrame))
	channel.Write(second.Bytes())
	channel.Write(first.Bytes())
	in := newMessages(&channel)
	for _, want := range []struct {
		k    kind
		text []byte
	}{{kindHello, []byte("{}")}, {kindLedger, long}, {kindAlive, nil}, {kindStdout, []byte("said")}, {kindData, long}} {
		k, text, err := in.next()
		if err != nil || k != want.k || !bytes.Equal(text, want.text) {
			t.Fatalf("%c with %d bytes, %v; want %c with %d", k, len(text), err, want.k, len(want.text))
		}
	}
	if _, _, err := in.next(); err != io.EOF {
		t.Errorf("got %v, want the end", err)
	}
}

// TestNoFrames: what is no frame is refused, and not waited for.
func TestNoFrames(t *testing.T) {
	for name, text := range map[string]string{
		"a login prompt": "Debian GNU/Linux 12 ttyS1\n",
		"too long":       "L\x00\x7f\xff\xff\xff",
		"no such flag":   "L\x02\x00\x00\x00\x00",
	} {
		if _, _, err := newMessages(bytes.NewReader([]byte(text))).next(); !errors.Is(err, errFrame) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, _, err := newMessages(bytes.NewReader([]byte("L\x00\x00\x00\x00\x05ab"))).next(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut: got %v", err)
	}
}

// FuzzMessages: a guest's kernel may be anybody's. Whatever it sends is a message, a refusal or the end, and what is a message is the
// same when it is sent again.
func FuzzMessages(f *testing.F) {
	f.Add([]byte("H\x00\x00\x00\x00\x02{}"))
	f.Add([]byte("L\x01\x00\x00\x00\x01aL\x00\x00\x00\x00\x01b"))
	f.Add([]byte("C\x01\x00\x00\x00\x01aO\x00\x00\x00\x00\x00C\x00\x00\x00\x00\x01b"))
	f.Fuzz(func(t *testing.T, text []byte) {
		in := newMessages(bytes.NewReader(text))
		for {
			k, payload, err := in.next()
			if err != nil {
				return
			}
			var again bytes.Buffer
			if err := writeMessage(&again, k, payload); err != nil {
				t.Fatal(err)
			}
			k2, payload2, err := newMessages(&again).next()
			if err != nil || k2 != k {
				t.Fatalf("%c: %c, %v", k, k2, err)
			}
			if diff := cmp.Diff(string(payload), string(payload2)); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}
