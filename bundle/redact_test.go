package bundle

import (
	"bytes"
	"encoding/json"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestRedactText(t *testing.T) {
	r := newRedactor(Identity{
		Hosts: []string{"web1.corp.lan", "web1", "A", "server"},
		Users: []string{"ann", "root", ""},
		Homes: []string{"/srv/people/ann", "/", ""},
	}, "6.18.44-web1", "v1.2.3", "")
	for _, tt := range []struct{ name, in, want string }{
		{"nothing", "close A: bare RST", "close A: bare RST"},
		{"host", "web1 is down", "[host] is down"},
		{"full name first", "ping web1.corp.lan.", "ping [host]."},
		{"in any case", "WEB1", "[host]"},
		{"with a domain", "web1.other", "[host].other"},
		{"with a hyphen", "my-web1-2", "my-[host]-2"},
		{"part of a word", "web12 myweb1 web1_x", "web12 myweb1 web1_x"},
		{"beyond ASCII", "éweb1 web1é", "éweb1 web1é"},
		{"twice", "web1web1 web1 web1", "web1web1 [host] [host]"},
		{"one letter, or everyone's", "A, server, root", "A, server, root"},
		{"the release stays", "Linux 6.18.44-web1 on web1", "Linux 6.18.44-web1 on [host]"},
		{"part of a release", "6.18.44-web1x", "6.18.44-web1x"},
		{"user", "ann@web1:~", "[user]@[host]:~"},
		{"no user", "annotate, planned, Hanna", "annotate, planned, Hanna"},
		{"home", "open /srv/people/ann/a/b: no", "open [home]: no"},
		{"home of another", "--out=/home/bob/x y", "--out=[home] y"},
		{"home alone", `"/home/bob"`, `"[home]"`},
		{"root's home", "in /root/x, /root", "in [home], [home]"},
		{"no home", "/rootfs /var/root/x /srv/people/anna", "/rootfs /var/root/x /srv/people/anna"},
		{"loopback", "127.0.0.1:80 127.8.9.1 ::1 [::1]:80 0.0.0.0 [::]:80 ::ffff:127.0.0.1", "127.0.0.1:80 127.8.9.1 ::1 [::1]:80 0.0.0.0 [::]:80 ::ffff:127.0.0.1"},
		{"address", "10.0.0.1, 8.8.8.8.", "192.0.2.1, 192.0.2.1."},
		{"with a port", "10.0.0.1:80 10.0.0.1:http", "192.0.2.1:80 192.0.2.1:http"},
		{"as tcpdump", "10.0.0.1.80 > 10.0.0.2.4000:", "192.0.2.1.80 > 192.0.2.1.4000:"},
		{"behind a word", "addr:10.0.0.1 inet6:fe80::2", "addr:192.0.2.1 inet6:2001:db8::1"},
		{"in a net", "10.0.0.0/8, http://10.0.0.1/x", "192.0.2.1/8, http://192.0.2.1/x"},
		{"IPv6", "[2a01::7]:443 fe80::1%eth0 2a01:0:0:0:0:0:0:1", "[2001:db8::1]:443 2001:db8::1 2001:db8::1"},
		{"mapped", "[::ffff:10.0.0.1]:80", "[::ffff:192.0.2.1]:80"},
		{"MAC", "52:54:00:12:34:56 00:00:00:00:00:00", "00:00:5e:00:53:00 00:00:00:00:00:00"},
		{"kernel's address", "r3 = 0xffffc9000625e008, 0xffff1 0xffffffff", "r3 = 0x[kernel], 0xffff1 0xffffffff"},
		{"no address", "1.2.3 v1.2.3.4 12:34:56 std::string 300.1.1.1 x::y::z", "1.2.3 v1.2.3.4 12:34:56 std::string 300.1.1.1 x::y::z"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := r.text(tt.in)
			if got != tt.want {
				t.Errorf("%q:\nwant %q\ngot  %q", tt.in, tt.want, got)
			}
			if again := r.text(got); again != got {
				t.Errorf("a second time: %q", again)
			}
		})
	}
}

// TestRedactIsLinear: a text that is sixteen times as long takes about sixteen times the processor's time, whatever it is made of. A
// square would take 256 times.
func TestRedactIsLinear(t *testing.T) {
	r := newRedactor(Identity{Hosts: []string{"zeus.lan"}, Users: []string{"jane"}, Homes: []string{"/home/jane"}}, "6.18.44-zeus", "v1.2.3")
	const short, times, most = 1 << 12, 16, 80
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	took := func(text string) time.Duration {
		began := threadTime(t)
		r.text(text)
		return threadTime(t) - began
	}
	for _, unit := range []string{
		"a", "1:", "1.", "a:", ":", "1.2.3.4:", "::1%", "fe80::1%", "x%", "zeus", "jane-", "/root", "/home/", "/home/j", "6.18.44-zeus", "0xffff", "é", " ",
	} {
		once, more := took("x"+strings.Repeat(unit, short/len(unit))), took("x"+strings.Repeat(unit, times*short/len(unit)))
		if once = max(once, time.Millisecond/2); more > most*once { // of less than that, it is the clock that is measured
			t.Errorf("%q again and again: %v, and %v for %d times as much", unit, once, more, times)
		}
	}
}

// threadTime is how long this thread has run on a processor.
func threadTime(t *testing.T) time.Duration {
	t.Helper()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

// FuzzRedactJSON: going through the JSON comes to what decoding it, redacting each text and encoding it would come to.
func FuzzRedactJSON(f *testing.F) {
	r := newRedactor(Identity{Hosts: []string{"zeus"}, Users: []string{"jane"}, Homes: []string{"/home/jane"}}, "6.18.44-zeus")
	for _, text := range []string{
		`{"reason":"zeus","mode":"zeus","flow":[{"text":"10.0.0.1:80 \\ \"jane\"","role":["zeus"]}],"n":1.50,"e":{},"a":[],"t":true,"x":null}`,
		`"zeus"`, `[["jane"],{"zeus":"\u007aeus"}]`, `{"own":{"mode":{"reason":"zeus"}}}`, `17`, `{"a":"\ud800"}`,
	} {
		f.Add([]byte(text))
	}
	var value func(v any) any
	value = func(v any) any {
		switch v := v.(type) {
		case string:
			return r.text(v)
		case []any:
			for i := range v {
				v[i] = value(v[i])
			}
		case map[string]any:
			for k := range v {
				if !own[k] {
					v[k] = value(v[k])
				}
			}
		}
		return v
	}
	decode := func(text []byte) (v any, err error) {
		dec := json.NewDecoder(bytes.NewReader(text))
		dec.UseNumber()
		return v, dec.Decode(&v)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		v, err := decode(text)
		if err != nil {
			return
		}
		if text, err = json.Marshal(v); err != nil { // as redact hands it over
			t.Fatal(err)
		}
		got, err := decode(r.json(text))
		if err != nil {
			t.Fatalf("%s: %v", r.json(text), err)
		}
		if diff := cmp.Diff(value(v), got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", text, diff)
		}
	})
}
