package vm

import (
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cavaliergopher/cpio"
)

func TestInitramfs(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	c, err := OpenCache()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ko := func(depends string) string { return string(koFile(t, modinfo(depends))) }
	init := string(elfFile(t, elf.ET_EXEC, elf.EM_X86_64, 0, ""))
	dir := lay(t, map[string]string{
		"init": init, "m/kernel/nf_tables.ko.xz": string(packed(t, ".xz", []byte(ko("nfnetlink")))), "m/kernel/nfnetlink.ko": ko(""),
		"m/kernel/ip_tables.ko": ko(""), "m/kernel/other.ko": ko(""),
	})
	k := &Kernel{Name: "6.1", Release: "6.1", Arch: "amd64", Modules: filepath.Join(dir, "m"), Want: IPTablesModules}
	extra := []File{{Name: "/usr/sbin/xtables", Mode: 0o755, Data: []byte("x")}, {Name: "/sbin/iptables", Link: "/usr/sbin/xtables"}}
	path, err := k.Initramfs(c, filepath.Join(dir, "init"), extra...)
	if err != nil {
		t.Fatal(err)
	}
	got := readCpio(t, path)
	const want = "modules/ 755\nsbin/ 755\nusr/ 755\nusr/sbin/ 755\n" +
		"init 755\nmodules/nfnetlink.ko 644\nmodules/nf_tables.ko 644\nmodules/ip_tables.ko 644\nmodules.load 644\n" +
		"usr/sbin/xtables 755\nsbin/iptables -> /usr/sbin/xtables\n"
	if got.list != want {
		t.Errorf("got\n%s, want\n%s", got.list, want)
	}
	if got.data["init"] != init || got.data["modules/nf_tables.ko"] != ko("nfnetlink") {
		t.Error("init or a module is not what it was")
	}
	if got.data["modules.load"] != "/modules/nfnetlink.ko\n/modules/nf_tables.ko\n/modules/ip_tables.ko\n" {
		t.Errorf("modules.load:\n%s", got.data["modules.load"])
	}
	if again, err := k.Initramfs(c, filepath.Join(dir, "init"), extra...); again != path || err != nil {
		t.Errorf("the same is elsewhere: %s, %s, %v", path, again, err)
	}
	if other, err := k.Initramfs(c, filepath.Join(dir, "init")); other == path || err != nil {
		t.Errorf("another is in the same place: %s, %v", other, err)
	}
	// One that was cut off is not used, and one that no run has used for long goes.
	if err := os.Truncate(path, 10); err != nil {
		t.Fatal(err)
	}
	old := c.path(initramfsDir, "old.cpio")
	then := time.Now().Add(-30 * 24 * time.Hour)
	if err := errors.Join(os.WriteFile(old, nil, 0o644), os.Chtimes(old, then, then)); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Initramfs(c, filepath.Join(dir, "init"), extra...); err != nil {
		t.Fatal(err)
	}
	if readCpio(t, path).list != want || exists(old) {
		t.Errorf("after one was damaged:\n%s; an old one is there: %v", readCpio(t, path).list, exists(old))
	}
}

type archive struct {
	list string
	data map[string]string
}

func readCpio(t *testing.T, path string) archive {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	a := archive{data: map[string]string{}}
	var list strings.Builder
	for r := cpio.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if err == io.EOF {
			a.list = list.String()
			return a
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		a.data[h.Name] = string(data)
		switch h.Mode & cpio.ModeType {
		case cpio.TypeDir:
			list.WriteString(h.Name + "/ " + h.Mode.Perm().String()[1:] + "\n")
		case cpio.TypeSymlink:
			list.WriteString(h.Name + " -> " + h.Linkname + "\n")
		default:
			list.WriteString(h.Name + " " + h.Mode.Perm().String()[1:] + "\n")
		}
	}
}

func TestCheckInit(t *testing.T) {
	for _, c := range []struct {
		name string
		init []byte
		arch string
		err  string
	}{
		{"static", elfFile(t, elf.ET_EXEC, elf.EM_X86_64, elf.PT_LOAD, ""), "amd64", ""},
		{"static for arm64", elfFile(t, elf.ET_EXEC, elf.EM_AARCH64, elf.PT_LOAD, ""), "arm64", ""},
		{"dynamic", elfFile(t, elf.ET_DYN, elf.EM_X86_64, elf.PT_INTERP, ""), "amd64", "it is linked dynamically"},
		{"for another", elfFile(t, elf.ET_EXEC, elf.EM_X86_64, elf.PT_LOAD, ""), "arm64", "it is for EM_X86_64, and the kernel for arm64"},
		{"a module", koFile(t, modinfo("")), "amd64", "it is no program"},
		{"a script", []byte("#!/bin/sh\n"), "amd64", "it is no program"},
	} {
		err := checkInit(c.init, c.arch)
		if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: got the error %v; want %q", c.name, err, c.err)
		}
	}
}
