//go:build linux

package main

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rpmig/rpmig/docs"
	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/scenarios"
)

// TestCommonTitle: what two titles share is whole clauses of them.
func TestCommonTitle(t *testing.T) {
	for _, c := range [][3]string{
		{"quiz1, with the listener ended by close()", "quiz2, with the listener ended by close()", "the listener ended by close()"},
		{"keys, in the handshake: B has none", "keys, by the timer: B has none", "keys: B has none"},
		{"no migration to another address (quiz1)", "no migration to another address (quiz2)", "no migration to another address"},
		{"a connection outlives two", "a handshake outlives two", ""},
		{"the same", "the same", "the same"},
	} {
		if got := commonTitle(c[0], c[1]); got != c[2] {
			t.Errorf("%q and %q share %q, want %q", c[0], c[1], got, c[2])
		}
	}
}

// TestVariants: no scenario is lost in a group, and no word of its story.
func TestVariants(t *testing.T) {
	var all []*lab.Scenario
	for _, s := range scenarios.All() {
		all = append(all, &s)
	}
	found, groups := 0, groupVariants(all)
	for _, g := range groups {
		found += len(g.all)
		common, rest := g.commonStory()
		for i, s := range g.all {
			if got, want := plainSpace(common+" "+rest[i]), plainSpace(s.Story()); got != want {
				t.Errorf("%s: got %q, want %q", s.Name, got, want)
			}
		}
	}
	if found != len(all) || len(groups) >= len(all) {
		t.Errorf("%d scenarios in %d groups, of %d", found, len(groups), len(all))
	}
}

// TestNarrowed: no line is longer than the terminal is wide, and no word is cut; what fits is left alone.
func TestNarrowed(t *testing.T) {
	const fits = "| off |  lost |\n"
	text := "## quiz1\n\n" + strings.Repeat("word ", 30) + "\n\n| off | " + strings.Repeat("lost ", 12) + "|\n" + fits + "\n```\n" + strings.Repeat("-", 79) + "\n```\n"
	for width, dashes := range map[int]int{40: 0, helpWidth: 79} {
		got := narrowed(text, width)
		fitsIn(t, got, width)
		if strings.Count(got, "word") != 30 || strings.Count(got, "lost") != 13 || !strings.Contains(got, fits) || strings.Count(got, "-") != dashes {
			t.Errorf("%d columns: %s", width, got)
		}
	}
}

// TestNarrowedParagraph: of a paragraph that does not fit all is broken anew, and none of it is indented.
func TestNarrowedParagraph(t *testing.T) {
	const text = "The first line of\nit. And more.\n\n- a list of\n- things\n"
	for width, want := range map[int]string{
		17: text,
		12: "The first\nline of it.\nAnd more.\n\n- a list of\n- things\n",
		10: "The first\nline of\nit. And\nmore.\n\n- a list\n  of\n- things\n",
	} {
		if got := narrowed(text, width); got != want {
			t.Errorf("%d columns: got %q, want %q", width, got, want)
		}
	}
}

// TestFits: what is told of scenarios, commands and this machine fits a terminal of 80 columns and one of 40, except for a word that is
// longer.
func TestFits(t *testing.T) {
	m, err := docs.Read()
	if err != nil {
		t.Fatal(err)
	}
	var all []*lab.Scenario
	for _, s := range scenarios.All() {
		all = append(all, &s)
	}
	for _, width := range []int{helpWidth, least} {
		for _, g := range groupVariants(all) {
			fitsIn(t, narrowed(g.describe(m), width), width)
		}
		var b bytes.Buffer
		e := &env{widthOut: width, scenarios: scenarios.All(), stdout: &b}
		fitsIn(t, e.checksText([]checked{{Name: "migration is on here", Detail: strings.Repeat("detail ", 20), Hint: strings.Repeat("hint ", 20)}}, false), width)
		for _, c := range e.app().Commands {
			_ = e.printHelp(&b, c)
		}
		fitsIn(t, b.String(), width)
	}
}

// fitsIn complains of each line that is wider than a terminal and could be broken.
func fitsIn(t *testing.T, text string, width int) {
	t.Helper()
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if n := utf8.RuneCountInString(line); n > width && strings.Contains(strings.TrimSpace(line), " ") {
			t.Errorf("%d columns, and not %d: %q", n, width, line)
		}
	}
}

// TestASCII: whatever the pieces are in which a text is written.
func TestASCII(t *testing.T) {
	const text = "CLOSE → LISTEN (× 3), 0–5 …"
	for size := 1; size <= len(text); size++ {
		var b bytes.Buffer
		w := (&env{ascii: true}).plain(&b)
		for from := 0; from < len(text); from += size {
			if _, err := w.Write([]byte(text[from:min(from+size, len(text))])); err != nil {
				t.Fatal(err)
			}
		}
		if want := "CLOSE > LISTEN (x 3), 0-5 ..."; b.String() != want {
			t.Errorf("in pieces of %d: %q, want %q", size, b.String(), want)
		}
	}
	for locale, want := range map[string]bool{"C": true, "POSIX": true, "de_DE.ISO-8859-1": true, "C.UTF-8": false, "en_US.utf8": false, "": false} {
		if got := asciiLocale(func(name string) string { return map[string]string{"LC_ALL": locale}[name] }); got != want {
			t.Errorf("LC_ALL=%s: %t, want %t", locale, got, want)
		}
	}
}
