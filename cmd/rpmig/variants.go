//go:build linux

package main

import (
	"regexp"
	"slices"
	"strings"

	"github.com/rpmig/rpmig/lab"
)

// variants are scenarios that differ in where their connections are when the listener closes, under one title.
type variants struct {
	title string
	all   []*lab.Scenario
}

// variantEnd is what the names of variants end in: the accept queue, the handshake, the SYN+ACK timer.
var variantEnd = regexp.MustCompile(`-(quiz1|quiz2|timer)$`)

// groupVariants puts variants together, each group where its first one was. Scenarios whose titles have nothing in common stay alone.
func groupVariants(all []*lab.Scenario) []variants {
	var groups []variants
	at := map[string]int{}
	for _, s := range all {
		base := variantEnd.ReplaceAllString(s.Name, "")
		i, known := at[base]
		if known && base != s.Name {
			if title := commonTitle(groups[i].title, s.Title()); title != "" {
				groups[i].title, groups[i].all = title, append(groups[i].all, s)
				continue
			}
		}
		at[base] = len(groups)
		groups = append(groups, variants{s.Title(), []*lab.Scenario{s}})
	}
	return groups
}

// name is "close-by-exit-quiz1, -quiz2".
func (v *variants) name() string {
	names := []string{v.all[0].Name}
	for _, s := range v.all[1:] {
		names = append(names, variantEnd.FindString(s.Name))
	}
	return strings.Join(names, ", ")
}

// commonTitle is what two titles have in common: the clause with which both begin, or that with which both end, or both of these;
// empty where that is nothing.
func commonTitle(a, b string) string {
	if a == b {
		return a
	}
	x, y := clauses(a), clauses(b)
	begin, end := 0, 0
	for begin < min(len(x), len(y)) && x[begin] == y[begin] {
		begin++
	}
	for end < min(len(x), len(y))-begin && x[len(x)-1-end] == y[len(y)-1-end] {
		end++
	}
	common := append(slices.Clone(x[:begin]), x[len(x)-end:]...)
	return strings.TrimPrefix(strings.Trim(strings.Join(common, ""), " ,:"), "with ")
}

// clauses splits a title before each comma, colon and bracket.
func clauses(title string) []string {
	var parts []string
	from := 0
	for i, r := range title {
		if strings.ContainsRune(",:(", r) && i > from {
			parts = append(parts, strings.TrimRight(title[from:i], " "))
			from = i
		}
	}
	return append(parts, title[from:])
}

// commonStory cuts what all stories begin with, sentence by sentence, from what each has behind that.
func (v *variants) commonStory() (common string, rest []string) {
	var told [][]string
	for _, s := range v.all {
		told = append(told, sentences(s.Story()))
	}
	n := 0
	for n < len(told[0]) && !slices.ContainsFunc(told, func(t []string) bool { return n >= len(t) || plainSpace(t[n]) != plainSpace(told[0][n]) }) {
		n++
	}
	for _, t := range told {
		rest = append(rest, refill(strings.Join(t[n:], "")))
	}
	return refill(strings.Join(told[0][:n], "")), rest
}

// sentenceEnd is where a sentence ends; what ends a paragraph belongs to it.
var sentenceEnd = regexp.MustCompile(`[.?!:]\)?\s+`)

func sentences(text string) []string {
	var all []string
	for text != "" {
		at := sentenceEnd.FindStringIndex(text)
		if at == nil {
			return append(all, text)
		}
		all, text = append(all, text[:at[1]]), text[at[1]:]
	}
	return all
}

func plainSpace(text string) string { return strings.Join(strings.Fields(text), " ") }

// refill breaks the lines of a text anew, where something was taken from it.
func refill(text string) string {
	var paragraphs []string
	for p := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		paragraphs = append(paragraphs, strings.Join(wrapWords(p, helpWidth-2), "\n"))
	}
	return strings.Join(paragraphs, "\n\n")
}
