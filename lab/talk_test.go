package lab

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/result"
)

// TestDeliver: what arrives is compared with what was sent, behind what was there before; and what does not arrive is waited for.
func TestDeliver(t *testing.T) {
	for _, tt := range []struct {
		name, before string
		earlier      int // of what is there before, as far as the receiver knows
		silent       bool
		want         string // of the error; empty: there is none
	}{
		{name: "it arrives"},
		{name: "it arrives behind what is known", before: "x", earlier: 1},
		{name: "something else is before it", before: "x", want: "other bytes than were sent"},
		{name: "nothing is sent", silent: true, want: errTimeout.Error()},
	} {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { unix.Close(pair[0]); unix.Close(pair[1]) }()
		if _, err := unix.Write(pair[0], []byte(tt.before)); err != nil {
			t.Fatal(err)
		}
		from := pair[0]
		if tt.silent {
			from = -1 // another process's
		}
		err = lab(t, false).deliver(&parcel{from: from, to: pair[1], words: []byte("Hello World"), earlier: tt.earlier}, 10*time.Millisecond)
		if err == nil && tt.want != "" || err != nil && (tt.want == "" || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// TestTalkIsOnTheWire: the server answers, the client sends again, and both end with a FIN.
func TestTalkIsOnTheWire(t *testing.T) {
	NeedNamespace(t)
	s := named("talk")[0]
	s.Play = func(l *Lab) {
		a := l.Listen("A")
		l.Connect()
		l.AssertAcceptQueue(a)
		a.AcceptAll()
	}
	p := Play(config(t, s, Families()[0], migrate.Off(), 1), testHost{})
	// said is who has sent data or a FIN, in this order, each once in a row.
	var said []string
	for _, f := range p.story.flow {
		word := string(f.Role)
		if f.Role != result.RoleData && f.Role != result.RoleFIN {
			continue
		}
		if f.FromClient {
			word = "client's " + word
		} else {
			word = "server's " + word
		}
		if len(said) == 0 || said[len(said)-1] != word {
			said = append(said, word)
		}
	}
	const want = "client's data, server's data, client's data, server's fin, client's fin"
	if got := strings.Join(said, ", "); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// TestUnheard: what is sent again and again, and does not arrive, is known not to arrive, long before anybody gives up.
func TestUnheard(t *testing.T) {
	NeedNamespace(t)
	var err error
	s := named("unheard")[0]
	s.Play = func(l *Lab) {
		a := l.Listen("A")
		l.Connect()
		l.AssertAcceptQueue(a)
		fd, _, e := unix.Accept4(a.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		l.must(e)
		l.hold(fd)
		l.DropACKs()
		err = l.deliver(&parcel{from: l.clients[0].fd, to: fd, words: []byte("?"), earlier: len(greeting)}, time.Second)
		l.StopDropping()
		l.clients[0].accepted = true // so that its reset is not waited for
	}
	Play(config(t, s, Families()[0], migrate.Off(), 1), testHost{})
	if !heardNothing(err) {
		t.Errorf("%v, want %v", err, unheardError{})
	}
}
