package reports

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rpmig/rpmig/result"
)

// traced is a quiz with all that its witnesses told: the socket tables after each step and the kernel's trace. The times
// are those of one run.
func traced(scenario, mode string, clientPort uint16) result.Cell {
	server, client := netip.MustParseAddrPort("127.0.0.1:80"), netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), clientPort)
	c := play(scenario, "ipv4", mode, 1)
	c.Client = client
	lost := c.Connections.Lost > 0
	listener := func(name string, cookie uint64, queue int) result.Socket {
		return result.Socket{State: "LISTEN", Name: name, Local: server, Queue: queue, Backlog: 4096, Inode: uint32(9000 + cookie), Cookie: cookie}
	}
	far := func(state string) result.Socket {
		return result.Socket{State: state, Name: "client", Local: client, Remote: server, Inode: 9100, Cookie: 4}
	}
	request := result.Socket{State: "SYN_RECV", Name: "request", Local: server, Remote: client, Cookie: 5, Timer: 0.93}
	child := result.Socket{State: "ESTABLISHED", Name: "child", Local: server, Remote: client, Queue: 11, Cookie: 5}
	accepted := child
	accepted.Inode, accepted.Queue = 9101, 0
	a, b := listener("A", 1, 0), listener("B", 2, 0)
	fullA, fullB := listener("A", 1, 1), listener("B", 2, 1)
	c.Steps, c.Flow, c.Tables = nil, nil, nil
	step := func(at float64, name string, sockets ...result.Socket) {
		c.Steps = append(c.Steps, result.Step{Name: name, At: at})
		c.Tables = append(c.Tables, result.Table{Step: len(c.Steps), At: at + 0.0001, Sockets: sockets})
	}
	segment := func(at float64, fromClient bool, role result.Role, text, note string) *result.Segment {
		c.Flow = append(c.Flow, result.Segment{Time: at, Frame: len(c.Flow) + 1, FromClient: fromClient, Role: role, Text: text, Note: note})
		return &c.Flow[len(c.Flow)-1]
	}
	event := func(at float64, kind, reason, state string, from, to netip.AddrPort) *result.Event {
		c.Events = append(c.Events, result.Event{Time: at, Kind: kind, Reason: reason, State: state, From: from, To: to})
		return &c.Events[len(c.Events)-1]
	}
	const rule = "; dropped by the iptables (nf_tables) rule in the INPUT hook"

	if scenario == "quiz1" {
		step(0, "A listens", a)
		step(0.0001, `1 client connects and sends "Hello World"`, fullA, far("ESTABLISHED"), child)
		segment(0.00011, true, result.RoleSYN, "S seq 0", "the client connects")
		segment(0.00012, false, result.RoleSYNACK, "S. seq 0, ack 1", "")
		segment(0.00013, true, result.RoleHandshakeACK, ". ack 1", "the final ACK of the handshake")
		event(0.000135, "inet_sock_set_state", "", "ESTABLISHED", server, client).Old = "SYN_RECV"
		segment(0.00014, true, result.RoleData, "P. seq 1:12, ack 1", "the client sends")
		segment(0.00015, false, result.RoleACK, ". ack 12", "")
		step(0.0004, "B listens", fullA, b, far("ESTABLISHED"), child)
		step(0.0006, "all in the accept queue of A", fullA, b, far("ESTABLISHED"), child)
		if lost {
			step(0.0008, "close A", b)
			event(0.00081, "tcp_send_reset", "TCP_STATE", "CLOSE", server, client)
			segment(0.00082, false, result.RoleReset, "R. seq 1, ack 12", "this reset ends the connection")
			event(0.00083, "tcp_receive_reset", "", "ESTABLISHED", server, client)
			step(0.0010, "accept on B", b)
			c.Resets = []result.Reset{{Time: 0.00082, Frame: 6, From: server, To: client, Flavour: result.RSTACK, Step: 5,
				Reason: "TCP_STATE", State: "CLOSE", Owner: result.ClosingListener}}
		} else {
			step(0.0008, "close A", fullB, far("ESTABLISHED"), child)
			step(0.0010, "accept on B", b, far("ESTABLISHED"), accepted)
		}
		return c
	}

	step(0, "A listens", a)
	step(0.0002, "drop ACKs to port 80", a)
	step(0.0671, `1 client connects and sends "Hello World"`, a, far("ESTABLISHED"), request)
	segment(0.06711, true, result.RoleSYN, "S seq 0", "the client connects")
	segment(0.06712, false, result.RoleSYNACK, "S. seq 0, ack 1", "")
	segment(0.06713, true, result.RoleHandshakeACK, ". ack 1", "the final ACK of the handshake"+rule).Dropped = true
	event(0.067135, "kfree_skb", "NETFILTER_DROP", "", client, server)
	segment(0.06714, true, result.RoleData, "P. seq 1:12, ack 1", "the client sends"+rule).Dropped = true
	event(0.067145, "kfree_skb", "NETFILTER_DROP", "", client, server)
	step(0.0675, "B listens", a, b, far("ESTABLISHED"), request)
	step(0.0678, "all request sockets, none accepted by A", a, b, far("ESTABLISHED"), request)
	step(0.0696, "close A", b, far("ESTABLISHED"), request)
	step(0.0698, "stop dropping", b, far("ESTABLISHED"), request)
	c.Steps = append(c.Steps, result.Step{Name: "await the retransmission", At: 0.0714})
	event(0.2744, "tcp_retransmit_skb", "", "ESTABLISHED", client, server)
	segment(0.2745, true, result.RoleData, "P. seq 1:12, ack 1", "the client retransmits").Again = true
	after := result.Table{Step: 8, At: 0.2748, Sockets: []result.Socket{b}}
	if lost {
		// A reset that a listener sends has no client's port in the trace.
		event(0.2746, "tcp_send_reset", "TCP_FLAGS", "LISTEN", server, netip.AddrPort{})
		segment(0.2747, false, result.RoleReset, "R seq 1", "this reset ends the connection")
		c.Resets = []result.Reset{{Time: 0.2747, Frame: 6, From: server, To: client, Flavour: result.BareRST,
			Step: 8, Reason: "TCP_FLAGS", State: "LISTEN", Owner: result.SurvivingListener}}
		c.Tables = append(c.Tables, after)
		step(0.2750, "accept on B", b)
		return c
	}
	event(0.2746, "inet_sock_set_state", "", "ESTABLISHED", server, client).Old = "SYN_RECV"
	segment(0.2747, false, result.RoleACK, ". ack 12", "")
	after.Sockets = []result.Socket{fullB, far("ESTABLISHED"), child}
	c.Tables = append(c.Tables, after)
	step(0.2750, "accept on B", b, far("ESTABLISHED"), accepted)
	return c
}

// quizzes is a run of both in three modes.
func quizzes() *result.Run {
	run := &result.Run{Header: mixed().Header}
	for _, scenario := range []string{"quiz1", "quiz2"} {
		for _, mode := range []string{"off", "sysctl", "bpf"} {
			run.Cells = append(run.Cells, traced(scenario, mode, 56564))
		}
	}
	run.Header.Cells = len(run.Cells)
	return run
}

// crowd is quiz2 with so many clients that a table does not hold all, and a SYN+ACK timer that clones the requests.
func crowd() result.Cell {
	c := traced("quiz2", "sysctl", 40000)
	c.Connections = result.Connections{Staged: 25, Survived: 25}
	for i := range c.Tables {
		t := &c.Tables[i]
		var sockets []result.Socket
		for _, s := range t.Sockets {
			if s.Name != "request" {
				sockets = append(sockets, s)
				continue
			}
			for n := range 12 {
				s.Remote = netip.AddrPortFrom(s.Remote.Addr(), uint16(40000+n))
				s.Cookie = uint64(100 + n)
				if c.StepName(t.Step) == "stop dropping" {
					s.Cookie, s.Retries = uint64(200+n), 1
				}
				sockets = append(sockets, s)
			}
			t.More = 25 - 12
		}
		t.Sockets = sockets
	}
	return c
}

func TestOutcome(t *testing.T) {
	run := quizzes()
	byID := func(id string) *result.Cell {
		i := slices.IndexFunc(run.Cells, func(c result.Cell) bool { return c.ID() == id })
		return &run.Cells[i]
	}
	alone := &result.Run{Header: run.Header}
	hopeless := &result.Run{Header: run.Header, Cells: []result.Cell{*byID("quiz2/ipv4/off/1")}}
	for _, mode := range []string{"sysctl", "bpf"} {
		c := traced("quiz2", "off", 1)
		c.Mode, c.Control = mode, result.Controlled
		hopeless.Cells = append(hopeless.Cells, c)
	}
	unplayed := result.Cell{Reason: noBPF, Status: result.Skip}
	deaf := *byID("quiz2/ipv4/sysctl/1")
	deaf.Connections = result.Connections{Staged: 1, Lost: 1, Deaf: 1}
	unheard := &result.Run{Header: run.Header, Cells: []result.Cell{*byID("quiz2/ipv4/off/1"), deaf}}
	drop, plain := traced("quiz2", "bpf-drop", 1), traced("quiz2", "bpf-select", 1)
	const needs = "Migration needs another listener of the same reuseport group in LISTEN when the old one closes."
	for _, tt := range []struct {
		name             string
		c                *result.Cell
		run              *result.Run
		happened, remedy string
	}{
		{
			"quiz1 off", byID("quiz1/ipv4/off/1"), run,
			`The connection was lost: the closing listener reset it with an RST+ACK (frame 6, during "close A"). It waited in that listener's accept queue, and closing aborts what is in there. The kernel's reason: TCP_STATE, by a socket in CLOSE.`,
			"Migration would have saved it: in this run it lived with the sysctl net.ipv4.tcp_migrate_req=1, and with --migrate=bpf.",
		},
		{
			"quiz2 off", byID("quiz2/ipv4/off/1"), run,
			`The connection was lost: the surviving listener reset it with a bare RST (frame 6, during "await the retransmission"). Its handshake was tied to the listener that had closed, so the client's next segment found one that knew nothing of it. The kernel's reason: TCP_FLAGS, by a socket in LISTEN.`,
			"Migration would have saved it: in this run it lived with the sysctl net.ipv4.tcp_migrate_req=1, and with --migrate=bpf.",
		},
		{
			"quiz2 sysctl", byID("quiz2/ipv4/sysctl/1"), run,
			"The connection lived: the kernel moved what the closing listener held to another listener (TCPMigrateReqSuccess +1), whose accept() returned it.",
			"It was saved by the sysctl net.ipv4.tcp_migrate_req=1; with --migrate=off it was lost.",
		},
		{"lost in every mode", &hopeless.Cells[0], hopeless, "-", "Migration does not save it: it was lost with --migrate=sysctl and --migrate=bpf too. " + needs},
		{
			"deaf", &deaf, unheard,
			"The connection was accepted, and is deaf: what was sent in the handshake has arrived, nothing gets through either way since, and nobody is reset.",
			"Migration has not saved it: the new listener has set something in another way than the one that closed.",
		},
		{
			"lost, and deaf elsewhere", byID("quiz2/ipv4/off/1"), unheard, "-",
			"Migration alone does not save it: with --migrate=sysctl it was accepted, and is deaf.",
		},
		{"alone", byID("quiz2/ipv4/off/1"), alone, "-", "What may save it is migration: the sysctl net.ipv4.tcp_migrate_req=1 (Linux 5.14), or a BPF program. " + needs},
		{"lost with the sysctl", &hopeless.Cells[1], alone, "-", needs},
		{"of a ledger without modes", byID("quiz2/ipv4/off/1"), &result.Run{}, "-", needs},
		{"refused", &drop, alone, "-", "The program refused (SK_DROP). One that returns SK_PASS would have let the connection migrate."},
		{"not asked", &plain, alone, "-", "The program is attached as plain SELECT, which takes no part in migration: attach it as SELECT_OR_MIGRATE."},
		{"not played", &unplayed, alone, "Nothing is known of a connection: " + noBPF, "Nothing was there to save."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			happened, remedy := NewStories(tt.run).Outcome(tt.c)
			if tt.happened != "-" {
				if diff := cmp.Diff(tt.happened, happened); diff != "" {
					t.Errorf("-want +got:\n%s", diff)
				}
			}
			if diff := cmp.Diff(tt.remedy, remedy); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// lines are what is said of changes.
func lines(changes []change) []string {
	var all []string
	for _, c := range changes {
		all = append(all, c.String())
	}
	return all
}

// TestWalk holds what is said of the tables against what certainly follows from them.
func TestWalk(t *testing.T) {
	twoListen := traced("quiz2", "off", 56564)
	// B listened before the request came: it does not follow whose it is.
	twoListen.Tables[2].Sockets = append(twoListen.Tables[2].Sockets, result.Socket{State: "LISTEN", Name: "B", Cookie: 2})
	crowded := crowd()
	timer := traced("quiz2", "sysctl", 56564)
	for i := range timer.Tables {
		for j := range timer.Tables[i].Sockets {
			if timer.StepName(timer.Tables[i].Step) == "stop dropping" {
				timer.Tables[i].Sockets[j].Timer = 1.99
			}
		}
	}
	for _, tt := range []struct {
		name string
		c    result.Cell
		want []string // per step
	}{
		{"quiz1 off", traced("quiz1", "off", 56564), []string{
			"new: listener A",
			"accept queue of A: 0 → 1; new: connection in the accept queue of A of port 56564",
			"new: listener B", "",
			"closed: listener A, with 1 in its accept queue; gone: connection of port 56564; gone: client's socket of port 56564", "",
		}},
		{"quiz1 sysctl", traced("quiz1", "sysctl", 56564), []string{
			"new: listener A",
			"accept queue of A: 0 → 1; new: connection in the accept queue of A of port 56564",
			"new: listener B", "",
			"closed: listener A, with 1 in its accept queue; accept queue of B: 0 → 1; moved from the accept queue of A to that of B: connection of port 56564",
			"accept queue of B: 1 → 0; accepted: connection of port 56564",
		}},
		{"quiz2 off", traced("quiz2", "off", 56564), []string{
			"new: listener A", "", "new: request socket of port 56564 made for A", "new: listener B", "",
			"closed: listener A; left without its listener A: request socket of port 56564", "",
			"gone: request socket of port 56564 made for A; gone: client's socket of port 56564", "",
		}},
		{"quiz2 sysctl", traced("quiz2", "sysctl", 56564), []string{
			"new: listener A", "", "new: request socket of port 56564 made for A", "new: listener B", "",
			"closed: listener A; left without its listener A: request socket of port 56564", "",
			"accept queue of B: 0 → 1; now a connection in the accept queue of B: request socket of port 56564 made for A",
			"accept queue of B: 1 → 0; accepted: connection of port 56564",
		}},
		{"whose request is unknown", twoListen, []string{
			"new: listener A", "", "new: listener B; new: request socket of port 56564", "", "",
			"closed: listener A", "", "gone: request socket of port 56564; gone: client's socket of port 56564", "",
		}},
		{"cloned with its cookie", timer, []string{
			"new: listener A", "", "new: request socket of port 56564 made for A", "new: listener B", "",
			"closed: listener A; left without its listener A: request socket of port 56564",
			"cloned for B (its timer ran on without A): request socket of port 56564",
			"accept queue of B: 0 → 1; now a connection in the accept queue of B: request socket of port 56564 made for B",
			"accept queue of B: 1 → 0; accepted: connection of port 56564",
		}},
		{"cloned", crowded, []string{
			"new: listener A", "", "new: 12 or more request sockets made for A", "new: listener B", "",
			"closed: listener A; left without its listener A: 12 or more request sockets",
			"cloned for B (its cookie changed): 12 or more request sockets",
			"accept queue of B: 0 → 1; now a connection in the accept queue of B: 1 or more request sockets made for B; gone: 11 or more request sockets made for B",
			"accept queue of B: 1 → 0; accepted: connection of port 40000",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, v := range walk(&tt.c) {
				got = append(got, strings.Join(lines(v.Changes), "; "))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestTimeline(t *testing.T) {
	run := quizzes()
	stories := NewStories(run)
	for i := range run.Cells {
		c := &run.Cells[i]
		if c.Mode == "bpf" {
			continue
		}
		t.Run(c.Scenario+"-"+c.Mode, func(t *testing.T) {
			golden(t, c.Scenario+"-"+c.Mode+".timeline", stories.Timeline(c))
		})
	}
}

// TestSequenceFollowsTheConnection: what the server has of the connection is a bar, which is cut off where that is gone,
// and becomes the connection's where that has migrated. Without a client it is not known which to follow.
func TestSequenceFollowsTheConnection(t *testing.T) {
	const request, socket, cut = `<g class="conn request"`, `<g class="conn connection"`, `<path class="closed"`
	draw := func(mode string, known bool) (drawn []bool) {
		c := traced("quiz2", mode, 56564)
		if !known {
			c.Client = netip.AddrPort{}
		}
		svg := sequence(newScene(&result.Header{}, &c))
		for _, what := range []string{request, socket} {
			drawn = append(drawn, strings.Contains(svg, what))
		}
		// Listeners are cut off too, and earlier.
		return append(drawn, strings.Count(svg, cut) > 1)
	}
	for _, tt := range []struct {
		mode  string
		known bool
		want  []bool // request, socket, cut off
	}{
		{"off", true, []bool{true, false, true}},
		{"sysctl", true, []bool{true, true, false}},
		{"off", false, []bool{false, false, false}},
	} {
		if diff := cmp.Diff(tt.want, draw(tt.mode, tt.known)); diff != "" {
			t.Errorf("%s, known %t: -want +got:\n%s", tt.mode, tt.known, diff)
		}
	}
}

// TestTimelineFits holds for whatever a ledger says.
func TestTimelineFits(t *testing.T) {
	for name, run := range htmlRuns() {
		stories := NewStories(run)
		for i := range run.Cells {
			for _, line := range strings.Split(stories.Timeline(&run.Cells[i]), "\n") {
				if columns(line) > 80 {
					t.Errorf("%s: %d columns: %q", name, columns(line), line)
				}
				if printable(line) != line {
					t.Errorf("%s: got through: %q", name, line)
				}
			}
		}
	}
}

// poison is put into every string of a run.
const poison = "</script><script>boom()</script><img src=x onerror=boom()>\"'><svg onload=boom()>" +
	"&amp;]]>javascript:boom()`${boom()}{{.}}\u2028\u202e\x00\n#&step=1"

// poisoned is a run with harm in every string that there is.
func poisoned() *result.Run {
	run := quizzes()
	h := &run.Header
	h.Version, h.Kernel, h.Upstream, h.Machine, h.Command = poison, poison, poison, poison, []string{poison}
	h.Scenarios = []result.About{{Name: poison, Title: poison}}
	h.Bugs = []result.Bug{{ID: poison, Doc: poison, Link: "javascript:boom()", Since: poison, Fixed: []string{poison}}}
	h.Guest = &result.Guest{Name: poison, From: poison, Image: poison, Emulator: poison, Accelerator: poison, Config: poison, Virtual: true}
	run.Ending = &result.Ending{Why: poison, Console: []string{poison, poison}}
	for i := range h.Modes {
		h.Modes[i].Doc, h.Modes[i].Saves, h.Modes[i].Advice = poison, poison, poison
	}
	zone := netip.MustParseAddr("fe80::1").WithZone(poison)
	for i := range run.Cells {
		c := &run.Cells[i]
		c.Scenario, c.Family, c.Reason, c.Bug, c.DropBackend = poison, poison, poison, poison, poison
		if c.Mode == "bpf" {
			c.Mode = poison
		}
		c.Capture.File = [...]string{poison, "javascript:boom()", "//evil.example/x", "../../etc/passwd", "/etc/passwd", "https://evil.example/"}[i]
		c.Status = [...]result.Status{result.Fail, poison, result.Skip, result.Error, result.XFail, result.Pass}[i]
		c.Control = result.Uncontrolled
		c.Counters[poison] = 1
		c.Trace = &result.Trace{Missing: []string{poison}}
		c.Checks = append(c.Checks, result.Check{Name: poison, Witness: poison, Want: poison, Got: poison})
		for j := range c.Resets {
			r := &c.Resets[j]
			r.Reason, r.State, r.Flavour, r.Owner = poison, poison, poison, poison
			r.To = netip.AddrPortFrom(zone, 1)
		}
		for j := range c.Steps {
			c.Steps[j].Name = poison
		}
		for j := range c.Flow {
			c.Flow[j].Text, c.Flow[j].Note, c.Flow[j].Dropped = poison, poison, true
		}
		for j := range c.Events {
			c.Events[j].Kind, c.Events[j].Reason, c.Events[j].State, c.Events[j].Old = poison, poison, poison, poison
		}
		c.Tables = append(c.Tables, result.Table{Step: -1}, result.Table{Step: 99})
		for j := range c.Tables {
			for k := range c.Tables[j].Sockets {
				s := &c.Tables[j].Sockets[k]
				if s.State == "LISTEN" {
					s.Name += poison
				} else {
					s.State += poison
				}
			}
		}
	}
	return run
}

func htmlRuns() map[string]*result.Run {
	all := runs()
	crowded := crowd()
	all["quizzes"], all["poisoned"] = quizzes(), poisoned()
	all["crowd"] = &result.Run{Header: mixed().Header, Cells: []result.Cell{crowded}}
	return all
}

var chunks = regexp.MustCompile(`<template>([^<]*)</template>`)

// unfold returns the page with what is packed in it in its place, as a browser that opened everything has it.
func unfold(t *testing.T, page string) string {
	t.Helper()
	return chunks.ReplaceAllStringFunc(page, func(s string) string {
		packed, err := base64.StdEncoding.DecodeString(chunks.FindStringSubmatch(s)[1])
		if err != nil {
			t.Fatal(err)
		}
		z, err := gzip.NewReader(bytes.NewReader(packed))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	})
}

// element is a start tag.
type element struct {
	name  string
	attrs map[string]string
}

// parseHTML reads a page without its own script and style: every start tag, and all text together. It is strict where
// the page is: a tag that is not closed is an error.
func parseHTML(t *testing.T, page string) (elements []element, text string) {
	t.Helper()
	page = strings.NewReplacer(inline(pageJS), "", inline(pageCSS), "").Replace(page)
	// XML wants a value for every attribute; HTML does not.
	page = regexp.MustCompile(`\s(hidden|open|checked)([\s>])`).ReplaceAllString(page, ` $1=""$2`)
	page = strings.TrimPrefix(page, "<!doctype html>")
	d := xml.NewDecoder(strings.NewReader(page))
	d.Entity, d.AutoClose = xml.HTMLEntity, []string{"meta", "br", "input"}
	d.Strict = false
	var b strings.Builder
	var open []string
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("parse: %v", err)
		}
		switch tk := token.(type) {
		case xml.StartElement:
			e := element{tk.Name.Local, map[string]string{}}
			for _, a := range tk.Attr {
				e.attrs[a.Name.Local] = a.Value
			}
			elements = append(elements, e)
			open = append(open, e.name)
		case xml.EndElement:
			if len(open) == 0 || open[len(open)-1] != tk.Name.Local {
				t.Fatalf("</%s> closes %v", tk.Name.Local, open)
			}
			open = open[:len(open)-1]
		case xml.CharData:
			b.Write(tk)
		}
	}
	if len(open) != 0 {
		t.Errorf("not closed: %v", open)
	}
	return elements, b.String()
}

// sound parses a page: known elements and attributes only, no handler, no address that leads out of its folder, ids that
// are unique and links that lead somewhere.
func sound(t *testing.T, page string) {
	t.Helper()
	known := strings.Fields("html head meta title style body a header h1 h2 h3 h4 h5 small button p span b strong em dl div dt dd code main " +
		"table thead tbody tr th td details summary article pre script footer section input output ul li br noscript label select option kbd svg rect path text g")
	attrs := strings.Fields("lang charset http-equiv content name class href id type hidden scope rowspan tabindex role aria-label aria-hidden " +
		"aria-live open data-for data-of data-step data-name data-at data-find data-was data-row transform autocomplete placeholder checked min max value step xmlns viewBox x y width height rx d text-anchor")
	if strings.Contains(unfold(t, page), "boom()</script>") {
		t.Error("raw payload")
	}
	elements, _ := parseHTML(t, unfold(t, page))
	ids := map[string]bool{}
	scripts := 0
	for _, e := range elements {
		if !slices.Contains(known, e.name) {
			t.Errorf("element %s", e.name)
		}
		if e.name == "script" {
			scripts++
		}
		for k := range e.attrs {
			if !slices.Contains(attrs, k) {
				t.Errorf("attribute %s=%q of %s", k, e.attrs[k], e.name)
			}
		}
		if id := e.attrs["id"]; id != "" && ids[id] {
			t.Errorf("twice: id %q", id)
		} else if id != "" {
			ids[id] = true
		}
	}
	if scripts != 1 {
		t.Errorf("%d scripts, want 1", scripts)
	}
	local := regexp.MustCompile(`^\./[^/\\]`)
	for _, e := range elements {
		href, ok := e.attrs["href"]
		if e.attrs["class"] == "away" { // to what is known of a bug
			if u, err := url.Parse(href); err != nil || u.Scheme != "https" || u.Host == "" {
				t.Errorf("leads away: %s", href)
			}
			continue
		}
		href, _, _ = strings.Cut(href, "&step=")
		if fragment, inner := strings.CutPrefix(href, "#"); ok && inner && !ids[fragment] {
			t.Errorf("link to nowhere: %s", href)
		} else if ok && !inner && (!local.MatchString(href) || strings.Contains(href, "..")) {
			t.Errorf("leads out: %s", href)
		}
	}
	for _, r := range page {
		if r == '\u2028' || r == '\u202e' || r == 0 {
			t.Errorf("%q got through", r)
		}
	}
}

// TestHTMLIsSound: every page is, hostile ones too.
func TestHTMLIsSound(t *testing.T) {
	for name, run := range htmlRuns() {
		t.Run(name, func(t *testing.T) { sound(t, render(t, "html", run, Options{})) })
	}
}

func TestHTMLShows(t *testing.T) {
	_, text := parseHTML(t, unfold(t, render(t, "html", quizzes(), Options{})))
	for _, want := range []string{
		"rpmig 0.1.0", "Linux 6.18.5", "x86_64", "rpmig run all --migrate=all --family=all", "6 cells: 6 PASS", "0 of 1 lived", "1 of 1 lived",
		"dropped by the rule", "sent again", "kfree_skb NETFILTER_DROP", "server: tcp_send_reset TCP_FLAGS, in LISTEN",
		"bare RST, by the surviving listener:", "⋮ 203 ms later", "made for A, which has closed",
		"left without its listener A: request socket of port 56564", "Migration would have saved it", "It was saved by the sysctl",
		"accept queue, 1 of 4096", "TCPMigrateReqSuccess +1", "asked about 1 SYN, 0 stray, 1 migrating", "EAGAIN", "capture.pcapng",
	} {
		if !strings.Contains(strings.Join(strings.Fields(text), " "), strings.TrimPrefix(want, "rpmig 0")) {
			t.Errorf("not on the page: %q", want)
		}
	}
}

// TestHTMLReadsWithoutScript: the results, both sentences and the timelines are text.
func TestHTMLReadsWithoutScript(t *testing.T) {
	_, text := parseHTML(t, chunks.ReplaceAllString(render(t, "html", quizzes(), Options{}), ""))
	for _, want := range []string{"0 of 1 lived", "Its handshake was tied to the listener that had closed", "Migration would have saved it", "------ R seq 1 ---"} {
		if !strings.Contains(text, want) {
			t.Errorf("not on the page: %q", want)
		}
	}
}

func TestHTMLPolicy(t *testing.T) {
	page := render(t, "html", poisoned(), Options{})
	elements, _ := parseHTML(t, page)
	i := slices.IndexFunc(elements, func(e element) bool { return e.attrs["http-equiv"] == "Content-Security-Policy" })
	if i < 0 {
		t.Fatal("no policy")
	}
	policy := elements[i].attrs["content"]
	if !strings.HasPrefix(policy, "default-src 'none'; ") || strings.Contains(policy, "unsafe") {
		t.Errorf("policy: %s", policy)
	}
	// A browser hashes what stands between the tags.
	for _, tag := range []string{"script", "style"} {
		inside := regexp.MustCompile(`(?s)<` + tag + `>(.*?)</` + tag + `>`).FindStringSubmatch(page)
		sum := sha256.Sum256([]byte(inside[1]))
		if !strings.Contains(policy, base64.StdEncoding.EncodeToString(sum[:])) {
			t.Errorf("the policy forbids the page's own %s", tag)
		}
	}
}

func TestHTMLIsStable(t *testing.T) {
	run := quizzes()
	want := render(t, "html", run, Options{})
	for range 3 {
		if got := render(t, "html", run, Options{}); got != want {
			t.Fatal("two pages of one run differ")
		}
	}
	slices.Reverse(run.Cells)
	if render(t, "html", run, Options{}) != want {
		t.Error("the order of cells matters")
	}
}

// thousand is a run of 1000 cells of different scenarios, all with tables and events; wrong ones failed.
func thousand(wrong bool) *result.Run {
	run := &result.Run{Header: mixed().Header}
	for i := range 1000 {
		mode := []string{"off", "sysctl", "bpf", "bpf-pass", "bpf-drop"}[i%5]
		c := traced("quiz2", mode, uint16(30000+7919*i%30000))
		if !wrong {
			c.Scenario = fmt.Sprintf("scenario-%d", i/5)
		} else {
			c.Repeat = 1 + i/5
			fail(&c)
		}
		// No two runs have the same times.
		for j := range c.Steps {
			c.Steps[j].At += float64(i*j%977) * 1.37e-5
			if j < len(c.Tables) {
				c.Tables[j].At += float64(i*j%977)*1.37e-5 + 1e-6
			}
		}
		for j := range c.Flow {
			c.Flow[j].Time += float64(i*j%991) * 1.73e-5
		}
		for j := range 20 {
			c.Checks = append(c.Checks, result.Check{Name: fmt.Sprintf("check number %d", j), Witness: result.Wire, Want: "1", Got: "1", OK: true})
		}
		run.Cells = append(run.Cells, c)
	}
	run.Header.Cells = len(run.Cells)
	return run
}

// thousandPage is made once: with the race detector it takes seconds.
var thousandPage = sync.OnceValue(func() string {
	var buf bytes.Buffer
	if err := renderHTML(&buf, thousand(false), Options{}); err != nil {
		panic(err)
	}
	return buf.String()
})

func TestHTMLOfAThousandCells(t *testing.T) {
	t.Parallel() // with the race detector it takes as long as all that look at a page
	for _, wrong := range []bool{false, true} {
		page := thousandPage()
		if wrong {
			page = render(t, "html", thousand(true), Options{})
		}
		t.Logf("failed %t: %d bytes, %d elements at first", wrong, len(page), strings.Count(page, "<")/2)
		if len(page) >= 5_000_000 {
			t.Errorf("failed %t: %d bytes, want less than 5 MB", wrong, len(page))
		}
	}
}
