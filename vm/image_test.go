package vm

import (
	"debug/elf"
	"errors"
	"strings"
	"testing"
)

func TestParseImage(t *testing.T) {
	whole, arm := bzImage("6.1.0-rc3+", []byte("the kernel")), arm64Image("6.12.9")
	old := bzImage("6.1.0", nil)
	old[0x236] = 0
	riscv := make([]byte, 64)
	copy(riscv[0x38:], "RSC\x05")
	for _, c := range []struct {
		name  string
		bytes []byte
		want  image
		why   string
	}{
		{"bzImage", whole, image{"amd64", "6.1.0-rc3+"}, ""},
		{"bzImage signed", append(whole, make([]byte, 1472)...), image{"amd64", "6.1.0-rc3+"}, ""},
		{"bzImage cut off", whole[:len(whole)-1], image{}, "it ends early: its header tells of"},
		{"bzImage cut off in its header", whole[:0x220], image{}, "it ends early"},
		{"bzImage for 32 bits", old, image{"386", "6.1.0"}, ""},
		{"bzImage with a release that is a path", bzImage("../../etc", nil), image{"amd64", ""}, ""},
		{"Image", arm, image{"arm64", "6.12.9"}, ""},
		{"Image cut off", arm[:len(arm)-1], image{}, "it ends early"},
		{"Image by gzip", packed(t, ".gz", arm), image{"arm64", "6.12.9"}, ""},
		{"Image by gzip, cut off", packed(t, ".gz", arm)[:50], image{}, "it does not unpack: unexpected EOF"},
		{"text by gzip", packed(t, ".gz", []byte("text")), image{}, "no arm64 Image"},
		{"riscv", riscv, image{"riscv64", ""}, ""},
		{"vmlinux", elfFile(t, elf.ET_EXEC, elf.EM_X86_64, 0, ""), image{}, "it is an ELF file"},
		{"zboot", []byte("MZ\x00\x00zimg" + strings.Repeat("\x00", 100)), image{}, "EFI"},
		{"text", []byte("#!/bin/sh\n"), image{}, "neither the header"},
		{"nothing", nil, image{}, "it is empty"},
	} {
		got, err := parseImage(c.bytes)
		var no *notImage
		switch {
		case c.why == "" && err != nil, got != c.want:
			t.Errorf("%s: got %+v, %v; want %+v", c.name, got, err, c.want)
		case c.why != "" && (!errors.As(err, &no) || !strings.Contains(no.why, c.why) || no.next == ""):
			t.Errorf("%s: got the error %v; want one with %q and a hint", c.name, err, c.why)
		}
	}
}

func TestIkconfig(t *testing.T) {
	const config = "CONFIG_NF_TABLES=y\n"
	vmlinux := []byte(strings.Repeat("code", 1000) + "IKCFG_ST" + string(packed(t, ".gz", []byte(config))) + "IKCFG_ED" + "more")
	for _, c := range []struct {
		name  string
		bytes []byte
		want  string
	}{
		{"zstd", bzImage("6", packed(t, ".zst", vmlinux)), config},
		{"xz", bzImage("6", packed(t, ".xz", vmlinux)), config},
		{"gzip", bzImage("6", packed(t, ".gz", vmlinux)), config},
		{"Image", append(arm64Image("6"), vmlinux...), config},
		{"without", bzImage("6", packed(t, ".zst", []byte("code"))), ""},
		{"lz4", bzImage("6", []byte("\x02\x21\x4c\x18and more")), ""},
		{"no .config", append(arm64Image("6"), "IKCFG_ST\x1f\x8bIKCFG_ED"...), ""},
		{"no end", append(arm64Image("6"), "IKCFG_ST\x1f\x8b"...), ""},
	} {
		if got := string(ikconfig(c.bytes)); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// FuzzImage holds that no bytes break what reads an image.
func FuzzImage(f *testing.F) {
	f.Add(bzImage("6.1.0", packed(f, ".zst", []byte("IKCFG_ST\x1f\x8bx IKCFG_ED"))))
	f.Add(arm64Image("6.1.0"))
	f.Add(packed(f, ".gz", arm64Image("6.1.0")))
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := parseImage(b)
		if err == nil && i.arch == "" {
			t.Error("neither an architecture nor an error")
		}
		if strings.ContainsAny(i.release, "/\x00 \n") {
			t.Errorf("release %q", i.release)
		}
		ikconfig(b)
		vmlinuxOf(b)
	})
}
