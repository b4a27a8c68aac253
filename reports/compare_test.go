package reports

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rpmig/rpmig/result"
)

func TestCompare(t *testing.T) {
	run := func(statuses ...string) *result.Run { // "quiz1/ipv4/off PASS"
		r := &result.Run{Header: mixed().Header}
		for _, s := range statuses {
			id, status, _ := strings.Cut(s, " ")
			parts := strings.Split(id, "/")
			r.Cells = append(r.Cells, result.Cell{Scenario: parts[0], Family: parts[1], Mode: parts[2], Status: result.Status(status)})
		}
		return r
	}
	for _, tt := range []struct {
		name  string
		runs  []*result.Run
		want  []string
		alike string
	}{
		{
			"alike", []*result.Run{run("quiz1/ipv4/off PASS", "quiz1/ipv4/bpf SKIP"), run("quiz1/ipv4/bpf SKIP", "quiz1/ipv4/off PASS")},
			nil, "alike on all kernels: 2 of 2 cells",
		},
		{
			"one cell", []*result.Run{run("quiz1/ipv4/off PASS", "quiz1/ipv4/bpf PASS"), run("quiz1/ipv4/off PASS", "quiz1/ipv4/bpf FAIL")},
			[]string{"quiz1 [bpf] PASS|FAIL"}, "alike on all kernels: 1 of 2 cells; different: 1",
		},
		{
			"a whole scenario", []*result.Run{run("quiz1/ipv4/off PASS", "quiz1/ipv6/off PASS"), run("quiz1/ipv4/off FAIL", "quiz1/ipv6/off FAIL")},
			[]string{"quiz1 [] PASS|FAIL"}, "alike on all kernels: 0 of 2 cells; different: 2",
		},
		{
			"a family", []*result.Run{run("a/ipv4/off PASS", "a/ipv6/off PASS", "a/ipv6/bpf PASS"), run("a/ipv4/off PASS", "a/ipv6/off FAIL", "a/ipv6/bpf FAIL")},
			[]string{"a [ipv6] PASS|FAIL"}, "alike on all kernels: 1 of 3 cells; different: 2",
		},
		{
			"a mode of a family, and another of the other", []*result.Run{
				run("a/ipv4/off PASS", "a/ipv4/bpf PASS", "a/ipv6/off PASS", "a/ipv6/bpf PASS"),
				run("a/ipv4/off PASS", "a/ipv4/bpf FAIL", "a/ipv6/off FAIL", "a/ipv6/bpf PASS")},
			[]string{"a [ipv4: bpf; ipv6: off] PASS|FAIL"}, "alike on all kernels: 2 of 4 cells; different: 2",
		},
		{
			"every scenario", []*result.Run{
				run("a/ipv4/off PASS", "a/ipv4/bpf PASS", "b/ipv4/off PASS", "b/ipv4/bpf PASS"),
				run("a/ipv4/off PASS", "a/ipv4/bpf SKIP", "b/ipv4/off PASS", "b/ipv4/bpf SKIP")},
			[]string{"every scenario [bpf] PASS|SKIP"}, "alike on all kernels: 2 of 4 cells; different: 2",
		},
		{
			"one that did not come up", []*result.Run{{}, run("a/ipv4/off PASS", "a/ipv4/sysctl PASS", "a/ipv4/bpf PASS"), run("a/ipv4/off PASS", "a/ipv4/sysctl SKIP", "a/ipv4/bpf SKIP")},
			[]string{"a [sysctl, bpf] |PASS|SKIP"}, "alike on 2 of 3 kernels, as no other played any: 1 of 3 cells; different: 2",
		},
		{
			"most scenarios", []*result.Run{
				run("a/ipv4/bpf PASS", "b/ipv4/bpf PASS", "c/ipv4/bpf PASS", "d/ipv4/bpf XFAIL"),
				run("a/ipv4/bpf SKIP", "b/ipv4/bpf SKIP", "c/ipv4/bpf PASS", "d/ipv4/bpf SKIP"),
				run("a/ipv4/bpf SKIP", "b/ipv4/bpf SKIP", "c/ipv4/bpf PASS", "d/ipv4/bpf SKIP")},
			[]string{"a [] PASS|SKIP|SKIP", "b [] PASS|SKIP|SKIP", "d [] XFAIL|SKIP|SKIP"}, "alike on all kernels: 1 of 4 cells; different: 3",
		},
		{
			"most of five", []*result.Run{
				run("a/ipv4/bpf PASS", "b/ipv4/bpf PASS", "c/ipv4/bpf PASS", "d/ipv4/bpf XFAIL", "e/ipv4/bpf PASS"),
				run("a/ipv4/bpf SKIP", "b/ipv4/bpf SKIP", "c/ipv4/bpf PASS", "d/ipv4/bpf SKIP", "e/ipv4/bpf SKIP")},
			[]string{"every scenario not below [] PASS|SKIP", "c [] PASS|PASS", "d [] XFAIL|SKIP"}, "alike on all kernels: 1 of 5 cells; different: 4",
		},
		{
			"not played is no difference", []*result.Run{run("a/ipv4/off PASS", "a/ipv4/bpf PASS"), run("a/ipv4/off FAIL"), run("a/ipv4/off PASS")},
			[]string{"a [off] PASS|FAIL|PASS"}, "alike on all kernels: 0 of 2 cells; different: 1; not played on all: 1",
		},
		{
			"repeats", []*result.Run{run("a/ipv4/off PASS", "a/ipv4/off PASS", "a/ipv4/off FAIL"), run("a/ipv4/off PASS")},
			[]string{"a [] 2 PASS, 1 FAIL|PASS"}, "alike on all kernels: 0 of 1 cell; different: 1",
		},
		{
			"how often is no difference", []*result.Run{run("a/ipv4/off PASS", "a/ipv4/off PASS"), run("a/ipv4/off PASS")},
			nil, "alike on all kernels: 1 of 1 cell",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := compare(kernelRuns(tt.runs, Options{}))
			var got []string
			for _, r := range c.rows(differs) {
				got = append(got, fmt.Sprintf("%s [%s] %s", r.scenario, r.where, strings.Join(r.words, "|")))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if got := c.alike(); got != tt.alike {
				t.Errorf("want %q, got %q", tt.alike, got)
			}
		})
	}
}

func TestFoldName(t *testing.T) {
	for name, want := range map[string][]string{
		"mine": {"mine"}, "6.1.0-52-cloud-amd64": {"6.1.0-52", "-cloud", "-amd64"}, "6.12.117+deb12-cloud-amd64": {"6.12.117", "+deb12", "-cloud", "-amd64"},
		"a-name-of-many-parts": {"a-name-of", "-many", "-parts"}, "averylongnamewithout": {"averylong…"}, "-": {"-"}, "": nil, "日本日本日本-x": {"日本日本…", "-x"},
	} {
		if diff := cmp.Diff(want, foldName(name, 10), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%q: -want +got:\n%s", name, diff)
		}
	}
}
