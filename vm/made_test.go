package vm

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// What tests take for kernels, modules and packages, made up.

// bzImage has a header that tells of setup, kernel and release, and as many bytes as it tells of.
func bzImage(release string, payload []byte) []byte {
	const sects, sector = 1, 512
	const kernelVersion = 0x100 // behind the first sector
	body := (len(payload) + 15) / 16 * 16
	b := make([]byte, (sects+1)*sector+body)
	le := binary.LittleEndian
	b[0x1f1] = sects
	le.PutUint32(b[0x1f4:], uint32(body/16))
	copy(b[0x202:], "HdrS")
	le.PutUint16(b[0x206:], 0x20f)
	le.PutUint16(b[0x20e:], kernelVersion)
	le.PutUint16(b[0x236:], 1)
	le.PutUint32(b[0x24c:], uint32(len(payload)))
	copy(b[sector+kernelVersion:], release+" (who@where) #1 SMP")
	copy(b[(sects+1)*sector:], payload)
	return b
}

// arm64Image is a PE file of one section too, as those that EFI can start.
func arm64Image(release string) []byte {
	const pe, header, section, size = 0x40, 20, 40, 256
	b := make([]byte, size)
	copy(b, "MZ")
	copy(b[0x38:], "ARM\x64")
	le := binary.LittleEndian
	le.PutUint32(b[0x3c:], pe)
	copy(b[pe:], "PE\x00\x00")
	le.PutUint16(b[pe+4:], 0xaa64)
	le.PutUint16(b[pe+6:], 1)
	s := b[pe+4+header:]
	copy(s, ".text")
	le.PutUint32(s[16:], size-(pe+4+header+section))
	le.PutUint32(s[20:], pe+4+header+section)
	copy(s[section:], "Linux version %s \x00Linux version "+release+" (who@where)")
	return b
}

// koFile is a module: an ELF file with a section .modinfo.
func koFile(t testing.TB, modinfo string) []byte {
	t.Helper()
	return elfFile(t, elf.ET_REL, elf.EM_X86_64, 0, modinfo)
}

// elfFile has a program header of a type, unless that is 0, and a section .modinfo, unless that is empty.
func elfFile(t testing.TB, kind elf.Type, machine elf.Machine, prog elf.ProgType, modinfo string) []byte {
	t.Helper()
	const headerLen, progLen, sectionLen = 64, 56, 64
	names := "\x00.modinfo\x00.shstrtab\x00"
	h := elf.Header64{
		Type: uint16(kind), Machine: uint16(machine), Version: 1, Ehsize: headerLen, Phentsize: progLen, Shentsize: sectionLen,
		Shnum: 3, Shstrndx: 2,
	}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	at := uint64(headerLen)
	var progs []elf.Prog64
	if prog != 0 {
		h.Phoff, h.Phnum = at, 1
		progs = []elf.Prog64{{Type: uint32(prog)}}
		at += progLen
	}
	h.Shoff = at
	at += 3 * sectionLen
	sections := []elf.Section64{{},
		{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: at, Size: uint64(len(modinfo))},
		{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: at + uint64(len(modinfo)), Size: uint64(len(names))},
	}
	if modinfo == "" {
		sections[1].Name = 0
	}
	var b bytes.Buffer
	for _, part := range []any{h, progs, sections, []byte(modinfo + names)} {
		if err := binary.Write(&b, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// packed compresses as the end of a name says.
func packed(t testing.TB, end string, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch end {
	case ".gz":
		w = gzip.NewWriter(&out)
	case ".xz":
		w, err = xz.NewWriter(&out)
	case ".zst":
		w, err = zstd.NewWriter(&out)
	default:
		return b
	}
	if err == nil {
		_, err = w.Write(b)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func tarOf(t testing.TB, headers []tar.Header, data []string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := range headers {
		h := headers[i]
		h.Mode = 0o644
		if h.Size == 0 {
			h.Size = int64(len(data[i]))
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, data[i]); err != nil {
			t.Fatal(err)
		}
	}
	_ = w.Flush() // one that ends early, too
	return append(b.Bytes(), make([]byte, 1024)...)
}

func filesTar(t testing.TB, files [][2]string) []byte {
	t.Helper()
	var headers []tar.Header
	var data []string
	for _, f := range files {
		headers, data = append(headers, tar.Header{Name: f[0], Typeflag: tar.TypeReg}), append(data, f[1])
	}
	return tarOf(t, headers, data)
}

func arOf(members ...[2]string) []byte {
	b := bytes.NewBufferString(arMagic)
	for _, m := range members {
		fmt.Fprintf(b, "%-16s%-12d%-6d%-6d%-8s%-10d`\n%s", m[0], 0, 0, 0, "100644", len(m[1]), m[1])
		if len(m[1])%2 != 0 {
			b.WriteByte('\n')
		}
	}
	return b.Bytes()
}

// debOf is a package, compressed as an end of a name says.
func debOf(t testing.TB, name, end string, data []byte) []byte {
	t.Helper()
	control := filesTar(t, [][2]string{{"./control", "Package: " + name + "\nVersion: 1.2-3\nArchitecture: amd64\nDescription: made up\n"}})
	return arOf([2]string{"debian-binary", "2.0\n"},
		[2]string{"control.tar" + end, string(packed(t, end, control))}, [2]string{"data.tar" + end, string(packed(t, end, data))})
}

// lay writes files below a folder, and returns it.
func lay(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
