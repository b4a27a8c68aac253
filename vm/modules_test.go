package vm

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// modinfo is that of a module that depends on others.
func modinfo(depends string) string {
	return "license=GPL\x00depends=" + depends + "\x00name=x\x00"
}

func TestClosure(t *testing.T) {
	ko := func(depends string) string { return string(koFile(t, modinfo(depends))) }
	in := func(end, depends string) string { return string(packed(t, end, []byte(ko(depends)))) }
	files := map[string]string{
		"kernel/net/nf-tables.ko":      ko("nfnetlink,lib-crc"),
		"kernel/net/nfnetlink.ko.xz":   in(".xz", ""),
		"kernel/lib/lib-crc.ko.zst":    in(".zst", "deep"),
		"kernel/lib/deep.ko.gz":        in(".gz", ""),
		"kernel/net/veth.ko":           ko(""),
		"kernel/net/a.ko":              ko("b"),
		"kernel/net/b.ko":              ko("a"),
		"kernel/net/lacks.ko":          ko("absent"),
		"kernel/net/on-builtin.ko":     ko("built_in"),
		"kernel/net/bad.ko":            "no ELF file",
		"kernel/net/evil.ko":           ko("../../etc/passwd"),
		"kernel/net/cut.ko.xz":         in(".xz", "")[:40],
		"modules.builtin":              "kernel/net/built-in.ko\nkernel/x.ko\n",
		"kernel/net/not-a-module.o":    "",
		"kernel/net/nor-this.ko.unzip": "",
	}
	dir := lay(t, files)
	files["modules.order"] = "net/nf-tables.o\nnet/gone.ko\n../escape.ko\n"
	for name, data := range files { // as a build tree, which lists what is compressed by its plain name
		if plain, ok := strings.CutPrefix(name, "kernel/"); ok {
			files[plain] = data
			delete(files, name)
		}
		files["modules.order"] += strings.TrimPrefix(strings.NewReplacer(".xz", "", ".zst", "", ".gz", "").Replace(name), "kernel/") + "\n"
	}
	tree := lay(t, files)
	for _, c := range []struct {
		names string
		want  string
		err   string
	}{
		{"nf_tables veth", "nfnetlink deep lib_crc nf_tables veth", ""},
		{"veth nf_tables veth", "veth nfnetlink deep lib_crc nf_tables", ""},
		{"built_in absent", "", ""},
		{"on_builtin", "on_builtin", ""},
		{"a", "", "depends on itself"},
		{"lacks", "", "module lacks depends on absent, which is not there"},
		{"bad", "", "bad.ko: "},
		{"evil", "", `it depends on "../../etc/passwd"`},
		{"cut", "", "unpack "},
		{"escape gone", "", ""},
	} {
		for _, dir := range []string{dir, tree} {
			m, err := listModules(dir)
			if err != nil {
				t.Fatal(err)
			}
			mods, err := m.closure(strings.Fields(c.names))
			var got []string
			for _, mod := range mods {
				got = append(got, mod.name)
			}
			if c.err == "" && err != nil || strings.Join(got, " ") != c.want {
				t.Errorf("%s: got %v, %v; want %s", c.names, got, err, c.want)
			}
			if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("%s: got the error %v; want %s", c.names, err, c.err)
			}
		}
	}
}

func TestModuleName(t *testing.T) {
	for file, want := range map[string]string{
		"kernel/net/nf-tables.ko": "nf_tables", "x.ko.xz": "x", "x.ko.zst": "x", "x.ko.gz": "x", "x.o": "", "ko": "", "x.ko.bak": "",
	} {
		if got := moduleName(file); got != want {
			t.Errorf("%s: got %q, want %q", file, got, want)
		}
	}
}

// TestUnpackBound holds that a small file cannot fill the memory.
func TestUnpackBound(t *testing.T) {
	const most = 1 << 20
	for _, end := range []string{".gz", ".xz", ".zst"} {
		if _, err := unpacked(packed(t, end, make([]byte, most+1)), most); err == nil {
			t.Errorf("%s: %d bytes were unpacked where %d are the most", end, most+1, most)
		}
		if b, err := unpacked(packed(t, end, make([]byte, most)), most); err != nil || len(b) != most {
			t.Errorf("%s: %d bytes, %v", end, len(b), err)
		}
	}
}

// FuzzModule holds that no bytes break what reads a module.
func FuzzModule(f *testing.F) {
	f.Add(koFile(f, modinfo("a,b-c")))
	f.Add(packed(f, ".xz", koFile(f, modinfo("a"))))
	f.Add(packed(f, ".zst", koFile(f, modinfo("a"))))
	f.Fuzz(func(t *testing.T, b []byte) {
		b, err := unpacked(b, 1<<20)
		if err != nil {
			return
		}
		if stripped := stripDebug(b); len(stripped) > 2*len(b)+1<<20 {
			t.Errorf("%d bytes became %d", len(b), len(stripped))
		}
		names, err := dependsOn(b)
		if err != nil {
			return
		}
		if slices.ContainsFunc(names, func(n string) bool { return n == "" || filepath.Base(n) != n }) {
			t.Errorf("it depends on %q", names)
		}
	})
}
