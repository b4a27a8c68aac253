package kernel

import "testing"

func TestParseUsed(t *testing.T) {
	for _, tt := range []struct {
		text string
		want int // below 0: it is an error
	}{
		{"sockets: used 7\nTCP: inuse 2 orphan 0 tw 0 alloc 2 mem 0\n", 7},
		{"sockets: used 0", 0},
		{"", -1},
		{"sockets: used\n", -1},
		{"sockets: used -1\n", -1},
		{"TCP: inuse 2\nsockets: used 7\n", -1},
	} {
		if n, err := parseUsed([]byte(tt.text)); (err != nil) != (tt.want < 0) || err == nil && n != tt.want {
			t.Errorf("%q: %d, %v, want %d", tt.text, n, err, tt.want)
		}
	}
}

func FuzzParseUsed(f *testing.F) {
	f.Add([]byte("sockets: used 7\nTCP: inuse 2"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := parseUsed(b); err == nil && n < 0 {
			t.Errorf("%q: %d", b, n)
		}
	})
}
