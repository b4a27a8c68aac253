package vm

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// emulators on the PATH of a test.
func fakeEmulators(t *testing.T, names ...string) {
	t.Helper()
	files := map[string]string{}
	for _, n := range names {
		files[n] = "#!/bin/sh\n"
	}
	dir := lay(t, files)
	for _, n := range names {
		if err := os.Chmod(filepath.Join(dir, n), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
}

const (
	builtIn  = "CONFIG_NET=y\nCONFIG_NF_TABLES=y\n"
	modular  = "CONFIG_NET=y\nCONFIG_NF_TABLES=m\n"
	without  = "CONFIG_NET=y\n# CONFIG_NF_TABLES is not set\n"
	nfTables = "kernel/net/netfilter/nf_tables.ko"
)

func TestFind(t *testing.T) {
	fakeEmulators(t, "qemu-system-x86_64", "qemu-system-aarch64")
	ko := string(koFile(t, modinfo("")))
	x86, arm := string(bzImage("6.1", nil)), string(arm64Image("6.1"))
	withConfig := string(bzImage("6.1", packed(t, ".zst", []byte("IKCFG_ST"+string(packed(t, ".gz", []byte(builtIn)))+"IKCFG_ED"))))
	deb := func(name string, files ...[2]string) string { return string(debOf(t, name, ".gz", filesTar(t, files))) }
	for _, c := range []struct {
		name  string
		files map[string]string
		specs string // below the files' folder
		opt   Options
		want  string // name, architecture, and below that folder: image, modules, .config
		err   string
	}{
		{"distribution", map[string]string{"boot/vmlinuz-6.1": x86, "boot/config-6.1": modular, "lib/modules/6.1/" + nfTables: ko},
			"boot/vmlinuz-6.1", Options{}, "6.1 amd64 boot/vmlinuz-6.1 lib/modules/6.1 boot/config-6.1", ""},
		{"modules beside", map[string]string{"bzImage": x86, "usr/lib/modules/6.1/" + nfTables: ko},
			"bzImage", Options{}, "6.1 amd64 bzImage usr/lib/modules/6.1 -", ""},
		{"image among modules", map[string]string{"usr/lib/modules/6.1/vmlinuz": x86, "usr/lib/modules/6.1/config": modular, "usr/lib/modules/6.1/" + nfTables: ko},
			"usr/lib/modules/6.1/vmlinuz", Options{}, "6.1 amd64 usr/lib/modules/6.1/vmlinuz usr/lib/modules/6.1 usr/lib/modules/6.1/config", ""},
		{"folder of 5.10", map[string]string{"boot/vmlinuz-6.1": x86, "boot/System.map-6.1": "", "lib/modules/6.1/" + nfTables: ko},
			".", Options{}, "6.1 amd64 boot/vmlinuz-6.1 lib/modules/6.1 -", ""},
		{"folder of 7.x", map[string]string{"usr/lib/modules/6.1/vmlinuz": x86, "usr/lib/modules/6.1/" + nfTables: ko},
			".", Options{}, "6.1 amd64 usr/lib/modules/6.1/vmlinuz usr/lib/modules/6.1 -", ""},
		{"build tree", map[string]string{"arch/x86/boot/bzImage": x86, ".config": modular, "modules.order": "net/netfilter/nf_tables.o\n", "net/netfilter/nf_tables.ko": ko},
			".", Options{}, "6.1 amd64 arch/x86/boot/bzImage . .config", ""},
		{"image of a build tree", map[string]string{"arch/x86/boot/bzImage": x86, ".config": builtIn, "vmlinux": "", "Kconfig": ""},
			"arch/x86/boot/bzImage", Options{}, "6.1 amd64 arch/x86/boot/bzImage - .config", ""},
		{"build tree for arm64", map[string]string{"arch/arm64/boot/Image": arm, ".config": builtIn},
			".", Options{}, "6.1 arm64 arch/arm64/boot/Image - .config", ""},
		{"--modules", map[string]string{"bzImage": x86, "m/lib/modules/6.1/" + nfTables: ko},
			"bzImage", Options{Modules: "m"}, "6.1 amd64 bzImage m/lib/modules/6.1 -", ""},
		{"--modules, flat", map[string]string{"bzImage": x86, "m/nf-tables.ko": ko},
			"bzImage", Options{Modules: "m"}, "6.1 amd64 bzImage m -", ""},
		{"--modules, relative", map[string]string{"bzImage": x86, "m/nf-tables.ko": ko},
			"bzImage", Options{Modules: "./m"}, "6.1 amd64 bzImage m -", ""},
		{".config within", map[string]string{"bzImage": withConfig}, "bzImage", Options{}, "6.1 amd64 bzImage - cache", ""},
		{"unknown", map[string]string{"bzImage": x86}, "bzImage", Options{}, "6.1 amd64 bzImage - -", ""},
		{"package", map[string]string{"a.deb": deb("linux-image-6.1", [2]string{"./boot/vmlinuz-6.1", x86}, [2]string{"./boot/config-6.1", modular}, [2]string{"./lib/modules/6.1/" + nfTables, ko})},
			"a.deb", Options{}, "6.1 amd64 cache cache cache", ""},
		{"packages of 7.x", map[string]string{
			"modules.deb": deb("linux-modules-6.1", [2]string{"./usr/lib/modules/6.1/" + nfTables, ko}),
			"base.deb":    deb("linux-base-6.1", [2]string{"./usr/lib/modules/6.1/config", modular}),
			"binary.deb":  deb("linux-binary-6.1", [2]string{"./usr/lib/modules/6.1/vmlinuz", x86}),
		}, "modules.deb,base.deb,binary.deb", Options{}, "6.1 amd64 cache cache cache", ""},
		{"list", map[string]string{"list": "# ours\n\n  DIR/a # the first\nDIR/b\n", "a": x86, "b": arm},
			"@list", Options{}, "6.1 amd64 a - -\n6.1-2 arm64 b - -", ""},
		{"several", map[string]string{"a": x86, "b": x86}, "a,b", Options{}, "6.1 amd64 a - -\n6.1-2 amd64 b - -", ""},
		{"comma in the name", map[string]string{"a,b": x86}, "a,b", Options{}, "6.1 amd64 a,b - -", ""},

		{"no such file", nil, "gone", Options{}, "", "no such file or directory"},
		{"text", map[string]string{"a": "#!/bin/sh\n"}, "a", Options{}, "", "neither the header of an x86 bzImage"},
		{"cut off", map[string]string{"a": x86[:len(x86)-1]}, "a", Options{}, "", "it ends early"},
		{"folder of nothing", map[string]string{"readme": ""}, ".", Options{}, "", "neither a build tree nor"},
		{"folder of two", map[string]string{"boot/vmlinuz-6.1": x86, "boot/vmlinuz-6.2": x86}, ".", Options{}, "", "there are several in this folder"},
		{"not built", map[string]string{"Kconfig": "", ".config": builtIn, "arch/x86/Kconfig": ""}, ".", Options{}, "", "no image was built"},
		{"modules are lacking", map[string]string{"boot/vmlinuz-6.1": x86, "boot/config-6.1": modular}, "boot/vmlinuz-6.1", Options{}, "", "nf_tables is a module, and its modules are not beside it"},
		{"built without", map[string]string{"boot/vmlinuz-6.1": x86, "boot/config-6.1": without}, "boot/vmlinuz-6.1", Options{}, "", "built without nf_tables"},
		{"other modules", map[string]string{"bzImage": x86, "m/x.ko": ko}, "bzImage", Options{Modules: "m"}, "", "do not have nf_tables"},
		{"--modules that is none", map[string]string{"bzImage": x86}, "bzImage", Options{Modules: "gone"}, "", "modules "},
		{"no package", map[string]string{"a.deb": "text"}, "a.deb", Options{}, "", "is no Debian package"},
		{"package cut off", map[string]string{"a.deb": deb("x")[:300]}, "a.deb", Options{}, "", "is no package that can be unpacked: it ends"},
		{"package of something else", map[string]string{"a.deb": deb("bash", [2]string{"./bin/bash", ""})}, "a.deb", Options{}, "", "package bash has no image"},
		{"package without modules", map[string]string{"a.deb": deb("linux-binary-6.1", [2]string{"./usr/lib/modules/6.1/vmlinuz", x86})}, "a.deb", Options{}, "", "the package has no modules"},
		{"empty list", map[string]string{"list": "# none\n"}, "@list", Options{}, "", "names no kernel"},
		{"list of lists", map[string]string{"list": "@list\n"}, "@list", Options{}, "", "names another list"},
		{"image as a list", map[string]string{"list": x86}, "@list", Options{}, "", "it is no text"},
		{"no name", nil, "a,,b", Options{}, "", "a kernel has no name"},
		{"version that is none", nil, "debian:../x", Options{}, "", "want what stands behind linux-image-"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("XDG_CACHE_HOME", t.TempDir())
			dir := lay(t, c.files)
			if list, ok := c.files["list"]; ok {
				if err := os.WriteFile(filepath.Join(dir, "list"), []byte(strings.ReplaceAll(list, "DIR", dir)), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if c.opt.Modules != "" && c.opt.Modules[0] != '.' {
				c.opt.Modules = filepath.Join(dir, c.opt.Modules)
			}
			t.Chdir(dir)
			found, err := Find(context.Background(), []string{c.specs}, c.opt)
			if c.err != "" {
				refused(t, err, c.err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, k := range found {
				for _, p := range []string{k.Image, k.Modules, k.Config} {
					if p != "" && !filepath.IsAbs(p) {
						t.Errorf("%s is no absolute path", p)
					}
				}
				got = append(got, strings.Join([]string{k.Name, k.Arch, below(t, dir, k.Image), below(t, dir, k.Modules), below(t, dir, k.Config)}, " "))
			}
			if got := strings.Join(got, "\n"); got != c.want {
				t.Errorf("got\n%s, want\n%s", got, c.want)
			}
		})
	}
}

// refused wants an error of wrong usage, with a hint.
func refused(t *testing.T, err error, text string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || !e.Usage() || e.Hint() == "" || !strings.Contains(err.Error(), text) {
		t.Errorf("got the error %v; want one of wrong usage, with %q and a hint", err, text)
	}
}

// below is a path relative to a folder, "-" for none, and "cache" for one elsewhere.
func below(t *testing.T, dir, p string) string {
	t.Helper()
	if p == "" {
		return "-"
	}
	rel, err := filepath.Rel(dir, p)
	if err != nil || !filepath.IsLocal(rel) {
		return "cache"
	}
	return rel
}

// TestFindArchitecture holds that a kernel is refused that nothing here can run.
func TestFindArchitecture(t *testing.T) {
	riscv := make([]byte, 64)
	copy(riscv[0x38:], "RSC\x05")
	dir := lay(t, map[string]string{"arm": string(arm64Image("6.1")), "riscv": string(riscv)})
	fakeEmulators(t, "qemu-system-x86_64")
	_, err := Find(context.Background(), []string{filepath.Join(dir, "riscv")}, Options{AnyArch: true})
	refused(t, err, "is for riscv64")
	_, err = Find(context.Background(), []string{filepath.Join(dir, "arm")}, Options{})
	var e *Error
	if !errors.As(err, &e) || e.Usage() || e.Hint() != "apt-get install qemu-system-arm" {
		t.Errorf("without an emulator for arm64: %v", err)
	}
	if _, err := Find(context.Background(), []string{filepath.Join(dir, "arm")}, Options{AnyArch: true}); err != nil {
		t.Errorf("to fetch it alone: %v", err)
	}
}
