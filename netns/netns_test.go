package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

func needNamespace(t *testing.T) {
	t.Helper()
	if err := Probe(); err != nil {
		t.Skipf("needs network namespaces (run as root, or under unshare -Urn): %v", err)
	}
}

func namespace(t *testing.T) string {
	t.Helper()
	ns, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

// TestDo: the namespace is new, its lo is up, and it changes nothing in the caller's namespace.
func TestDo(t *testing.T) {
	needNamespace(t)
	outside := namespace(t)
	before, err := Get(MigrateReq)
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("this kernel has no " + MigrateReq)
	}
	var seen []string
	for range 2 {
		err = Do(func() error {
			seen = append(seen, namespace(t))
			lo, err := net.InterfaceByName("lo")
			if err != nil {
				return err
			}
			if lo.Flags&net.FlagUp == 0 {
				t.Error("lo is down")
			}
			if err := (Sysctl{MigrateReq, "1"}).Set(); err != nil {
				return err
			}
			if v, err := Get(MigrateReq); v != "1" || err != nil {
				t.Errorf("%s is %q inside: %v", MigrateReq, v, err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if seen[0] == outside || seen[1] == outside || seen[0] == seen[1] {
		t.Errorf("namespaces are not apart: %s outside, %v inside", outside, seen)
	}
	if after, _ := Get(MigrateReq); after != before || namespace(t) != outside {
		t.Errorf("the caller's %s went from %s to %s", MigrateReq, before, after)
	}
}

func TestBaseSysctls(t *testing.T) {
	needNamespace(t)
	err := Do(func() error {
		sysctls := BaseSysctls(10000, 8080, true)
		if err := ApplySysctls(sysctls); err != nil {
			return err
		}
		for _, s := range sysctls {
			switch got, err := Get(s.Name); {
			case errors.Is(err, fs.ErrNotExist):
				t.Logf("this kernel has no %s", s.Name)
			case err != nil:
				t.Error(err)
			case strings.Join(strings.Fields(got), " ") != s.Value:
				t.Errorf("%s is %q, want %q", s.Name, got, s.Value)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestDroppers: each backend's rule drops what it should and counts it, lets the rest pass, and can be removed.
func TestDroppers(t *testing.T) {
	needNamespace(t)
	for _, backend := range []string{"iptables", "nftables", "iptables (legacy)"} {
		for _, v6 := range []bool{false, true} {
			name := backend + "/ipv4"
			if v6 {
				name = backend + "/ipv6"
			}
			t.Run(name, func(t *testing.T) {
				if backend == "iptables (legacy)" {
					legacy(t)
				}
				word, _, _ := strings.Cut(backend, " ")
				d, err := NewDropper(t.Context(), word)
				if errors.Is(err, ErrNoIPTables) {
					t.Skip(err)
				} else if err != nil {
					t.Fatal(err)
				}
				if !strings.HasPrefix(d.Name(), backend) {
					t.Errorf("%s calls itself %s", backend, d.Name())
				}
				if err := Do(func() error { return tryDropper(t, d, v6) }); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

// legacy makes the legacy binaries those that are found.
func legacy(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"iptables", "ip6tables"} {
		binary, err := exec.LookPath(name + "-legacy")
		if err != nil {
			t.Skip(err)
		}
		if err := os.Symlink(binary, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
}

func tryDropper(t *testing.T, d Dropper, v6 bool) error {
	domain, listen, ctl := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: 80, Addr: [4]byte{127, 0, 0, 1}}), "ipv4"
	if v6 {
		domain, listen, ctl = unix.AF_INET6, &unix.SockaddrInet6{Port: 80, Addr: [16]byte{15: 1}}, "ipv6"
	}
	server, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer unix.Close(server)
	if err := errors.Join(unix.Bind(server, listen), unix.Listen(server, 8)); err != nil {
		return err
	}
	// accepted tells whether a handshake gets through to the server.
	accepted := func(limit time.Duration) bool {
		client, err := unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			defer unix.Close(client)
			// connect(2) honours it, so that a SYN without an answer is not waited for.
			err = errors.Join(unix.SetsockoptTimeval(client, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{Sec: 2}), unix.Connect(client, listen))
		}
		if err != nil {
			t.Errorf("%s: connect: %v", ctl, err)
			return false
		}
		poll := []unix.PollFd{{Fd: int32(server), Events: unix.POLLIN}}
		n, err := unix.Poll(poll, int(limit.Milliseconds()))
		if n == 1 {
			fd, _, err := unix.Accept(server)
			if err == nil {
				unix.Close(fd)
			}
		}
		return n == 1 && err == nil
	}

	rule, err := d.Drop(v6, 80)
	if err != nil {
		return err
	}
	if accepted(0) {
		t.Error("the handshake was completed through the rule")
	}
	// The ACK, and then the FIN of the client's close.
	for deadline := time.Now().Add(2 * time.Second); ; {
		n, err := rule.Packets()
		if err != nil {
			return err
		}
		if n >= 2 {
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the rule counted %d packets, want 2", n) // this is not the test's goroutine
		}
	}
	text := strings.Join(rule.Text(), "\n")
	// Legacy iptables writes flags:0x12/0x10.
	if !regexp.MustCompile(`(?i)(dport == 80|dpt:80) .*(packets|pkts) [2-9]\d* .*drop`).MatchString(text) ||
		!regexp.MustCompile(`tcp flags & \(syn\|ack\) == ack|flags:0x12/0x10|xt match`).MatchString(text) {
		t.Errorf("the rule as it was read: %q", text)
	}
	if err := rule.Remove(); err != nil {
		return err
	}
	if !accepted(2 * time.Second) {
		t.Error("the handshake was not completed though the rule is gone")
	}
	return nil
}

func TestNewDropper(t *testing.T) {
	if _, err := NewDropper(t.Context(), "pf"); err == nil {
		t.Error("an unknown backend was taken")
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := NewDropper(t.Context(), "iptables"); !errors.Is(err, ErrNoIPTables) {
		t.Errorf("without the binary: %v", err)
	}
	d, err := NewDropper(t.Context(), "auto")
	if err != nil || d.Name() != "nftables" {
		t.Errorf("auto without the binary: %v, %v", d, err)
	}
}

// TestRuleWords: an unknown expression is named, and nothing is left out.
func TestRuleWords(t *testing.T) {
	th := expr.PayloadBaseTransportHeader
	for _, tt := range []struct {
		name  string
		exprs []expr.Any
		want  string
	}{
		{"none", nil, ""},
		{"another field", []expr.Any{
			&expr.Payload{DestRegister: 8, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 8, Data: []byte{127, 0, 0, 1}},
			&expr.Verdict{Kind: expr.VerdictAccept},
		}, "@nh,96,32 != 0x7f000001 accept"},
		{"two registers", []expr.Any{
			&expr.Payload{DestRegister: 1, Base: th, Offset: 2, Len: 2},
			&expr.Payload{DestRegister: 2, Base: th, Offset: 13, Len: 1},
			&expr.Cmp{Op: expr.CmpOpGte, Register: 1, Data: []byte{0, 80}},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 2, Data: []byte{0x12}},
		}, "tcp dport >= 80 tcp flags == (syn|ack)"},
		{"nothing was loaded", []expr.Any{&expr.Cmp{Op: 77, Register: 3, Data: []byte{1}}}, "register 3 (compare 77) 0x01"},
		{"odd lengths", []expr.Any{
			&expr.Payload{DestRegister: 1, Base: th, Offset: 13, Len: 1},
			&expr.Cmp{Register: 1},
			&expr.Payload{DestRegister: 1, Base: th, Offset: 0, Len: 2},
			&expr.Cmp{Register: 1, Data: []byte{1, 2, 3}},
		}, "tcp flags == 0x tcp sport == 0x010203"},
		{"unknown", []expr.Any{&expr.Match{Name: "tcp"}, &expr.Limit{}, &expr.Verdict{Kind: expr.VerdictJump}},
			"xt match tcp (*expr.Limit) (verdict -3)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := ruleWords(tt.exprs); got != tt.want {
				t.Errorf("want %q\ngot  %q", tt.want, got)
			}
		})
	}
}
