package vm

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"debug/pe"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
)

// image is what the bytes of a kernel's image say of it.
type image struct {
	arch    string // as GOARCH names it
	release string // as uname -r will; empty where the image does not tell
}

// notImage is why bytes are no image that can be booted, and what may be.
type notImage struct{ why, next string }

func (e *notImage) Error() string { return e.why }

// buildImage is the hint for who named something else of a build.
const buildImage = "in a build tree the image is arch/x86/boot/bzImage or arch/arm64/boot/Image"

// parseImage reads the headers of an image, and checks that what they tell of is there.
func parseImage(b []byte) (image, error) {
	switch {
	case len(b) == 0:
		return image{}, &notImage{"it is empty", buildImage}
	case has(b, 0x202, "HdrS"):
		return parseBzImage(b)
	case has(b, 0x38, "ARM\x64"):
		return parseArm64(b)
	case has(b, 0, "\x1f\x8b"):
		return parseGzip(b)
	case has(b, 0, elf.ELFMAG):
		return image{}, &notImage{"it is an ELF file, as vmlinux is: QEMU boots the compressed image", buildImage}
	case has(b, 0, "MZ") && has(b, 4, "zimg"):
		return image{}, &notImage{"it unpacks itself by EFI (CONFIG_EFI_ZBOOT), which needs a firmware", "give rpmig arch/arm64/boot/Image"}
	}
	for _, other := range []struct {
		at          int
		magic, arch string
	}{{0x38, "RSC\x05", "riscv64"}, {0x24, "\x18\x28\x6f\x01", "arm"}, {8, "\x00\x00\x01\x00\x00\x00S390EP", "s390x"}} {
		if has(b, other.at, other.magic) {
			return image{arch: other.arch}, nil
		}
	}
	return image{}, &notImage{"it has neither the header of an x86 bzImage nor that of an arm64 Image", buildImage}
}

func has(b []byte, at int, magic string) bool {
	return len(b) >= at+len(magic) && string(b[at:at+len(magic)]) == magic
}

// parseBzImage reads the setup header (Documentation/arch/x86/boot.rst).
func parseBzImage(b []byte) (image, error) {
	const (
		setupSects, syssize, version, kernelVersion, xloadflags = 0x1f1, 0x1f4, 0x206, 0x20e, 0x236
		headerEnd                                               = 0x250
		sector                                                  = 512
		protocol212                                             = 0x20c // Linux 3.8: xloadflags
		kernel64                                                = 1     // XLF_KERNEL_64
	)
	if len(b) < headerEnd {
		return image{}, truncated(headerEnd, len(b))
	}
	le := binary.LittleEndian
	sects := int64(b[setupSects])
	if sects == 0 {
		sects = 4 // boot.rst: "For backwards compatibility"
	}
	want := (sects+1)*sector + int64(le.Uint32(b[syssize:]))*16
	if int64(len(b)) < want {
		return image{}, truncated(want, len(b))
	}
	i := image{arch: "amd64"}
	if le.Uint16(b[version:]) < protocol212 || le.Uint16(b[xloadflags:])&kernel64 == 0 {
		i.arch = "386"
	}
	if at := int(le.Uint16(b[kernelVersion:])); at != 0 {
		i.release = firstWord(b[min(at+sector, len(b)):])
	}
	return i, nil
}

func truncated(want int64, have int) error {
	return &notImage{fmt.Sprintf("it ends early: its header tells of %d bytes, and it has %d", want, have), "copy or build it again"}
}

// firstWord is what stands before the first space or zero byte of a text; empty where that is no release of a kernel
// (__NEW_UTS_LEN).
func firstWord(b []byte) string {
	const longest = 64
	b = b[:min(longest+1, len(b))]
	end := bytes.IndexAny(b, " \x00")
	if end < 0 {
		return ""
	}
	word := string(b[:end])
	if strings.IndexFunc(word, func(r rune) bool { return r <= ' ' || r > '~' || r == '/' }) >= 0 || word == "." || word == ".." {
		return ""
	}
	return word
}

// parseArm64 reads an Image (Documentation/arch/arm64/booting.rst). Its header tells the size in memory alone; one that EFI can
// start too is a PE file whose sections are in the file.
func parseArm64(b []byte) (image, error) {
	if f, err := pe.NewFile(bytes.NewReader(b)); err == nil {
		for _, s := range f.Sections {
			if end := int64(s.Offset) + int64(s.Size); end > int64(len(b)) {
				return image{}, truncated(end, len(b))
			}
		}
	}
	i := image{arch: "arm64"}
	banner := []byte("Linux version ") // linux_banner, init/version.c
	for rest := b; i.release == ""; {
		at := bytes.Index(rest, banner)
		if at < 0 {
			break
		}
		rest = rest[at+len(banner):]
		if w := firstWord(rest); w != "" && w[0] >= '0' && w[0] <= '9' {
			i.release = w
		}
	}
	return i, nil
}

// parseGzip reads an Image that was compressed by gzip, which QEMU unpacks for arm64 alone (load_image_gzipped).
func parseGzip(b []byte) (image, error) {
	const most = 256 << 20 // bytes of an Image; QEMU takes no more (LOAD_IMAGE_MAX_GUNZIP_BYTES)
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return image{}, &notImage{"gzip: " + err.Error(), buildImage}
	}
	raw, err := io.ReadAll(io.LimitReader(z, most))
	switch {
	case err != nil:
		return image{}, &notImage{"it does not unpack: " + err.Error(), "copy or build it again"}
	case !has(raw, 0x38, "ARM\x64"):
		return image{}, &notImage{"it is compressed by gzip, and what is in it is no arm64 Image", buildImage}
	}
	return parseArm64(raw)
}
