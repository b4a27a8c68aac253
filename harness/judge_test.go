package harness

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/result"
)

var (
	server = netip.MustParseAddrPort("127.0.0.1:80")
	peers  = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1001"), netip.MustParseAddrPort("127.0.0.1:1002")}
)

// expectations as those of quiz2.
func expect(lives bool) Expectation {
	e := Expectation{Lives: lives, Counted: map[string]int{
		kernel.MigrateSuccess: 0, kernel.MigrateFailure: 0, kernel.OutRsts: 0, kernel.EstabResets: 0,
	}}
	if lives {
		e.Counted[kernel.MigrateSuccess], e.Migrations = 1, 1
	} else {
		e.Flavour, e.Owner, e.Reason = result.BareRST, result.SurvivingListener, "TCP_FLAGS"
		e.Counted[kernel.OutRsts], e.Counted[kernel.EstabResets] = 1, 1
	}
	return e
}

// observed is what the witnesses say of two connections that both live or both do not.
func observed(lives bool) *Observation {
	o := &Observation{
		Staged:   2,
		Staging:  []StagingSaid{{Listener: "A", Requests: 2, WantRequests: 2}},
		Rule:     &RuleSaid{Backend: "nftables", Dropped: 4, Want: 4},
		Known:    kernel.Counters{kernel.MigrateSuccess: 0, kernel.MigrateFailure: 0, kernel.OutRsts: 0, kernel.EstabResets: 0},
		Counters: kernel.Counters{},
		Wire:     WireSaid{Packets: 14, Handshakes: 2},
	}
	for i, p := range peers {
		c := ClientSaid{Local: p, Accepted: lives, Says: "ECONNRESET"}
		if lives {
			c.Says = "EAGAIN"
			o.Accepted = append(o.Accepted, Accepted{Peer: p, Data: greeting, OK: true})
		} else {
			o.Wire.Resets = append(o.Wire.Resets, result.Reset{Frame: 6 + i, From: server, To: p, Flavour: result.BareRST, Step: "close A"})
		}
		o.Clients = append(o.Clients, c)
	}
	if lives {
		o.Counters[kernel.MigrateSuccess] = 2
	} else {
		o.Counters[kernel.OutRsts], o.Counters[kernel.EstabResets] = 2, 2
	}
	return o
}

// TestJudge holds the judge to its word: for each kind of check there is a case in which it must not pass.
func TestJudge(t *testing.T) {
	off, sysctl := migrate.Off(), must(migrate.Parse("sysctl"))[0]
	bpf := must(migrate.Parse("bpf"))[0]
	for _, tt := range []struct {
		name   string
		mode   Mode
		lives  bool // expected
		lived  bool // observed
		change func(*Observation)
		want   result.Status
		reason string
		bugs   []result.Bug
		strict bool
	}{
		{name: "lost as expected", mode: off, want: result.Pass, reason: `lost, as expected: bare RST in frame 6, during "close A"`},
		{name: "lived as expected", mode: sysctl, lives: true, lived: true, want: result.Pass, reason: "lived, as expected"},

		{name: "a kernel that does not migrate", mode: sysctl, lives: true, want: result.Fail,
			reason: "the sysctl is there and the code is not"},
		{name: "a program that does not migrate", mode: bpf, lives: true, want: result.Fail,
			reason: "accepted: want 2, got 0"},
		{name: "a kernel that migrates unasked", mode: off, lived: true, want: result.Fail,
			reason: "accepted: want 0, got 2"},
		{name: "half of them lived", mode: sysctl, lives: true, lived: true, change: func(o *Observation) {
			half := observed(false)
			o.Accepted, o.Clients[1], o.Wire.Resets = o.Accepted[:1], half.Clients[1], half.Wire.Resets[1:]
			o.Counters = kernel.Counters{kernel.MigrateSuccess: 1, kernel.OutRsts: 1, kernel.EstabResets: 1}
		}, want: result.Fail, reason: "accepted: want 2, got 1"},
		{name: "wrong data", mode: sysctl, lives: true, lived: true, change: func(o *Observation) {
			o.Accepted[1].OK = false
		}, want: result.Fail, reason: "accepted with their data: want 2, got 1"},
		{name: "wrong flavour", mode: off, change: func(o *Observation) {
			o.Wire.Resets[0].Flavour = result.RSTACK
		}, want: result.Fail, reason: "resets: want 2 server bare RST, got 1 server RST+ACK, 1 server bare RST"},
		{name: "a counter that moved", mode: off, change: func(o *Observation) {
			o.Counters[kernel.MigrateFailure] = 2
		}, want: result.Fail, reason: "TCPMigrateReqFailure: want 0, got 2"},
		{name: "a program that was not asked", mode: bpf, lives: true, lived: true, change: func(o *Observation) {
			o.Program = &result.Program{SYN: 0, Migrated: 2}
		}, want: result.Fail, reason: "asked about a SYN: want 2, got 0"},

		{name: "the rule was never in", mode: off, change: func(o *Observation) {
			o.Rule.Dropped = 0
		}, want: result.Error, reason: "not staged: segments dropped by the rule: want 4 or more, got 0"},
		{name: "no request sockets", mode: off, change: func(o *Observation) {
			o.Staging[0].Requests, o.Staging[0].Queued = 0, 2
		}, want: result.Error, reason: "not staged: in the accept queue of A: want 0, got 2"},
		{name: "a fate unknown", mode: off, change: func(o *Observation) {
			o.Unsettled = "it did not happen"
		}, want: result.Error, reason: "fate of every connection"},
		{name: "an absence over a lossy capture", mode: sysctl, lives: true, lived: true, change: func(o *Observation) {
			o.Wire.Lost = 1
		}, want: result.Error, reason: "the capture lost 1 frame of 15"},
		{name: "a reset missing from a lossy capture", mode: off, change: func(o *Observation) {
			o.Wire.Lost, o.Wire.Resets = 3, o.Wire.Resets[:1]
		}, want: result.Error, reason: "the capture lost 3 frames of 17"},
		{name: "a handshake missing from a lossy capture", mode: off, change: func(o *Observation) {
			o.Wire.Lost, o.Wire.Handshakes = 3, 1
		}, want: result.Error, reason: "the capture lost 3 frames"},
		{name: "all resets in a lossy capture", mode: off, change: func(o *Observation) {
			o.Wire.Lost = 1
		}, want: result.Pass, reason: "lost, as expected"},

		{name: "counters contradict the application", mode: sysctl, lives: true, lived: true, change: func(o *Observation) {
			o.Counters[kernel.MigrateSuccess] = 0
		}, want: result.Error, reason: "the witnesses disagree: application and counters: survivors: want 2, got 0"},
		{name: "counters contradict the wire", mode: off, change: func(o *Observation) {
			o.Counters[kernel.OutRsts] = 1
		}, want: result.Error, reason: "the witnesses disagree: wire and counters: resets sent: want 2, got 1"},
		{name: "the wire contradicts the application", mode: sysctl, lives: true, lived: true, change: func(o *Observation) {
			o.Wire.Resets = observed(false).Wire.Resets[:1]
			o.Counters[kernel.OutRsts] = 1
		}, want: result.Error, reason: "127.0.0.1:1001 accepted with 1 reset"},
		{name: "a client contradicts its server", mode: sysctl, lives: true, lived: true, change: func(o *Observation) {
			o.Clients[0].Says = "ECONNRESET"
		}, want: result.Error, reason: "client and server"},
		{name: "the program contradicts the counters", mode: bpf, lives: true, lived: true, change: func(o *Observation) {
			o.Program = &result.Program{SYN: 2, Migrated: 1}
		}, want: result.Error, reason: "program and counters: migrations decided: want 1, got 2"},

		{name: "counters that this kernel lacks prove nothing and disprove nothing", mode: off, change: func(o *Observation) {
			delete(o.Known, kernel.MigrateSuccess)
			delete(o.Known, kernel.MigrateFailure)
		}, want: result.Pass},
		{name: "a counter that should move is absent", mode: sysctl, lives: true, lived: true, change: func(o *Observation) {
			delete(o.Known, kernel.MigrateSuccess)
			delete(o.Counters, kernel.MigrateSuccess)
		}, want: result.Fail, reason: "TCPMigrateReqSuccess: want 2, got absent"},
		{name: "fresh clients are not served", mode: sysctl, lives: true, lived: true, change: func(o *Observation) {
			o.After = &AfterSaid{Open: 1, Unserved: 1}
		}, want: result.Fail, reason: "the listener is left damaged: open listeners serve fresh clients: want all, got all but 1"},
		{name: "fresh clients meet cookies", mode: sysctl, lives: true, lived: true, change: func(o *Observation) {
			o.After = &AfterSaid{Open: 1, Counters: kernel.Counters{"SyncookiesSent": 1}}
		}, want: result.Fail, reason: "the listener is left damaged: SyncookiesSent afterwards: want 0, got 1"},

		{name: "a machine that is too slow", mode: off, change: func(o *Observation) {
			o.Wire.SYNACKsAgain, o.Counters[kernel.EstabResets] = 2, 3
		}, want: result.Error, reason: "too slow for this case: 2 SYN+ACKs were sent again"},
		{name: "a harness that is too slow", mode: off, change: func(o *Observation) {
			o.Sending, o.Wire.Resets = 1100*time.Millisecond, nil
		}, want: result.Error, reason: "too slow for this case: the clients were done with sending 1.1 s after"},
		{name: "a trace that contradicts the wire", mode: off, change: func(o *Observation) {
			o.Trace = &TraceSaid{}
			o.Wire.Resets[0].Owner = result.SurvivingListener
		}, want: result.Error, reason: "trace and wire: resets explained: want 2, got 1"},
		{name: "a trace that lost events", mode: off, change: func(o *Observation) {
			o.Trace = &TraceSaid{Lost: 1}
		}, want: result.Pass},
		{name: "a kernel that tells of no resets", mode: off, change: func(o *Observation) {
			o.Trace = &TraceSaid{Missing: ofResets}
		}, want: result.Pass},
		{name: "a kernel that tells of no softirqs", mode: off, change: func(o *Observation) {
			o.Trace = &TraceSaid{Missing: ofSoftirqs[1:]}
			o.Wire.Resets[0].Owner = result.OwnSocket
		}, want: result.Pass},
		{name: "a kernel that lacks another tracepoint", mode: off, change: func(o *Observation) {
			o.Trace = &TraceSaid{Missing: []string{"tcp:tcp_receive_reset"}}
		}, want: result.Error, reason: "trace and wire: resets explained: want 2, got 0"},
		{name: "a reset of somebody else", mode: off, change: func(o *Observation) {
			o.Trace = &TraceSaid{}
			o.Wire.Resets[0].Owner, o.Wire.Resets[1].Owner = result.SurvivingListener, result.NoSocket
		}, want: result.Fail, reason: "resets are of: want 2 surviving listener, got 1 no socket, 1 surviving listener"},
		{name: "another reason", mode: off, change: func(o *Observation) {
			o.Trace = &TraceSaid{}
			for i := range o.Wire.Resets {
				o.Wire.Resets[i].Owner, o.Wire.Resets[i].Reason = result.SurvivingListener, "NO_SOCKET"
			}
		}, want: result.Fail, reason: "resets have the reason: want 2 TCP_FLAGS, got 2 NO_SOCKET"},

		{name: "a known bug shows", mode: off, change: func(o *Observation) {
			o.Counters[kernel.MigrateFailure] = 2
		}, bugs: []result.Bug{{ID: "CVE-1", Check: kernel.MigrateFailure}}, want: result.XFail, reason: "CVE-1: TCPMigrateReqFailure: want 0, got 2"},
		{name: "a known bug shows, strictly", mode: off, strict: true, change: func(o *Observation) {
			o.Counters[kernel.MigrateFailure] = 2
		}, bugs: []result.Bug{{ID: "CVE-1", Check: kernel.MigrateFailure}}, want: result.Fail, reason: "CVE-1: TCPMigrateReqFailure: want 0, got 2"},
		{name: "a known bug and more", mode: off, change: func(o *Observation) {
			o.Counters[kernel.MigrateFailure], o.Counters[kernel.EstabResets] = 2, 3
		}, bugs: []result.Bug{{ID: "CVE-1", Check: kernel.MigrateFailure}}, want: result.Fail, reason: "EstabResets: want 2, got 3"},
		{name: "a known bug does not show", mode: off, bugs: []result.Bug{{ID: "CVE-1", Check: kernel.MigrateFailure}},
			want: result.Pass, reason: "XPASS: CVE-1 was expected of this version"},
		{name: "a known bug excuses no disagreement", mode: off, change: func(o *Observation) {
			o.Counters[kernel.OutRsts] = 1
		}, bugs: []result.Bug{{ID: "CVE-1", Check: kernel.OutRsts}}, want: result.Error, reason: "the witnesses disagree"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, e := observed(tt.lived), expect(tt.lives)
			if tt.change != nil {
				tt.change(o)
			}
			if o.Program != nil {
				e.Asked = 1
			}
			v := judge(tt.mode, e, o, tt.bugs, tt.strict)
			if v.Status != tt.want || !strings.Contains(v.Reason, tt.reason) {
				t.Errorf("got %s: %s\nwant %s: …%s…", v.Status, v.Reason, tt.want, tt.reason)
			}
		})
	}
}

// TestCompare: "no RST was seen" is worth something only beside an off cell whose resets were caught.
func TestCompare(t *testing.T) {
	for _, tt := range []struct {
		mode            string
		status, control result.Status
		want            result.Control
		reason          string
	}{
		{"off", result.Pass, result.Pass, result.IsControl, "r"},
		{"bpf", result.Pass, result.Pass, result.Controlled, "r"},
		{"bpf", result.Pass, result.Error, result.Uncontrolled, "r; uncontrolled: the off cell was ERROR"},
		{"bpf", result.Pass, result.Fail, result.Uncontrolled, "r; uncontrolled: the off cell was FAIL"},
		{"bpf", result.Pass, "", result.Uncontrolled, "r; uncontrolled: no off cell was played"},
		{"bpf", result.Fail, "", result.Uncontrolled, "r"},
	} {
		c := result.Cell{Mode: tt.mode, Status: tt.status, Reason: "r"}
		compare(&c, tt.control)
		if c.Control != tt.want || c.Reason != tt.reason {
			t.Errorf("%s %s beside %q: got %s, %q", tt.mode, tt.status, tt.control, c.Control, c.Reason)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
