package trace

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// A format is the content of a tracepoint's format file in tracefs (Documentation/trace/events.rst).
type format struct {
	id      uint16 // common_type of its records
	fields  map[string]field
	symbols map[string]map[uint64]string // the names of a field's values, if print fmt has them
}

// A field is a part of a record. Numbers are in the byte order of the machine.
type field struct{ offset, size int }

// in returns the field's bytes in a record.
func (f field) in(record []byte) ([]byte, error) {
	if f.offset > len(record) || f.size > len(record)-f.offset {
		return nil, fmt.Errorf("a record of %d bytes has no %d at %d", len(record), f.size, f.offset)
	}
	return record[f.offset : f.offset+f.size], nil
}

// number returns the field as an unsigned number.
func (f field) number(record []byte) (uint64, error) {
	b, err := f.in(record)
	if err != nil {
		return 0, err
	}
	switch ne := binary.NativeEndian; len(b) {
	case 1:
		return uint64(b[0]), nil
	case 2:
		return uint64(ne.Uint16(b)), nil
	case 4:
		return uint64(ne.Uint32(b)), nil
	case 8:
		return ne.Uint64(b), nil
	}
	return 0, fmt.Errorf("a number of %d bytes", len(b))
}

// fieldLine is a field with its declaration in C. Kernels may add to the end of the line.
var fieldLine = regexp.MustCompile(`^\tfield:([^;]*);\s*offset:(\d+);\s*size:(\d+);`)

// fieldName is the last word of a declaration in C, before the length of an array.
var fieldName = regexp.MustCompile(`(\w+)\s*(?:\[[^]]*\])?$`)

// parseFormat reads a format file.
func parseFormat(text []byte) (format, error) {
	f := format{fields: map[string]field{}}
	known := false // the ID
	for line := range bytes.Lines(text) {
		line := strings.TrimRight(string(line), "\n")
		if id, ok := strings.CutPrefix(line, "ID: "); ok {
			n, err := strconv.ParseUint(id, 10, 16)
			if err != nil {
				return format{}, fmt.Errorf("ID %q: %w", id, err)
			}
			f.id, known = uint16(n), true
		}
		if printed, ok := strings.CutPrefix(line, "print fmt: "); ok {
			f.symbols = parseSymbols(printed)
		}
		m := fieldLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		name := fieldName.FindStringSubmatch(m[1])
		offset, err := strconv.ParseUint(m[2], 10, 16)
		size, err2 := strconv.ParseUint(m[3], 10, 16) // as much as a raw record of perf can have
		if name == nil || errors.Join(err, err2) != nil {
			return format{}, fmt.Errorf("no field: %q", line)
		}
		f.fields[name[1]] = field{int(offset), int(size)}
	}
	if !known {
		return format{}, errors.New("it has no ID")
	}
	return f, nil
}

// symbolic is what comes before the names of a field in print fmt.
const symbolic = "__print_symbolic(REC->"

// parseSymbols finds __print_symbolic(REC->FIELD, { NUMBER, "NAME" }, …) in print fmt. Some numbers are the name of a C
// constant that the kernel did not resolve (TRACE_DEFINE_ENUM): their entries are left out, and so is a field that has no
// other entry.
func parseSymbols(printed string) map[string]map[uint64]string {
	all := map[string]map[uint64]string{}
	for {
		_, rest, ok := strings.Cut(printed, symbolic)
		if !ok {
			return all
		}
		printed = rest
		name, rest, ok := strings.Cut(rest, ",")
		if !ok || strings.ContainsAny(name, "(){}\"") {
			continue
		}
		for {
			var number, text string
			if number, text, rest, ok = parseSymbol(rest); !ok {
				break
			}
			n, err := strconv.ParseInt(number, 0, 64)
			if err != nil {
				continue
			}
			if all[name] == nil {
				all[name] = map[uint64]string{}
			}
			all[name][uint64(n)] = text
		}
	}
}

// parseSymbol reads { NUMBER, "NAME" } and the comma after it, if any.
func parseSymbol(s string) (number, name, rest string, ok bool) {
	s, ok = strings.CutPrefix(strings.TrimLeft(s, " "), "{")
	if !ok {
		return "", "", "", false
	}
	number, s, ok = strings.Cut(s, ",")
	if !ok {
		return "", "", "", false
	}
	s = strings.TrimLeft(s, " ")
	quoted, err := strconv.QuotedPrefix(s)
	if err != nil || quoted[0] != '"' {
		return "", "", "", false
	}
	if name, err = strconv.Unquote(quoted); err != nil {
		return "", "", "", false
	}
	s, ok = strings.CutPrefix(strings.TrimLeft(s[len(quoted):], " "), "}")
	return strings.TrimSpace(number), name, strings.TrimPrefix(s, ","), ok
}
