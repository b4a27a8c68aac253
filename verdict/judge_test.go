package verdict

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rpmig/rpmig/result"
)

var (
	server = netip.MustParseAddrPort("127.0.0.1:80")
	peers  = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1001"), netip.MustParseAddrPort("127.0.0.1:1002")}
)

// expectations as those of quiz2.
func expect(lives bool) Expectation {
	e := Expectation{Lives: lives, Counted: map[string]int{
		result.MigrateSuccess: 0, result.MigrateFailure: 0, result.OutRsts: 0, result.EstabResets: 0, "ListenDrops": 1,
	}, Retried: []string{"ListenDrops"}}
	if lives {
		e.Counted[result.MigrateSuccess], e.Migrations = 1, 1
	} else {
		e.Flavour, e.Owner, e.Reason = result.BareRST, result.SurvivingListener, "TCP_FLAGS"
		e.Counted[result.OutRsts], e.Counted[result.EstabResets] = 1, 1
	}
	return e
}

// observed is what the witnesses say of two connections that both live or both do not.
func observed(lives bool) *Observation {
	o := &Observation{
		Staged:   2,
		Steps:    result.Steps{{Name: "close A"}},
		Staging:  []Staging{{Listener: "A", Requests: 2, WantRequests: 2}},
		Rule:     &Rule{Backend: "nftables", Dropped: 4, Want: 4, Sent: 4},
		Known:    map[string]int64{result.MigrateSuccess: 0, result.MigrateFailure: 0, result.OutRsts: 0, result.EstabResets: 0, "ListenDrops": 0},
		Counters: map[string]int64{"ListenDrops": 2},
		Wire:     Wire{Packets: 14, Handshakes: 2, Answered: map[netip.AddrPort]bool{}, Replied: map[netip.AddrPort]bool{}},
	}
	for i, p := range peers {
		c := Client{Local: p, Accepted: lives, Says: "ECONNRESET"}
		if lives {
			c.Says = "EAGAIN"
			o.Accepted = append(o.Accepted, Accepted{Peer: p, OK: true, Talk: BothWays})
			o.Wire.Answered[p], o.Wire.Replied[p] = true, true
		} else {
			o.Wire.Resets = append(o.Wire.Resets, result.Reset{Frame: 6 + i, From: server, To: p, Flavour: result.BareRST, Step: 1})
		}
		o.Clients = append(o.Clients, c)
	}
	if lives {
		o.Counters[result.MigrateSuccess] = 2
	} else {
		o.Counters[result.OutRsts], o.Counters[result.EstabResets] = 2, 2
	}
	return o
}

// suspect is one known bug, which the kernel has, or may have.
func suspect(check string, unknown bool) []Suspect {
	return []Suspect{{Bug: result.Bug{ID: "CVE-1", Check: check}, Unknown: unknown}}
}

// TestSuspects: a bug counts in the modes in which it can show, and on the kernels that have it, or may have it.
func TestSuspects(t *testing.T) {
	bugs := []result.Bug{
		{ID: "CVE-1", Since: "5.14", Fixed: []string{"6.1.175", "6.18.27"}, Modes: []string{"sysctl", "bpf"}},
		{ID: "CVE-2", Since: "5.14", Fixed: []string{"6.1.183", "6.18.45"}},
	}
	for _, tt := range []struct{ upstream, mode, want string }{
		{"6.1.170", "sysctl", "CVE-1 CVE-2"},
		{"6.1.170", "off", "CVE-2"},
		{"6.1.180", "bpf", "CVE-2"},
		{"6.1.192", "bpf", ""},
		{"5.10.262", "sysctl", ""},
		{"6.6.100", "sysctl", "CVE-1? CVE-2?"},
		{"", "sysctl", "CVE-1? CVE-2?"},
		{"", "off", "CVE-2?"},
	} {
		var got []string
		for _, s := range Suspects(bugs, tt.upstream, tt.mode) {
			if s.Unknown {
				s.ID += "?"
			}
			got = append(got, s.ID)
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%q in %s: %v, want %s", tt.upstream, tt.mode, got, tt.want)
		}
	}
}

// TestJudge holds the judge to its word: for each kind of check there is a case in which it must not pass.
func TestJudge(t *testing.T) {
	for _, tt := range []struct {
		name   string
		sysctl bool // tcp_migrate_req=1 was taken
		lives  bool // expected
		fails  bool // expected: each is counted as one that could not migrate
		lived  bool // observed
		change func(*Observation)
		want   result.Status
		reason string
		whole  bool // nothing follows the reason
		bugs   []Suspect
		strict bool
	}{
		{name: "lost as expected", want: result.Pass, reason: `lost, as expected: bare RST in frame 6, during "close A"`},
		{name: "lived as expected", sysctl: true, lives: true, lived: true, want: result.Pass, reason: "lived, as expected: migrated, no RST", whole: true},

		{name: "a kernel that does not migrate", sysctl: true, lives: true, want: result.Fail,
			reason: "tcp_migrate_req=1 was taken, and nothing migrated", whole: true},
		{name: "a kernel that migrates in vain", sysctl: true, lives: true, change: func(o *Observation) {
			o.Counters[result.MigrateFailure] = 2
		}, want: result.Fail, reason: "accepted: want 2, got 0"},
		{name: "a program that does not migrate", lives: true, want: result.Fail,
			reason: "accepted: want 2, got 0"},
		{name: "a kernel that migrates unasked", lived: true, want: result.Fail,
			reason: "accepted: want 0, got 2"},
		{name: "half of them lived", sysctl: true, lives: true, lived: true, change: func(o *Observation) {
			half := observed(false)
			o.Accepted, o.Clients[1], o.Wire.Resets = o.Accepted[:1], half.Clients[1], half.Wire.Resets[1:]
			o.Counters = map[string]int64{result.MigrateSuccess: 1, result.OutRsts: 1, result.EstabResets: 1}
			delete(o.Wire.Answered, peers[1])
		}, want: result.Fail, reason: "accepted: want 2, got 1"},
		{name: "wrong data", sysctl: true, lives: true, lived: true, change: func(o *Observation) {
			o.Accepted[1].OK, o.Accepted[1].Instead = false, "EOF after 3 bytes"
		}, want: result.Fail, reason: "accepted with their data: want 2, got 1; of the others: 1 EOF after 3 bytes"},
		{name: "a connection that is deaf once it has moved", lives: true, lived: true, change: func(o *Observation) {
			o.Accepted[1].Talk = Deaf
		}, want: result.Fail, reason: "survivors talk: want 2 both ways, got 1 both ways, 1 not: nothing gets through either way"},
		{name: "a server that sends nothing", lives: true, lived: true, change: func(o *Observation) {
			o.Accepted[1].Talk, o.Wire.Answered = "server to client: ECONNRESET", map[netip.AddrPort]bool{peers[0]: true}
		}, want: result.Fail, reason: "survivors talk: want 2 both ways, got 1 both ways, 1 server to client: ECONNRESET"},
		{name: "reset in its talk", lives: true, lived: true, change: func(o *Observation) {
			o.Accepted[1].Talk, o.Wire.Resets = "server to client: ECONNRESET", observed(false).Wire.Resets[1:]
			o.Counters[result.OutRsts] = 1
		}, want: result.Fail, reason: "survivors talk: want 2 both ways, got 1 both ways, 1 server to client: ECONNRESET"},
		{name: "an answer that no frame shows", lives: true, lived: true, change: func(o *Observation) {
			delete(o.Wire.Answered, peers[1])
		}, want: result.Error, reason: "the witnesses disagree: application, wire and sockets: who was accepted: want all, got 127.0.0.1:1002 was answered"},
		{name: "a client's words that no frame shows", lives: true, lived: true, change: func(o *Observation) {
			delete(o.Wire.Replied, peers[1])
		}, want: result.Error, reason: "127.0.0.1:1002 has sent again, and no frame shows it"},
		{name: "a program that names a listener, and should leave that to the kernel", lives: true, lived: true, change: func(o *Observation) {
			o.Program = &result.Program{SYN: 2, Migrated: 2, Named: 2}
		}, want: result.Fail, reason: "named a listener for a migration: want 0, got 2"},
		{name: "a program that names a listener, as it should", lives: true, lived: true, change: func(o *Observation) {
			o.Program, o.Chooses = &result.Program{SYN: 2, Migrated: 2, Named: 2}, true
		}, want: result.Pass},
		{name: "one that was accepted twice", lives: true, lived: true, change: func(o *Observation) {
			o.Accepted = append(o.Accepted, o.Accepted[0])
		}, want: result.Error, reason: "127.0.0.1:1001 twice"},
		{name: "one that was accepted and not noted", lives: true, lived: true, change: func(o *Observation) {
			o.Accepted, o.Clients[1].Accepted, o.Clients[1].Held = o.Accepted[:1], false, true
			delete(o.Wire.Answered, peers[1])
		}, want: result.Error, reason: "is not noted, and its server's end is held by a process"},
		{name: "one that the kernel counts and nobody can accept", lives: true, lived: true, change: func(o *Observation) {
			o.Accepted, o.Clients[1].Accepted = o.Accepted[:1], false
			delete(o.Wire.Answered, peers[1])
		}, want: result.Fail, reason: "accepted: want 2, got 1"},
		{name: "a handshake that the wire does not show", lives: true, lived: true, change: func(o *Observation) {
			o.Wire.Handshakes = 1
		}, want: result.Error, reason: "the witnesses disagree: application and wire: handshakes: want 2, got 1"},
		{name: "wrong flavour", change: func(o *Observation) {
			o.Wire.Resets[0].Flavour = result.RSTACK
		}, want: result.Fail, reason: "resets: want 2 server bare RST, got 1 server RST+ACK, 1 server bare RST"},
		{name: "a counter that moved", change: func(o *Observation) {
			o.Counters[result.MigrateFailure] = 2
		}, want: result.Fail, reason: "TCPMigrateReqFailure: want 0, got 2"},
		{name: "a program that was not asked", lives: true, lived: true, change: func(o *Observation) {
			o.Program = &result.Program{SYN: 0, Migrated: 2}
		}, want: result.Fail, reason: "asked about a SYN: want 2, got 0"},
		{name: "a program that was not asked about a SYN that was sent again", lives: true, lived: true, change: func(o *Observation) {
			o.Program, o.Wire.SYNsAgain = &result.Program{SYN: 2, Migrated: 2}, 1
		}, want: result.Fail, reason: "asked about a SYN: want 3, got 2"},

		{name: "a program that is asked about a stray segment", lives: true, lived: true, change: func(o *Observation) {
			o.Program = &result.Program{SYN: 2, Migrated: 2, Stray: 1}
		}, want: result.Fail, reason: "asked about a stray segment: want 0, got 1"},
		{name: "a program that is asked too often, on a kernel that does not count that", change: func(o *Observation) {
			o.Program = &result.Program{SYN: 2, Migrated: 3}
			delete(o.Known, result.MigrateSuccess)
			delete(o.Known, result.MigrateFailure)
		}, want: result.Fail, reason: "asked about a migration: want 2, got 3"},
		{name: "others connect as well", lives: true, lived: true, change: func(o *Observation) {
			o.Program, o.Bystanders, o.Wire.Handshakes = &result.Program{SYN: 3, Migrated: 2}, 1, 3
		}, want: result.Pass},
		{name: "a listener that the program did not choose", lives: true, lived: true, change: func(o *Observation) {
			o.Others, o.Unchosen = 1, 2
		}, want: result.Fail, reason: "with a listener that the program did not choose: want 0, got 2"},

		{name: "the rule was never in", change: func(o *Observation) {
			o.Rule.Dropped = 0
		}, want: result.Error, reason: "not staged: segments dropped by the rule: want 4 or more, got 0"},
		{name: "a rule that counts what was not sent", change: func(o *Observation) {
			o.Rule.Dropped = 104
		}, want: result.Error, reason: "the witnesses disagree: rule and wire: dropped segments were sent: want all, got 4 of 104"},
		{name: "no request sockets", change: func(o *Observation) {
			o.Staging[0].Requests, o.Staging[0].Queued = 0, 2
		}, want: result.Error, reason: "not staged: in the accept queue of A: want 0, got 2"},
		{name: "a fate unknown", change: func(o *Observation) {
			o.Undecided = "it did not happen"
		}, want: result.Error, reason: "fate of every connection"},
		{name: "an absence over a lossy capture", sysctl: true, lives: true, lived: true, change: func(o *Observation) {
			o.Wire.Lost = 1
		}, want: result.Error, reason: "the capture lost 1 frame of 15"},
		{name: "a reset missing from a lossy capture", change: func(o *Observation) {
			o.Wire.Lost, o.Wire.Resets = 3, o.Wire.Resets[:1]
		}, want: result.Error, reason: "the capture lost 3 frames of 17"},
		{name: "a handshake missing from a lossy capture", change: func(o *Observation) {
			o.Wire.Lost, o.Wire.Handshakes = 3, 1
		}, want: result.Error, reason: "the capture lost 3 frames"},
		{name: "all resets in a lossy capture", change: func(o *Observation) {
			o.Wire.Lost = 1
		}, want: result.Pass, reason: "lost, as expected"},

		{name: "a kernel that counts each migration twice", sysctl: true, lives: true, lived: true, change: func(o *Observation) {
			o.Counters[result.MigrateSuccess] = 4
		}, want: result.Fail, reason: "the kernel miscounts: survivors, and TCPMigrateReqSuccess: want 2, got 4"},
		{name: "a kernel that does not count a reset", change: func(o *Observation) {
			o.Counters[result.OutRsts] = 1
		}, want: result.Fail, reason: "the kernel miscounts: resets sent, and OutRsts: want 2, got 1"},
		{name: "a count that contradicts a wire that contradicts the clients", change: func(o *Observation) {
			o.Wire.Resets = o.Wire.Resets[:1]
		}, want: result.Error, reason: "the witnesses disagree: client and wire: who was reset heard it"},
		{name: "a count that contradicts a lossy capture", change: func(o *Observation) {
			o.Counters[result.OutRsts], o.Wire.Lost = 3, 1
		}, want: result.Error, reason: "the capture lost 1 frame"},
		{name: "the wire contradicts the application", sysctl: true, lives: true, lived: true, change: func(o *Observation) {
			o.Wire.Resets = observed(false).Wire.Resets[:1]
			o.Counters[result.OutRsts] = 1
		}, want: result.Error, reason: "127.0.0.1:1001 says EAGAIN, with 1 reset"},
		{name: "a client contradicts the wire", sysctl: true, lives: true, lived: true, change: func(o *Observation) {
			o.Clients[0].Says = "ECONNRESET"
		}, want: result.Error, reason: "client and wire: who was reset heard it"},
		{name: "one that was accepted, and reset", sysctl: true, lives: true, lived: true, change: func(o *Observation) {
			o.Clients[0].Says, o.Wire.Resets = "ECONNRESET", observed(false).Wire.Resets[:1]
			o.Counters[result.OutRsts] = 1
		}, want: result.Fail, reason: "client sockets say"},
		{name: "the program contradicts the counters", lives: true, lived: true, change: func(o *Observation) {
			o.Program = &result.Program{SYN: 2, Migrated: 1}
		}, want: result.Fail, reason: "the kernel miscounts: migrations that the program decided, and those counted: want 1, got 2"},

		{name: "counters that this kernel lacks prove nothing and disprove nothing", change: func(o *Observation) {
			delete(o.Known, result.MigrateSuccess)
			delete(o.Known, result.MigrateFailure)
		}, want: result.Pass},
		{name: "a counter that should move is absent", sysctl: true, lives: true, lived: true, change: func(o *Observation) {
			delete(o.Known, result.MigrateSuccess)
			delete(o.Counters, result.MigrateSuccess)
		}, want: result.Fail, reason: "the sysctl is there and the code is not: tcp_migrate_req=1 was taken, and this kernel does not count migrations"},
		{name: "a counter that should move is absent, and the sysctl was not taken", lives: true, lived: true, change: func(o *Observation) {
			delete(o.Known, result.MigrateSuccess)
			delete(o.Counters, result.MigrateSuccess)
		}, want: result.Fail, reason: "TCPMigrateReqSuccess: want 2, got absent"},
		{name: "a kernel without the code, and no listener to migrate to", sysctl: true, fails: true, change: func(o *Observation) {
			delete(o.Known, result.MigrateSuccess)
			delete(o.Known, result.MigrateFailure)
		}, want: result.Fail, reason: "the sysctl is there and the code is not"},
		{name: "a kernel without the code, and a stream", sysctl: true, lives: true, change: func(o *Observation) {
			o.Known = map[string]int64{}
			o.Stream = &result.Stream{AtStake: 3, Connections: 1000, Lost: 400, Losses: result.Losses{Reset: 400}, InQueue: 400}
		}, want: result.Fail, reason: "the sysctl is there and the code is not"},
		{name: "a kernel without the code, and nothing that needs it", sysctl: true, change: func(o *Observation) {
			delete(o.Known, result.MigrateSuccess)
			delete(o.Known, result.MigrateFailure)
		}, want: result.Pass, reason: "lost, as expected"},
		{name: "a kernel without the code excuses no disagreement", sysctl: true, lives: true, change: func(o *Observation) {
			o.Known = map[string]int64{}
			o.Clients[0].Says = "EAGAIN"
		}, want: result.Error, reason: "the witnesses disagree"},
		{name: "fresh clients are not served", sysctl: true, lives: true, lived: true, change: func(o *Observation) {
			o.PostCheck = &PostCheck{Open: 1, Unserved: 1}
		}, want: result.Fail, reason: "the listener is left damaged: open listeners serve fresh clients: want all, got all but 1"},
		{name: "a request is never freed, and holds its listener", sysctl: true, lives: true, lived: true, change: func(o *Observation) {
			o.PostCheck = &PostCheck{Unfreed: 1}
		}, want: result.Fail, reason: "closed sockets that are never freed: want 0, got 1"},
		{name: "a request is never freed, on a machine that is too slow", sysctl: true, lives: true, lived: true, change: func(o *Observation) {
			o.PostCheck = &PostCheck{Unfreed: 1}
			o.Wire.SYNACKsAgain, o.Accepted = 2, nil
		}, want: result.Fail, reason: "closed sockets that are never freed: want 0, got 1"},
		{name: "whether sockets are freed could not be told", sysctl: true, lives: true, lived: true, change: func(o *Observation) {
			o.PostCheck = &PostCheck{Unfreed: NotCounted}
		}, want: result.Pass, reason: "lived, as expected"},
		{name: "whether sockets are freed the machine was too slow to tell", sysctl: true, lives: true, lived: true, change: func(o *Observation) {
			o.PostCheck = &PostCheck{Unfreed: NotCounted, HeldUp: true}
			o.Delays = []Delay{{At: 2.5, Seconds: 1.5, What: "the cell's thread did not run"}}
		}, want: result.Error, reason: "whether the kernel frees what was closed is not known"},
		{name: "fresh clients meet cookies", sysctl: true, lives: true, lived: true, change: func(o *Observation) {
			o.PostCheck = &PostCheck{Open: 1, Counters: map[string]int64{"SyncookiesSent": 1}}
		}, want: result.Fail, reason: "the listener is left damaged: SyncookiesSent afterwards: want 0, got 1"},

		{name: "a machine that is too slow", change: func(o *Observation) {
			o.Wire.SYNACKsAgain, o.Counters[result.EstabResets] = 2, 3
		}, want: result.Error, reason: "too slow for this case: 2 SYN+ACKs were sent again"},
		{name: "a harness that is too slow", change: func(o *Observation) {
			o.Sending, o.Wire.Resets = 1100*time.Millisecond, nil
		}, want: result.Error, reason: "too slow for this case: the clients were done with sending 1.1 s after"},
		{name: "a case that was staged too late", sysctl: true, lives: true, change: func(o *Observation) {
			o.SYNACKTimer, o.Connected, o.StagedAt = true, 0.1, 1.2
		}, want: result.Error, reason: "too slow for this case: the case was staged 1.1 s after the first client began to connect"},
		{name: "a SYN+ACK timer that fired too early", sysctl: true, lives: true, change: func(o *Observation) {
			o.SYNACKTimer, o.Wire.SYNACKsAgain, o.Wire.EarlySYNACKs = true, 3, 1
		}, want: result.Error, reason: "too slow for this case: 1 SYN+ACK was sent again before the case was staged"},
		{name: "a SYN+ACK timer that fired when it should", sysctl: true, lives: true, change: func(o *Observation) {
			o.SYNACKTimer, o.Wire.SYNACKsAgain, o.Sending = true, 3, 2*time.Second
		}, want: result.Fail, reason: "tcp_migrate_req=1 was taken, and nothing migrated"},
		{name: "a thread that was stopped in its sleep, however short", sysctl: true, lives: true, change: func(o *Observation) {
			o.Delays = []Delay{{"a thread that slept was stopped", 2.5, 0}}
		}, want: result.Error, reason: `too slow for this case: a thread that slept was stopped, until 2.5000 s, during "close A"`},
		{name: "a thread that was stopped", sysctl: true, lives: true, change: func(o *Observation) {
			o.Delays = []Delay{{"the cell's thread overslept", 0.3, 0.2}, {"the cell's thread did not run", 2.5, 1.5}}
		}, want: result.Error, reason: `too slow for this case: the cell's thread did not run for 1.50 s, until 2.5000 s, during "close A"`},
		{name: "a thread that was stopped, on a kernel that counts no migrations", sysctl: true, lives: true, change: func(o *Observation) {
			o.Delays = []Delay{{"the cell's thread did not run", 2.5, 1.5}}
			delete(o.Known, result.MigrateSuccess)
		}, want: result.Fail, reason: "the sysctl is there and the code is not"},
		{name: "a thread that was stopped, and no harm done", lives: true, lived: true, change: func(o *Observation) {
			o.Delays = []Delay{{"the cell's thread overslept", 0.3, 0.2}}
		}, want: result.Pass},
		{name: "a segment that came when both ends had ended", lives: true, lived: true, change: func(o *Observation) {
			o.Wire.Resets = observed(false).Wire.Resets[:1]
			o.Wire.Resets[0].Crossed, o.Counters[result.OutRsts] = true, 1
		}, want: result.Pass},
		{name: "a segment that crossed the reset", change: func(o *Observation) {
			again := o.Wire.Resets[0]
			again.Frame, again.Crossed, again.Flavour = 8, true, result.BareRST
			o.Wire.Resets = append(o.Wire.Resets, again)
			o.Counters[result.OutRsts] = 3
		}, want: result.Pass},
		{name: "a second reset that crossed nothing", change: func(o *Observation) {
			o.Wire.Resets = append(o.Wire.Resets, o.Wire.Resets[0])
			o.Counters[result.OutRsts] = 3
		}, want: result.Fail, reason: "resets: want 2 server bare RST, got 3 server bare RST"},
		{name: "a reset that crossed and was not counted", change: func(o *Observation) {
			again := o.Wire.Resets[0]
			again.Crossed = true
			o.Wire.Resets = append(o.Wire.Resets, again)
		}, want: result.Fail, reason: "the kernel miscounts: resets sent, and OutRsts: want 3, got 2"},
		{name: "a refusal too many", change: func(o *Observation) {
			o.Counters["ListenDrops"] = 3
		}, want: result.Fail, reason: "ListenDrops: want 2, got 3"},
		{name: "a refusal of what a client sent again", change: func(o *Observation) {
			o.Counters["ListenDrops"], o.Retries = 3, 1
		}, want: result.Pass},
		{name: "more refusals than were sent again", change: func(o *Observation) {
			o.Counters["ListenDrops"], o.Retries = 4, 1
		}, want: result.Fail, reason: "ListenDrops: want 2, got 4"},
		{name: "a trace that contradicts the wire", change: func(o *Observation) {
			o.Trace = &Trace{}
			o.Wire.Resets[0].Owner = result.SurvivingListener
		}, want: result.Error, reason: "trace and wire: resets explained: want 2, got 1"},
		{name: "a trace that lost events", change: func(o *Observation) {
			o.Trace = &Trace{Trace: result.Trace{Lost: 1}}
		}, want: result.Pass},
		{name: "a kernel that tells of no resets", change: func(o *Observation) {
			o.Trace = &Trace{LacksResets: true}
		}, want: result.Pass},
		{name: "a kernel that tells of no softirqs", change: func(o *Observation) {
			o.Trace = &Trace{LacksSoftirqs: true}
			o.Wire.Resets[0].Owner = result.OwnSocket
		}, want: result.Pass},
		{name: "a kernel that lacks another tracepoint", change: func(o *Observation) {
			o.Trace = &Trace{Trace: result.Trace{Missing: []string{"tcp:tcp_receive_reset"}}}
		}, want: result.Error, reason: "trace and wire: resets explained: want 2, got 0"},
		{name: "a reset of somebody else", change: func(o *Observation) {
			o.Trace = &Trace{}
			o.Wire.Resets[0].Owner, o.Wire.Resets[1].Owner = result.SurvivingListener, result.NoSocket
		}, want: result.Fail, reason: "resets are of: want 2 surviving listener, got 1 no socket, 1 surviving listener"},
		{name: "another reason", change: func(o *Observation) {
			o.Trace = &Trace{}
			for i := range o.Wire.Resets {
				o.Wire.Resets[i].Owner, o.Wire.Resets[i].Reason = result.SurvivingListener, "NO_SOCKET"
			}
		}, want: result.Fail, reason: "resets have the reason: want 2 TCP_FLAGS, got 2 NO_SOCKET"},

		{name: "a known bug shows", change: func(o *Observation) {
			o.Counters[result.MigrateFailure] = 2
		}, bugs: suspect(result.MigrateFailure, false), want: result.XFail, reason: "CVE-1: TCPMigrateReqFailure: want 0, got 2"},
		{name: "a known bug shows, strictly", strict: true, change: func(o *Observation) {
			o.Counters[result.MigrateFailure] = 2
		}, bugs: suspect(result.MigrateFailure, false), want: result.Fail, reason: "CVE-1: TCPMigrateReqFailure: want 0, got 2"},
		{name: "a known bug and more", change: func(o *Observation) {
			o.Counters[result.MigrateFailure], o.Counters[result.EstabResets] = 2, 3
		}, bugs: suspect(result.MigrateFailure, false), want: result.Fail, reason: "EstabResets: want 2, got 3"},
		{name: "a known bug does not show", bugs: suspect(result.MigrateFailure, false),
			want: result.Pass, reason: `during "close A"; XPASS: CVE-1 was expected of this version, and did not show`, whole: true},
		{name: "a known bug does not show, and something else is wrong", change: func(o *Observation) {
			o.Counters[result.EstabResets] = 3
		}, bugs: suspect(result.MigrateFailure, false), want: result.Fail, reason: "EstabResets: want 2, got 3", whole: true},
		{name: "what looks like a bug, on a kernel that may have it", change: func(o *Observation) {
			o.Counters[result.MigrateFailure] = 2
		}, bugs: suspect(result.MigrateFailure, true), want: result.XFail,
			reason: "TCPMigrateReqFailure: want 0, got 2, as the known bug CVE-1 does; by version unknown whether this kernel has it"},
		{name: "what looks like a bug, on a kernel that may have it, strictly", strict: true, change: func(o *Observation) {
			o.Counters[result.MigrateFailure] = 2
		}, bugs: suspect(result.MigrateFailure, true), want: result.Fail, reason: "by version unknown whether this kernel has it"},
		{name: "what looks like a bug and more, on a kernel that may have it", change: func(o *Observation) {
			o.Counters[result.MigrateFailure], o.Counters[result.EstabResets] = 2, 3
		}, bugs: suspect(result.MigrateFailure, true), want: result.Fail, reason: "EstabResets: want 2, got 3"},
		{name: "a kernel that may have a bug, and has it not", bugs: suspect(result.MigrateFailure, true),
			want: result.Pass, reason: `during "close A"`, whole: true},
		{name: "a known bug excuses no disagreement", change: func(o *Observation) {
			o.Wire.Resets = o.Wire.Resets[:1]
		}, bugs: suspect(result.OutRsts, false), want: result.Error, reason: "the witnesses disagree"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, e := observed(tt.lived), expect(tt.lives)
			if tt.change != nil {
				tt.change(o)
			}
			if o.Program != nil {
				e.Asked = 1
			}
			if tt.fails {
				e.Counted[result.MigrateFailure] = 1
			}
			o.SysctlTaken = tt.sysctl
			v := Judge(e, o, tt.bugs, tt.strict)
			if v.Status != tt.want || !strings.Contains(v.Reason, tt.reason) || tt.whole && !strings.HasSuffix(v.Reason, tt.reason) {
				t.Errorf("got %s: %s\nwant %s: …%s…", v.Status, v.Reason, tt.want, tt.reason)
			}
		})
	}
}

// TestConfirmVerdict: a FAIL stays one only where it came twice.
func TestConfirmVerdict(t *testing.T) {
	for again, want := range map[result.Status]result.Status{
		result.Fail: result.Fail, result.Pass: result.Error, result.Error: result.Error, result.XFail: result.Error,
	} {
		v := Verdict{Status: result.Fail, Reason: "r"}
		v.Confirm(Verdict{Status: again, Reason: "s"})
		reason := "r"
		if want == result.Error {
			reason = fmt.Sprintf("not confirmed: r; played again, alone, it was %s: s", again)
		}
		if v.Status != want || v.Reason != reason {
			t.Errorf("FAIL, and then %s: %s: %s, want %s: %s", again, v.Status, v.Reason, want, reason)
		}
	}
}

// TestControl: "no RST was seen" is worth something only beside an off cell whose resets were caught.
func TestControl(t *testing.T) {
	for _, tt := range []struct {
		isControl       bool
		status, control result.Status
		want            result.Control
		reason          string
	}{
		{true, result.Pass, result.Pass, result.IsControl, "r"},
		{false, result.Pass, result.Pass, result.Controlled, "r"},
		{false, result.Pass, result.Error, result.Uncontrolled, "r; uncontrolled: the off cell was ERROR"},
		{false, result.Pass, result.Fail, result.Uncontrolled, "r; uncontrolled: the off cell was FAIL"},
		{false, result.Pass, "", result.Uncontrolled, "r; uncontrolled: no off cell was played"},
		{false, result.Fail, "", result.Uncontrolled, "r"},
	} {
		v := Verdict{Status: tt.status, Reason: "r"}
		if got := v.Control(tt.isControl, tt.control); got != tt.want || v.Reason != tt.reason {
			t.Errorf("%s beside %q: got %s, %q", tt.status, tt.control, got, v.Reason)
		}
	}
}

// TestEveryWitnessCounts: a check that does not hold is no PASS, whichever witness it is of, and one of a witness that the
// judge does not know is an ERROR even if it holds.
func TestEveryWitnessCounts(t *testing.T) {
	judged := func(w result.Witness, ok bool) result.Status {
		j := judgement{o: observed(false), exp: expect(false), checks: []result.Check{{Name: "c", Witness: w, OK: ok}}}
		return j.verdict().Status
	}
	for _, w := range result.Witnesses() {
		want := result.Fail
		if w == result.Staging || w == result.Agreement {
			want = result.Error
		}
		if got := judged(w, false); got != want {
			t.Errorf("%s: %s, want %s", w, got, want)
		}
		if got := judged(w, true); got != result.Pass {
			t.Errorf("%s, which holds: %s", w, got)
		}
	}
	for _, ok := range []bool{true, false} {
		if got := judged("a stranger", ok); got != result.Error {
			t.Errorf("an unknown witness (%t): %s", ok, got)
		}
	}
}

// TestFacts: each kind of expectation of a fact can fail.
func TestFacts(t *testing.T) {
	for _, tt := range []struct {
		want any
		got  Fact
		ok   bool
	}{
		{"all", Fact{Got: "all"}, true},
		{"all", Fact{Got: "none"}, false},
		{0, Fact{Got: "0"}, true},
		{Each(2), Fact{Got: "4"}, true}, // of two connections
		{Each(2), Fact{Got: "2"}, false},
		{Range{Min: 1, Max: 2}, Fact{Got: "in words", Number: 1.5}, true},
		{Range{Min: 1, Max: 2}, Fact{Got: "1.5", Number: 3}, false},
		{Range{Min: 1, Max: 2}, Fact{Got: "1.5", Number: math.NaN()}, false},
		{IfKnown("none"), Fact{Got: "none"}, true},
		{IfKnown("none"), Fact{Got: "one"}, false},
	} {
		o, e := observed(true), expect(true)
		tt.got.Name = "f"
		o.Facts, e.Facts = []Fact{tt.got}, map[string]any{"f": tt.want}
		if v := Judge(e, o, nil, false); (v.Status == result.Pass) != tt.ok {
			t.Errorf("want %v, got %+v: %s: %s", tt.want, tt.got, v.Status, v.Reason)
		}
		o.Facts = nil
		_, may := tt.want.(IfKnown)
		if v := Judge(e, o, nil, false); (v.Status == result.Pass) != may {
			t.Errorf("want %v, and nothing was found out: %s", tt.want, v.Status)
		}
	}
}

// TestHostWideTrace: what a trace of the whole host does not tell, or is not sure of, is no disagreement; what it is sure
// of is one.
func TestHostWideTrace(t *testing.T) {
	for _, tt := range []struct {
		name   string
		owner  result.Owner
		sure   bool
		host   bool
		want   result.Status
		checks int // of the trace
	}{
		{"as expected, for sure", result.SurvivingListener, true, true, result.Pass, 1},
		{"another's, for sure", result.NoSocket, true, true, result.Fail, 1},
		{"another's, by the addresses", result.NoSocket, false, true, result.Pass, 0},
		{"not told whose", "", true, true, result.Pass, 0},
		{"not told whose, by a trace of the namespace", "", true, false, result.Error, 1},
	} {
		o := observed(false)
		o.Trace = &Trace{Trace: result.Trace{HostWide: tt.host}, Sure: map[int]bool{}}
		for i := range o.Wire.Resets {
			o.Wire.Resets[i].Owner = tt.owner
			o.Trace.Sure[o.Wire.Resets[i].Frame] = tt.sure
		}
		v := Judge(expect(false), o, nil, false)
		if v.Status != tt.want {
			t.Errorf("%s: %s: %s; want %s", tt.name, v.Status, v.Reason, tt.want)
		}
		n := 0
		for _, c := range v.Checks {
			if c.Witness == result.TraceSaid {
				n++
			}
		}
		if n != tt.checks {
			t.Errorf("%s: %d checks of the trace, want %d", tt.name, n, tt.checks)
		}
	}
}

// TestDeaf: connections that should be deaf once they are accepted, and are, have not lived; one that talks is a FAIL.
func TestDeaf(t *testing.T) {
	exp := Expectation{Lives: true, Migrations: 1, Talk: Deaf, Counted: map[string]int{result.MigrateSuccess: 1}}
	for _, tt := range []struct {
		name, talk string
		want       result.Status
		reason     string
		counted    result.Connections
	}{
		{"both are deaf", Deaf, result.Pass, "accepted and deaf, as expected", result.Connections{Staged: 2, Lost: 2, Deaf: 2}},
		{"one talks", BothWays, result.Fail, "survivors talk", result.Connections{Staged: 2, Survived: 1, Lost: 1, Deaf: 1}},
	} {
		o := observed(true)
		o.Accepted[0].Talk, o.Accepted[1].Talk = tt.talk, Deaf
		v := Judge(exp, o, nil, false)
		if v.Status != tt.want || !strings.Contains(v.Reason, tt.reason) || o.Connections() != tt.counted {
			t.Errorf("%s: %s: %s, %+v", tt.name, v.Status, v.Reason, o.Connections())
		}
	}
}

// TestFault: a report of the kernel's own makes a FAIL of a PASS, and a check says so, as in every FAIL.
func TestFault(t *testing.T) {
	v := Verdict{Status: result.Pass, Reason: "lived", Bug: "CVE-1", Checks: []result.Check{{Name: "accepted", Want: "1", Got: "1", OK: true}}}
	v.Fault("BUG: KASAN: use-after-free")
	failed := slices.DeleteFunc(slices.Clone(v.Checks), func(c result.Check) bool { return c.OK })
	if v.Status != result.Fail || v.Bug != "" || len(failed) != 1 || failed[0].Got != "BUG: KASAN: use-after-free" || !strings.HasSuffix(v.Reason, ": "+failed[0].Got) {
		t.Errorf("got %+v", v)
	}
	for name, say := range map[string]func(*Verdict, string){"no culprit": (*Verdict).NoCulprit, "stalled": (*Verdict).Stalled} {
		v := Verdict{Status: result.Pass, Reason: "lived", Bug: "CVE-1"}
		if say(&v, "a line"); v.Status != result.Error || v.Bug != "" || !strings.HasSuffix(v.Reason, ": a line") {
			t.Errorf("%s: got %+v", name, v)
		}
	}
}

// TestUnasked: what the case does not say decides nothing.
func TestUnasked(t *testing.T) {
	for name, tt := range map[string]struct {
		lives  bool
		change func(*Expectation, *Observation)
		want   result.Status
		reason string
	}{
		"lives without migration": {true, func(e *Expectation, o *Observation) {
			e.Migrations, e.Counted[result.MigrateSuccess], o.Counters[result.MigrateSuccess] = 0, 0, 0
		}, result.Pass, "without migration"},
		"lives without migration, and does not": {true, func(e *Expectation, o *Observation) {
			e.Migrations, e.Counted[result.MigrateSuccess] = 0, 0
			*o = *observed(false)
			o.SysctlTaken = true
		}, result.Fail, "accepted: want 2, got 0"},
		"lost, and counted as migrated": {false, func(e *Expectation, o *Observation) {
			delete(e.Counted, result.MigrateSuccess)
			o.Counters[result.MigrateSuccess] = 1
		}, result.Fail, "the kernel miscounts: survivors, and TCPMigrateReqSuccess: want 0, got 1"},
		"a program that is not to be asked, and migrations that fail without it": {false, func(e *Expectation, o *Observation) {
			o.Program, e.Counted[result.MigrateFailure], o.Counters[result.MigrateFailure] = &result.Program{SYN: 2}, 1, 2
		}, result.Pass, ""},
		"slow, and nothing is left": {true, func(_ *Expectation, o *Observation) {
			o.PostCheck, o.Wire.SYNACKsAgain, o.Accepted = &PostCheck{}, 2, nil
		}, result.Error, "too slow for this case"},
		"a trace of the whole host, and an event that may be another's": {false, func(_ *Expectation, o *Observation) {
			o.Trace = &Trace{Trace: result.Trace{HostWide: true}, Sure: map[int]bool{6: true}}
			o.Wire.Resets[0].Owner, o.Wire.Resets[1].Owner = result.SurvivingListener, result.NoSocket
		}, result.Pass, ""},
		"a trace of the whole host, and an event that is not there": {false, func(_ *Expectation, o *Observation) {
			o.Trace = &Trace{Trace: result.Trace{HostWide: true}, Sure: map[int]bool{6: true, 7: true}}
			o.Wire.Resets[0].Owner = result.SurvivingListener
		}, result.Pass, ""},
		"a trace of the whole host, and no event at all": {false, func(_ *Expectation, o *Observation) {
			o.Trace = &Trace{Trace: result.Trace{HostWide: true}}
		}, result.Pass, ""},
		"a trace of the whole host, and an event that is surely the cell's": {false, func(_ *Expectation, o *Observation) {
			o.Trace = &Trace{Trace: result.Trace{HostWide: true}, Sure: map[int]bool{6: true, 7: true}}
			o.Wire.Resets[0].Owner, o.Wire.Resets[1].Owner = result.SurvivingListener, result.NoSocket
		}, result.Fail, "resets are of: want 2 surviving listener, got 1 no socket, 1 surviving listener"},
	} {
		e, o := expect(tt.lives), observed(tt.lives)
		tt.change(&e, o)
		if v := Judge(e, o, nil, false); v.Status != tt.want || !strings.Contains(v.Reason, tt.reason) {
			t.Errorf("%s: %s: %s", name, v.Status, v.Reason)
		}
	}
}

// TestOrAll: of what is odd the first three are named, and the others counted.
func TestOrAll(t *testing.T) {
	for want, n := range map[string]int{"all": 0, "a; b; c": 3, "a; b; c; and 2 more": 5} {
		if got := orAll([]string{"a", "b", "c", "d", "e"}[:n]); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
