package scenarios

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/verdict"
)

func TestAll(t *testing.T) {
	if err := lab.Validate(All()); err != nil {
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
		{"5.10.262", "md5-same-quiz2", ""},
		{"6.1.180", "md5-same-quiz2", "sysctl bpf bpf-pass"},
		{"6.1.192", "md5-same-quiz2", "sysctl bpf bpf-pass"},
		{"6.1.193", "md5-same-quiz2", "sysctl? bpf? bpf-pass?"}, // it may have taken the fix
		{"6.6.140", "md5-same-quiz2", "sysctl? bpf? bpf-pass?"},
		{"6.12.117", "md5-same-quiz2", "sysctl bpf bpf-pass"},
		{"6.18.15", "md5-same-quiz2", ""},
		{"7.3.4", "md5-same-quiz2", ""},
		{"7.3.4", "fastopen-quota", ""},
		{"7.3.4", "wakeup-epoll", ""},
		{"7.3.4", "cpu-affinity-quiz1", ""},
		{"", "fastopen-quota", strings.Join(migrating, "? ") + "?"},
	} {
		i := slices.IndexFunc(All(), func(s lab.Scenario) bool { return s.Name == tt.scenario })
		if i < 0 {
			t.Fatalf("no scenario %q", tt.scenario)
		}
		var got []string
		for _, mode := range lab.ModesIn(func(lab.Mode) bool { return true }) {
			for _, b := range verdict.Suspects(All()[i].Bugs, tt.upstream, mode) {
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
			lab.ModesIn(func(m lab.Mode) bool {
				if _, made := s.Expect(m).Facts[b.Check]; !made && b.Check != survivorsTalk && s.PlaysMode(m) {
					t.Errorf("%s in %s: no check %q", s.Name, m.Name, b.Check)
				}
				return true
			})
		}
	}
}

// TestStoryCounters: a counter that a story names is checked in some mode, as such or by a fact that is called after it.
func TestStoryCounters(t *testing.T) {
	counter := regexp.MustCompile(`\b(TCP[A-Z]|[A-Z])[a-z]+([A-Z][a-z]+)+\b`)
	for _, s := range All() {
		checked := map[string]bool{}
		lab.ModesIn(func(m lab.Mode) bool {
			if s.PlaysMode(m) {
				for name := range s.Expect(m).Counted {
					checked[name] = true
				}
				for fact := range s.Expect(m).Facts {
					for _, name := range counter.FindAllString(fact, -1) {
						checked[name] = true
					}
				}
			}
			return true
		})
		for _, name := range counter.FindAllString(s.Story(), -1) {
			if !checked[name] {
				t.Errorf("%s tells of %s, which is not checked in any mode", s.Name, name)
			}
		}
	}
}

// condition is how a story says where something happens that does not happen everywhere.
var condition = regexp.MustCompile(`\b([Ww]ith(out)? migration|only migration|nothing migrates|end as in|[Mm]odes?)\b`)

// TestStoryModes: where the connections live in some modes and are lost in others, the story says of which it speaks, and what
// it says of every mode holds in every mode.
func TestStoryModes(t *testing.T) {
	for _, s := range All() {
		live, lost := 0, 0
		lab.ModesIn(func(m lab.Mode) bool {
			switch e := s.Expect(m); {
			case !s.PlaysMode(m):
			case e.Lives:
				live++
			default:
				lost++
			}
			return true
		})
		story := strings.Join(strings.Fields(s.Story()), " ")
		switch differ, every := live > 0 && lost > 0, strings.Contains(story, "in every mode"); {
		case differ && every:
			t.Errorf("%s speaks of every mode, and the connections live in %d and are lost in %d", s.Name, live, lost)
		case differ && !condition.MatchString(story):
			t.Errorf("%s does not say in which modes the connections live", s.Name)
		}
	}
}

// TestStoryFamilies: what is said of a case in both families of addresses names no function of one family alone.
func TestStoryFamilies(t *testing.T) {
	for _, s := range All() {
		said := s.Story() + " " + s.Path
		families := slices.DeleteFunc(lab.Families(), func(f lab.Family) bool { return !s.PlaysFamily(f) })
		if len(families) > 1 && strings.Contains(said, "_v4_") != strings.Contains(said, "_v6_") {
			t.Errorf("%s names a function of one family, and is played in %d", s.Name, len(families))
		}
	}
}
