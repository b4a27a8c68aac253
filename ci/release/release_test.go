package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const version = "1.2.3"

// made is a release, made in a folder of its own.
func made(t *testing.T) string {
	t.Helper()
	r := release{version, time.Unix(1_764_288_000, 0).UTC(), "../..", filepath.Join(t.TempDir(), "release")}
	if err := r.make(); err != nil {
		t.Fatal(err)
	}
	return r.out
}

// TestRelease makes one twice: the same bytes. Each package holds a static binary of its architecture, and the sums are right.
func TestRelease(t *testing.T) {
	one, other := made(t), made(t)
	entries, err := os.ReadDir(one)
	if err != nil {
		t.Fatal(err)
	}
	sums := read(t, one, "SHA256SUMS")
	for _, entry := range entries {
		name := entry.Name()
		data := read(t, one, name)
		if !bytes.Equal(data, read(t, other, name)) {
			t.Errorf("%s is another the second time", name)
		}
		if line := fmt.Sprintf("%x  %s\n", sha256.Sum256(data), name); name != "SHA256SUMS" && !strings.Contains(string(sums), line) {
			t.Errorf("%s: its sum is not among\n%s", name, sums)
		}
	}
	if again, _ := os.ReadDir(other); len(entries) != 7 || len(again) != 7 {
		t.Errorf("%d and %d files, want 7: a tarball, a package and a bill for two architectures, and the sums", len(entries), len(again))
	}
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		checkTarball(t, read(t, one, "rpmig-"+version+"-linux-"+arch+".tar.gz"), machine)
		checkBill(t, read(t, one, "rpmig-"+version+"-linux-"+arch+".cdx.json"))
		checkDebian(t, filepath.Join(one, "rpmig_"+version+"_"+arch+".deb"), arch)
	}
}

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func checkTarball(t *testing.T, data []byte, machine elf.Machine) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(h.Name)
		names[name] = true
		if name == "rpmig" {
			program, _ := io.ReadAll(r)
			checkProgram(t, program, machine)
		}
	}
	for _, name := range []string{"rpmig", "rpmig.8", "rpmig.bash", "_rpmig", "rpmig.fish", "LICENSE", "README.md", "CHANGELOG.md"} {
		if !names[name] {
			t.Errorf("the tarball has no %s", name)
		}
	}
}

func checkProgram(t *testing.T, program []byte, machine elf.Machine) {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		t.Fatal(err)
	}
	if libraries, _ := f.ImportedLibraries(); f.Machine != machine || len(libraries) > 0 || f.Section(".interp") != nil {
		t.Errorf("%v, and libraries %v: want a static binary for %v", f.Machine, libraries, machine)
	}
	here, _ := os.Getwd()
	if bytes.Contains(program, []byte(filepath.Dir(filepath.Dir(here)))) {
		t.Error("the binary names the folder that it was built in")
	}
	if !bytes.Contains(program, []byte(version)) {
		t.Error("the binary does not know its version")
	}
}

func checkBill(t *testing.T, data []byte) {
	t.Helper()
	var bill struct {
		BOMFormat, SpecVersion string
		Components             []struct{ Purl string }
	}
	if err := json.Unmarshal(data, &bill); err != nil {
		t.Fatal(err)
	}
	if bill.BOMFormat != "CycloneDX" || len(bill.Components) < 5 || !strings.Contains(string(data), "pkg:golang/github.com/cilium/ebpf@v") {
		t.Errorf("a bill of %d components in %s %s", len(bill.Components), bill.BOMFormat, bill.SpecVersion)
	}
}

// checkDebian has dpkg-deb read the package.
func checkDebian(t *testing.T, name, arch string) {
	t.Helper()
	if _, err := exec.LookPath("dpkg-deb"); err != nil {
		t.Logf("the package for %s is not looked at: no dpkg-deb", arch)
		return
	}
	fields, err := exec.Command("dpkg-deb", "-f", name, "Package", "Version", "Architecture", "Depends").CombinedOutput()
	if want := "Package: rpmig\nVersion: " + version + "\nArchitecture: " + arch + "\n"; err != nil || string(fields) != want {
		t.Errorf("%v: %s", err, fields)
	}
	list, err := exec.Command("dpkg-deb", "-c", name).CombinedOutput()
	for place := range debianPlaces {
		if !strings.Contains(string(list), "."+debianPlaces[place]) {
			t.Errorf("%v: no %s in\n%s", err, debianPlaces[place], list)
		}
	}
	if !strings.Contains(string(list), "-rwxr-xr-x root/root") {
		t.Errorf("no program of root's in\n%s", list)
	}
	t.Run(arch+"/lintian", func(t *testing.T) { checkLintian(t, name) })
	t.Run(arch+"/installed and purged", func(t *testing.T) { checkInstalled(t, name) })
}

// checkLintian has Debian's own checker look at the package: it finds nothing to say.
func checkLintian(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath("lintian"); err != nil {
		t.Skip("needs lintian: sudo make deps-release")
	}
	lintian := exec.Command("lintian", "--allow-root", "--fail-on=error,warning", name)
	lintian.Env = append(os.Environ(), "TMPDIR="+t.TempDir()) // it leaves files there
	if said, err := lintian.CombinedOutput(); err != nil {
		t.Errorf("lintian: %v\n%s", err, said)
	}
}

// checkInstalled installs the package in a root of its own, and purges it: nothing is left.
func checkInstalled(t *testing.T, name string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("dpkg --root takes root")
	}
	root := t.TempDir()
	state := filepath.Join(root, "var/lib/dpkg")
	for _, dir := range []string{"info", "updates", "triggers"} {
		if err := os.MkdirAll(filepath.Join(state, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"status", "available"} {
		if err := os.WriteFile(filepath.Join(state, file), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	dpkg := func(args ...string) {
		t.Helper()
		args = append([]string{"--root=" + root, "--log=/dev/null", "--force-script-chrootless", "--force-architecture"}, args...)
		if said, err := exec.Command("dpkg", args...).CombinedOutput(); err != nil {
			t.Fatalf("dpkg %v: %v\n%s", args, err, said)
		}
	}
	dpkg("-i", name)
	for _, place := range debianPlaces {
		if _, err := os.Stat(filepath.Join(root, place)); err != nil {
			t.Errorf("once it is installed: %v", err)
		}
	}
	dpkg("-P", "rpmig")
	for _, left := range []string{"usr", "etc"} {
		if _, err := os.Stat(filepath.Join(root, left)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left behind, purged: %v", left, err)
		}
	}
}
