package vm

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
)

// vmlinuxFile is an ELF file with one note, of an owner and a kind.
func vmlinuxFile(t testing.TB, owner string, kind uint32) []byte {
	t.Helper()
	b := elfFile(t, elf.ET_EXEC, elf.EM_X86_64, elf.PT_NOTE, "")
	note := binary.LittleEndian.AppendUint32(nil, uint32(len(owner)))
	note = binary.LittleEndian.AppendUint32(note, 4)
	note = binary.LittleEndian.AppendUint32(note, kind)
	note = append(append(note, owner...), 0, 0, 0, 1)
	const progs, offset, filesz = 64, 8, 32
	binary.LittleEndian.PutUint64(b[progs+offset:], uint64(len(b)))
	binary.LittleEndian.PutUint64(b[progs+filesz:], uint64(len(note)))
	return append(b, note...)
}

// TestUnpacked: QEMU is given the ELF file of an image where it can enter that, and the image in all other cases.
func TestUnpacked(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	c, err := OpenCache()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	good := vmlinuxFile(t, pvhOwner, pvhEntry)
	sized := func(packed []byte, size int) []byte {
		return bzImage("6", binary.LittleEndian.AppendUint32(packed, uint32(size)))
	}
	for name, tt := range map[string]struct {
		arch  string
		image []byte
		want  bool
	}{
		"zstd":          {"amd64", sized(packed(t, ".zst", good), len(good)), true},
		"gzip":          {"amd64", sized(packed(t, ".gz", good), len(good)), true},
		"xz":            {"amd64", sized(packed(t, ".xz", good), len(good)), false}, // it would take seconds
		"lz4":           {"amd64", sized([]byte("\x02\x21\x4c\x18and more"), 100), false},
		"another size":  {"amd64", sized(packed(t, ".zst", good), len(good)+1), false},
		"another owner": {"amd64", sized(packed(t, ".zst", vmlinuxFile(t, "GNU\x00", pvhEntry)), len(good)), false},
		"another note":  {"amd64", sized(packed(t, ".zst", vmlinuxFile(t, pvhOwner, 1)), len(good)), false},
		"cut off":       {"amd64", sized(packed(t, ".zst", good[:len(good)-1]), len(good)-1), false},
		"no payload":    {"amd64", bzImage("6", nil), false},
		"arm64":         {"arm64", arm64Image("6"), false},
	} {
		t.Run(name, func(t *testing.T) {
			sum := sha256.Sum256(tt.image)
			k := &Kernel{Arch: tt.arch, Image: filepath.Join(t.TempDir(), "image"), SHA256: hex.EncodeToString(sum[:])}
			if err := os.WriteFile(k.Image, tt.image, 0o644); err != nil {
				t.Fatal(err)
			}
			for _, turn := range []string{"made", "found", "damaged"} {
				path, err := k.Unpacked(c)
				if err != nil {
					t.Fatal(err)
				}
				if path == k.Image {
					if tt.want {
						t.Errorf("%s: it is the image", turn)
					}
					continue
				}
				if b, err := os.ReadFile(path); err != nil || !tt.want || !bytes.Equal(b, good) {
					t.Errorf("%s: %d bytes in %s, %v; wanted: %v", turn, len(b), path, err, tt.want)
				}
				if turn == "found" {
					if err := os.Truncate(path, int64(len(good))-1); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	}
}
