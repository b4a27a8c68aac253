package vm

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cavaliergopher/cpio"
)

// File is a file for the guest.
type File struct {
	Name string // its path; the folders above it are made
	Mode uint32 // permissions
	Data []byte
	Link string // where not empty: it is a symbolic link to this
}

// ModulesLoad is the file of the initramfs that lists the modules' files, one a line, in the order in which to load them.
const ModulesLoad = "/modules.load"

// Initramfs makes the root file system of a guest: init, a static rpmig for the kernel's architecture, as /init; the modules
// that a run uses, and ModulesLoad; and what else is asked for. It returns the path of the file, which is in the cache.
func (k *Kernel) Initramfs(c *Cache, init string, extra ...File) (string, error) {
	data, err := os.ReadFile(init)
	if err != nil {
		return "", failed(err, "", "read the rpmig for the guest")
	}
	if err := checkInit(data, k.Arch); err != nil {
		return "", failed(err, "CGO_ENABLED=0 GOARCH="+k.Arch+" go build ./cmd/rpmig", "%s cannot be the first process of a guest", init)
	}
	files := []File{{Name: "/init", Mode: 0o755, Data: data}}
	modules, err := k.loadable()
	if err != nil {
		return "", failed(err, "--modules DIR, with the modules of this very build", "the modules of %s", k.Release)
	}
	var order strings.Builder
	light := k.takesUnsigned()
	for _, m := range modules {
		if light {
			m.data = lighten(m.data)
		}
		name := "/modules/" + m.name + ".ko"
		files = append(files, File{Name: name, Mode: 0o644, Data: m.data})
		fmt.Fprintln(&order, name)
	}
	files = append(files, File{Name: ModulesLoad, Mode: 0o644, Data: []byte(order.String())})
	archive, err := pack(append(files, extra...))
	if err != nil {
		return "", failed(err, "", "make the initramfs of %s", k.Name)
	}
	sum := sha256.Sum256(archive)
	c.forgetInitramfs()
	return c.file(filepath.Join(initramfsDir, hex.EncodeToString(sum[:16])+".cpio"), archive)
}

// loadable are the modules that a run in this kernel uses.
func (k *Kernel) loadable() ([]*module, error) {
	if k.Modules == "" {
		return nil, nil
	}
	m, err := listModules(k.Modules)
	if err != nil {
		return nil, err
	}
	return m.closure(append(slices.Clone(wanted), k.Want...))
}

// checkInit tells why a program cannot be the first process of a guest, where there is nothing but it.
func checkInit(b []byte, arch string) error {
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("it is no program: %w", err)
	}
	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	if want := machines[arch]; f.Machine != want {
		return fmt.Errorf("it is for %v, and the kernel for %s", f.Machine, arch)
	}
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return fmt.Errorf("it is no program, but %v", f.Type)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("it is linked dynamically, and a guest has no libraries")
		}
	}
	return nil
}

// pack writes files and the folders above them as an archive that a kernel unpacks (Documentation/driver-api/early-userspace/
// buffer-format.rst). Times are left out, so that the same files are the same bytes.
func pack(files []File) ([]byte, error) {
	size := 0
	for _, f := range files {
		size += len(f.Data) + 1<<10
	}
	b := bytes.NewBuffer(make([]byte, 0, size))
	w := cpio.NewWriter(b)
	write := func(name string, mode cpio.FileMode, data []byte) error {
		if err := w.WriteHeader(&cpio.Header{Name: name, Mode: mode, Size: int64(len(data))}); err != nil {
			return err
		}
		_, err := w.Write(data)
		return err
	}
	folders := map[string]bool{}
	for _, f := range files {
		for dir := path.Dir(path.Join("/", f.Name)); dir != "/"; dir = path.Dir(dir) {
			folders[dir] = true
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(folders)) {
		if err := write(dir[1:], cpio.TypeDir|0o755, nil); err != nil {
			return nil, err
		}
	}
	for _, f := range files {
		name, mode, data := path.Join("/", f.Name)[1:], cpio.FileMode(cpio.TypeReg|f.Mode&0o7777), f.Data
		if f.Link != "" {
			mode, data = cpio.TypeSymlink|0o777, []byte(f.Link)
		}
		if err := write(name, mode, data); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return b.Bytes(), w.Close()
}

const initramfsDir = "initramfs"

// forgetInitramfs removes what no run has used for days: each build of rpmig makes its own.
func (c *Cache) forgetInitramfs() {
	const unused = 7 * 24 * time.Hour
	old, _ := os.ReadDir(c.path(initramfsDir))
	for _, e := range old {
		if i, err := e.Info(); err == nil && time.Since(i.ModTime()) > unused {
			_ = os.Remove(c.path(initramfsDir, e.Name()))
		}
	}
}
