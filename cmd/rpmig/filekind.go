//go:build linux

package main

import (
	"bytes"
	"cmp"
	"fmt"

	"github.com/rpmig/rpmig/bundle"
	"github.com/rpmig/rpmig/capture"
	"github.com/rpmig/rpmig/compare"
	"github.com/rpmig/rpmig/unpack"
)

// fileKind is what a file is by its beginning, and what takes it.
type fileKind struct {
	what string
	is   func(head []byte) bool
	hint func(name string) string // nil: what is wanted, and what makes one
}

// refused says that a file is not what was wanted.
func (k *fileKind) refused(name, wanted string) error {
	hint := cmp.Or(map[string]string{
		"bundle": "a bundle is what rpmig bundle DIR -o FILE.tar.gz writes", "capture": "tcpdump -i any -w FILE.pcap tcp port 80 makes one",
	}[wanted], ledgerHint)
	if k.hint != nil {
		hint = k.hint(quote(name))
	}
	return &usageError{fmt.Sprintf("%s is no %s, but %s", name, wanted, k.what), hint}
}

// ledgerHint says what a ledger is.
const ledgerHint = "a ledger is the run.jsonl that rpmig run --out=DIR writes: rpmig report DIR"

const byteOrderMark = "\xef\xbb\xbf"

// fileHead is how much of a file tells what it is, in bytes.
const fileHead = bundle.TarHead

// isLedger is also what only its reader can tell from one, such as an object of something else.
var isLedger = &fileKind{what: "JSON, as a ledger is", is: func(head []byte) bool { return bytes.HasPrefix(space(head), []byte("{")) }, hint: func(name string) string { return "rpmig report " + name }}

var isArchive = &fileKind{what: "a tar file", is: bundle.IsTar, hint: func(name string) string { return "if it is a bundle: rpmig bundle --check " + name }}

var isBaseline = &fileKind{what: "a baseline", is: compare.IsBaseline, hint: func(name string) string {
	return "rpmig compare " + name + " DIR, where DIR is what rpmig run --out=DIR wrote"
}}

var isCapture = &fileKind{what: "a packet capture", is: capture.IsCapture, hint: captureHint}

// fileKinds are tried one after another.
var fileKinds = []*fileKind{
	isArchive, isCapture, isBaseline,
	{"a zip file", begins("PK\x03\x04"), func(name string) string { return "unzip " + name + ", and then the same of what was in it" }},
	{"packed twice", unpack.IsPacked, again("zcat %s")},
	{"packed by lz4", begins("\x04\x22\x4d\x18"), again("lz4 -dc %s")},
	{"packed by lzma", begins("\x5d\x00\x00"), again("xz -dc %s")},
	{"text in UTF-32", begins("\xff\xfe\x00\x00", "\x00\x00\xfe\xff"), again("iconv -f UTF-32 -t UTF-8 %s")},
	{"text in UTF-16", begins("\xff\xfe", "\xfe\xff"), again("iconv -f UTF-16 -t UTF-8 %s")},
	{"text in UTF-16", begins("{\x00"), again("iconv -f UTF-16LE -t UTF-8 %s")}, // without the mark
	{"text in UTF-16", begins("\x00{"), again("iconv -f UTF-16BE -t UTF-8 %s")},
	{"a JSON array, and a ledger has an object a line", func(head []byte) bool { return bytes.HasPrefix(space(head), []byte("[")) }, again("jq -c '.[]' %s")},
	{"JSON over several lines, and a ledger has an object a line", func(head []byte) bool {
		line, _, more := bytes.Cut(space(head), []byte("\n"))
		return more && string(bytes.TrimSpace(line)) == "{"
	}, again("jq -c . %s")},
	{"JSON of something else, whose first line has no \"schema\"", func(head []byte) bool {
		line, _, whole := bytes.Cut(space(head), []byte("\n"))
		return whole && bytes.HasPrefix(line, []byte("{")) && !bytes.Contains(line, []byte(`"schema"`))
	}, nil},
	{"HTML or XML", func(head []byte) bool { return bytes.HasPrefix(space(head), []byte("<")) }, nil},
	{"a report in KTAP or TAP", begins("KTAP version ", "TAP version "), nil},
	{"a program", begins("\x7fELF"), nil},
	{"empty", func(head []byte) bool { return len(space(head)) == 0 }, nil},
	isLedger,
}

// kindOfFile tells what a file is.
func kindOfFile(head []byte) *fileKind {
	for _, k := range fileKinds {
		if k.is(head) {
			return k
		}
	}
	return &fileKind{what: fmt.Sprintf("something else, which begins with %.20q", bytes.TrimPrefix(head, []byte(byteOrderMark)))}
}

// begins tells whether a file begins with one of these.
func begins(magics ...string) func(head []byte) bool {
	return func(head []byte) bool {
		for _, m := range magics {
			if bytes.HasPrefix(head, []byte(m)) {
				return true
			}
		}
		return false
	}
}

// again makes a ledger of a file by a command.
func again(command string) func(name string) string {
	return func(name string) string {
		return fmt.Sprintf(command, name) + " >LEDGER, and then the same of LEDGER"
	}
}

// space leaves out the mark and the white space that a text begins with.
func space(head []byte) []byte {
	return bytes.TrimLeft(bytes.TrimPrefix(head, []byte(byteOrderMark)), " \t\r\n")
}
