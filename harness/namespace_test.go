package harness_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/kernel/trace"
	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/result"
)

// TestNamespaceIsNoted: a cell whose evidence is kept tells what its namespace was like, from the running kernel.
func TestNamespaceIsNoted(t *testing.T) {
	needNamespace(t)
	quiz2, cookies := scenario(t, "quiz2"), scenario(t, "syncookies")
	o := harness.Options{
		Scenarios: []lab.Scenario{quiz2, cookies}, Families: lab.Families()[1:2], Modes: modes(t, "off,sysctl"),
		Connections: 3, Settings: lab.Settings{Detail: lab.EvidenceDetail, Tracer: func() (*trace.Tracer, error) { return nil, nil }},
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
