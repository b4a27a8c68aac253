package lab

import (
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// impatient plays a cell of one client that should be reset, and waits for little.
func impatient(t *testing.T, do func(*Lab)) Played {
	t.Helper()
	NeedNamespace(t)
	s := named("broken")[0]
	s.Play = do
	cfg := config(t, s, Families()[0], migrate.Off(), 1)
	cfg.TimeoutMul = 0.02 // 0.4 s for a reset that does not come
	return Play(cfg, testHost{})
}

// found returns the check of that name.
func found(t *testing.T, p Played, name string) result.Check {
	t.Helper()
	for _, c := range p.Verdict.Checks {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("%s: %s: no check %q", p.Verdict.Status, p.Verdict.Reason, name)
	return result.Check{}
}

// TestSays: a client that is neither accepted nor reset is asked what it is, and not told by what the server did.
func TestSays(t *testing.T) {
	p := impatient(t, func(l *Lab) {
		a := l.Listen("A")
		l.Connect()
		l.AssertAcceptQueue(a)
	})
	if c := found(t, p, "client sockets say"); c.OK || c.Got != "1 EAGAIN" {
		t.Errorf("%s: %s: %s", p.Verdict.Status, p.Verdict.Reason, c)
	}
}

// TestHeldIsFound: a connection that a process has accepted and nobody has noted is no connection that was lost.
func TestHeldIsFound(t *testing.T) {
	p := impatient(t, func(l *Lab) {
		a := l.Listen("A")
		l.Connect()
		l.AssertAcceptQueue(a)
		fd, _, err := unix.Accept4(a.fd, unix.SOCK_CLOEXEC)
		l.must(err)
		l.hold(fd)
	})
	if p.Verdict.Status != result.Error || !strings.Contains(p.Verdict.Reason, "its server's end is held by a process") {
		t.Errorf("%s: %s", p.Verdict.Status, p.Verdict.Reason)
	}
}

// TestAftercare: a listener that serves no fresh client is found, though another one does.
func TestAftercare(t *testing.T) {
	p := impatient(t, func(l *Lab) {
		l.Listen("A")
		b := l.Listen("B")
		l.must(unix.Shutdown(b.fd, unix.SHUT_RD)) // and not said
	})
	if said := p.obs.PostCheck; said == nil || said.Open != 2 || said.Unserved == 0 || said.Broken == "" {
		t.Errorf("%+v", said)
	}
	if c := found(t, p, "open listeners serve fresh clients"); c.OK {
		t.Error(c)
	}
}

// TestAccepted: a connection counts as accepted with its data only if that is what its client sent.
func TestAccepted(t *testing.T) {
	peers := []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("127.0.0.1:2"), netip.MustParseAddrPort("127.0.0.1:3")}
	for _, tt := range []struct {
		data    string
		why     string // it is not all
		again   bool   // clients have sent more than once
		instead string // empty: it is what the client sent
	}{
		{greeting, "", false, ""}, {greeting, "", true, ""}, {greeting + greeting, "", true, ""},
		{greeting[1:], "", false, "10 other bytes"}, {greeting[1:], "", true, "10 other bytes"},
		{greeting + "!", "", false, "12 other bytes"}, {"", "ECONNRESET", false, "ECONNRESET"}, {greeting, "EOF", false, "EOF"},
	} {
		got, want := received{tt.data, tt.why}, verdict.Accepted{By: "A", Peer: peers[1], OK: tt.instead == "", Instead: tt.instead}

		l := &Lab{again: tt.again, clients: []*client{{local: peers[0]}, {local: peers[1]}}, bystanders: []*client{{local: peers[2]}}}
		l.accepted("A", peers[1], got, serverEnd{})
		l.accepted("A", peers[2], got, serverEnd{})
		if len(l.obs.Accepted) != 1 || l.obs.Accepted[0] != want {
			t.Errorf("%q, again: %t: %+v, want one %+v", got, tt.again, l.obs.Accepted, want)
		}
		if l.clients[0].accepted || !l.clients[1].accepted || (len(l.survivors) == 1) != want.OK {
			t.Errorf("%q, again: %t: %d survivors; of the clients %t and %t were accepted", got, tt.again, len(l.survivors), l.clients[0].accepted, l.clients[1].accepted)
		}
	}
}
