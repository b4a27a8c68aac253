package vm

import (
	"bytes"
	"encoding/binary"
)

// The marks around a .config that CONFIG_IKCONFIG has put into a kernel, compressed by gzip (kernel/configs.c).
var ikconfigStart, ikconfigEnd = []byte("IKCFG_ST\x1f\x8b"), []byte("IKCFG_ED")

// ikconfig returns the .config that is in an image; nil where there is none, or where it cannot be got at: Go has no library
// here for kernels that are compressed by lz4, lzo or lzma.
func ikconfig(b []byte) []byte {
	const most = 512 << 20 // bytes of a vmlinux
	if has(b, 0x202, "HdrS") {
		b = payload(b)
	}
	b, err := unpacked(b, most)
	if err != nil && len(b) == 0 { // what follows a kernel in its payload is no error: there is its length
		return nil
	}
	start := bytes.Index(b, ikconfigStart)
	if start < 0 {
		return nil
	}
	b = b[start+len("IKCFG_ST"):]
	end := bytes.Index(b, ikconfigEnd)
	if end < 0 {
		return nil
	}
	const mostConfig = 4 << 20
	config, err := unpacked(b[:end], mostConfig)
	if err != nil || !bytes.Contains(config, []byte("CONFIG_")) {
		return nil
	}
	return config
}

// payload is the compressed kernel in a bzImage whose header was checked, from protocol 2.08 on; nil where it is not there.
func payload(b []byte) []byte {
	const setupSects, version, offset, length, sector, protocol208 = 0x1f1, 0x206, 0x248, 0x24c, 512, 0x208
	le := binary.LittleEndian
	if len(b) < length+4 || le.Uint16(b[version:]) < protocol208 {
		return nil
	}
	sects := uint64(b[setupSects])
	if sects == 0 {
		sects = 4
	}
	from := (sects+1)*sector + uint64(le.Uint32(b[offset:]))
	to := from + uint64(le.Uint32(b[length:]))
	if to > uint64(len(b)) {
		return nil
	}
	return b[from:to]
}
