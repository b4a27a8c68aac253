package main

import (
	"testing"

	"github.com/rpmig/rpmig/result"
)

// TestUncompared: a regression of each scenario that a patch names is wanted, and its path.
func TestUncompared(t *testing.T) {
	run := func(quiz1, quiz2 result.Status) *result.Run {
		r := &result.Run{Header: result.Header{Cells: 2}}
		for name, s := range map[string]result.Status{"quiz1": quiz1, "quiz2": quiz2} {
			r.Cells = append(r.Cells, result.Cell{Scenario: name, Family: "ipv4", Mode: "sysctl", Repeat: 1, Status: s, Reason: "lost"})
		}
		return r
	}
	none := func(string) string { return "" }
	for _, path := range []string{"quiz1", "quiz2", "selftest/ipv4-established"} {
		if kernelPath(path) == "" {
			t.Errorf("%s has no path", path)
		}
	}
	m := mutant{name: "m", caught: []string{"quiz1", "quiz2"}}
	good := run(result.Pass, result.Pass)
	for _, c := range []struct {
		name    string
		m       mutant
		was, is *result.Run
		path    func(string) string
		want    string
	}{
		{"both", m, good, run(result.Fail, result.Fail), kernelPath, ""},
		{"one", m, good, run(result.Fail, result.Pass), kernelPath, "compare has no regression of quiz2"},
		{"no conclusion", m, good, run(result.Fail, result.Error), kernelPath, "compare has no regression of quiz2"},
		{"broken before", m, run(result.Fail, result.Pass), run(result.Fail, result.Fail), kernelPath, "compare has no regression of quiz1"},
		{"no path", m, good, run(result.Fail, result.Fail), none, "compare names no path through the kernel for quiz1, quiz2"},
		{"it survives", mutant{name: "m", survives: "so"}, good, good, kernelPath, ""},
	} {
		if got := c.m.uncompared(side(c.was), side(c.is), c.path); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
