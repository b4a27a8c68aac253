package vm

import (
	"os"
	"strings"
)

// check refuses a kernel in which no run could be played.
func (f *finder) check(k *Kernel) error {
	if _, ok := emulators[k.Arch]; !ok {
		return refuse("rpmig boots kernels for amd64 and arm64", "kernel %s is for %s", k.From, k.Arch)
	}
	if !f.AnyArch {
		if _, err := Emulator(k.Arch); err != nil {
			return err
		}
	}
	return k.checkNfTables()
}

// checkNfTables refuses a kernel without nf_tables, by which a scenario keeps packets back. Where nothing tells, the guest will.
func (k *Kernel) checkNfTables() error {
	config := ""
	if k.Config != "" {
		b, err := os.ReadFile(k.Config)
		if err != nil {
			return failed(err, "", "the configuration of kernel %s", k.From)
		}
		config = string(b)
	}
	how, known := option(config, "CONFIG_NF_TABLES")
	if how == "y" {
		return nil
	}
	if k.Modules != "" {
		m, err := listModules(k.Modules)
		if err != nil {
			return failed(err, "", "the modules of kernel %s", k.From)
		}
		if m.builtin["nf_tables"] || m.file("nf_tables") != "" {
			return nil
		}
		if how == "m" || !known && len(m.files) > 0 {
			return refuse("--modules DIR, with the modules of this very build", "kernel %s: its modules in %s do not have nf_tables", k.From, k.Modules)
		}
	}
	switch {
	case how == "m":
		return refuse("--modules DIR, with lib/modules/"+k.Release, "kernel %s: nf_tables is a module, and its modules are not beside it", k.From)
	case known:
		return refuse("build it with CONFIG_NF_TABLES=y", "kernel %s was built without nf_tables, with which packets are kept back", k.From)
	}
	return nil
}

// option reads an option of a .config: y, m or empty. It is known where the text is a .config at all.
func option(config, name string) (value string, known bool) {
	for line := range strings.Lines(config) {
		if v, ok := strings.CutPrefix(line, name+"="); ok {
			return strings.TrimSpace(v), true
		}
		known = known || strings.HasPrefix(line, "CONFIG_")
	}
	return "", known
}
