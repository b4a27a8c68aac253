package compare

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func baselineText(t testing.TB, sides ...*Side) string {
	t.Helper()
	var b bytes.Buffer
	if _, err := WriteBaseline(&b, sides); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestBaseline: a run that is compared with its own baseline shows nothing new, and what is written again is the same.
func TestBaseline(t *testing.T) {
	run := side("run", "6.1.180", map[string]string{
		"a": "PASS", "b": "FAIL", "c": "XFAIL", "d": "SKIP", "e": "PASS*9 FAIL", "selftest/f": "PASS*3 XFAIL:x*2", "g": "PASS ERROR",
	})
	text := baselineText(t, run)
	golden(t, "baseline", text)
	read, err := ReadBaseline(strings.NewReader(text), "base")
	if err != nil || len(read) != 1 {
		t.Fatalf("%d sides, %v", len(read), err)
	}
	if again := baselineText(t, read...); again != text {
		t.Errorf("written again:\n%s", again)
	}
	c := Compare([]Pair{{read[0], run}}, Options{Alpha: DefaultAlpha, Part: true})
	for _, ch := range c[0].Changes {
		if ch.Kind != StillFailing {
			t.Errorf("%s: %s", ch.Key, ch.Kind)
		}
	}
	if exit := ExitCode(c); exit != 0 {
		t.Errorf("exit %d", exit)
	}
}

// TestBaselineOfSeveral: a cell that fails in one of several runs is known to do so now and then; nothing known is an ERROR.
func TestBaselineOfSeveral(t *testing.T) {
	text := baselineText(t, side("1", "6.1", map[string]string{"a": "PASS", "b": "ERROR"}), side("2", "6.2", map[string]string{"a": "FAIL"}))
	if !strings.Contains(text, `"plays":{"FAIL":1,"PASS":1}`) || strings.Contains(text, "b.ipv4") || strings.Contains(text, "6.1") {
		t.Errorf("got:\n%s", text)
	}
	kernel := side("", "6.1", map[string]string{"a": "PASS"})
	kernel.Run = "6.1"
	sides, err := ReadBaseline(strings.NewReader(baselineText(t, side("", "", map[string]string{"a": "FAIL"}), kernel)), "")
	if err != nil || len(sides) != 2 || sides[0].Run != "" || sides[1].Run != "6.1" {
		t.Errorf("%v, %v", sides, err)
	}
}

// TestBaselineByHand: a line needs no more than a cell and its status, and nothing is said of the rest.
func TestBaselineByHand(t *testing.T) {
	sides, err := ReadBaseline(strings.NewReader(`{"rpmig_baseline":1}`+"\n"+`{"cell":"a.ipv4.sysctl","status":"FAIL"}`), "base")
	if err != nil {
		t.Fatal(err)
	}
	c := Compare([]Pair{{sides[0], side("new", "6.1", map[string]string{"a": "PASS"})}}, Options{Alpha: DefaultAlpha})[0]
	if fixed := c.Of(Fixed); len(fixed) != 1 || len(fixed[0].Sentences()) != 0 {
		t.Errorf("%+v", c.Changes)
	}
	c = Compare([]Pair{{sides[0], side("new", "6.1", map[string]string{"a": "FAIL"})}}, Options{Alpha: DefaultAlpha})[0]
	if len(c.Of(StillFailing)) != 1 {
		t.Errorf("%+v", c.Changes)
	}
}

func TestBaselineRefuses(t *testing.T) {
	const head = `{"rpmig_baseline":1}` + "\n"
	for name, text := range map[string]string{
		"nothing":        "",
		"garbage":        "hello",
		"newer":          `{"rpmig_baseline":2}`,
		"no cell":        head + `{"status":"PASS"}`,
		"no name":        head + `{"cell":"a.b","status":"PASS"}`,
		"no status":      head + `{"cell":"a.b.c"}`,
		"unknown status": head + `{"cell":"a.b.c","status":"FINE"}`,
		"no sense":       head + `{"cell":"a.b.c","status":"PASS","plays":{"FAIL":3}}`,
		"negative":       head + `{"cell":"a.b.c","status":"PASS","plays":{"PASS":-3}}`,
		"too many":       head + `{"cell":"a.b.c","status":"PASS","plays":{"PASS":1000000000}}`,
		"twice":          head + strings.Repeat(`{"cell":"a.b.c","status":"PASS"}`+"\n", 2),
		"too long":       head + strings.Repeat(" ", maxBaselineLine+1),
		"cut":            head + `{"cell":"a.b.c","sta`,
	} {
		if _, err := ReadBaseline(strings.NewReader(text), ""); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := ReadBaseline(strings.NewReader("x"), ""); !errors.Is(err, ErrNoBaseline) {
		t.Error(err)
	}
}

// FuzzBaseline: whatever is read can be compared, shown, and written so that it is the same when it is read again.
func FuzzBaseline(f *testing.F) {
	f.Add([]byte(`{"rpmig_baseline":1}` + "\n" + `{"cell":"a.b.c","status":"FAIL","plays":{"PASS":9,"FAIL":1},"reason":"r","failed":["z","a"]}` + "\n"))
	f.Add([]byte(`{"rpmig_baseline":1}` + "\n\n" + `{"run":"6.1","cell":"selftest/a.b.c","status":"SKIP"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		sides, err := ReadBaseline(bytes.NewReader(data), "base")
		if err != nil {
			return
		}
		first := baselineText(t, sides...)
		again, err := ReadBaseline(strings.NewReader(first), "base")
		if err != nil {
			t.Fatalf("read, written and refused: %v\n%s", err, first)
		}
		if second := baselineText(t, again...); second != first {
			t.Fatalf("first:\n%s\nsecond:\n%s", first, second)
		}
		pairs, err := Pairs(sides, []*Side{side("new", "6.1", map[string]string{"a": "FAIL"})})
		if err != nil {
			return
		}
		for _, format := range Formats() {
			if err := Render(io.Discard, format, Compare(pairs, Options{Alpha: DefaultAlpha}), View{}); err != nil {
				t.Fatal(err)
			}
		}
	})
}
