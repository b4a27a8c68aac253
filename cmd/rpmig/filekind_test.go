//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// TestKindOfFile: what is no ledger is called what it is, and the hint names what takes it or what makes a ledger of it.
func TestKindOfFile(t *testing.T) {
	for _, tt := range []struct{ head, what, hint string }{
		{`{"schema":2}`, "JSON, as a ledger is", "rpmig report F"},
		{"\xef\xbb\xbf \r\n{\"version\":\"x\"}", "JSON, as a ledger is", "rpmig report F"},
		{"", "empty", "a ledger is"},
		{"\xef\xbb\xbf\n \t", "empty", "a ledger is"},
		{"x" + strings.Repeat("\x00", 256) + "ustar", "a tar file", "rpmig bundle --check F"},
		{"x" + strings.Repeat("\x00", 255) + "ustar", "something else", "a ledger is"},
		{"\n\r\r\n1234", "a packet capture", "rpmig explain F --port 80"},
		{"\xd4\xc3\xb2\xa1", "a packet capture", "rpmig explain F --port 80"},
		{`{"rpmig_baseline":1}`, "a baseline", "rpmig compare F DIR"},
		{"PK\x03\x04", "a zip file", "unzip F"},
		{"\x1f\x8b\x08", "packed twice", "zcat F"},
		{"\x04\x22\x4d\x18", "packed by lz4", "lz4 -dc F"},
		{"\x5d\x00\x00\x80", "packed by lzma", "xz -dc F"},
		{"\xff\xfe\x00\x00{", "text in UTF-32", "iconv -f UTF-32 "},
		{"\xff\xfe{\x00", "text in UTF-16", "iconv -f UTF-16 "},
		{"{\x00\"\x00", "text in UTF-16", "iconv -f UTF-16LE "},
		{"\x00{\x00\"", "text in UTF-16", "iconv -f UTF-16BE "},
		{" \n[{}]", "a JSON array", "jq -c '.[]' F"},
		{"{\n  \"schema\": 2", "JSON over several lines", "jq -c . F"},
		{"{\"Action\":\"start\"}\n{}", "JSON of something else", "a ledger is"},
		{"{\"schema\":2}\n{}", "JSON, as a ledger is", "rpmig report F"},
		{"\n<!DOCTYPE html>", "HTML or XML", "a ledger is"},
		{"KTAP version 1\n", "a report in KTAP or TAP", "a ledger is"},
		{"\x7fELF\x02", "a program", "a ledger is"},
		{"\x00\x00\x1b[31m", `something else, which begins with "\x00\x00\x1b[31m"`, "a ledger is"},
	} {
		err := kindOfFile([]byte(tt.head)).refused("F", "thing")
		var usage *usageError
		if !errors.As(err, &usage) || !strings.HasPrefix(usage.what, "F is no thing, but "+tt.what) || !strings.Contains(usage.hint, tt.hint) {
			t.Errorf("%q: want %q and %q, got %+v", tt.head, tt.what, tt.hint, err)
		}
	}
}

// TestOneLine: an error is one line, whatever a file is called, and cannot drive a terminal. Errors that were joined read as such.
func TestOneLine(t *testing.T) {
	name := "a\nrpmig: error: \x1b[2Jb\u009b31m\u202e"
	escaped := `a\nrpmig: error: \x1b[2Jb\u009b31m\u202e`
	no, other := errors.New("no such "+name), errors.New("bad")
	for _, tt := range []struct {
		err  error
		want string
	}{
		{no, "no such " + escaped},
		{errors.Join(no, other), "no such " + escaped + "; bad"},
		{fmt.Errorf("read: %w", errors.Join(other, errors.Join(other, no))), "read: bad; bad; no such " + escaped},
		{fmt.Errorf("%w: %w", other, no), "bad: no such " + escaped},
		{&hintedError{errors.Join(other, other), ""}, "bad; bad"},
	} {
		var stderr bytes.Buffer
		e := env{stderr: &stderr}
		e.fail(&hintedError{tt.err, "see " + name})
		if want := "rpmig: error: " + tt.want + "\nrpmig: hint: see " + escaped + "\n"; stderr.String() != want {
			t.Errorf("got %q\nwant %q", stderr.String(), want)
		}
	}
}

// TestQuote: a shell reads what was quoted as it was, and a terminal has nothing to act on.
func TestQuote(t *testing.T) {
	shell, err := exec.LookPath("bash")
	if err != nil {
		t.Skip(err)
	}
	for _, text := range []string{"", "a b", "it's", "a\nb", "\x1b[31m'\\x\u009b2J\u202e", "\x9b", "täst", "$HOME `x`", "a\tb"} {
		quoted := quote(text)
		out, err := exec.Command(shell, "-c", "printf %s "+quoted).Output()
		if err != nil || string(out) != text {
			t.Errorf("%q is quoted as %s, which is %q: %v", text, quoted, out, err)
		}
		if printable(quoted) != quoted || strings.ContainsAny(quoted, "\n\t\u202e") || !strings.Contains(text, "\x9b") && strings.Contains(quoted, "\x9b") {
			t.Errorf("%q drives a terminal", quoted)
		}
	}
}
