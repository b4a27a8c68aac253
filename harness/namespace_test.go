package harness_test

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/kernel/trace"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/result"
)

// TestNamespaceIsNoted: a cell whose evidence is kept tells what its namespace was like, from the running kernel.
func TestNamespaceIsNoted(t *testing.T) {
	needNamespace(t)
	quiz2, cookies := scenario(t, "quiz2"), scenario(t, "syncookies")
	o := harness.Options{
		Scenarios: []harness.Scenario{quiz2, cookies}, Families: harness.Families()[1:2], Modes: modes(t, "off,sysctl"),
		Connections: 3, Detail: harness.EvidenceDetail, Tracer: func() (*trace.Tracer, error) { return nil, nil },
	}
	if d, err := netns.NewDropper(t.Context(), "iptables"); err == nil {
		o.Dropper = d
	}
	for _, c := range run(t, o) {
		n := c.Namespace
		if n == nil || len(n.Unknown) > 0 {
			t.Errorf("%s: noted %+v", c.ID(), n)
			continue
		}
		if len(c.Tables) < 2 {
			t.Errorf("%s: %d socket tables without a trace", c.ID(), len(c.Tables))
		}
		want := map[string]string{"net.ipv4.tcp_migrate_req": "0", "net.ipv4.tcp_syncookies": "0", "net.ipv6.conf.lo.accept_dad": "0"}
		if c.Mode == "sysctl" {
			want["net.ipv4.tcp_migrate_req"] = "1"
		}
		if c.Scenario == "syncookies" {
			want["net.ipv4.tcp_syncookies"] = "2"
		}
		for name, value := range want {
			if n.Sysctls[name] != value {
				t.Errorf("%s: %s is %q, want %s", c.ID(), name, n.Sysctls[name], value)
			}
		}
		// Two segments of each client at least, and what was counted is what every other witness was told.
		rule := regexp.MustCompile(`80.*(packets|pkts) ([6-9]|\d\d) `)
		if text := strings.Join(n.Rules, "\n"); c.Scenario == "quiz2" && (len(n.Rules) != 1 || !rule.MatchString(text)) {
			t.Errorf("%s: rules: %q", c.ID(), n.Rules)
		}
		for _, name := range []string{"Tcp." + result.OutRsts, "TcpExt." + result.MigrateSuccess} {
			_, short, _ := strings.Cut(name, ".")
			if got, moved := n.Counters[name], c.Counters[short]; got != [2]int64{0, moved} {
				t.Errorf("%s: %s went from %d to %d, and the cell says %+d", c.ID(), name, got[0], got[1], moved)
			}
		}
		if n.Counters["Tcp.ActiveOpens"][1] != int64(c.Connections.Staged) {
			t.Errorf("%s: %v of %d clients were counted: the aftercare's are among them", c.ID(), n.Counters["Tcp.ActiveOpens"], c.Connections.Staged)
		}
	}
}

// TestNamespaceOfAFailure: what goes wrong is told of in any case, and what passes costs nothing.
func TestNamespaceOfAFailure(t *testing.T) {
	needNamespace(t)
	off, sysctl, quiz2 := modes(t, "off")[0], modes(t, "sysctl")[0], scenario(t, "quiz2")
	family := harness.Families()[0]
	if c := harness.Play(t, quiz2, family, off, 1); c.Status != result.Pass || c.Namespace != nil {
		t.Errorf("%s: noted %+v", c.Status, c.Namespace)
	}
	fail := harness.Play(t, quiz2, family, sysctl, 1, harness.KernelOf(off))
	if n := fail.Namespace; fail.Status != result.Fail || n == nil || len(n.Rules) != 1 || n.Sysctls[netns.MigrateReq] != "0" || len(n.Counters) == 0 {
		t.Errorf("%s: noted %+v", fail.Status, n)
	}
	bad := quiz2
	bad.Play = func(l *harness.Lab) { l.DropACKs(); panic("oh") }
	if c := harness.Play(t, bad, family, off, 1); c.Status != result.Error || c.Namespace == nil || len(c.Namespace.Sysctls) == 0 {
		t.Errorf("%s: noted %+v", c.Status, c.Namespace)
	}
}

// TestListening: what the listeners' own descriptors tell is what sock_diag lists, with a queue and without, and when one
// has been shut down or closed.
func TestListening(t *testing.T) {
	needNamespace(t)
	s := scenario(t, "quiz1")
	for _, f := range harness.Families() {
		var diffs []string
		s.Play = func(l *harness.Lab) {
			compare := func(want int) {
				own, listed := harness.Listening(l)
				byInode := func(a, b kernel.Socket) int { return cmp.Compare(a.Inode, b.Inode) }
				slices.SortFunc(own, byInode)
				slices.SortFunc(listed, byInode)
				if !slices.Equal(own, listed) || len(own) != want {
					diffs = append(diffs, fmt.Sprintf("%d listeners:\n%+v\n%+v", want, own, listed))
				}
			}
			compare(0)
			a, b, c := l.Listen("A"), l.Listen("B"), l.Listen("C", harness.Backlog(7))
			l.Connect()
			compare(3)
			b.Shutdown(unix.SHUT_RD)
			c.Close()
			compare(1)
			b.Relisten()
			compare(2)
			a.AcceptAll()
			b.AcceptAll()
		}
		harness.Play(t, s, f, modes(t, "sysctl")[0], 3)
		if diffs != nil {
			t.Errorf("%s: %s", f.Name, strings.Join(diffs, "\n"))
		}
	}
}
