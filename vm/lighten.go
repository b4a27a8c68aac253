package vm

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"slices"
)

// What costs an emulated kernel most of the time that it takes to load a module is to verify its signature, a tenth of a second
// each, and to parse the types in it (BTF), half a second for nf_tables. A run needs neither. So where a kernel does not insist
// on signatures, modules are loaded without both, and it does not read the keys in the first place.

// keyInitcall reads the keys by which modules are verified (certs/system_keyring.c), and jitterInitcall tests a source of random
// numbers that nothing here draws from (crypto/jitterentropy-kcapi.c). Together they take half a second.
const (
	keyInitcall    = "load_system_certificate_list"
	jitterInitcall = "jent_mod_init"
)

// cryptoUntested keeps the kernel from testing each cipher that it has (crypto/algboss.c): a third of the instructions of a boot.
const cryptoUntested = "cryptomgr.notests=1"

// clockUntested keep a kernel for x86 from waiting for a clock that is right by construction: whether the timer ticks
// (arch/x86/kernel/apic/io_apic.c, timer_irq_works), and how fast the local APIC's is (arch/x86/kernel/apic/apic.c,
// calibrate_APIC_clock), without which the HPET or the PIT wakes the one processor. Both wait in a loop of PAUSE, at each of which
// QEMU leaves what it has translated (target/i386/tcg/misc_helper.c, helper_pause): half the time of a boot.
var clockUntested = []string{"no_timer_check", "nolapic_timer"}

// takesUnsigned tells whether the kernel is known to load modules without a signature.
func (k *Kernel) takesUnsigned() bool {
	if k.Config == "" {
		return false
	}
	config, err := os.ReadFile(k.Config)
	if err != nil {
		return false
	}
	insists := []string{"CONFIG_MODULE_SIG_FORCE=y", "CONFIG_LOCK_DOWN_KERNEL_FORCE_INTEGRITY=y", "CONFIG_LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY=y"}
	for line := range bytes.Lines(config) {
		if slices.Contains(insists, string(bytes.TrimSpace(line))) {
			return false
		}
	}
	return true
}

// lighten is a module without its signature and without its types. What does not look like a module stays as it is: the kernel
// has the last word.
func lighten(module []byte) []byte { return withoutTypes(unsigned(module)) }

// signatureMagic ends a signed module (include/linux/module_signature.h).
const signatureMagic = "~Module signature appended~\n"

func unsigned(module []byte) []byte {
	rest, ok := bytes.CutSuffix(module, []byte(signatureMagic))
	const trailer = 12 // struct module_signature, which ends with the length of the signature
	if !ok || len(rest) < trailer {
		return module
	}
	size := int64(binary.BigEndian.Uint32(rest[len(rest)-4:])) + trailer
	if size > int64(len(rest)) {
		return module
	}
	return rest[:int64(len(rest))-size]
}

// withoutTypes gives the section with the types another name, by which the kernel does not find it (kernel/module/main.c:
// find_module_sections).
func withoutTypes(module []byte) []byte {
	f, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return module
	}
	names := f.Section(".shstrtab")
	if names == nil || names.Type != elf.SHT_STRTAB || names.Offset+names.Size > uint64(len(module)) {
		return module
	}
	at := bytes.Index(module[names.Offset:names.Offset+names.Size], []byte("\x00.BTF\x00"))
	if at < 0 {
		return module
	}
	module = bytes.Clone(module)
	module[int(names.Offset)+at+1] = '_'
	return module
}
