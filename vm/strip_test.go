package vm

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestStripDebug strips what a compiler makes, and holds that it is smaller, means the same to a linker, and runs.
func TestStripDebug(t *testing.T) {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		t.Skip("gcc is not installed")
	}
	dir := lay(t, map[string]string{"a.c": `#include <stdio.h>
static int numbers[] = {1, 2, 39};
static const char *const words[] = {"%d", "\n"};
int main(void) { int sum = 0; for (int i = 0; i < 3; i++) sum += numbers[i]; printf(words[0], sum); return sum != 42; }
`})
	object := filepath.Join(dir, "a.o")
	run := func(name string, args ...string) string {
		out, err := exec.Command(name, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	run(gcc, "-g3", "-O2", "-ffunction-sections", "-c", "-o", object, filepath.Join(dir, "a.c"))
	whole, err := os.ReadFile(object)
	if err != nil {
		t.Fatal(err)
	}
	stripped := stripDebug(whole)
	if len(stripped) >= len(whole)/2 {
		t.Errorf("%d bytes became %d", len(whole), len(stripped))
	}
	if again := stripDebug(stripped); !bytes.Equal(again, stripDebug(again)) || len(again) > len(stripped) {
		t.Error("to strip it again makes another of it")
	}
	before, after := sectionsOf(t, whole), sectionsOf(t, stripped)
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("what is no debug information differs:\n%s", diff)
	}
	if err := os.WriteFile(object, stripped, 0o644); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "a")
	run(gcc, "-o", program, object)
	if got := run(program); got != "42" {
		t.Errorf("the program says %q", got)
	}
	if ko := koFile(t, modinfo("")); !bytes.Equal(stripDebug(ko), ko) {
		t.Error("a module without debug information was changed")
	}
}

// sectionsOf are the contents of the sections that are no debug information, by name and number.
func sectionsOf(t *testing.T, b []byte) map[string]string {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for i, s := range f.Sections {
		if isDebug(s.Name) || s.Type == elf.SHT_NULL {
			continue
		}
		data := []byte(nil)
		if s.Type != elf.SHT_NOBITS {
			if data, err = s.Data(); err != nil {
				t.Fatal(err)
			}
		}
		all[s.Name+string(rune('0'+i))] = s.Type.String() + s.Flags.String() + string(data)
	}
	return all
}
