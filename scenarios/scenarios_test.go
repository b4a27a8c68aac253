package scenarios

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/verdict"
)

func TestAll(t *testing.T) {
	if err := harness.Validate(All()); err != nil {
		t.Fatal(err)
	}
	for _, s := range All() {
		for line := range strings.Lines(s.Doc + "\n" + s.Path) {
			if utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) > 78 {
				t.Errorf("%s: %q does not fit a help text of 80 columns", s.Name, line)
			}
		}
	}
}

// TestBugs: in which modes a bug is looked for, by the kernel's version; with a question mark where that does not tell whether
// the kernel has it.
func TestBugs(t *testing.T) {
	all := strings.Join(migrating, " ")
	for _, tt := range []struct{ upstream, scenario, want string }{
		{"5.10.262", "wakeup-epoll", ""},
		{"5.10.262", "fastopen-quota", ""},
		{"6.1.170", "wakeup-accept", all},
		{"6.1.180", "wakeup-accept", ""},
		{"6.1.180", "fastopen-quota", all},
		{"6.1.180", "cpu-affinity-quiz1", ""},
		{"6.1.192", "cpu-affinity-quiz2", ""},
		{"6.1.192", "fastopen-quota", ""},
		{"6.1.1", "cpu-affinity-quiz1", "sysctl bpf-pass"}, // the program of bpf overrides the kernel's pick
		{"5.15.100", "cpu-affinity-quiz2", "sysctl? bpf-pass?"},
		{"5.15.209", "wakeup-epoll", ""},
		{"6.5.13", "wakeup-epoll", strings.Join(migrating, "? ") + "?"},
		{"6.6.139", "wakeup-epoll", all},
		{"6.12.101", "wakeup-epoll", ""},
		{"6.12.101", "fastopen-quota", all},
		{"6.12.117", "fastopen-quota", ""},
		{"6.18.15", "wakeup-epoll", all},
		{"6.18.44", "fastopen-quota", all},
		{"7.3.4", "fastopen-quota", ""},
		{"7.3.4", "wakeup-epoll", ""},
		{"7.3.4", "cpu-affinity-quiz1", ""},
		{"", "fastopen-quota", strings.Join(migrating, "? ") + "?"},
	} {
		s, err := harness.Select(All(), tt.scenario)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, mode := range harness.ModesIn(func(harness.Mode) bool { return true }) {
			for _, b := range verdict.Suspects(s[0].Bugs, tt.upstream, mode) {
				if b.Unknown {
					mode += "?"
				}
				got = append(got, mode)
			}
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s on %q: %v, want %s", tt.scenario, tt.upstream, got, tt.want)
		}
	}
}

// TestBugChecks: a bug's check is one that the scenario makes, by that name, in every mode.
func TestBugChecks(t *testing.T) {
	for _, s := range All() {
		for _, b := range s.Bugs {
			harness.ModesIn(func(m harness.Mode) bool {
				if _, made := s.Expect(m).Facts[b.Check]; !made && s.PlaysMode(m) {
					t.Errorf("%s in %s: no check %q", s.Name, m.Name, b.Check)
				}
				return true
			})
		}
	}
}
