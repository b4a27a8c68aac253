package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

func compareReports(before, after string, rename *strings.Replacer) ([]string, error) {
	format := filepath.Ext(before)
	if format != filepath.Ext(after) || !slices.Contains([]string{".ktap", ".junit", ".text"}, format) {
		return nil, fmt.Errorf("%s and %s: want two folders, or two reports whose names end in .ktap, .junit or .text", before, after)
	}
	was, oldOrder, err := readReport(before, format, rename)
	if err != nil {
		return nil, err
	}
	is, newOrder, err := readReport(after, format, strings.NewReplacer())
	if err != nil {
		return nil, err
	}
	gone, come := said{}, said{}
	only(gone, was, is)
	only(come, is, was)
	list := differences(gone, come)
	for i := range min(len(oldOrder), len(newOrder)) {
		if oldOrder[i] != newOrder[i] {
			return append(list, fmt.Sprintf("another order: %q stands where %q stood", newOrder[i], oldOrder[i])), nil
		}
	}
	return list, nil
}

// only adds to a list what the first report says and the other does not.
func only(list said, first, other map[string]map[string]bool) {
	for place, lines := range first {
		for line := range lines {
			if !other[place][line] {
				list.add(line, place)
			}
		}
	}
}

var (
	ktapTest  = regexp.MustCompile(`^(?:not )?ok [0-9]+ ([^ ]+)`)
	ktapCell  = regexp.MustCompile(`^# ([^ ]+): `)
	junitTest = regexp.MustCompile(`^ *<(testsuite|testcase) name="([^"]+)"`)
	counter   = regexp.MustCompile(`^counter: ([A-Za-z0-9]+) `)
	tableRow  = regexp.MustCompile(`^([A-Za-z0-9/-]+…? +[^ ]+) .*(PASS|XFAIL|SKIP|FAIL|ERROR)`)
	// Of clients that come as fast as they can, how many meet what is chance.
	stream  = regexp.MustCompile(`hot-reload|storm`)
	amounts = regexp.MustCompile(`^(counter|reset): |: frame #, `)
	lossy   = regexp.MustCompile(`trace lost|^events lost: |trace is not whole`)
	during  = regexp.MustCompile(`during ("[^"]*"|&#34;.*?&#34;)`)
	folder  = regexp.MustCompile(`[^ ]*/cells/`)
)

// readReport returns the lines of a report by the part of it that they are in, and the order of its tests.
func readReport(file, format string, rename *strings.Replacer) (parts map[string]map[string]bool, order []string, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, err
	}
	content := rename.Replace(string(text))
	if format == ".text" {
		// A sentence is broken where its numbers let it.
		content = regexp.MustCompile(`\n {4,}`).ReplaceAllString(content, " ")
	}
	parts = map[string]map[string]bool{}
	place, suite := "its head", ""
	for line := range strings.Lines(content) {
		line = strings.TrimRight(line, "\n")
		test := ""
		switch format {
		case ".ktap":
			if m := ktapCell.FindStringSubmatch(line); m != nil {
				place = m[1]
			} else if m := ktapTest.FindStringSubmatch(line); m != nil {
				place, test = m[1], m[0]
			}
		case ".junit":
			if m := junitTest.FindStringSubmatch(line); m != nil {
				if m[1] == "testsuite" {
					suite = m[2]
					place = suite
				} else {
					place = suite + "/" + m[2]
				}
				test = place
			}
		case ".text":
			place = "the text"
			if m := tableRow.FindStringSubmatch(line); m != nil {
				test = m[1]
			}
		}
		if test != "" {
			order = append(order, test)
		}
		if parts[place] == nil {
			parts[place] = map[string]bool{}
		}
		line = plain(line)
		if amount := stream.MatchString(place+" "+line) && amounts.MatchString(line); line != "" && !amount {
			parts[place][line] = true
		}
	}
	return parts, order, nil
}

// plain is a line of a report without what differs between two honest runs, and empty where nothing is left.
func plain(line string) string {
	line = strings.Join(strings.Fields(line), " ")
	if m := counter.FindStringSubmatch(line); m != nil && !slices.Contains(known, m[1]) || lossy.MatchString(line) {
		return ""
	}
	if at, name, ok := strings.Cut(line, " s "); ok && strings.HasPrefix(line, "step: ") {
		line = at + " s " + step(name)
	}
	line = during.ReplaceAllString(line, `during "…"`)
	line = folder.ReplaceAllString(line, "…/cells/")
	return masked(line)
}
