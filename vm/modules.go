package vm

import (
	"bufio"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/rpmig/rpmig/unpack"
)

// wanted are the modules that a run uses, in the order in which they are loaded; what each depends on is loaded before it.
// A kernel that has one built in, or not at all, goes without the file.
var wanted = []string{
	"virtio_pci", "virtio_console", // the way home
	"crc32c_generic", // libcrc32c asks for it by a softdep, to 6.15
	"nf_tables", "nft_compat", "nft_counter", "xt_tcpudp",
	"inet_diag", "tcp_diag",
	"veth", "dummy",
}

// IPTablesModules are those that iptables uses where it is not iptables-nft, for Kernel.Want.
var IPTablesModules = []string{"ip_tables", "iptable_filter", "ip6_tables", "ip6table_filter"}

// modules is a folder of modules: that of a distribution, a build tree, or any other.
type modules struct {
	files   map[string]string // by the module's name: its path
	builtin map[string]bool
}

// moduleEnds are how the name of a module's file ends, by how it is compressed.
var moduleEnds = []string{".ko", ".ko.xz", ".ko.zst", ".ko.gz"}

// moduleName is what the kernel calls the module in a file; empty where it is no module's.
func moduleName(file string) string {
	base := path.Base(file)
	for _, end := range moduleEnds {
		if name, ok := strings.CutSuffix(base, end); ok {
			return strings.ReplaceAll(name, "-", "_")
		}
	}
	return ""
}

// listModules reads which modules a folder has.
func listModules(dir string) (*modules, error) {
	m := &modules{files: map[string]string{}, builtin: map[string]bool{}}
	if err := eachLine(filepath.Join(dir, "modules.builtin"), func(line string) {
		if name := moduleName(line); name != "" {
			m.builtin[name] = true
		}
	}); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	// To walk a build tree takes long, and it has a list.
	err := eachLine(filepath.Join(dir, "modules.order"), func(line string) {
		if o, ok := strings.CutSuffix(line, ".o"); ok { // since 6.2, before modules are linked
			line = o + ".ko"
		}
		if name := moduleName(line); name != "" && filepath.IsLocal(line) {
			m.files[name] = filepath.Join(dir, line)
		}
	})
	if err == nil && len(m.files) > 0 || exists(filepath.Join(dir, "Kconfig")) || exists(filepath.Join(dir, ".config")) {
		return m, nil
	}
	return m, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if name := moduleName(p); name != "" {
				m.files[name] = p
			}
		}
		return err
	})
}

func eachLine(file string, do func(string)) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		do(strings.TrimSpace(line))
	}
	return nil
}

// file is the path of a module's file, empty where there is none. A list does not tell how it is compressed.
func (m *modules) file(name string) string {
	p, ok := m.files[name]
	plain, isPlain := strings.CutSuffix(p, ".ko")
	if !ok || !isPlain {
		return p
	}
	for _, end := range moduleEnds {
		if exists(plain + end) {
			return plain + end
		}
	}
	return ""
}

func exists(p string) bool {
	_, err := os.Stat(p)
	return err == nil
}

// module is one that is to be loaded.
type module struct {
	name    string
	data    []byte // as an ELF file
	depends []string
}

// mostModule is how large a module may be, in bytes. The largest of Debian's are some 10 MiB.
const mostModule = 128 << 20

// closure reads modules and all that they depend on, side by side, in the order in which they can be loaded.
func (m *modules) closure(names []string) ([]*module, error) {
	have := map[string]*module{}
	for next := names; len(next) > 0; {
		var group errgroup.Group
		var level []*module
		for _, name := range next {
			if have[name] != nil || m.builtin[name] {
				continue
			}
			file := m.file(name)
			if file == "" {
				continue
			}
			mod := &module{name: name}
			have[name] = mod
			level = append(level, mod)
			group.Go(func() error { return mod.read(file) })
		}
		if err := group.Wait(); err != nil {
			return nil, err
		}
		next = nil
		for _, mod := range level {
			for _, d := range mod.depends {
				if !m.builtin[d] && m.file(d) == "" {
					return nil, fmt.Errorf("module %s depends on %s, which is not there", mod.name, d)
				}
				next = append(next, d)
			}
		}
	}
	return inOrder(names, have)
}

// inOrder puts what a module depends on before it.
func inOrder(names []string, have map[string]*module) ([]*module, error) {
	var order []*module
	const begun, done = 1, 2
	state := map[string]int{}
	var visit func(name string) error
	visit = func(name string) error {
		mod := have[name]
		switch {
		case mod == nil || state[name] == done:
			return nil
		case state[name] == begun:
			return fmt.Errorf("module %s depends on itself", name)
		}
		state[name] = begun
		for _, d := range mod.depends {
			if err := visit(d); err != nil {
				return err
			}
		}
		state[name] = done
		order = append(order, mod)
		return nil
	}
	for _, name := range names {
		if err := visit(name); err != nil {
			return nil, err
		}
	}
	return order, nil
}

func (mod *module) read(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if mod.data, err = unpacked(b, mostModule); err != nil {
		return fmt.Errorf("unpack %s: %w", file, err)
	}
	if mod.depends, err = dependsOn(mod.data); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	mod.data = stripDebug(mod.data)
	return nil
}

// unpacked returns what was compressed, which it tells by the first bytes; all else it returns as it is.
func unpacked(b []byte, most int64) ([]byte, error) {
	r, by, err := unpack.Reader(bufio.NewReader(bytes.NewReader(b)))
	switch {
	case err != nil:
		return nil, err
	case by == "":
		return b, nil
	}
	out, err := io.ReadAll(io.LimitReader(r, most+1))
	if err == nil && int64(len(out)) > most {
		return nil, fmt.Errorf("more than %d MiB", most>>20)
	}
	return out, err
}

// dependsOn reads the modules that a module needs, from its section .modinfo (MODULE_INFO, include/linux/module.h).
func dependsOn(b []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	s := f.Section(".modinfo")
	if s == nil {
		return nil, errors.New("no section .modinfo: it is no module of the kernel")
	}
	info, err := s.Data()
	if err != nil {
		return nil, fmt.Errorf(".modinfo: %w", err)
	}
	var names []string
	for field := range bytes.SplitSeq(info, []byte{0}) {
		list, ok := strings.CutPrefix(string(field), "depends=")
		if !ok {
			continue
		}
		for name := range strings.SplitSeq(list, ",") {
			if name == "" {
				continue
			}
			if strings.ContainsAny(name, "/\\") || name[0] == '.' {
				return nil, fmt.Errorf(".modinfo: it depends on %q", name)
			}
			names = append(names, strings.ReplaceAll(name, "-", "_"))
		}
	}
	return names, nil
}
