package bundle

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/rpmig/rpmig/result"
)

// Identity is what tells a machine and its user from others.
type Identity struct {
	Hosts, Users []string
	Homes        []string // folders
}

// The placeholders. Those of addresses are for documentation (RFC 5737, 3849 and 7042), since a ledger in which an
// address is a word could not be read any more.
const (
	hostMark = "[host]"
	userMark = "[user]"
	homeMark = "[home]"
)

var (
	addr4Mark  = netip.MustParseAddr("192.0.2.1")
	addr6Mark  = netip.MustParseAddr("2001:db8::1")
	mappedMark = netip.MustParseAddr("::ffff:192.0.2.1")
)

const macMark = "00:00:5e:00:53:00"

// everyday names are those that machines and users have everywhere. They identify nothing, and rpmig's own sentences and
// its names of sockets hold some of them.
var everyday = []string{
	"localhost", "root", "nobody", "user", "client", "server", "listener", "host", "linux", "kernel", "rpmig", "request", "child",
}

// redactor takes an identity out of texts. The nil one leaves them as they are.
type redactor struct {
	names *regexp.Regexp    // group 1 a home; or else a name
	marks map[string]string // of names, in lower case
	keep  *regexp.Regexp    // what stays, whatever it looks like; nil: nothing
	// memory is what became of short texts.
	memory map[string]string
}

// newRedactor keeps the texts given, as a kernel's release, which a report is worth nothing without.
func newRedactor(id Identity, keep ...string) *redactor {
	r := &redactor{marks: map[string]string{}, memory: map[string]string{}}
	var hosts, users []string
	for _, h := range id.Hosts {
		short, _, _ := strings.Cut(h, ".")
		hosts = append(hosts, h, short)
	}
	users = append(users, id.Users...)
	homes := []string{`/home/[^/\s"'<>:,;)\]]+`, `/root`} // those of others, too
	for _, h := range id.Homes {
		if h = strings.TrimRight(h, "/"); strings.Count(h, "/") > 0 {
			homes = append(homes, regexp.QuoteMeta(h))
		}
	}
	var names []string
	add := func(all []string, mark string) {
		for _, n := range all {
			// A name of one letter would take every "a" with it, and no listener A would be left.
			if len(n) > 1 && !slices.Contains(everyday, strings.ToLower(n)) && r.marks[strings.ToLower(n)] == "" {
				r.marks[strings.ToLower(n)] = mark
				names = append(names, n)
			}
		}
	}
	add(hosts, hostMark)
	add(users, userMark)
	longest := func(all []string) {
		slices.SortFunc(all, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	}
	longest(names)
	longest(homes)
	for i, n := range names {
		names[i] = regexp.QuoteMeta(n)
	}
	pattern := `(` + strings.Join(homes, "|") + `)`
	if len(names) > 0 {
		pattern += `|(?i:` + strings.Join(names, "|") + `)`
	}
	r.names = regexp.MustCompile(pattern)
	keep = slices.DeleteFunc(slices.Clone(keep), func(s string) bool { return s == "" })
	longest(keep)
	for i, k := range keep {
		keep[i] = regexp.QuoteMeta(k)
	}
	if len(keep) > 0 {
		r.keep = regexp.MustCompile(strings.Join(keep, "|"))
	}
	return r
}

// kernelAddress is one of the upper half, as in a verifier's log: it tells where this boot has put things.
var kernelAddress = regexp.MustCompile(`0xffff[0-9a-f]{12}\b`)

const kernelAddressMark = "0x[kernel]"

// text redacts a text.
func (r *redactor) text(s string) string {
	if r == nil {
		return s
	}
	s = kernelAddress.ReplaceAllString(s, kernelAddressMark)
	if r.keep == nil {
		return addresses(r.name(s))
	}
	var b strings.Builder
	at := 0
	for _, k := range whole(s, r.keep.FindAllStringIndex(s, -1)) {
		b.WriteString(addresses(r.name(s[at:k[0]])))
		b.WriteString(s[k[0]:k[1]])
		at = k[1]
	}
	b.WriteString(addresses(r.name(s[at:])))
	return b.String()
}

// name replaces names and homes that stand alone: "web" is not in "webs", but it is in "web-1" and in "web.lan".
func (r *redactor) name(s string) string {
	var b strings.Builder
	at := 0
	for at < len(s) {
		m := r.names.FindStringSubmatchIndex(s[at:])
		if m == nil {
			break
		}
		from, to := at+m[0], at+m[1]
		home := m[2] >= 0
		b.WriteString(s[at:from])
		switch {
		case !alone(s, from, to), home && from > 0 && strings.HasPrefix(s[from:], "/root") && pathByte(s[from-1]):
			// One character on: another name may begin inside what only looked like one.
			b.WriteByte(s[from])
			at = from + 1
			continue
		case home:
			b.WriteString(homeMark)
			to = endOfPath(s, to)
		default:
			b.WriteString(r.marks[strings.ToLower(s[from:to])])
		}
		at = to
	}
	b.WriteString(s[at:])
	return b.String()
}

// endOfPath is where a path ends that has come as far as to. It is not for the pattern to find: a home that is none would be gone
// through to its end for each of its folders.
func endOfPath(s string, to int) int {
	if to == len(s) || s[to] != '/' {
		return to
	}
	if n := strings.IndexAny(s[to:], "\t\n\f\r \"'<>:,;)]"); n >= 0 {
		return to + n
	}
	return len(s)
}

// whole leaves out the places that are part of a word.
func whole(s string, places [][]int) [][]int {
	return slices.DeleteFunc(places, func(p []int) bool { return !alone(s, p[0], p[1]) })
}

// alone tells whether s[from:to] begins and ends where words do.
func alone(s string, from, to int) bool {
	return (from == 0 || !wordByte(s[from-1]) || !wordByte(s[from])) && (to == len(s) || !wordByte(s[to]) || !wordByte(s[to-1]))
}

// pathByte tells whether a slash behind it goes on with a path: /var/root is no home.
func pathByte(b byte) bool { return wordByte(b) || b == '/' || b == '.' || b == '-' }

// wordByte takes every byte of a character beyond ASCII for part of a word.
func wordByte(b byte) bool {
	return b == '_' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= 0x80
}

// addressLike is the longest text that may be an address, with a port or without, and more.
var addressLike = regexp.MustCompile(`[0-9A-Za-z_:.]+(%[0-9A-Za-z_.-]+)?`)

// addresses replaces those that can be reached from elsewhere.
func addresses(s string) string {
	return addressLike.ReplaceAllStringFunc(s, func(word string) string {
		if !strings.ContainsAny(word, ".:") {
			return word
		}
		core := strings.TrimRight(word, ".") // the end of a sentence
		return address(core) + word[len(core):]
	})
}

// longestAddress is more than any address has bytes, with its port and without its zone: the longest is a MAC of 20 bytes. What
// is longer is not tried, or a word of many colons would be tried as a whole at each of them.
const longestAddress = 128

// address replaces the addresses in a word. In addr:10.0.0.1 and 10.0.0.1:http they are a part of it.
func address(word string) string {
	var b strings.Builder
	colons := len(word) - len(strings.TrimRight(word, ":"))
	for {
		if marked, ok := wholeAddress(word, colons); ok {
			b.WriteString(marked)
			break
		}
		head, tail, ok := strings.Cut(word, ":")
		if a, err := netip.ParseAddr(head); ok && err == nil {
			head = mark(a)
		}
		b.WriteString(head)
		if !ok {
			break
		}
		b.WriteByte(':')
		word = tail
	}
	return b.String()
}

// wholeAddress replaces a word that is an address and nothing else but a port, or some of the colons that it ends with.
func wholeAddress(word string, colons int) (marked string, ok bool) {
	for _, text := range []string{word, word[:max(len(word)-colons, 0)]} {
		if len(text) > longestAddress && !strings.Contains(text[:longestAddress], "%") {
			continue
		}
		if a, err := netip.ParseAddr(text); err == nil {
			return mark(a) + word[len(text):], true
		}
		if a, err := netip.ParseAddrPort(text); err == nil {
			return mark(a.Addr()) + word[strings.LastIndexByte(text, ':'):], true
		}
		if mac, err := net.ParseMAC(text); err == nil {
			if bytes.Equal(mac, make([]byte, len(mac))) {
				return word, true // loopback's
			}
			return macMark + word[len(text):], true
		}
		// As tcpdump prints a port: 10.0.0.1.80.
		if i := strings.LastIndexByte(text, '.'); i > 0 && strings.Count(text, ".") == 4 {
			if a, err := netip.ParseAddr(text[:i]); err == nil {
				return mark(a) + word[i:], true
			}
		}
	}
	return "", false
}

// mark returns what stands for an address: itself where it says nothing of a machine.
func mark(a netip.Addr) string {
	switch u := a.Unmap(); {
	case u.IsLoopback(), u.IsUnspecified():
		return a.String()
	case a.Is4In6():
		return mappedMark.String()
	case a.Is4():
		return addr4Mark.String()
	default:
		return addr6Mark.String()
	}
}

// own are the fields of a ledger that hold rpmig's own words, or the kernel's: a host that is called "off" must not take
// the name of a mode with it, and a ledger without it would not be one.
var own = map[string]bool{
	"scenario": true, "family": true, "mode": true, "status": true, "control": true, "witness": true, "flavour": true,
	"owner": true, "kind": true, "state": true, "role": true, "old": true, "by": true, "file": true,
}

// redact returns a value without what identifies a machine or a user.
func redact[T any](r *redactor, v T) (T, error) {
	if r == nil {
		return v, nil
	}
	var clean T
	text, err := json.Marshal(v)
	if err != nil {
		return clean, err
	}
	return clean, json.Unmarshal(r.json(text), &clean)
}

// json redacts every text in a JSON value as package json writes it: without spaces. Numbers stay as they are written.
func (r *redactor) json(text []byte) []byte {
	w := rewriter{redactor: r, in: text, out: make([]byte, 0, len(text)+len(text)/16)}
	w.value(true)
	return w.out
}

// rewriter goes through a JSON value.
type rewriter struct {
	*redactor
	in, out []byte
	at      int // of in
}

// value goes through a value, and changes its texts if it is to.
func (w *rewriter) value(change bool) {
	switch w.in[w.at] {
	case '{', '[':
		object := w.in[w.at] == '{'
		for w.copy(); w.in[w.at] != '}' && w.in[w.at] != ']'; {
			of := change
			if object {
				key := w.text()
				w.out = append(w.out, w.in[w.at-len(key):w.at]...)
				of = change && !own[string(key[1:len(key)-1])]
				w.copy() // the colon
			}
			if w.value(of); w.in[w.at] == ',' {
				w.copy()
			}
		}
		w.copy()
	case '"':
		text := w.text()
		if change {
			text = w.clean(text)
		}
		w.out = append(w.out, text...)
	default:
		from := w.at
		for w.at < len(w.in) && w.in[w.at] != ',' && w.in[w.at] != ']' && w.in[w.at] != '}' {
			w.at++
		}
		w.out = append(w.out, w.in[from:w.at]...)
	}
}

// copy copies a byte.
func (w *rewriter) copy() {
	w.out = append(w.out, w.in[w.at])
	w.at++
}

// text returns the text that is next, in its quotes, and goes past it.
func (w *rewriter) text() []byte {
	from := w.at
	for w.at++; w.in[w.at] != '"'; w.at++ {
		if w.in[w.at] == '\\' {
			w.at++
		}
	}
	w.at++
	return w.in[from:w.at]
}

// clean redacts a text in its quotes.
func (w *rewriter) clean(quoted []byte) []byte {
	was := string(quoted[1 : len(quoted)-1])
	if bytes.IndexByte(quoted, '\\') >= 0 && json.Unmarshal(quoted, &was) != nil {
		return quoted
	}
	is := w.remembered(was)
	if is == was {
		return quoted
	}
	return asLedger(is)
}

// asLedger quotes a text as a ledger does, which package result writes: "<" stays as it is.
func asLedger(s string) []byte {
	text, _ := result.JSON(s, "") // a text has no error
	return bytes.TrimSuffix(text, []byte("\n"))
}

// What is remembered of short texts, of which a ledger has the same many times: how many of how many bytes.
const (
	mostRemembered = 1 << 15
	shortText      = 128
)

// remembered redacts a text.
func (r *redactor) remembered(s string) string {
	if len(s) > shortText {
		return r.text(s)
	}
	is, ok := r.memory[s]
	if !ok {
		if is = r.text(s); len(r.memory) >= mostRemembered {
			clear(r.memory)
		}
		r.memory[strings.Clone(s)] = is
	}
	return is
}

// capture redacts a pcapng. What came from outside is in one place there, the comment that repeats the cell's reason, so
// it is overwritten in its length, and no block has to move.
func (r *redactor) capture(data []byte, reason string) []byte {
	if r == nil || reason == "" {
		return data
	}
	clean := r.text(reason)
	if clean == reason {
		return data
	}
	clean = strings.ToValidUTF8((clean + strings.Repeat(" ", len(reason)))[:len(reason)], "")
	clean += strings.Repeat(" ", len(reason)-len(clean))
	return bytes.ReplaceAll(data, []byte(reason), []byte(clean))
}
