package kernel

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const netstat = `TcpExt: SyncookiesSent TCPMigrateReqSuccess TCPMigrateReqFailure
TcpExt: 0 2 1
IpExt: InNoRoutes
IpExt: 7
`

func TestParseCounters(t *testing.T) {
	for _, tt := range []struct {
		name, file string
		want       Counters
		err        string
	}{
		{name: "groups that are kept", file: netstat,
			want: Counters{"SyncookiesSent": 0, "TCPMigrateReqSuccess": 2, "TCPMigrateReqFailure": 1}},
		{name: "MaxConn is -1, and no counter", file: "Tcp: MaxConn OutRsts\nTcp: -1 3\n", want: Counters{"OutRsts": 3}},
		{name: "empty", file: "", want: Counters{}},
		{name: "names alone", file: "Tcp: OutRsts\n", err: "names without values"},
		{name: "a value is missing", file: "Tcp: OutRsts InErrs\nTcp: 3\n", err: `names and values of "Tcp:" do not pair`},
		{name: "values of another group", file: "Tcp: OutRsts\nUdp: 3\n", err: `"Tcp:" is followed by "Udp:"`},
		{name: "no number", file: "Tcp: OutRsts\nTcp: many\n", err: `OutRsts: strconv.ParseInt: parsing "many"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := MIB{[]byte(tt.file)}.Counters()
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("got error %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestAllCounters(t *testing.T) {
	got, err := MIB{[]byte("Ip: InDiscards\nIp: 2\nTcp: RtoMax OutRsts\nTcp: 120000 3\n"), []byte(netstat)}.All()
	if err != nil {
		t.Fatal(err)
	}
	want := Counters{
		"Ip.InDiscards": 2, "Tcp.OutRsts": 3, "IpExt.InNoRoutes": 7,
		"TcpExt.SyncookiesSent": 0, "TcpExt.TCPMigrateReqSuccess": 2, "TcpExt.TCPMigrateReqFailure": 1,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestSince(t *testing.T) {
	before := Counters{"OutRsts": 1, "EstabResets": 5}
	after := Counters{"OutRsts": 3, "EstabResets": 5, "TCPMigrateReqSuccess": 1}
	want := Counters{"OutRsts": 2, "TCPMigrateReqSuccess": 1}
	if d := cmp.Diff(want, after.Since(before)); d != "" {
		t.Error(d)
	}
}

// TestCounting reads the running kernel's counters, twice: those that every Linux has must be there.
func TestCounting(t *testing.T) {
	counting, err := OpenCounting()
	if err != nil {
		t.Fatal(err)
	}
	defer counting.Close()
	if _, err := counting.Read(); err != nil {
		t.Fatal(err)
	}
	c, err := counting.Read()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"OutRsts", "EstabResets", "ListenOverflows"} {
		if _, ok := c[name]; !ok {
			t.Errorf("no counter %s", name)
		}
	}
}

func FuzzParseCounters(f *testing.F) {
	f.Add([]byte(netstat))
	f.Add([]byte("Tcp: OutRsts\nTcp: 18446744073709551615\n"))
	f.Add([]byte("Tcp:\nTcp:\n\n\n"))
	for _, name := range []string{"/proc/net/snmp", "/proc/net/netstat"} {
		if b, err := os.ReadFile(name); err == nil {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		m := MIB{file}
		c, err := m.Counters()
		if err != nil {
			return
		}
		// Every name that was read is in the file.
		for name := range c {
			if name == "" || !strings.Contains(string(file), name) {
				t.Errorf("counter %q is not in the file", name)
			}
		}
		all, err := m.All()
		if err == nil && len(all) < len(c) {
			t.Errorf("%d of all groups, %d of two", len(all), len(c))
		}
	})
}
