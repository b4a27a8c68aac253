//go:build linux

package main

import (
	"cmp"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/reports"
)

// filesToo is printed where the name of a file may stand.
const filesToo = ":files"

// fitting is a word that may be typed, and what it means.
type fitting struct{ word, text string }

// typed is a command line that is being typed.
type typed struct {
	cmd    *cli.Command
	option string // whose value comes next
	args   int    // how many there are before the word that is being typed
	before string // what of that word stands before what is being completed: --migrate= and off,
	cur    string
}

// complete prints what may stand in the place of the last word, one a line. The library's own answer looks at os.Args, and knows
// no values.
func (e *env) complete(app *cli.App, words []string) error {
	t := readTyped(app, words)
	fit, files := e.fit(t)
	var b strings.Builder
	for _, f := range fit {
		if f.text == "" {
			fmt.Fprintln(&b, t.before+f.word)
		} else {
			fmt.Fprintf(&b, "%s%s\t%s\n", t.before, f.word, f.text)
		}
	}
	if files {
		fmt.Fprintln(&b, filesToo)
	}
	_, err := fmt.Fprint(e.stdout, b.String())
	return err
}

func readTyped(app *cli.App, words []string) *typed {
	if len(words) == 0 {
		words = []string{""}
	}
	t := &typed{cmd: &cli.Command{Subcommands: app.Commands}, cur: words[len(words)-1]}
	for _, w := range words[:len(words)-1] {
		switch sub := subcommand(t.cmd, w); {
		case t.option != "":
			t.option = ""
		case takesValue(t.cmd, w):
			t.option = strings.TrimLeft(w, "-")
		case isFlag(w) || t.cmd.Name == "" && w == "help":
		case sub != nil && t.args == 0:
			t.cmd = sub
		default:
			t.args++
		}
	}
	if name, value, ok := strings.Cut(t.cur, "="); ok && isFlag(name) {
		t.option, t.before, t.cur = strings.TrimLeft(name, "-"), name+"=", value
	}
	return t
}

// fit are the words that fit, and whether names of files do.
func (e *env) fit(t *typed) (fit []fitting, files bool) {
	switch {
	case t.option != "":
		values := optionValues(t.cmd.Name, t.option)
		if t.option == "migrate" || t.option == "family" {
			values = t.ofList(values)
		}
		fit = t.beginning(values)
		return fit, len(fit) == 0 && (t.option == "kernel" || isPath(t.cmd, t.option))
	case strings.HasPrefix(t.cur, "-"):
		return t.beginning(flags(t.cmd)), false
	case (strings.Contains(t.cmd.UsageText, "DIR") || strings.Contains(t.cmd.UsageText, "OLD")) && t.cmd.Name != "explain": // of a run, or several
		fit = t.runs("")
		return fit, len(fit) == 0
	case t.args > 0:
		return nil, false
	case t.cmd.Name == "explain":
		fit = append(t.beginning(t.ofList(e.scenarioWords())), t.runs("/")...)
		return fit, len(fit) == 0
	case t.cmd.Name == "run":
		words := e.scenarioWords()
		if !strings.Contains(t.cur, ",") {
			words = append(words, fitting{"all", "every scenario"})
		}
		return t.beginning(t.ofList(words)), false
	default:
		for _, sub := range t.cmd.Subcommands {
			if !sub.Hidden {
				fit = append(fit, fitting{sub.Name, sub.Usage})
			}
		}
		return t.beginning(fit), false
	}
}

func (e *env) scenarioWords() []fitting {
	var fit []fitting
	for i := range e.scenarios {
		fit = append(fit, fitting{e.scenarios[i].Name, e.scenarios[i].Title()})
	}
	return fit
}

func flags(cmd *cli.Command) []fitting {
	fit := []fitting{{"--help", "show help"}}
	for _, f := range cmd.VisibleFlags() {
		usage := ""
		if d, ok := f.(cli.DocGenerationFlag); ok {
			usage = strings.ReplaceAll(d.GetUsage(), "`", "")
		}
		fit = append(fit, fitting{dashed(f.Names()[0]), usage})
	}
	return fit
}

// ofList takes what stands before the last comma for words of a list that are done with, which fit no more.
func (t *typed) ofList(words []fitting) []fitting {
	i := strings.LastIndexByte(t.cur, ',')
	if i < 0 {
		return words
	}
	done := strings.Split(t.cur[:i], ",")
	t.before, t.cur = t.before+t.cur[:i+1], t.cur[i+1:]
	return slices.DeleteFunc(slices.Clone(words), func(f fitting) bool { return f.word == "all" || slices.Contains(done, f.word) })
}

// beginning are those of the words that begin as what was typed, sorted.
func (t *typed) beginning(words []fitting) []fitting {
	var fit []fitting
	for _, f := range words {
		if strings.HasPrefix(f.word, t.cur) {
			fit = append(fit, f)
		}
	}
	slices.SortFunc(fit, func(a, b fitting) int { return cmp.Compare(a.word, b.word) })
	return fit
}

// runs are the folders of runs, and those that may lead to one, below the folder that was typed; with end behind each run. Where
// that is within a run, they are what leads to a cell.
func (t *typed) runs(end string) []fitting {
	dir, _ := path.Split(t.cur)
	if run, id := splitCell(filepath.Clean(cmp.Or(dir, "."))); run != "" && dir != "" {
		if end == "" {
			return nil
		}
		return t.beginning(cellWords(dir, filepath.Join(run, "cells", id)))
	}
	entries, err := os.ReadDir(cmp.Or(dir, "."))
	if err != nil {
		return nil
	}
	var fit []fitting
	for _, entry := range entries {
		name := dir + entry.Name()
		info, err := os.Stat(name)
		switch _, err2 := os.Lstat(filepath.Join(name, ledgerName)); {
		case err != nil || !info.IsDir() || strings.HasPrefix(entry.Name(), "."):
		case err2 == nil:
			fit = append(fit, fitting{name + end, ""})
		case runFolders(name) != nil:
			fit = append(fit, fitting{name + end, ""})
		default:
			fit = append(fit, fitting{name + "/", ""})
		}
	}
	return t.beginning(fit)
}

// cellWords are the next parts of a cell's name, as the folders of captures have them: the last is the mode.
func cellWords(typed, dir string) []fitting {
	var fit []fitting
	entries, _ := os.ReadDir(dir)
	for _, entry := range entries {
		below := filepath.Join(dir, entry.Name())
		switch inRepeats, _ := filepath.Glob(filepath.Join(below, "1", "*")); {
		case !entry.IsDir() || len(entries) == 1 && entry.Name() == "1":
		case len(inRepeats) > 0 && isFile(inRepeats[0]):
			fit = append(fit, fitting{typed + entry.Name(), ""})
		default:
			fit = append(fit, fitting{typed + entry.Name() + "/", ""})
		}
	}
	return fit
}

func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}

// isPath tells whether the value of an option is the name of a file.
func isPath(cmd *cli.Command, option string) bool {
	return slices.ContainsFunc(cmd.Flags, func(f cli.Flag) bool {
		_, ok := f.(*cli.PathFlag)
		return ok && slices.Contains(f.Names(), option)
	})
}

// optionValues are the words that an option of a command takes; none for one that takes anything.
func optionValues(command, option string) []fitting {
	switch option {
	case "migrate":
		fit := []fitting{{"all", "each of them"}}
		for _, m := range migrate.Modes() {
			fit = append(fit, fitting{m.Name, m.Doc})
		}
		return fit
	case "family":
		return plainWords(append(lab.FamilyNames(), "all"))
	case "format":
		if command == "compare" {
			return plainWords(compareFormats())
		}
		var fit []fitting
		for _, f := range reports.Formats() {
			fit = append(fit, fitting{f.Name, f.Doc})
		}
		return fit
	case "drop":
		return plainWords(netns.DropBackends)
	case "fetch":
		return plainWords([]string{"host"})
	case "kernel":
		return []fitting{{"host", "the kernel of this machine, from /boot"}}
	case "accel":
		return plainWords(accels)
	case "time":
		return plainWords(times)
	case "trace":
		return plainWords(traces)
	case "packets":
		return plainWords(packetChoices)
	default:
		return nil
	}
}

// plainWords are words that say what they mean.
func plainWords(words []string) []fitting {
	var fit []fitting
	for _, w := range words {
		fit = append(fit, fitting{w, ""})
	}
	return fit
}
