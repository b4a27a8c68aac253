//go:build linux

package main

import (
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// asciiLocale tells whether the locale is one that has no more than ASCII, as LC_ALL=C. Where none is set nothing is known, and most
// terminals show UTF-8.
func asciiLocale(getenv func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} { // as in setlocale(3)
		if locale := strings.ToUpper(getenv(name)); locale != "" {
			return !strings.Contains(locale, "UTF-8") && !strings.Contains(locale, "UTF8")
		}
	}
	return false
}

// textOut is stdout, for text that people read.
func (e *env) textOut() io.Writer { return e.plain(e.stdout) }

// plain is w, for text that people read: it writes in ASCII what the locale cannot show.
func (e *env) plain(w io.Writer) io.Writer {
	if !e.ascii {
		return w
	}
	return &asciiWriter{w: w}
}

type asciiWriter struct {
	w    io.Writer
	held []byte // the beginning of a character whose end is still to come
}

// asASCII has what rpmig's own texts are made of. An arrow stays one column wide, so that tables stay in line.
var asASCII = strings.NewReplacer("→", ">", "–", "-", "…", "...", "×", "x", "“", `"`, "”", `"`, "‘", "'", "’", "'", "µ", "u", "≥", ">=", "≤", "<=")

func (a *asciiWriter) Write(p []byte) (int, error) {
	text := append(a.held, p...)
	whole := len(text)
	for i := whole - 1; i >= 0 && i >= whole-utf8.UTFMax; i-- {
		if utf8.RuneStart(text[i]) {
			if !utf8.FullRune(text[i:]) {
				whole = i
			}
			break
		}
	}
	a.held = slices.Clone(text[whole:])
	if _, err := io.WriteString(a.w, asASCII.Replace(string(text[:whole]))); err != nil {
		return 0, err
	}
	return len(p), nil
}
