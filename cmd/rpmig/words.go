//go:build linux

package main

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/lab"
)

// selectScenarios returns the scenarios of a list as harness.Select does. For what is none, it says what there is instead.
func selectScenarios(all []lab.Scenario, list string) ([]lab.Scenario, error) {
	found, err := harness.Select(all, list)
	if err == nil {
		return found, nil
	}
	for word := range strings.SplitSeq(list, ",") {
		if _, err := harness.Select(all, word); err != nil {
			return nil, &usageError{err.Error(), insteadOf(strings.TrimSpace(word), all)}
		}
	}
	return nil, &usageError{err.Error(), "rpmig list"}
}

// tcpOnly is what to say of other protocols. The kernel asks reuseport_migrate_sock for TCP alone.
const tcpOnly = "rpmig is about TCP only: no connection waits in a UDP socket, so that there is nothing to migrate; "

// noCommand says that a word is no command, and what to do instead.
func (e *env) noCommand(app *cli.App, word string) error {
	hint := "rpmig --help"
	var names []string
	for _, c := range app.VisibleCommands() {
		names = append(names, c.Name)
	}
	if _, err := harness.Select(e.scenarios, word); err == nil {
		hint = "rpmig run " + quote(word)
	} else if other := otherThing(word); other != "" {
		hint = other
	} else {
		hint = didYouMean(word, names) + hint
	}
	return &usageError{fmt.Sprintf("no command %q", word), hint}
}

// insteadOf is the hint for a word that is no scenario.
func insteadOf(word string, all []lab.Scenario) string {
	if other := otherThing(word); other != "" {
		return other
	}
	return nearest(strings.ToLower(word), all) + "rpmig list"
}

// otherThing is the hint for a word that names what rpmig does not play, or what another command takes; empty: it does neither.
func otherThing(word string) string {
	lower := strings.ToLower(word)
	for _, kind := range []struct {
		is   func(string) bool
		hint string
	}{
		{containsAny("quic", "http3", "h3"), tcpOnly + "a QUIC server passes its sockets on to the next process, or has a BPF program (SO_ATTACH_REUSEPORT_EBPF) " +
			"choose the socket by connection ID; rpmig list"},
		{containsAny("udp", "dtls"), tcpOnly + "datagrams that wait in one that closes are lost: pass the socket on to the next process; rpmig list"},
		{namesCapture, captureHint(quote(word))},
		{endsIn(".tar.gz", ".tgz", ".tar"), isArchive.hint(quote(word))},
	} {
		if kind.is(lower) {
			return kind.hint
		}
	}
	return ""
}

// namesCapture tells whether a word in small letters is the name of a capture.
var namesCapture = endsIn(".pcap", ".pcapng", ".cap", ".pcap.gz", ".pcapng.gz")

// captureHint is for who gives rpmig a capture.
func captureHint(name string) string {
	return "what it shows of a server on port 80: rpmig explain " + name + " --port 80; of a run: rpmig explain DIR/SCENARIO/FAMILY/MODE, where DIR is what rpmig run --out=DIR wrote"
}

func containsAny(parts ...string) func(string) bool {
	return func(word string) bool {
		return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(word, part) })
	}
}

func endsIn(ends ...string) func(string) bool {
	return func(word string) bool {
		return slices.ContainsFunc(ends, func(end string) bool { return strings.HasSuffix(word, end) })
	}
}

// nearest asks whether the scenario was meant whose name is most like the word, or those whose names begin with it; it is empty
// where none is like it.
func nearest(word string, all []lab.Scenario) string {
	const tooShort = 3 // to tell what was meant
	if len(word) < tooShort || strings.ContainsAny(word, `*?[\`) {
		return ""
	}
	longer := 0
	var names []string
	for _, s := range all {
		names = append(names, s.Name)
		if match, err := path.Match(word+"*", s.Name); err == nil && match {
			longer++
		}
	}
	if longer > 1 || longer == 1 && closest(word, names) == "" {
		return fmt.Sprintf("did you mean '%s*'? ", word)
	}
	return didYouMean(word, names)
}

// didYouMean asks whether the name was meant that is most like a word, or like the first word of a comma list that is no name; it
// is empty where none is like it.
func didYouMean(list string, names []string) string {
	for word := range strings.SplitSeq(list, ",") {
		if word = strings.TrimSpace(word); slices.Contains(names, word) {
			continue
		}
		if near := closest(strings.ToLower(word), names); near != "" {
			return "did you mean " + near + "? "
		}
		break
	}
	return ""
}

// notOneOf refuses the value of an option that is none of its words. A hint that shows the option shows it with the word that was
// meant, where that can be told.
func notOneOf(c *cli.Context, option string, words []string, hint string) error {
	v := c.String(option)
	if slices.Contains(words, v) {
		return nil
	}
	meant := didYouMean(v, words)
	if before, _, shows := strings.Cut(hint, "--"+option+"="); shows && meant != "" {
		hint = before + "--" + option + "=" + closest(strings.ToLower(v), words)
	}
	return &usageError{fmt.Sprintf("--%s: no %q: want one of %s", option, v, strings.Join(words, ", ")), meant + hint}
}

// closest is the name that is most like a word in small letters; empty where none is like it. In a short word no more than one
// letter may be wrong.
func closest(word string, names []string) string {
	const short = 4
	most := max(2, len(word)/4)
	if len(word) <= short {
		most = 1
	}
	best, least := "", min(most+1, len(word))
	for _, name := range names {
		if d := distance(word, strings.ToLower(name)); d < least {
			best, least = name, d
		}
	}
	return best
}

// distance is how many bytes must be left out, put in, replaced, or swapped with their neighbour, to make one word of the other.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			differ := 1
			if a[i-1] == b[j-1] {
				differ = 0
			}
			d := min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+differ)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d = min(d, rows[i-2][j-2]+1)
			}
			rows[i][j] = d
		}
	}
	return rows[len(a)][len(b)]
}
