package compare

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/rpmig/rpmig/result"
)

// What a section of the text says of its cells, and how it looks on a terminal.
var sections = map[Kind]struct{ title, style string }{
	Regressed:    {"Regressed", "1;31"},
	NoConclusion: {"No conclusion: one run says nothing of what the other does", "1;35"},
	Gone:         {"Gone: played before, and not now", "1;35"},
	Fixed:        {"Fixed", "32"},
	OtherReason:  {"Still failing, for another reason", "33"},
	StillFailing: {"Still failing", "33"},
	New:          {"New: not played before", "36"},
	Untold:       {"Cannot be told: rates that may differ by chance", "33"},
	Contradicts:  {"Against the kernel's version", "33"},
	Speed:        {"Another speed", "36"},
}

// Title is the kind as a heading.
func (k Kind) Title() string { return sections[k].title }

// mostShown is how many cells of a section are shown before the rest is counted.
const mostShown = 20

// textWidth is what a terminal has at least.
const textWidth = 80

func renderText(all []*Comparison, v View) string {
	var b strings.Builder
	paint := func(style, s string) string {
		if !v.Color {
			return s
		}
		return "\x1b[" + style + "m" + s + "\x1b[m"
	}
	for i, c := range all {
		if i > 0 {
			b.WriteString("\n")
		}
		say(&b, 0, "old: "+c.Old.About())
		say(&b, 0, "new: "+c.New.About())
		for _, kind := range Kinds() {
			changes := c.Of(kind)
			if len(changes) == 0 {
				continue
			}
			fmt.Fprintf(&b, "\n%s\n", paint(sections[kind].style, kind.Title()))
			shown, more := cut(alike(changes), v)
			for _, a := range shown {
				if len(a.names) > 0 {
					say(&b, 2, strings.Join(a.names, ", ")+": "+a.outcomes)
				}
				for _, s := range a.sentences {
					say(&b, 4, s)
				}
			}
			if more > 0 {
				say(&b, 2, fmt.Sprintf("and %d more: add -v", more))
			}
		}
		b.WriteString("\n")
		say(&b, 0, c.Summary())
	}
	return b.String()
}

// About is a side in a line.
func (s *Side) About() string {
	parts := []string{s.name()}
	if h := s.Header; h.Kernel != "" {
		parts = append(parts, fmt.Sprintf("Linux %s %s", h.Release(), h.Machine), "rpmig "+h.Version)
	}
	parts = append(parts, result.Plural(len(s.cells), "cell", "cells"))
	if s.Missing > 0 {
		parts = append(parts, fmt.Sprintf("cut short: %d missing", s.Missing))
	}
	if s.Ending != nil {
		parts = append(parts, s.Ending.Why)
	}
	return strings.Join(parts, ", ")
}

// outcomes is "was PASS, is FAIL", or one of them where they are the same.
func (ch *Change) outcomes() string {
	was, is := ch.Old.String(), ch.New.String()
	switch {
	case ch.Scenario == "": // it is of the run as a whole
		return ""
	case was == is:
		return is
	case ch.Old == nil:
		return is
	case ch.New == nil:
		return "was " + was
	default:
		return "was " + was + ", is " + is
	}
}

// Of returns the changes of a kind.
func (c *Comparison) Of(k Kind) []*Change {
	var found []*Change
	for i := range c.Changes {
		if c.Changes[i].Kind == k {
			found = append(found, &c.Changes[i])
		}
	}
	return found
}

// alikes are cells of which the same is to be said.
type alikes struct {
	names     []string // none of what is no cell
	outcomes  string
	sentences []string
}

// alike puts together what is said of cells of one scenario in the same words. The changes are sorted by name.
func alike(changes []*Change) []*alikes {
	var all []*alikes
	first := 0 // of the scenario
	for i, ch := range changes {
		if i > 0 && ch.Scenario != changes[i-1].Scenario {
			first = len(all)
		}
		a := &alikes{outcomes: ch.outcomes(), sentences: ch.Sentences()}
		same := slices.IndexFunc(all[first:], func(b *alikes) bool {
			return ch.Scenario != "" && a.outcomes == b.outcomes && slices.Equal(a.sentences, b.sentences)
		})
		if same >= 0 {
			a = all[first+same]
		} else {
			all = append(all, a)
		}
		if ch.Scenario != "" {
			a.names = append(a.names, ch.String())
		}
	}
	return all
}

// cut returns what is shown, and how many cells are not.
func cut(all []*alikes, v View) (shown []*alikes, more int) {
	if v.All || len(all) <= mostShown {
		return all, 0
	}
	for _, a := range all[mostShown:] {
		more += max(len(a.names), 1)
	}
	return all[:mostShown], more
}

// Summary is "1 regressed, 2 fixed, 376 as before".
func (c *Comparison) Summary() string {
	var parts []string
	for _, k := range Kinds() {
		if n := c.Count(k); n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, k))
		}
	}
	parts = append(parts, fmt.Sprintf("%d as before", c.Same))
	said := strings.Join(parts, ", ")
	if c.Tested > 0 {
		said += fmt.Sprintf("; %s compared by Fisher's exact test at %g, corrected after Holm", result.Plural(c.Tested, "rate", "rates"), c.Alpha)
	}
	return said
}

// say writes a text that is wrapped at spaces and indented, its first line by two columns less.
func say(b *strings.Builder, indent int, text string) {
	lead := strings.Repeat(" ", indent)
	room := textWidth - indent
	line := ""
	flush := func() {
		b.WriteString(strings.TrimRight(lead+line, " ") + "\n")
		line = ""
		if indent == 0 || len(lead) == indent {
			lead, room = strings.Repeat(" ", indent+2), textWidth-indent-2
		}
	}
	for _, word := range strings.Fields(result.Printable(text)) {
		for utf8.RuneCountInString(word) > room { // a path
			if line != "" {
				flush()
				continue
			}
			runes := []rune(word)
			line, word = string(runes[:room]), string(runes[room:])
			flush()
		}
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > room:
			flush()
			line = word
		default:
			line += " " + word
		}
	}
	flush()
}

func renderMarkdown(all []*Comparison, v View) string {
	var b strings.Builder
	for i, c := range all {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "### rpmig: %s\n\n- old: %s\n- new: %s\n", plainText(c.Summary()), plainText(c.Old.About()), plainText(c.New.About()))
		for _, kind := range Kinds() {
			changes := c.Of(kind)
			if len(changes) == 0 {
				continue
			}
			fmt.Fprintf(&b, "\n#### %s\n\n", kind.Title())
			shown, more := cut(alike(changes), v)
			if kind == Contradicts {
				for _, a := range shown {
					fmt.Fprintf(&b, "- %s\n", plainText(strings.Join(a.sentences, "; ")))
				}
				continue
			}
			b.WriteString("| cells | came to | why |\n| --- | --- | --- |\n")
			for _, a := range shown {
				fmt.Fprintf(&b, "| %s | %s | %s |\n", plainText(strings.Join(a.names, ", ")), plainText(a.outcomes), plainText(strings.Join(a.sentences, "; ")))
			}
			if more > 0 {
				fmt.Fprintf(&b, "\nand %d more\n", more)
			}
		}
	}
	return b.String()
}

// plainText keeps a text from being Markdown or HTML.
func plainText(s string) string {
	var b strings.Builder
	for _, r := range result.Printable(s) {
		if strings.ContainsRune("\\`*_[]<>|#~!&@", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}
