package reports

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/rpmig/rpmig/result"
)

// measured is a run that a kernel played, as an rpmig of schema 1 wrote it.
func measured(t *testing.T) *result.Run {
	t.Helper()
	f, err := os.Open("../result/testdata/schema1.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	run, err := result.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// reworded says the same in other words: of the same length, so that lines break where they did, and without a word,
// a number or a mark that was there before.
func reworded(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return 'a' + (r-'a'+7)%26
		case r >= 'A' && r <= 'Z':
			return 'A' + (r-'A'+7)%26
		case r >= '0' && r <= '9':
			return '0' + (r-'0'+3)%10
		case r == ' ' || r == '-' || r == '"':
			return r
		}
		return '~'
	}, s)
}

// reword rewords all texts of a run that are written for people. Names of cells, and what is one of a list, as a state or
// a role, are no such texts.
func reword(run *result.Run) {
	var texts []*string
	for i := range run.Header.Modes {
		texts = append(texts, &run.Header.Modes[i].Saves, &run.Header.Modes[i].Advice)
	}
	for i := range run.Cells {
		c := &run.Cells[i]
		texts = append(texts, &c.Reason, &c.DropBackend)
		for j := range c.Steps {
			texts = append(texts, &c.Steps[j].Name)
		}
		for j := range c.Checks {
			texts = append(texts, &c.Checks[j].Name, &c.Checks[j].Want, &c.Checks[j].Got)
		}
		for j := range c.Flow {
			texts = append(texts, &c.Flow[j].Text, &c.Flow[j].Note)
		}
		for j := range c.Resets {
			texts = append(texts, &c.Resets[j].Reason)
		}
		for j := range c.Tables {
			for k := range c.Tables[j].Sockets {
				if s := &c.Tables[j].Sockets[k]; s.State == "LISTEN" {
					texts = append(texts, &s.Name)
				}
			}
		}
	}
	for _, s := range texts {
		*s = reworded(*s)
	}
}

// blank leaves of a text its lines, its arrows and the lengths of its words.
func blank(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case strings.ContainsRune("|<>- \n", r):
			return r
		case unicode.IsLetter(r):
			return 'a'
		case unicode.IsDigit(r):
			return '0'
		}
		return '~'
	}, s)
}

var (
	betweenTags = regexp.MustCompile(`>[^<]*<`)
	// Attributes that hold a text; and a setting in a sentence is set apart.
	textual = regexp.MustCompile(` data-name="[^"]*"|</?code>`)
)

// tags leaves of a page or a drawing all but what is read.
func tags(s string) string {
	s = strings.NewReplacer(inline(pageJS), "", inline(pageCSS), "").Replace(s)
	return betweenTags.ReplaceAllString(textual.ReplaceAllString(s, ""), ">\n<")
}

// TestRewordedTexts: however the texts of a ledger are worded, each picture of it stays the same.
func TestRewordedTexts(t *testing.T) {
	crowded := func(*testing.T) *result.Run {
		return &result.Run{Header: mixed().Header, Cells: []result.Cell{crowd()}}
	}
	drawn := ""
	for name, run := range map[string]func(*testing.T) *result.Run{
		"measured": measured, "crowd": crowded,
		"quizzes": func(*testing.T) *result.Run { return quizzes() },
		"failing": func(*testing.T) *result.Run { return failing() },
		"mixed":   func(*testing.T) *result.Run { return mixed() },
	} {
		was, is := run(t), run(t)
		reword(is)
		same := func(what, was, is string) {
			t.Helper()
			if diff := cmp.Diff(was, is); diff != "" {
				t.Errorf("%s: %s changed with the words: -was +is\n%s", name, what, diff)
			}
		}
		before, after := NewStories(was), NewStories(is)
		for i := range was.Cells {
			c := &was.Cells[i]
			text, svg := before.Timeline(c), sequence(newScene(&was.Header, c))
			same("timeline of "+c.ID(), blank(text), blank(after.Timeline(&is.Cells[i])))
			same("drawing of "+c.ID(), tags(svg), tags(sequence(newScene(&is.Header, &is.Cells[i]))))
			drawn += text + svg
		}
		same("page", tags(unfold(t, render(t, "html", was, Options{}))), tags(unfold(t, render(t, "html", is, Options{}))))
		same("report of a bundle", blank(Bundle(was, environment())), blank(Bundle(is, environment())))
	}
	// Words decided each of these once.
	for _, want := range []string{
		"x| dropped", "| again", "x| again, dropped", "| reset ", "= now a ", "= moved ", "= cloned ", "! server: ", "! client: ", " SYN_RECV → ESTABLISHED",
		`class="segment dropped"`, `class="segment again"`, `class="segment reset"`, "the final ACK of the handshake", `class="closed"`,
	} {
		if !strings.Contains(drawn, want) {
			t.Errorf("nothing is drawn with %q", want)
		}
	}
}
