package reports

import (
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rpmig/rpmig/result"
)

var update = flag.Bool("update", false, "write testdata/*.golden anew")

// golden holds what was got against a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s: -want +got; -update takes what was got:\n%s", name, diff)
	}
}

const noBPF = "bpf modes need root, or CAP_BPF and CAP_NET_ADMIN"

// modes are those of a ledger, in its order.
func modes() []result.Mode {
	return []result.Mode{
		{Name: "off", Doc: "no migration: the kernel's default",
			Advice: "What may save it is migration: the sysctl net.ipv4.tcp_migrate_req=1 (Linux 5.14), or a BPF program. " +
				"Migration needs another listener of the same reuseport group in LISTEN when the old one closes."},
		{Name: "sysctl", Doc: "net.ipv4.tcp_migrate_req=1: the kernel picks the new listener by hash", Saves: "the sysctl net.ipv4.tcp_migrate_req=1"},
		{Name: "bpf", Doc: "a migrate program picks the new listener", Saves: "a BPF program that selects the new listener"},
		{Name: "bpf-pass", Doc: "a migrate program leaves the pick to the kernel", Saves: "a BPF program that leaves the choice to the kernel"},
		{Name: "bpf-drop", Doc: "a migrate program refuses", Advice: "The program refused (SK_DROP). One that returns SK_PASS would have let the connection migrate."},
		{Name: "bpf-select", Doc: "a program attached as plain SELECT: the kernel does not ask it to migrate", Advice: "The program is attached as plain SELECT, which takes no part in migration: attach it as SELECT_OR_MIGRATE."},
	}
}

// play is a cell that went as its mode promises.
func play(scenario, family, mode string, repeat int) result.Cell {
	host := "127.0.0.1"
	if family == "ipv6" {
		host = "::1"
	}
	server := netip.AddrPortFrom(netip.MustParseAddr(host), 80)
	client := netip.AddrPortFrom(server.Addr(), uint16(39257+repeat))

	c := result.Cell{
		Scenario: scenario, Family: family, Mode: mode, Repeat: repeat,
		Status: result.Pass, Control: result.Controlled,
		Connections: result.Connections{Staged: 1},
		Capture:     result.Capture{Packets: 9},
		Elapsed:     0.0153,
		Steps: []result.Step{
			{Name: "listen A"}, {Name: "connect", At: 0.0002}, {Name: "listen B", At: 0.0008}, {Name: "close A", At: 0.0011},
		},
	}
	c.Capture.File = "cells/" + c.ID() + "/capture.pcapng"
	reset := result.Reset{Frame: 6, Time: 0.0012, From: server, To: client, Flavour: result.RSTACK, Step: 4}
	if scenario == "quiz2" {
		c.DropBackend = "iptables (nf_tables)"
		c.Elapsed = 0.2214
		c.Steps = append(c.Steps, result.Step{Name: "wait for the retransmission", At: 0.0014})
		reset.Time, reset.Flavour, reset.Step = 0.2071, result.BareRST, 5
	}
	if mode == "off" {
		c.Control = result.IsControl
	}
	if strings.HasPrefix(mode, "bpf") {
		c.Program = &result.Program{SYN: 1, Migrated: 1}
	}
	switch mode {
	case "off", "bpf-drop", "bpf-select":
		c.Connections.Lost = 1
		c.Resets = []result.Reset{reset}
		c.Reason = fmt.Sprintf("lost, as expected: %s during %s", reset.Flavour, c.StepName(reset.Step))
		c.Counters = map[string]int64{"OutRsts": 1, "EstabResets": 2}
		c.Checks = []result.Check{
			{Name: "accept on B", Witness: result.Application, Want: "EAGAIN", Got: "EAGAIN", OK: true},
			{Name: "OutRsts", Witness: result.Counters, Want: "1", Got: "1", OK: true},
		}
	default:
		c.Connections.Survived = 1
		c.Reason = "migrated: B accepted the connection and its data"
		c.Counters = map[string]int64{"TCPMigrateReqSuccess": 1}
		c.Checks = []result.Check{
			{Name: "accept on B", Witness: result.Application, Want: "1 connection", Got: "1 connection", OK: true},
		}
	}
	if mode == "bpf-drop" {
		c.Counters["TCPMigrateReqFailure"] = 1
	}
	return c
}

// mixed has every status, every mode and both families, in an order in which cells may end.
func mixed() *result.Run {
	run := &result.Run{Header: result.Header{
		Schema: result.Schema, Version: "0.1.0", Kernel: "6.18.5", Machine: "x86_64",
		Command: []string{"run", "all", "--migrate=all", "--family=all"}, Cells: 24, Port: 80, Modes: modes(),
	}}
	for _, mode := range []string{"bpf-select", "off", "bpf", "sysctl", "bpf-drop", "bpf-pass"} {
		for _, family := range []string{"ipv6", "ipv4"} {
			for _, scenario := range []string{"quiz2", "quiz1"} {
				c := play(scenario, family, mode, 1)
				switch c.ID() {
				case "quiz2/ipv4/bpf/1":
					fail(&c)
				case "quiz2/ipv6/sysctl/1":
					c.Status = result.Error
					c.Reason = "the witnesses disagree: B accepted the connection, and TCPMigrateReqSuccess did not move"
					c.Counters = nil
					c.Checks = append(c.Checks, result.Check{
						Name: "TCPMigrateReqSuccess and accept on B", Witness: result.Agreement, Want: "1 and 1", Got: "0 and 1",
					})
				case "quiz2/ipv4/off/1":
					c.Trace = &result.Trace{Lost: 3, Missing: []string{"tcp:tcp_send_reset", "irq:softirq_exit"}}
				case "quiz1/ipv6/off/1":
					c.Trace = &result.Trace{HostWide: true}
				case "quiz1/ipv4/bpf-pass/1":
					c.Status, c.Control = result.XFail, result.Uncontrolled
					c.Reason, c.Bug = "the choice is not left to the kernel: bug #4711, fixed in 6.19", "#4711"
					c.Checks = append(c.Checks, result.Check{Name: "chosen by", Witness: result.ProgramSaid, Want: "the kernel", Got: "nobody"})
				}
				if family == "ipv6" && strings.HasPrefix(mode, "bpf") {
					c = result.Cell{
						Scenario: scenario, Family: family, Mode: mode, Repeat: 1,
						Status: result.Skip, Reason: noBPF, Control: result.Uncontrolled,
					}
				}
				run.Cells = append(run.Cells, c)
			}
		}
	}
	return run
}

func fail(c *result.Cell) {
	c.Status = result.Fail
	c.Reason = "not migrated: the sysctl is there and the code is not"
	c.Connections = result.Connections{Staged: 1, Lost: 1}
	c.Resets = play(c.Scenario, c.Family, "off", c.Repeat).Resets
	c.Checks = []result.Check{
		{Name: "accept on B", Witness: result.Application, Want: "1 connection", Got: "EAGAIN"},
		{Name: "resets", Witness: result.Wire, Want: "none", Got: "1: frame 6, bare RST from 127.0.0.1:80 to 127.0.0.1:39258"},
	}
}

// repeated has twenty of each cell, one of which failed, and was cut short.
func repeated() *result.Run {
	run := &result.Run{Header: mixed().Header}
	run.Header.Cells = 20 * 2 * len(run.Header.Modes)
	for repeat := 20; repeat > 0; repeat-- {
		for _, family := range []string{"ipv4", "ipv6"} {
			for _, mode := range run.Header.Modes {
				c := play("quiz1", family, mode.Name, repeat)
				if c.ID() == "quiz1/ipv6/bpf/7" {
					fail(&c)
				}
				run.Cells = append(run.Cells, c)
			}
		}
	}
	run.Cells = run.Cells[:len(run.Cells)-3]
	return run
}

// streams is forty repeats of servers that reload, in three modes, one of which is beyond its bounds; a cell of a scenario in
// which nothing was lost, one that came to no conclusion, and one of an rpmig that knew no classes.
func streams() *result.Run {
	run := &result.Run{Header: mixed().Header}
	cell := func(scenario, mode string, repeat int, s result.Stream) *result.Cell {
		c := play(scenario, "ipv4", mode, repeat)
		c.Connections = result.Connections{Staged: s.Connections, Survived: s.Connections - s.Failed(), Lost: s.Failed()}
		c.Resets, c.Checks, c.Capture.File = nil, nil, ""
		s.Estimate()
		c.Stream, c.Reason = &s, s.String()
		run.Cells = append(run.Cells, c)
		return &run.Cells[len(run.Cells)-1]
	}
	bounds := func(least, most float64) (*float64, *float64) { return &least, &most }
	for repeat := range 40 {
		s := result.Stream{Reloads: 30, Connections: 240, AtStake: 70, Lingered: 0.0002}
		off, sysctl, bpf := s, s, s
		off.Lost, off.Losses, off.InQueue = 80, result.Losses{Reset: 80}, 80
		off.Least, off.Most = bounds(100000, 600000)
		sysctl.Connections, bpf.Connections = 152, 153
		sysctl.Least, sysctl.Most = bounds(0, 10000)
		bpf.Least, bpf.Most = bounds(0, 10000)
		if repeat%10 == 3 {
			sysctl.Refused, sysctl.Losses, sysctl.InQueue = 1, result.Losses{ResetInConnect: 1}, 1
		}
		bpf.Lost, bpf.Losses = 4, result.Losses{EmptyReply: 3, Reset: 1}
		cell("storm", "off", repeat+1, off)
		cell("storm", "sysctl", repeat+1, sysctl)
		if c := cell("storm", "bpf", repeat+1, bpf); repeat == 30 {
			c.Checks = []result.Check{{
				Name: "lost, in 31 repeats together", Witness: result.Application, Want: "0 to 10000 per million",
				Got: "26144 per million (surely 16000 to 40000)",
			}}
			c.Status, c.Reason = result.Fail, "lost, in 31 repeats together: want 0 to 10000 per million, got 26144 per million (surely 16000 to 40000)"
		}
	}
	none := result.Stream{Reloads: 1, Connections: 120, AtStake: 9, Lingered: 1.1}
	none.Least, none.Most = bounds(0, 0)
	cell("hot-reload-fd-pass", "bpf-select", 1, none)
	few := none
	few.Least, few.Most = bounds(0, 10000)
	cell("hot-reload-plain", "sysctl", 1, few)
	cell("hot-reload-plain", "sysctl", 2, result.Stream{Connections: 7, Lost: 7}).Status = result.Error
	cell("hot-reload-plain", "bpf", 1, result.Stream{Reloads: 30, Connections: 210, Lost: 2, InQueue: 2})
	run.Header.Cells = len(run.Cells)
	return run
}

// reloads is a server that was reloaded in each mode: it lost some, none, some by its own doing, and one mode cannot be had.
func reloads() *result.Run {
	run := &result.Run{Header: mixed().Header}
	server := netip.MustParseAddrPort("127.0.0.1:80")
	cell := func(mode string, status result.Status, lost int64, causes ...result.LossCause) *result.Reload {
		r := &result.Reload{
			Server: []string{"nginx", "-g", "daemon off;"}, Reloads: []string{"nginx -s reload"}, Seed: 7, Load: "24 clients",
			Connections: 40_000, Lost: lost, Ends: map[string]int64{"ok": 40_000 - lost}, Causes: causes,
			PerCycle: float64(lost) / 2, High: float64(lost), Bound: 1, PerMillion: float64(lost) * 25, Rate: 8000, Every: 0.75,
			Reloading: result.ReloadLatency{Count: 900, P99: 0.0123, Max: 1.25}, Between: result.ReloadLatency{Count: 39_000, P99: 0.0004, Max: 0.02},
			Pause: 0.31,
		}
		for i := range 2 {
			at := float64(2*i + len(run.Cells))
			r.Cycles = append(r.Cycles, result.ReloadCycle{
				Number: 2*i + len(run.Cells) + 1, At: at, To: at + 0.9, Connections: 20_000, Lost: lost / 2,
				Steps:  []result.ReloadStep{{At: at + 0.1, Lost: lost / 2, Changed: true, First: 0.12, Last: 0.25, Holders: 9, Listeners: 8}},
				Course: []result.ReloadPart{{At: at + 0.1, Replies: 900, Lost: lost / 2, P99: 0.01}, {At: at + 0.2, Replies: 800, P99: 0.02}},
			})
		}
		c := play("reload/nginx", "ipv4", mode, 1)
		c.Connections = result.Connections{Staged: 40_000, Survived: int(40_000 - lost), Lost: int(lost)}
		c.Status, c.Reason, c.Reload, c.Resets, c.Checks, c.Steps, c.Flow, c.Capture = status, r.Rating(), r, nil, nil, nil, nil, result.Capture{}
		run.Cells = append(run.Cells, c)
		return r
	}
	off := cell("off", result.Pass, 26, result.LossCause{Why: "in the accept queue of a listener that closed", Whose: result.OfKernel, By: "nginx", Count: 26})
	off.Examples = []result.LostFlow{{At: 0.2, Cycle: 1, Client: netip.MustParseAddrPort("127.0.1.3:4711"), Server: server, End: "reset before a byte", Phase: "reply",
		Why: "in the accept queue of a listener that closed", By: "nginx (process 9)", Reason: "TCP_STATE", State: "CLOSE",
		Stack: []string{"tcp_send_active_reset", "inet_child_forget", "inet_csk_listen_stop"}}}
	for i := range 4 { // alike but for when, where and which process
		next := off.Examples[0]
		next.At, next.Client, next.By = 0.2+float64(i+1)/1000, netip.AddrPortFrom(next.Client.Addr(), uint16(4712+i)), fmt.Sprintf("nginx (process %d)", 10+i)
		off.Examples = append(off.Examples, next)
	}
	other := off.Examples[0]
	other.At, other.By, other.Stack = 0.3, "", append([]string{"tcp_send_active_reset"}, "inet_csk_complete_hashdance")
	off.Examples = append(off.Examples, other)
	p := 0.0286
	sysctl := cell("sysctl", result.Fail, 3, result.LossCause{Why: "accepted, and closed by the server without a reply", Whose: result.OfApplication, Count: 3})
	sysctl.P, sysctl.Verdict, sysctl.Void, sysctl.Missed = &p, "sysctl removes the kernel's part", 2, 5
	run.Cells[1].Reason += "; " + sysctl.Verdict
	run.Cells[1].Checks = []result.Check{{Name: "connections lost", Witness: result.Application, Want: "at most 0", Got: "3"}}
	skip := play("reload/nginx", "ipv4", "bpf", 1)
	skip.Status, skip.Reason, skip.Connections, skip.Reload = result.Skip, noBPF, result.Connections{}, &result.Reload{Ends: map[string]int64{}}
	failed := play("reload/oddserver", "ipv4", "off", 1)
	failed.Status, failed.Reason, failed.Connections, failed.Checks = result.Error, "the server ended with exit status 3 before it listened on port 80", result.Connections{}, nil
	failed.Reload = &result.Reload{Ends: map[string]int64{}, Output: []string{"there is no such directory"}}
	run.Cells = append(run.Cells, skip, failed)
	run.Header.Cells = len(run.Cells)
	return run
}

// hostile holds what was written to harm a reader of the reports. Read would refuse its names, but renderers take
// any Run.
func hostile() *result.Run {
	evil := "\x1b[2J\x1b]0;title\x07\r\nok 99 forged # SKIP <&]]>\x00\u202e\u2028\ufffe\x9b日本" + strings.Repeat("漢x", 90)
	c := play("quiz2", "ipv6", "off", 1<<40)
	c.Scenario, c.Mode, c.Reason, c.DropBackend = "a # b"+evil, evil, evil, evil
	c.Connections = result.Connections{Staged: 1 << 60, Survived: 1 << 59, Lost: 1 << 60}
	c.Resets[0].Step, c.Resets[0].Time = 1, 1e300
	c.Resets[0].To = netip.MustParseAddrPort("[fe80::1%\x1b[2J]:80")
	c.Steps[0].Name, c.Capture.File = evil, evil
	c.Counters = map[string]int64{evil: -1 << 63}
	c.Checks = []result.Check{{Name: evil, Witness: result.Witness(evil), Want: evil, Got: evil}}
	c.Status, c.Control = result.Fail, result.Uncontrolled
	huge := math.Inf(1)
	c.Stream = &result.Stream{Reloads: -1 << 62, Connections: 1 << 62, Lost: 1 << 62, Refused: 1 << 62, Least: &huge, Most: &huge, Losses: result.Losses{EmptyReply: -1 << 62}}
	evils := result.LostFlow{At: huge, End: evil, Phase: evil, Why: evil, By: evil, Reason: evil, State: evil, Stack: []string{evil}}
	c.Reload = &result.Reload{
		Server: []string{evil}, Load: evil, Lost: -1 << 62, Connections: 1 << 62, PerMillion: huge, Pause: huge, Verdict: evil, Untraced: evil, P: &huge,
		Cycles: []result.ReloadCycle{{At: -huge, To: 1e8, Steps: []result.ReloadStep{{At: huge, Last: math.NaN(), Changed: true, Holders: -1}},
			Course: []result.ReloadPart{{At: math.NaN(), P99: huge, Replies: -1}}}},
		Causes: []result.LossCause{{Why: evil, Whose: result.Whose(evil), By: evil}}, Examples: []result.LostFlow{evils}, Output: []string{evil},
	}
	skip := c
	skip.Status = result.Skip
	return &result.Run{
		Ending: &result.Ending{Why: evil, Console: []string{evil}},
		Header: result.Header{
			Guest:   &result.Guest{Name: "../" + evil, From: evil, Image: evil, Emulator: evil, Accelerator: evil, Memory: -1 << 62, Config: evil, Virtual: true},
			Version: evil, Kernel: evil, Machine: evil, Cells: 1 << 60, Modes: []result.Mode{{Name: evil, Saves: evil, Advice: evil}},
		},
		Cells: []result.Cell{c, skip},
	}
}

func runs() map[string]*result.Run {
	return map[string]*result.Run{
		"mixed": mixed(), "repeated": repeated(), "hostile": hostile(), "streams": streams(), "reloads": reloads(), "timed": timed(), "died": died(), "empty": {Header: mixed().Header}, "zero": {},
	}
}

// timed is a run whose ledger says when it began, and when each cell did.
func timed() *result.Run {
	run := &result.Run{Header: mixed().Header}
	run.Header.Started = result.Time{Time: time.Date(2026, 1, 31, 23, 59, 58, 900e6, time.UTC)}
	for i, c := range []result.Cell{play("quiz1", "ipv4", "off", 1), play("quiz2", "ipv4", "off", 1), play("quiz2", "ipv4", "sysctl", 1), play("quiz2", "ipv4", "bpf", 1)} {
		c.At = []float64{5.2, 3.2, 1.2, 2.2}[i] // of quiz2 neither the first nor the last in the report began first
		run.Cells = append(run.Cells, c)
	}
	run.Header.Cells = len(run.Cells)
	return run
}

func render(t *testing.T, format string, run *result.Run, o Options) string {
	t.Helper()
	return renderAll(t, format, []*result.Run{run}, o)
}

func TestGolden(t *testing.T) {
	const dir = "/tmp/rpmig-2291"
	for _, tt := range []struct {
		file, format string
		run          *result.Run
		o            Options
	}{
		{"mixed.text", "text", mixed(), Options{Dir: dir}},
		{"mixed-color.text", "text", mixed(), Options{Dir: dir, Color: true}},
		{"mixed-verbose.text", "text", mixed(), Options{Dir: dir, Verbose: true}},
		{"mixed-narrow.text", "text", mixed(), Options{Dir: dir, Width: 40}},
		{"quizzes-verbose.text", "text", quizzes(), Options{Verbose: true}},
		{"quizzes-verbose-narrow.text", "text", quizzes(), Options{Verbose: true, Width: 40}},
		{"repeated.text", "text", repeated(), Options{Dir: dir}},
		{"streams.text", "text", streams(), Options{Dir: dir}},
		{"streams-narrow.text", "text", streams(), Options{Dir: dir, Width: 40}},
		{"reloads.text", "text", reloads(), Options{Dir: dir}},
		{"reloads-verbose-narrow.text", "text", reloads(), Options{Verbose: true, Width: 40}},
		{"mixed.ktap", "ktap", mixed(), Options{Dir: dir}},
		{"mixed.kcidb", "kcidb", mixed(), Options{KCIDB: someKCIDB}},
		{"mixed.lava", "lava", mixed(), Options{}},
		{"mixed.nipa", "nipa", mixed(), Options{}},
		{"mixed.tap", "tap", mixed(), Options{Dir: dir}},
		{"mixed.junit", "junit", mixed(), Options{Dir: dir}},
		{"mixed.jsonl", "jsonl", mixed(), Options{}},
		{"mixed.markdown", "markdown", mixed(), Options{Dir: dir}},
		{"died.text", "text", died(), Options{Dir: dir}},
		{"died.ktap", "ktap", died(), Options{Dir: dir}},
		{"died.junit", "junit", died(), Options{Dir: dir}},
		{"died.jsonl", "jsonl", died(), Options{}},
		{"died.markdown", "markdown", died(), Options{}},
	} {
		t.Run(tt.file, func(t *testing.T) {
			got := render(t, tt.format, tt.run, tt.o)
			golden(t, tt.file, got)
		})
	}
}

// TestUpstream: what uname -r hides is said beside it.
func TestUpstream(t *testing.T) {
	run := mixed()
	run.Header.Kernel, run.Header.Upstream = "6.1.0-52-cloud-amd64", "6.1.180"
	const want = "6.1.0-52-cloud-amd64 (6.1.180)"
	for name, got := range map[string]string{
		"text": render(t, "text", run, Options{}), "html": render(t, "html", run, Options{}), "bundle": Bundle(run, environment()),
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s: no %q", name, want)
		}
	}
}

// TestStored: cells that stay in their file are told of as those in memory are, in each format that can.
func TestStored(t *testing.T) {
	tried := 0
	for name, run := range runs() {
		var ledger strings.Builder
		if writeLedgers(&ledger, []*result.Run{run}) != nil {
			continue // it is none that is found in a file
		}
		text := ledger.String()
		tried++
		stored, err := result.ReadStored(strings.NewReader(text), strings.NewReader(text), 0)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, f := range Formats() {
			if !f.Stored {
				continue
			}
			for _, verbose := range []bool{false, true} {
				o := Options{Verbose: verbose, Dir: "out"}
				if diff := cmp.Diff(render(t, f.Name, run, o), render(t, f.Name, stored, o)); diff != "" {
					t.Errorf("%s, %s: -in memory +stored:\n%s", name, f.Name, diff)
				}
			}
		}
		for i := range run.Cells {
			c := &run.Cells[i]
			want := NewStories(run).Explain(c, Options{})
			for _, of := range []*result.Run{run, stored} {
				stories, err := StoriesOf(of, c.Scenario, c.Family)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, stories.Explain(c, Options{})); diff != "" {
					t.Errorf("%s, %s: %s", name, c.ID(), diff)
				}
			}
		}
	}
	if tried < 5 {
		t.Errorf("%d runs", tried)
	}
}

// TestNamesWithoutEnd: of what a ledger may have any number of, a report names the first.
func TestNamesWithoutEnd(t *testing.T) {
	run := &result.Run{}
	for i := range 150 {
		c := play(fmt.Sprintf("case%03d", i), "ipv4", "off", 1)
		c.DropBackend = fmt.Sprintf("tables%03d", i)
		c.Trace = &result.Trace{Missing: []string{fmt.Sprintf("tracepoint%03d", i)}}
		x := play(c.Scenario, "dual", "off", 1)
		x.Status, x.Bug = result.XFail, fmt.Sprintf("bug%03d", i)
		run.Cells = append(run.Cells, c, x, result.Cell{Scenario: c.Scenario, Family: "ipv6", Mode: "off", Repeat: 1, Status: result.Skip, Reason: fmt.Sprintf("because%03d", i)})
	}
	text := strings.Join(strings.Fields(render(t, "text", run, Options{})), " ")
	for _, want := range []string{"by others and by tables000", "because099: ", "and 50 cells for other reasons", "this kernel lacks others, tracepoint000"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %.3000s", want, text)
		}
	}
	for _, none := range []string{"tables149", "because100", "tracepoint149"} {
		if strings.Contains(text, none) {
			t.Errorf("%q is there", none)
		}
	}
	notes := lastPart(t, renderAll(t, "markdown", []*result.Run{run, run}, Options{}))
	const rest = "\n- SKIP: 50 cells for other reasons (all kernels)\n- XFAIL: 50 cells of other bugs (all kernels)\n"
	if n := strings.Count(notes, "\n"); n != 202 || !strings.HasSuffix(notes, rest) {
		t.Errorf("%d notes in Markdown:\n%s", n, notes)
	}
	for _, want := range []string{"- SKIP: because099 (all", "- XFAIL, case099: bug099 (all"} {
		if !strings.Contains(notes, want) {
			t.Errorf("no %q in %s", want, notes)
		}
	}
}

// lastPart is what is behind the last empty line.
func lastPart(t *testing.T, text string) string {
	t.Helper()
	i := strings.LastIndex(text, "\n\n")
	if i < 0 {
		t.Fatalf("no parts in %s", text)
	}
	return text[i+2:]
}

// TestVerboseExplains: -v tells of each cell what rpmig explain tells of it.
func TestVerboseExplains(t *testing.T) {
	for name, run := range runs() {
		for _, o := range []Options{{Verbose: true}, {Verbose: true, Color: true, Width: 40}} {
			all := render(t, "text", run, o)
			for i := range run.Cells {
				c := &run.Cells[i]
				if told := NewStories(run).Explain(c, o); !strings.Contains(all, "\n"+told) {
					t.Errorf("%s: not in the report with -v: %q", name, told)
				}
			}
		}
	}
}

// TestForeignStatus: a status that no rpmig writes stands in the table, too, and does not break its columns.
func TestForeignStatus(t *testing.T) {
	run := &result.Run{Header: mixed().Header, Cells: []result.Cell{play("quiz1", "ipv4", "off", 1), play("quiz1", "ipv4", "off", 2)}}
	run.Cells[1].Status = "INCONCLUSIVE\x1b[2J"
	text := render(t, "text", run, Options{})
	if !strings.Contains(text, "1 PASS") || !strings.Contains(text, "1 INCONCL") || strings.ContainsRune(text, '\x1b') {
		t.Error(text)
	}
}

func TestOrderOfCellsDoesNotMatter(t *testing.T) {
	for _, format := range []string{"junit", "ktap", "tap", "text"} {
		run := mixed()
		want := render(t, format, run, Options{Verbose: true})
		slices.Reverse(run.Cells)
		if diff := cmp.Diff(want, render(t, format, run, Options{Verbose: true})); diff != "" {
			t.Errorf("%s: -as it was +reversed:\n%s", format, diff)
		}
	}
}

func TestTextFits(t *testing.T) {
	for name, run := range runs() {
		for _, width := range []int{0, 60, 72, 80, 200} {
			for _, verbose := range []bool{false, true} {
				limit := min(width, 80)
				if width == 0 {
					limit = 80
				}
				for i, line := range strings.Split(render(t, "text", run, Options{Width: width, Verbose: verbose}), "\n") {
					if n := columns(line); n > limit {
						t.Errorf("%s: line %d has %d columns, want at most %d: %q", name, i+1, n, limit, line)
					}
				}
			}
		}
	}
}

func TestColorsAddNothingElse(t *testing.T) {
	escapes := regexp.MustCompile("\x1b\\[[0-9;]*m")
	for name, run := range runs() {
		want := render(t, "text", run, Options{Verbose: true})
		got := escapes.ReplaceAllString(render(t, "text", run, Options{Verbose: true, Color: true}), "")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -plain +coloured:\n%s", name, diff)
		}
	}
}

func TestNothingIsSmuggled(t *testing.T) {
	for _, format := range []string{"junit", "ktap", "tap", "text"} {
		for _, r := range render(t, format, hostile(), Options{Verbose: true}) {
			if r != '\n' && printable(string(r)) != string(r) {
				t.Errorf("%s: %q got through", format, r)
			}
		}
	}
}

func TestKTAP(t *testing.T) {
	resultLine := regexp.MustCompile(`^(ok|not ok) (\d+) [^# ]+(?: #(?: (SKIP|XFAIL|ERROR) ([^#]|\\#)+?)?( time=\d+ms)?)?$`)
	for name, run := range runs() {
		t.Run(name, func(t *testing.T) {
			text := render(t, "ktap", run, Options{})
			if tap := render(t, "tap", run, Options{}); tap != strings.Replace(text, "KTAP version 1\n", "TAP version 13\n", 1) {
				t.Errorf("tap is not ktap with another first line: %s", tap)
			}
			lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
			if lines[0] != "KTAP version 1" {
				t.Errorf("first line: %q", lines[0])
			}
			got := map[string]int{}
			tests := 0
			for _, line := range lines[2:] {
				if strings.HasPrefix(line, "# ") {
					continue
				}
				m := resultLine.FindStringSubmatch(line)
				if m == nil {
					t.Fatalf("neither a diagnostic nor a result: %q", line)
				}
				if tests++; m[2] != strconv.Itoa(tests) {
					t.Errorf("want number %d, got %q", tests, line)
				}
				got[m[1]+" "+m[3]]++
			}
			if want := fmt.Sprintf("1..%d", tests); lines[1] != want {
				t.Errorf("want plan %s, got %s", want, lines[1])
			}
			want := fmt.Sprintf("# Totals: pass:%d fail:%d xfail:%d xpass:0 skip:%d error:%d",
				got["ok "], got["not ok "], got["ok XFAIL"], got["ok SKIP"], got["not ok ERROR"])
			if last := lines[len(lines)-1]; last != want {
				t.Errorf("want %s\ngot  %s", want, last)
			}
			if green := got["not ok "]+got["not ok ERROR"] == 0; green != (run.ExitCode() == result.ExitOK) {
				t.Errorf("all ok: %t, exit code: %d", green, run.ExitCode())
			}
		})
	}
}

// TestStreams: what is written while a run lasts is what is written of the whole run, but for the order.
func TestStreams(t *testing.T) {
	for name, run := range runs() {
		for _, f := range Formats() {
			if f.Stream == nil || name == "hostile" && f.Name == "jsonl" { // the ledger refuses it
				continue
			}
			var got strings.Builder
			s := f.Stream(&got)
			if err := s.Begin(&run.Header); err != nil {
				t.Fatal(err)
			}
			for i := range run.Cells {
				before := got.Len()
				if err := s.Cell(&run.Cells[i], Options{Dir: "d"}); err != nil {
					t.Fatal(err)
				}
				if text := got.String()[before:]; !strings.HasSuffix(text, "\n") || !strings.Contains(text, run.Cells[i].Mode) && name != "hostile" {
					t.Errorf("%s: %s: a cell that ended left %q", name, f.Name, text)
				}
			}
			if err := s.End(run); err != nil {
				t.Fatal(err)
			}
			lines := func(text string) []string {
				text = regexp.MustCompile(`(?m)^((?:not )?ok) \d+`).ReplaceAllString(text, "$1")
				text = regexp.MustCompile(`(?m)^1\.\.\d+$`).ReplaceAllString(text, "")
				all := strings.Split(text, "\n")
				slices.Sort(all)
				return all
			}
			if diff := cmp.Diff(lines(render(t, f.Name, run, Options{Dir: "d"})), lines(got.String())); diff != "" {
				t.Errorf("%s: %s: -at once +while it lasts:\n%s", name, f.Name, diff)
			}
			plan := fmt.Sprintf("\n1..%d\n", run.Header.Cells)
			if strings.HasSuffix(f.Name, "tap") && !strings.Contains(got.String(), plan) {
				t.Errorf("%s: %s: no %q", name, f.Name, plan)
			}
		}
	}
}

// TestStreamsThatBreak: whoever plays learns of each thing that could not be written.
func TestStreamsThatBreak(t *testing.T) {
	run := died() // it has something to say at its end, whatever the format
	for _, f := range Formats() {
		if f.Stream == nil {
			continue
		}
		for call, name := range []string{"Begin", "Cell", "End"} {
			pipe := &breaking{}
			s := f.Stream(pipe)
			for i, write := range []func() error{
				func() error { return s.Begin(&run.Header) },
				func() error { return s.Cell(&run.Cells[6], Options{}) },
				func() error { return s.End(run) },
			} {
				pipe.broken = i == call
				if err := write(); errors.Is(err, io.ErrClosedPipe) != pipe.broken {
					t.Errorf("%s: the pipe breaks in %s, and call %d of 3 says %v", f.Name, name, i+1, err)
				}
				if pipe.broken { // the rest is not worth writing
					break
				}
			}
		}
	}
}

// breaking is a pipe whose reader may have gone.
type breaking struct{ broken bool }

func (b *breaking) Write(p []byte) (int, error) {
	if b.broken {
		return 0, io.ErrClosedPipe
	}
	return len(p), nil
}

// TestKTAPXPass: a bug that was expected and did not show is counted by itself.
func TestKTAPXPass(t *testing.T) {
	c := play("quiz1", "ipv4", "off", 1)
	c.Bug = "CVE-1"
	run := &result.Run{Header: result.Header{Cells: 2}, Cells: []result.Cell{c, play("quiz1", "ipv4", "sysctl", 1)}}
	if text := render(t, "ktap", run, Options{}); !strings.HasSuffix(text, "\n# Totals: pass:1 fail:0 xfail:0 xpass:1 skip:0 error:0\n") {
		t.Error(text)
	}
}

func TestKTAPNamesAreUnique(t *testing.T) {
	seen := map[string]bool{}
	run := repeated()
	for i := range run.Cells {
		name := ktapName(&run.Cells[i])
		if seen[name] {
			t.Errorf("twice: %s", name)
		}
		seen[name] = true
	}
}

// What is read of a JUnit report.
type (
	readSuites struct {
		readCounts
		Suites []struct {
			Name string `xml:"name,attr"`
			readCounts
			Skipped int         `xml:"skipped,attr"`
			Cases   []junitCase `xml:"testcase"`
		} `xml:"testsuite"`
	}
	readCounts struct {
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Errors   int         `xml:"errors,attr"`
		Time     junitSecond `xml:"time,attr"`
	}
)

func (n *readCounts) count(c *junitCase) {
	n.Tests++
	switch {
	case c.Failure != nil:
		n.Failures++
	case c.Error != nil:
		n.Errors++
	}
}

func TestJUnit(t *testing.T) {
	for name, run := range runs() {
		t.Run(name, func(t *testing.T) {
			text := render(t, "junit", run, Options{})
			var got readSuites
			if err := xml.Unmarshal([]byte(text), &got); err != nil {
				t.Fatal(err)
			}
			var sum readCounts
			for _, s := range got.Suites {
				var counted readCounts
				for i := range s.Cases {
					counted.count(&s.Cases[i])
					sum.count(&s.Cases[i])
					if s.Cases[i].Skipped != nil {
						s.Skipped--
					}
				}
				if s.Skipped != 0 {
					t.Errorf("suite %s: the count of what was skipped is off by %d", s.Name, s.Skipped)
				}
				counted.Time = s.Time // rounded
				if counted != s.readCounts {
					t.Errorf("suite %s: want %+v, got %+v", s.Name, counted, s.readCounts)
				}
			}
			sum.Time = got.Time
			if sum != got.readCounts {
				t.Errorf("want %+v, got %+v", sum, got.readCounts)
			}
			want := readCounts{
				Tests: len(run.Cells), Failures: run.Count(result.Fail), Errors: run.Count(result.Error),
				Time: got.Time,
			}
			if run.Missing() > 0 || run.Ending != nil {
				want.Tests++
				want.Errors++
			}
			if want != got.readCounts {
				t.Errorf("want %+v, got %+v", want, got.readCounts)
			}
		})
	}
}

// TestJUnitNamesAreUnique: what follows a test over time knows it by its class and name.
func TestJUnitNamesAreUnique(t *testing.T) {
	for name, run := range runs() {
		var got readSuites
		if err := xml.Unmarshal([]byte(render(t, "junit", run, Options{})), &got); err != nil {
			t.Fatal(err)
		}
		seen := map[[2]string]bool{}
		for _, s := range got.Suites {
			for _, c := range s.Cases {
				if key := [2]string{c.Class, c.Name}; seen[key] && name != "hostile" {
					t.Errorf("%s: twice: %s", name, key)
				}
				seen[[2]string{c.Class, c.Name}] = true
			}
		}
	}
}

// TestJUnitBounds: a ledger may say anything of times, and junit-10.xsd takes neither a sign nor an exponent.
func TestJUnitBounds(t *testing.T) {
	for s, want := range map[junitSecond]string{-1: "0.000", 0: "0.000", 1.2345: "1.234", 1e300: "31536000.000"} {
		if got, err := s.MarshalText(); string(got) != want || err != nil {
			t.Errorf("%v: want %s, got %s, %v", float64(s), want, got, err)
		}
	}
	started := timed().Header.Started
	for at, want := range map[float64]string{1.2: "2026-02-01T00:00:00Z", 0: "", -1: "", 1e300: ""} {
		if got := junitTime(started, at); got != want {
			t.Errorf("%v s after the start: want %q, got %q", at, want, got)
		}
	}
	if got := junitTime(result.Time{}, 1.2); got != "" {
		t.Errorf("without a start: %q", got)
	}
}

// TestKTAPBounds: a time is written in digits that a reader can count, whatever the ledger says.
func TestKTAPBounds(t *testing.T) {
	run := quizzes()
	run.Cells[0].Elapsed = 1e300
	if got := render(t, "ktap", run, Options{}); !strings.Contains(got, " # time=1000000000000ms\n") {
		t.Errorf("got %.400s", got)
	}
}

// TestJUnitFile: a suite has the folder of its evidence, where it has left some.
func TestJUnitFile(t *testing.T) {
	run := timed()
	run.Cells[0].Capture.File = ""
	got := render(t, "junit", run, Options{Dir: "out"})
	if strings.Contains(got, `file="out/cells/quiz1"`) || !strings.Contains(got, `file="out/cells/quiz2"`) {
		t.Errorf("want the folder of quiz2, and none of quiz1:\n%s", got)
	}
}

// TestJUnitTimes: a suite begins with the first of its cells, and the whole takes as long as the run did.
func TestJUnitTimes(t *testing.T) {
	got := render(t, "junit", timed(), Options{})
	for _, want := range []string{
		`<testsuites name="rpmig" tests="4" failures="0" errors="0" time="5.215">`,
		`<testsuite name="quiz1" tests="1" failures="0" errors="0" time="0.015" skipped="0" timestamp="2026-02-01T00:00:04Z">`,
		`<testsuite name="quiz2" tests="3" failures="0" errors="0" time="0.664" skipped="0" timestamp="2026-02-01T00:00:00Z">`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	if got, want := renderAll(t, "junit", []*result.Run{timed(), timed()}, Options{}), `<testsuites name="rpmig" tests="8" failures="0" errors="0" time="1.359">`; !strings.Contains(got, want) {
		t.Errorf("no %s of two kernels, each of which began by itself, in\n%s", want, got)
	}
	if got := render(t, "junit", mixed(), Options{}); strings.Contains(got, "timestamp") {
		t.Errorf("a time that the ledger does not tell:\n%s", got)
	}
}

func TestJSONLIsTheLedgerAgain(t *testing.T) {
	want := render(t, "jsonl", mixed(), Options{})
	run, err := result.Read(strings.NewReader(want))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, render(t, "jsonl", run, Options{})); diff != "" {
		t.Errorf("-first +second:\n%s", diff)
	}
}

func TestEvidence(t *testing.T) {
	kept, bad, none := play("quiz1", "ipv4", "off", 1), play("quiz1", "ipv4", "off", 1), play("quiz1", "ipv4", "off", 1)
	bad.Capture.File, none.Capture.File = "", ""
	bad.Status = result.Error // before anything was captured
	for _, tt := range []struct {
		dir  string
		c    *result.Cell
		want string
	}{
		{"out/", &kept, "out/cells/quiz1/ipv4/off/1"}, {"/tmp/x", &bad, "/tmp/x/cells/quiz1/ipv4/off/1"},
		{".", &kept, "cells/quiz1/ipv4/off/1"}, {"", &kept, ""}, {"", &bad, ""}, {"out", &none, ""},
	} {
		if got := (Options{Dir: tt.dir}).evidence(tt.c); got != tt.want {
			t.Errorf("%q: want %q, got %q", tt.dir, tt.want, got)
		}
	}
}

func TestKillers(t *testing.T) {
	a, b := netip.MustParseAddrPort("127.0.0.1:80"), netip.MustParseAddrPort("127.0.0.1:39258")
	other := netip.MustParseAddrPort("127.0.0.1:39259")
	c := &result.Cell{Resets: []result.Reset{
		{Frame: 6, From: a, To: b},
		{Frame: 7, From: b, To: a},
		{Frame: 8, From: a, To: other},
		{Frame: 9, From: a, To: b},
	}}
	var frames []int
	for _, r := range killers(c) {
		frames = append(frames, r.Frame)
	}
	if diff := cmp.Diff([]int{6, 8}, frames); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestLostIsCounted(t *testing.T) {
	run := repeated()
	if got, want := render(t, "text", run, Options{}), "and 111 more"; !strings.Contains(got, want) {
		t.Errorf("want %q in:\n%s", want, got)
	}
	if got := render(t, "text", run, Options{Verbose: true}); strings.Contains(got, " more\n") {
		t.Error("verbose leaves some out")
	}

	run = &result.Run{Cells: []result.Cell{play("quiz2", "ipv4", "off", 1)}}
	run.Cells[0].Connections = result.Connections{Staged: 3, Lost: 3}
	if got, want := render(t, "text", run, Options{}), "quiz2 ipv4 off: 2 lost without a reset"; !strings.Contains(got, want) {
		t.Errorf("want %q in:\n%s", want, got)
	}
	// Of a cell the first is told, and all with -v.
	second := run.Cells[0].Resets[0]
	second.Frame, second.To = 7, netip.AddrPortFrom(second.To.Addr(), second.To.Port()+1)
	run.Cells[0].Resets = append(run.Cells[0].Resets, second)
	if got := render(t, "text", run, Options{}); !strings.Contains(got, "; and 1 more\n") || strings.Contains(got, "frame 7") {
		t.Errorf("want the first and a count in:\n%s", got)
	}
	if got := render(t, "text", run, Options{Verbose: true}); strings.Contains(got, " more\n") || !strings.Contains(got, "frame 7") {
		t.Errorf("want both in:\n%s", got)
	}
}

func TestWrap(t *testing.T) {
	for _, tt := range []struct {
		name, text  string
		first, rest int
		want        []string
	}{
		{"empty", "", 10, 8, []string{""}},
		{"fits exactly", "0123456789", 10, 8, []string{"0123456789"}},
		{"second line is narrower", "aaaa bbbb cccc dddd", 10, 8, []string{"aaaa bbbb", "cccc", "dddd"}},
		{"spaces between are kept", "a  b", 10, 8, []string{"a  b"}},
		{"long word is cut", "a 0123456789abcdefghi", 10, 8, []string{"a", "01234567", "89abcdef", "ghi"}},
		{"word after a cut one", "0123456789ab c", 10, 8, []string{"0123456789", "ab c"}},
		{"wide characters", "日本日本日本", 8, 8, []string{"日本日本", "日本"}},
		{"no room at all", "日本", 1, 1, []string{"日", "本"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, wrap(tt.text, tt.first, tt.rest)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestModesComeInOrder(t *testing.T) {
	got := []string{"zeta", "bpf-select", "alpha", "sysctl", "bpf-drop", "off", "bpf-pass", "bpf"}
	slices.SortFunc(got, modeOrder(&mixed().Header))
	want := []string{"off", "sysctl", "bpf", "bpf-pass", "bpf-drop", "bpf-select", "alpha", "zeta"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestLookup(t *testing.T) {
	if !slices.IsSortedFunc(Formats(), func(a, b Format) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("Formats is not sorted")
	}
	_, err := Lookup("pdf")
	if want := `unknown format "pdf": want one of html, jsonl, `; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("want %s…\ngot  %v", want, err)
	}
}

// TestMeasuredAgain: whatever tells of single cells tells that one was measured again, and why, though it is a PASS; and the sum
// counts it. Markdown is the same for the same verdicts, and NIPA takes no sentences.
func TestMeasuredAgain(t *testing.T) {
	c := play("quiz1", "ipv4", "off", 1)
	c.Void = &result.Replay{Status: result.Error, Reason: "too slow for this\x1b case"}
	run := &result.Run{Header: result.Header{Schema: result.Schema, Cells: 1, Modes: modes(), Command: []string{"run"}}, Cells: []result.Cell{c}}
	if got, want := run.Summary(), "1 cell: 1 PASS; 1 measured again"; got != want {
		t.Errorf("want %s, got %s", want, got)
	}
	for _, f := range Formats() {
		if f.Name == "markdown" || f.Name == "nipa" {
			continue
		}
		var b strings.Builder
		if err := f.Render(&b, []*result.Run{run}, Options{KCIDB: someKCIDB}); err != nil {
			t.Fatal(err)
		}
		said := strings.ToLower(b.String())
		if f.Name == "jsonl" {
			said = strings.ReplaceAll(said, `"void"`, "measured again, alone: the first time")
		}
		if !strings.Contains(said, "measured again, alone") || !strings.Contains(said, "too slow for this") || strings.Contains(said, "\x1b") {
			t.Errorf("%s: %s", f.Name, &b)
		}
	}
}

type broken struct{ err error }

func (b broken) Write([]byte) (int, error) { return 0, b.err }

func TestRenderReportsWriteErrors(t *testing.T) {
	want := errors.New("broken pipe")
	for _, f := range Formats() {
		if err := f.Render(broken{want}, []*result.Run{mixed()}, Options{}); !errors.Is(err, want) {
			t.Errorf("%s: want %v, got %v", f.Name, want, err)
		}
	}
}

// TestRenderReportsReadErrors: a ledger that cannot be read again makes no report that looks whole.
func TestRenderReportsReadErrors(t *testing.T) {
	text := render(t, "jsonl", mixed(), Options{})
	for _, f := range Formats() {
		if !f.Stored {
			continue
		}
		file := &vanishing{strings.NewReader(text), false}
		run, err := result.ReadStored(strings.NewReader(text), file, 0)
		if err != nil {
			t.Fatal(err)
		}
		file.gone = true
		if err := f.Render(io.Discard, []*result.Run{run}, Options{}); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s: want %v, got %v", f.Name, os.ErrClosed, err)
		}
	}
}

// vanishing is a file that may no longer be read.
type vanishing struct {
	*strings.Reader
	gone bool
}

func (f *vanishing) ReadAt(p []byte, at int64) (int, error) {
	if f.gone {
		return 0, os.ErrClosed
	}
	return f.Reader.ReadAt(p, at)
}
