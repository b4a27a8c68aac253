package result

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// JSON is a value as JSON, as all is that rpmig writes and prints: in one line, or indented, with a newline behind it. "<" and ">"
// stand in reasons, and people read them. What may drive a terminal is escaped, also where RFC 8259 leaves it: DEL, and the control characters
// of ISO 6429 that are not ASCII, C1.
func JSON(v any, indent string) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return escapeControls(b.Bytes()), nil
}

// escapeControls escapes what package json does not. It is nowhere but in strings, and both bytes begin a character.
func escapeControls(text []byte) []byte {
	const del, lead = 0x7f, 0xc2 // of U+0080 to U+00BF
	if bytes.IndexByte(text, del) < 0 && bytes.IndexByte(text, lead) < 0 {
		return text
	}
	out := make([]byte, 0, len(text)+len(text)/16)
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == del:
			out = append(out, `\u007f`...)
		case text[i] == lead && text[i+1] < 0xa0:
			i++
			out = fmt.Appendf(out, `\u%04x`, text[i])
		default:
			out = append(out, text[i])
		}
	}
	return out
}
