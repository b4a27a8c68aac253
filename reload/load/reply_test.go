package load

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

var want200 = expected{http: true, status: 200}

// reads feeds a reply in pieces of some size, up to its end. The rest is what follows it.
func reads(want *expected, reply string, size int) (p parser, v verdict, rest int) {
	for b := []byte(reply); len(b) > 0; {
		used, v := p.feed(want, b[:min(size, len(b))])
		if b = b[used:]; v != unfinished {
			return p, v, len(b)
		}
	}
	return p, unfinished, 0
}

// TestReply: replies, whole or in pieces.
func TestReply(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\n"
	for _, test := range []struct {
		name, reply string
		want        verdict
		rest        int
		end, closes bool
		why         string
	}{
		{name: "sized", reply: head + "Content-Length: 5\r\n\r\nHello", want: whole},
		{name: "in other letters", reply: head + "CONTENT-length:5 \r\n\r\nHello", want: whole},
		{name: "lines that end as in Unix", reply: "HTTP/1.1 200 OK\nContent-Length: 5\n\nHello", want: whole},
		{name: "without a reason", reply: "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", want: whole},
		{name: "two of them", reply: strings.Repeat(head+"Content-Length: 1\r\n\r\nH", 2), want: whole, rest: 39},
		{name: "the same size twice", reply: head + "Content-Length: 1\r\nContent-Length: 1\r\n\r\nH", want: whole},
		{name: "chunks", reply: head + "Transfer-Encoding: gzip, Chunked\r\n\r\nA;x=y\r\n0123456789\r\n1\r\nH\r\n0\r\nTrailer: 1\r\n\r\n", want: whole},
		{name: "chunks, and a size that does not count", reply: head + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", want: whole},
		{name: "first an interim one", reply: "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + head + "Content-Length: 1\r\n\r\nH", want: whole},
		{name: "up to the end", reply: head + "\r\nHello", end: true, closes: true},
		{name: "of HTTP/1.0", reply: "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nH", want: whole, closes: true},
		{name: "closes", reply: head + "Connection: foo, Close\r\nContent-Length: 1\r\n\r\nH", want: whole, closes: true},
		{name: "of HTTP/1.0 that stays", reply: "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nH", want: whole},
		{name: "a long header", reply: head + "Set-Cookie: " + strings.Repeat("x", 10_000) + "\r\n" + strings.Repeat("y", 1000) + ": 1\r\nContent-Length: 1\r\n\r\nH", want: whole},
		{name: "not all of it", reply: head + "Content-Length: 6\r\n\r\nHello"},
		{name: "not all chunks", reply: head + "Transfer-Encoding: chunked\r\n\r\n1\r\nH\r\n"},
		{name: "nothing", reply: ""},

		{name: "another status", reply: "HTTP/1.1 404 Not Found\r\n", want: wrong, why: "HTTP/1.1 404 Not Found"},
		{name: "no HTTP", reply: "220 mail\n", want: wrong, why: `it begins "220 mail"`},
		{name: "another HTTP", reply: "HTTP/2.0 200 OK\r\n", want: wrong, why: `it begins "HTTP/2.0 200 OK"`},
		{name: "no status", reply: "HTTP/1.1 20x OK\r\n", want: wrong, why: `it begins "HTTP/1.1 20x OK"`},
		{name: "a long status", reply: "HTTP/1.1 2000 OK\r\n", want: wrong, why: `it begins "HTTP/1.1 2000 OK"`},
		{name: "no header", reply: head + "Hello\r\n", want: wrong, why: `a header without a colon: "Hello"`},
		{name: "no size", reply: head + "Content-Length: -1\r\n", want: wrong, why: `"Content-Length: -1"`},
		{name: "a size past all sizes", reply: head + "Content-Length: 99999999999999999999\r\n", want: wrong, why: `"Content-Length: 99999999999999999999"`},
		{name: "two sizes", reply: head + "Content-Length: 1\r\nContent-Length: 2\r\n", want: wrong, why: `"Content-Length: 2"`},
		{name: "no chunk", reply: head + "Transfer-Encoding: chunked\r\n\r\nHello\r\n", want: wrong, why: `a chunk of the size "Hello"`},
		{name: "a chunk too long", reply: head + "Transfer-Encoding: chunked\r\n\r\n1\r\nHello\r\n", want: wrong, why: `a chunk is followed by "ello"`},
		{name: "no end of a head", reply: head + strings.Repeat("X: y\r\n", headBytes), want: wrong, why: "a head of more than 262144 bytes", rest: -1},
		{name: "no end of a line", reply: strings.Repeat("x", 2*headBytes), want: wrong, why: "a head of more than 262144 bytes", rest: -1},
	} {
		for _, size := range []int{1, 7, 1 << 20} {
			p, v, rest := reads(&want200, test.reply, size)
			if v != test.want || p.why != test.why || test.rest >= 0 && rest != test.rest {
				t.Errorf("%s, by %d: %v (%s) and %d bytes, want %v (%s) and %d", test.name, size, v, p.why, rest, test.want, test.why, test.rest)
			}
			if p.end() != test.end || p.closes != test.closes {
				t.Errorf("%s, by %d: whole at the end %v, closes %v", test.name, size, p.end(), p.closes)
			}
		}
	}
}

// TestExpect: bytes that have to come.
func TestExpect(t *testing.T) {
	for _, test := range []struct {
		begin, reply string
		want         verdict
		why          string
	}{
		{"Hello", "Hello", whole, ""}, {"Hello", "Hello, world", whole, ""}, {"", "x", whole, ""},
		{"Hello", "Hell", unfinished, ""}, {"Hello", "", unfinished, ""},
		{"Hello", "Hallo", wrong, `it begins "Ha`}, {"Hello", "x", wrong, `it begins "x`},
	} {
		for size := 1; size <= 5; size++ {
			p, v, _ := reads(&expected{begin: []byte(test.begin)}, test.reply, size)
			if v != test.want || !strings.HasPrefix(p.why, test.why) {
				t.Errorf("%q, expected %q, by %d: %v (%s), want %v (%s)", test.reply, test.begin, size, v, p.why, test.want, test.why)
			}
		}
	}
}

// FuzzReply: pieces do not change what is read, and what net/http reads whole is not refused.
func FuzzReply(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nHello", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nHello\r\n0\r\n\r\n",
		"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\nHello", "HTTP/1.0 200\nConnection: keep-alive, close\n\n", "220 mail\r\n",
	} {
		f.Add([]byte(seed), 3)
	}
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		if size < 1 {
			size = 1
		}
		p, v, rest := reads(&want200, string(b), len(b)+1)
		q, w, least := reads(&want200, string(b), size)
		if v != w || rest != least || p.why != q.why || p.end() != q.end() || v != wrong && p.closes != q.closes {
			t.Fatalf("whole: %v (%s), %d left; by %d: %v (%s), %d left", v, p.why, rest, size, w, q.why, least)
		}
		if v != whole {
			return
		}
		// net/http is stricter; where it agrees that there is a reply, it is to agree on its length.
		r := bufio.NewReader(bytes.NewReader(b))
		theirs, err := http.ReadResponse(r, nil)
		for err == nil && theirs.StatusCode < 200 {
			theirs, err = http.ReadResponse(r, nil)
		}
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, theirs.Body); err != nil || theirs.ContentLength < 0 && len(theirs.TransferEncoding) == 0 {
			return
		}
		left, _ := io.Copy(io.Discard, r)
		if int(left) != rest {
			t.Fatalf("%d left, and %d by net/http", rest, left)
		}
	})
}

// TestRefused: what cannot be played is refused, and says why.
func TestRefused(t *testing.T) {
	whole := func() Config { return Config{To: at, Clients: 1, Request: Request{HTTP: &HTTP{}}} }
	if c := whole(); c.complete() != nil || c.Requests != 1 || c.Timeout != 5*time.Second || c.Request.HTTP.Host != "127.0.0.1:80" || c.Request.HTTP.Status != 200 {
		t.Errorf("%+v", c)
	}
	for _, test := range refusals {
		c := whole()
		test.change(&c)
		err := c.complete()
		if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%v, want %q", err, test.want)
		}
	}
}
