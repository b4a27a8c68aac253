package result

import (
	"strconv"
	"strings"
	"unicode"
)

// Printable escapes, as Go would, every character that does not show: what is told reaches terminals and XML parsers, and
// a reason or a path may hold what somebody else wrote. Escape sequences and characters that XML 1.0 forbids are among
// them.
func Printable(s string) string {
	if printableASCII(s) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		q := strconv.QuoteRune(r)
		b.WriteString(q[1 : len(q)-1])
	}
	return b.String()
}

// printableASCII tells whether a text is of nothing but that, as most are.
func printableASCII[T string | []byte](s T) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
