package load

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
)

// verdict is what a parser knows of a reply so far.
type verdict uint8

const (
	unfinished verdict = iota
	whole              // and right
	wrong              // see parser.why
)

// expected is which reply is right: how it begins, or, where http is true, with which status.
type expected struct {
	http   bool
	status int
	begin  []byte
}

// parser reads replies, as they come, in pieces of any size. Its zero value is at the beginning of one. It keeps no more of it
// than a line's beginning, and allocates nothing unless the reply is wrong.
type parser struct {
	state   state
	chunked bool
	sized   bool
	closes  bool  // the server will close the connection after this reply, or says so
	left    int64 // bytes of the body, or of the chunk, that are to come; of begin, those that came
	head    int   // bytes of the head
	status  int
	n       int // of line
	line    [lineBytes]byte
	why     string
}

const (
	lineBytes = 128 // of a line in the head; what else it says is of no interest
	headBytes = 256 << 10
)

type state uint8

const (
	statusLine state = iota
	headerLine
	sizedBody
	bodyToEnd
	chunkSize
	chunkData
	chunkEnd
	trailer
)

// feed reads some of what came. What it did not use belongs to the next reply.
func (p *parser) feed(want *expected, b []byte) (used int, v verdict) {
	if !want.http {
		return p.match(want, b)
	}
	for used < len(b) && v == unfinished {
		switch p.state {
		case bodyToEnd:
			return len(b), unfinished
		case sizedBody, chunkData:
			n := min(p.left, int64(len(b)-used))
			used += int(n)
			if p.left -= n; p.left > 0 {
				break
			}
			if p.state == sizedBody {
				v = whole
			}
			p.state = chunkEnd
		default:
			n := bytes.IndexByte(b[used:], '\n') + 1
			if n == 0 {
				p.keep(b[used:])
				used, v = len(b), p.tooLong()
				break
			}
			p.keep(b[used : used+n-1])
			used += n
			if v = p.tooLong(); v == unfinished {
				v = p.endLine(want)
			}
			p.n = 0
		}
	}
	return used, v
}

// match compares what came with how it has to begin.
func (p *parser) match(want *expected, b []byte) (used int, v verdict) {
	if len(want.begin) == 0 {
		return len(b), whole
	}
	used = min(len(b), len(want.begin)-int(p.left))
	p.keep(b)
	if !bytes.Equal(b[:used], want.begin[p.left:int(p.left)+used]) {
		return used, p.refuse("it begins %q", p.line[:p.n])
	}
	if p.left += int64(used); int(p.left) == len(want.begin) {
		return used, whole
	}
	return used, unfinished
}

// end tells whether the reply is whole when the server has closed the connection.
func (p *parser) end() bool { return p.state == bodyToEnd }

func (p *parser) keep(b []byte) {
	p.n += copy(p.line[p.n:], b)
	if p.state == statusLine || p.state == headerLine || p.state == trailer {
		p.head += len(b)
	}
}

func (p *parser) tooLong() verdict {
	if p.head > headBytes {
		return p.refuse("a head of more than %d bytes", headBytes)
	}
	return unfinished
}

func (p *parser) refuse(format string, args ...any) verdict {
	p.why = fmt.Sprintf(format, args...)
	return wrong
}

// endLine reads a line, without its end.
func (p *parser) endLine(want *expected) verdict {
	line := bytes.TrimSuffix(p.line[:p.n], []byte{'\r'})
	switch p.state {
	case statusLine:
		return p.readStatus(want, line)
	case headerLine:
		if len(line) > 0 {
			return p.readHeader(line)
		}
		return p.endHead()
	case chunkSize:
		return p.readChunkSize(line)
	case chunkEnd:
		if len(line) > 0 {
			return p.refuse("a chunk is followed by %q", line)
		}
		p.state = chunkSize
	case trailer:
		if len(line) == 0 {
			return whole
		}
	}
	return unfinished
}

// readStatus reads "HTTP/1.1 200 OK".
func (p *parser) readStatus(want *expected, line []byte) verdict {
	rest, is1 := bytes.CutPrefix(line, []byte("HTTP/1."))
	if !is1 || len(rest) < 5 || rest[1] != ' ' || len(rest) > 5 && rest[5] != ' ' {
		return p.refuse("it begins %q", line)
	}
	p.status = 0
	for _, c := range rest[2:5] {
		if c < '0' || c > '9' {
			return p.refuse("it begins %q", line)
		}
		p.status = 10*p.status + int(c-'0')
	}
	if p.status != want.status && (p.status < 100 || p.status > 199) {
		return p.refuse("%s", line)
	}
	p.closes = rest[0] == '0'
	p.state = headerLine
	return unfinished
}

func (p *parser) readHeader(line []byte) verdict {
	colon := bytes.IndexByte(line, ':')
	if colon < 0 {
		if p.n == lineBytes {
			return unfinished // a name that long is none of those below
		}
		return p.refuse("a header without a colon: %q", line)
	}
	name, value := line[:colon], bytes.TrimSpace(line[colon+1:])
	switch {
	case is(name, "content-length"):
		n, ok := number(value, 10)
		if !ok || p.sized && n != p.left {
			return p.refuse("%q", line)
		}
		p.sized, p.left = true, n
	case is(name, "transfer-encoding"):
		if last := value[bytes.LastIndexByte(value, ',')+1:]; is(bytes.TrimSpace(last), "chunked") {
			p.chunked = true
		}
	case is(name, "connection"):
		p.readConnection(value)
	}
	return unfinished
}

func (p *parser) readConnection(options []byte) {
	for more := true; more; {
		var option []byte
		option, options, more = bytes.Cut(options, []byte{','})
		switch option = bytes.TrimSpace(option); {
		case is(option, "close"):
			p.closes = true
		case is(option, "keep-alive"):
			p.closes = false
		}
	}
}

// endHead finds out how the body ends (RFC 9112, 6.3).
func (p *parser) endHead() verdict {
	switch {
	case p.status < 200:
		*p = parser{head: p.head} // an interim reply: the real one follows
	case p.status == 204 || p.status == 304 || !p.chunked && p.sized && p.left == 0:
		return whole
	case p.chunked:
		p.state = chunkSize
	case p.sized:
		p.state = sizedBody
	default:
		p.state, p.closes = bodyToEnd, true
	}
	return unfinished
}

func (p *parser) readChunkSize(line []byte) verdict {
	size := line
	if i := bytes.IndexByte(line, ';'); i >= 0 {
		size = line[:i]
	}
	n, ok := number(bytes.TrimSpace(size), 16)
	switch {
	case !ok:
		return p.refuse("a chunk of the size %q", line)
	case n == 0:
		p.state = trailer
	default:
		p.state, p.left = chunkData, n
	}
	return unfinished
}

// is compares without regard to case; name is in lower case, and made of letters and hyphens.
func is(b []byte, name string) bool {
	if len(b) != len(name) {
		return false
	}
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != name[i] {
			return false
		}
	}
	return true
}

// number reads digits, up to what fits 60 bits.
func number(b []byte, base int64) (n int64, ok bool) {
	for _, c := range b {
		d := int64(99)
		switch {
		case '0' <= c && c <= '9':
			d = int64(c - '0')
		case 'a' <= c && c <= 'f':
			d = int64(c-'a') + 10
		case 'A' <= c && c <= 'F':
			d = int64(c-'A') + 10
		}
		if d >= base || n >= 1<<56 {
			return 0, false
		}
		n = n*base + d
	}
	return n, len(b) > 0
}

// bytes is the request as it is sent; the last of a connection says so.
func (h *HTTP) bytes(last bool) []byte {
	b := []byte("GET " + h.Path + " HTTP/1.1\r\nHost: " + h.Host + "\r\n")
	for _, header := range h.Header {
		b = append(b, header+"\r\n"...)
	}
	if last {
		b = append(b, "Connection: close\r\n"...)
	}
	return append(b, "\r\n"...)
}

// check refuses what would not be one request.
func (h *HTTP) check() error {
	if h.Path[0] != '/' || strings.ContainsAny(h.Path, " \r\n") {
		return fmt.Errorf("%w: the path %q: it has to begin with / and to have no blank", ErrConfig, h.Path)
	}
	for _, line := range append([]string{"Host: " + h.Host}, h.Header...) {
		if strings.ContainsAny(line, "\r\n") || !strings.Contains(line, ":") {
			return fmt.Errorf("%w: the header %q: it has to be one line, Name: value", ErrConfig, line)
		}
		if is([]byte(strings.TrimSpace(line[:strings.IndexByte(line, ':')])), "connection") {
			return fmt.Errorf("%w: the header %q: Connection is set by the number of requests", ErrConfig, line)
		}
	}
	if h.Status < 200 || h.Status > 999 {
		return fmt.Errorf("%w: the status %s: it has to be from 200 to 999", ErrConfig, strconv.Itoa(h.Status))
	}
	return nil
}
