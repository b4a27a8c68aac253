package result

import (
	"strings"
	"testing"
)

// TestBugIn: a series that is listed goes by its number; of one that is not, and is neither older than the bug nor newer than
// its last fix, nothing is known.
func TestBugIn(t *testing.T) {
	b := Bug{Since: "5.14", Fixed: []string{"6.1.175", "6.12.86", "7.1"}, Still: []string{"5.15.209", "6.6.30"}}
	for upstream, want := range map[string]Presence{
		"5.10.262": HasNot, "5.13.19": HasNot, "5.13-rc1": HasNot, "2.6.32": HasNot,
		"5.14-rc3": MayHave, // the bug came with one of the candidates
		"5.14.0":   MayHave, "5.14": MayHave, "5.15.210": MayHave, "5.15.209-rc1": Has, "5.15.209": Has, "5.15.150": Has, "5.15": Has, "6.0.19": MayHave, "6.6.40": MayHave, "6.11.11": MayHave, "7.0.3": MayHave,
		"6.1-rc8": Has, "6.1.0": Has, "6.1.174": Has, "6.12.85": Has, "6.12-rc6": Has,
		"6.1.175-rc1": MayHave, "7.1-rc4": MayHave, // the fix came with one of the candidates
		"6.1.175": HasNot, "6.1.176-rc1": HasNot, "6.1.192": HasNot, "6.12.86": HasNot, "6.12.117": HasNot,
		"7.1.0": HasNot, "7.1": HasNot, "7.1.5": HasNot, "7.2-rc1": HasNot, "7.3.4": HasNot, "8.0": HasNot,
		"": MayHave, "6": MayHave, "6.1.0-52-cloud-amd64": MayHave, "unknown": MayHave,
	} {
		if got := b.In(upstream); got != want {
			t.Errorf("%q: %d, want %d", upstream, got, want)
		}
	}
	for _, b := range []Bug{{}, {Since: "5.14"}, {Fixed: []string{"6.1.175"}}, {Since: "5.14", Fixed: []string{"?"}}} {
		if got := b.In("6.18.44"); got != MayHave {
			t.Errorf("%+v: %d, want %d", b, got, MayHave)
		}
	}
}

func TestBugShowsIn(t *testing.T) {
	if b := (Bug{}); !b.ShowsIn("off") {
		t.Error("a bug without modes does not show in one")
	}
	if b := (Bug{Modes: []string{"sysctl"}}); b.ShowsIn("off") || !b.ShowsIn("sysctl") {
		t.Errorf("%v: off %t, sysctl %t", b.Modes, b.ShowsIn("off"), b.ShowsIn("sysctl"))
	}
}

func TestBugValidate(t *testing.T) {
	good := Bug{ID: "CVE-1", Doc: "d", Link: "l", Check: "c", Since: "5.14", Fixed: []string{"6.1.175", "6.12.86", "7.1"}}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for want, change := range map[string]func(*Bug){
		"half written":         func(b *Bug) { b.Check = "" },
		`since "": no version`: func(b *Bug) { b.Since = "" },
		`fixed in "6.x"`:       func(b *Bug) { b.Fixed = []string{"6.x"} },
		"6.1.175, which does not come after what is":     func(b *Bug) { b.Fixed = []string{"6.12.86", "6.1.175"} },
		"5.14, which does not come after what is before": func(b *Bug) { b.Fixed = []string{"5.14"} },
		`still in "6.y"`: func(b *Bug) { b.Still = []string{"6.y"} },
		"still in 5.15.1, which does not come after": func(b *Bug) { b.Still = []string{"6.6.1", "5.15.1"} },
		"fixed in the series [6 1], and still there": func(b *Bug) { b.Still = []string{"6.1.192"} },
		"fixed in the series [7 2], and still there": func(b *Bug) { b.Still = []string{"7.2.1"} },
	} {
		b := good
		change(&b)
		if err := b.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestHeaderRelease(t *testing.T) {
	for _, tt := range []struct{ kernel, upstream, want string }{
		{"6.1.0-52-cloud-amd64", "6.1.180", "6.1.0-52-cloud-amd64 (6.1.180)"},
		{"6.8.0-45-generic", "6.8.12", "6.8.0-45-generic (6.8.12)"},
		{"6.12.101+deb12-cloud-amd64", "6.12.101", "6.12.101+deb12-cloud-amd64"},
		{"6.18.44-fc-v669", "6.18.44", "6.18.44-fc-v669"},
		{"6.12.0-rc6", "6.12-rc6", "6.12.0-rc6"},
		{"6.12-rc6-amd64", "6.12-rc6", "6.12-rc6-amd64"},
		{"6.18.44-1", "6.18.4", "6.18.44-1 (6.18.4)"},
		{"5.14.0-427.el9.x86_64", "", "5.14.0-427.el9.x86_64"},
		{"custom", "6.18.4", "custom (6.18.4)"},
		{"", "", ""},
	} {
		if got := (&Header{Kernel: tt.kernel, Upstream: tt.upstream}).Release(); got != tt.want {
			t.Errorf("%q of %q: %q, want %q", tt.kernel, tt.upstream, got, tt.want)
		}
	}
}
