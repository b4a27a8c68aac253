package vm

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
)

// Unpacked is the path of what boots fastest of a kernel's image: the ELF file that is in a bzImage, where QEMU can enter it as it
// is, and else the image. An emulated processor takes a third of a boot to unpack it. Here it is done once, and stays in the cache
// beside the initramfs; an empty file says that there is none to enter.
func (k *Kernel) Unpacked(c *Cache) (string, error) {
	if k.Arch != "amd64" {
		return k.Image, nil
	}
	name := filepath.Join(initramfsDir, k.SHA256[:32]+".vmlinux")
	if f, err := os.Open(c.path(name)); err == nil {
		defer func() { _ = f.Close() }()
		info, err := f.Stat()
		if err == nil && info.Size() == 0 {
			return k.Image, nil
		}
		if err == nil && entersUnpacked(f, info.Size()) { // not one that was cut off
			c.use(name)
			return f.Name(), nil
		}
	}
	b, err := os.ReadFile(k.Image)
	if err != nil {
		return "", failed(err, "", "read the kernel %s", k.Name)
	}
	vmlinux := vmlinuxOf(b)
	if err := c.put(name, vmlinux); err != nil {
		return "", err
	}
	if len(vmlinux) == 0 {
		return k.Image, nil
	}
	return c.path(name), nil
}

// vmlinuxOf is the ELF file in a bzImage; nil where there is none that unpacks fast and that QEMU can enter.
func vmlinuxOf(image []byte) []byte {
	packed := payload(image)
	const sizeLen = 4 // scripts/Makefile.lib, size_append: the unpacked size follows
	if len(packed) < sizeLen || has(packed, 0, "\xfd7zXZ\x00") {
		return nil
	}
	size := binary.LittleEndian.Uint32(packed[len(packed)-sizeLen:])
	const most = 512 << 20
	vmlinux, err := unpacked(packed[:len(packed)-sizeLen], most)
	if err != nil || uint64(len(vmlinux)) != uint64(size) || !entersUnpacked(bytes.NewReader(vmlinux), int64(size)) {
		return nil
	}
	return vmlinux
}

// The note by which an ELF kernel tells where it is entered without a boot loader of its own (CONFIG_PVH,
// include/xen/interface/elfnote.h: XEN_ELFNOTE_PHYS32_ENTRY).
const (
	pvhOwner = "Xen\x00"
	pvhEntry = 18
)

// entersUnpacked tells whether a file is a whole vmlinux for x86 that QEMU can start as it is.
func entersUnpacked(r io.ReaderAt, size int64) bool {
	f, err := elf.NewFile(r)
	if err != nil || f.Class != elf.ELFCLASS64 || f.Machine != elf.EM_X86_64 {
		return false
	}
	const mostNotes = 1 << 20
	found := false
	for _, p := range f.Progs {
		if p.Off > uint64(size) || p.Filesz > uint64(size)-p.Off {
			return false
		}
		if p.Type == elf.PT_NOTE && p.Filesz <= mostNotes {
			notes, err := io.ReadAll(p.Open())
			found = found || err == nil && hasNote(notes, pvhOwner, pvhEntry)
		}
	}
	return found
}

// hasNote looks for a note of an owner (elf(5), "Notes").
func hasNote(notes []byte, owner string, kind uint32) bool {
	const head, align = 12, 4
	for le := binary.LittleEndian; len(notes) >= head; {
		name, desc := uint64(le.Uint32(notes)), uint64(le.Uint32(notes[4:]))
		size := head + (name+align-1)/align*align + (desc+align-1)/align*align
		if size > uint64(len(notes)) {
			return false
		}
		if le.Uint32(notes[8:]) == kind && string(notes[head:head+name]) == owner {
			return true
		}
		notes = notes[size:]
	}
	return false
}
