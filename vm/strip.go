package vm

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"slices"
	"strings"
)

// stripDebug leaves out of a module what debuggers read, as strip --strip-debug and INSTALL_MOD_STRIP=1 do: in a build tree a
// module may be ten times as large as what is loaded of it. One without, which may be signed, stays as it is; so does one that is
// not as the kernel's build makes it, for the kernel to judge.
//
// The sections keep their numbers, which others refer to them by, and become empty: the module loader passes over
// such (kernel/module/main.c, elf_validity_check; before 5.19 kernel/module.c).
func stripDebug(b []byte) []byte {
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil || f.Class != elf.ELFCLASS64 || f.Data != elf.ELFDATA2LSB || f.Type != elf.ET_REL {
		return b
	}
	le := binary.LittleEndian
	var header elf.Header64
	if _, err := binary.Decode(b, le, &header); err != nil {
		return b
	}
	sections := make([]elf.Section64, len(f.Sections))
	if header.Shoff > uint64(len(b)) || int(header.Ehsize) != binary.Size(header) || int(header.Shentsize) != binary.Size(elf.Section64{}) {
		return b
	}
	if _, err := binary.Decode(b[header.Shoff:], le, sections); err != nil {
		return b
	}
	var order []int // by where they are in the file
	var total uint64
	stripped := false
	for i := range sections {
		s := &sections[i]
		if isDebug(f.Sections[i].Name) && s.Flags&uint64(elf.SHF_ALLOC) == 0 {
			s.Type, s.Size, stripped = uint32(elf.SHT_NOBITS), 0, true
		}
		if s.Type == uint32(elf.SHT_NULL) || s.Type == uint32(elf.SHT_NOBITS) {
			continue
		}
		if s.Off > uint64(len(b)) || s.Size > uint64(len(b))-s.Off || s.Addralign > 1<<16 {
			return b
		}
		order = append(order, i)
		total += s.Size
	}
	if !stripped || total > uint64(len(b)) {
		return b
	}
	slices.SortStableFunc(order, func(x, y int) int { return int(sections[x].Off) - int(sections[y].Off) })
	out := slices.Clone(b[:header.Ehsize])
	align := func(to uint64) {
		for to > 1 && uint64(len(out))%to != 0 {
			out = append(out, 0)
		}
	}
	for _, i := range order {
		s := &sections[i]
		align(s.Addralign)
		data := b[s.Off : s.Off+s.Size]
		s.Off = uint64(len(out))
		out = append(out, data...)
	}
	const tableAlign = 8
	align(tableAlign)
	header.Shoff = uint64(len(out))
	header.Phoff, header.Phnum = 0, 0
	var table bytes.Buffer
	_ = binary.Write(&table, le, sections) // into memory, of a fixed size
	out = append(out, table.Bytes()...)
	if _, err := binary.Encode(out, le, &header); err != nil {
		return b
	}
	return out
}

func isDebug(section string) bool {
	for _, lead := range []string{".debug_", ".rela.debug_", ".rel.debug_", ".zdebug_"} {
		if strings.HasPrefix(section, lead) {
			return true
		}
	}
	return false
}
