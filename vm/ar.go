package vm

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// member is a file of an ar archive.
type member struct {
	name string
	data *io.SectionReader
}

// debMembers are how many files of an ar archive are read: a package has three (deb(5)).
const debMembers = 16

const arMagic = "!<arch>\n"

// readAr reads the list of files of an archive (ar(5)).
func readAr(r io.ReaderAt, size int64) ([]member, error) {
	const (
		headerLen       = 60
		nameEnd         = 16
		sizeAt, sizeEnd = 48, 58
		headerMagic     = "`\n"
	)
	magic := make([]byte, len(arMagic))
	if _, err := r.ReadAt(magic, 0); err != nil || string(magic) != arMagic {
		return nil, errors.New("no ar archive")
	}
	var members []member
	for at := int64(len(arMagic)); at < size; {
		var h [headerLen]byte
		if _, err := r.ReadAt(h[:], at); err != nil {
			return nil, errors.New("it ends within the header of a file")
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(h[sizeAt:sizeEnd])), 10, 64)
		if err != nil || n < 0 || string(h[sizeEnd:]) != headerMagic {
			return nil, fmt.Errorf("no header of a file at byte %d", at)
		}
		at += headerLen
		if n > size-at {
			return nil, fmt.Errorf("it ends early: a file of %d bytes begins at byte %d of %d", n, at, size)
		}
		if len(members) == debMembers {
			return nil, fmt.Errorf("more than %d files", debMembers)
		}
		name := strings.TrimSuffix(strings.TrimSpace(string(h[:nameEnd])), "/")
		members = append(members, member{name, io.NewSectionReader(r, at, n)})
		at += n + n%2
	}
	return members, nil
}
