// Package result is the ledger: what was observed in each cell, how it was judged, and the JSON lines in which both are
// kept. Every report is made from these values alone. It imports the standard library only, so that anything may read a
// ledger without the harness.
package result

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unique"
)

// Schema is the version of the JSON lines this package writes. Readers refuse a newer one, and read older ones: see
// schema1.go for what has changed.
const Schema = 2

// Status is the verdict on one cell.
type Status string

// The zero Status is invalid: a cell without a verdict must never look like a pass.
const (
	Pass  Status = "PASS"  // the kernel did what the mode promises, and the witnesses agree
	Fail  Status = "FAIL"  // the kernel did otherwise
	XFail Status = "XFAIL" // the kernel did otherwise, as a known bug does that this version has, or may have
	Skip  Status = "SKIP"  // this kernel or this user cannot, and a probe said so; or the machine, of which that was said before
	Error Status = "ERROR" // no conclusion: our fault or the machine's
)

// Statuses lists every valid status, best first.
func Statuses() []Status { return []Status{Pass, XFail, Skip, Fail, Error} }

// Flavour tells the two kinds of reset apart: one that acknowledges (tcp_send_active_reset, or an answer to a segment
// without ACK) and a bare one (tcp_v4_send_reset answering a segment that carried an ACK).
type Flavour string

// The flavours, as tcpdump's "R." and "R".
const (
	RSTACK  Flavour = "RST+ACK"
	BareRST Flavour = "bare"
)

// String is the flavour as a noun.
func (f Flavour) String() string {
	if f == BareRST {
		return "bare RST"
	}
	return string(f)
}

// Header is the first line of a ledger.
type Header struct {
	Schema  int    `json:"schema"`
	Version string `json:"version"` // of rpmig
	Kernel  string `json:"kernel"`  // release, as uname -r
	// Upstream is the release of Linux that the kernel was made of, by which known bugs were judged; empty where the
	// distribution does not tell.
	Upstream string `json:"upstream,omitempty"`
	Machine  string `json:"machine"` // architecture, as uname -m
	// Started is when the run began, by the wall clock; zero in ledgers of older versions.
	Started Time     `json:"started,omitzero"`
	Command []string `json:"command"` // the arguments, without the program's path
	Cells   int      `json:"cells"`   // how many lines follow when the run was not cut short
	Port    uint16   `json:"port"`    // of the listeners, in each cell's namespace
	// Modes are all that this rpmig has, in the order in which reports show them.
	Modes []Mode `json:"modes"`
	// Scenarios are those of the run, and Bugs the known bugs that can show in them, each once: with the first of its checks.
	Scenarios []About `json:"scenarios,omitempty"`
	Bugs      []Bug   `json:"bugs,omitempty"`
	// Families are those of the run; none in ledgers of older versions, and where a server was reloaded.
	Families []string `json:"families,omitempty"`
	// Guest is the virtual machine in which the run was played; nil: it was on the machine's own kernel.
	Guest *Guest `json:"guest,omitempty"`
	// Shard is which part of a larger run it is; nil: it is all of it.
	Shard *Shard `json:"shard,omitempty"`
	// UntilFail is of a run that has no plan, so that Cells is 0: it goes on until something fails.
	UntilFail *UntilFail `json:"until_fail,omitempty"`
}

// UntilFail says how long a run goes on in which nothing fails.
type UntilFail struct {
	Most int `json:"most,omitempty"` // cells; 0: without end
}

// About is what a reader of the ledger needs to know of a scenario.
type About struct {
	Name  string `json:"name"`
	Title string `json:"title"` // what it is about, in one line
}

// Time is a time of the wall clock, written in UTC with milliseconds, as RFC 3339 has it.
type Time struct{ time.Time }

// MarshalJSON implements json.Marshaler.
func (t Time) MarshalJSON() ([]byte, error) {
	return t.UTC().AppendFormat(nil, `"2006-01-02T15:04:05.000Z"`), nil
}

// UnmarshalJSON implements json.Unmarshaler. It refuses what MarshalJSON could not write.
func (t *Time) UnmarshalJSON(text []byte) error {
	if err := t.Time.UnmarshalJSON(text); err != nil {
		return err
	}
	if t.Time = t.UTC().Truncate(time.Millisecond); t.Year() < 0 || t.Year() > 9999 {
		return fmt.Errorf("%s: no year of four digits", text)
	}
	return nil
}

// Shard is a part of a run that is played on several machines.
type Shard struct {
	Index   int `json:"index"`   // counted from 1
	Of      int `json:"of"`      // how many shards there are
	Planned int `json:"planned"` // cells of all of them
}

// String is "2/7".
func (s *Shard) String() string { return fmt.Sprintf("%d/%d", s.Index, s.Of) }

// Guest is a virtual machine that was booted for a run.
type Guest struct {
	Name string `json:"name"` // of its kernel among those of the run: the name of its folder below --out
	From string `json:"from"` // what the kernel was made of, as the user named it
	// Image is the SHA-256 of the kernel's image, in hexadecimal.
	Image       string `json:"image,omitempty"`
	Emulator    string `json:"emulator"`    // and its version: "QEMU 7.2.22"
	Accelerator string `json:"accelerator"` // tcg or kvm
	Memory      int    `json:"memory"`      // MiB
	CPUs        int    `json:"cpus"`
	Virtual     bool   `json:"virtual_time"`     // its clock is that of the instructions it runs: no time is a figure of a machine
	Config      string `json:"config,omitempty"` // file below the ledger's folder with the kernel's .config; empty: it was not found
}

// Ending is how a run ended that did not end by itself: a guest died or was lost, or a signal came. Where no line of the ledger
// tells, but nothing has ended a run that was to go on until something fails, reading it makes one.
type Ending struct {
	Why string `json:"why"` // one sentence
	// Died tells that the kernel said so itself: a panic, or a report on its console. Otherwise it was lost, for whatever reason.
	Died    bool     `json:"died,omitempty"`
	Console []string `json:"console,omitempty"` // the last lines of it
}

// Mode is a way to ask the kernel for migration, as far as a reader of the ledger needs to know it.
type Mode struct {
	Name string `json:"name"`
	Doc  string `json:"doc"` // in a few words
	// Saves is what saves a connection in this mode, as a noun: "the sysctl …"; empty where nothing does.
	Saves string `json:"saves,omitempty"`
	// Advice is why a connection is lost in this mode and what would have saved it, in sentences.
	Advice string `json:"advice,omitempty"`
}

// Mode returns the mode of that name; only its name is known of one that the ledger does not list.
func (h *Header) Mode(name string) Mode {
	for _, m := range h.Modes {
		if m.Name == name {
			return m
		}
	}
	return Mode{Name: name}
}

// Title is what a scenario is about; empty where the ledger does not say.
func (h *Header) Title(scenario string) string {
	for _, s := range h.Scenarios {
		if s.Name == scenario {
			return s.Title
		}
	}
	return ""
}

// Cell is one scenario in one family and one mode, played once. Times are seconds since the cell began.
type Cell struct {
	Scenario string `json:"scenario"`
	Family   string `json:"family"`
	Mode     string `json:"mode"`
	Repeat   int    `json:"repeat"` // counted from 1

	Status Status `json:"status"`
	Reason string `json:"reason"` // one sentence, also for a PASS
	// Control says how the "off" cell that belongs to this one fared. A reset that did not come proves something only
	// where the same capture has caught one.
	Control Control `json:"control"`

	// Confirmed is what a cell that was a FAIL came to when it was played again, alone: an accusation of the kernel is made
	// twice, or the cell is an ERROR. Absent from all other cells, and where the user asked for no confirmation.
	Confirmed *Replay `json:"confirmed,omitempty"`

	// Void is what the first measurement of the cell came to, if that was void: the machine is known not to have kept up, so that
	// nothing was concluded. All else in the cell is of the second, which was played alone. Absent from all other cells.
	Void *Replay `json:"void,omitempty"`

	// Bug names the known kernel bug that explains an XFAIL, or that a PASS shows to be absent against the version.
	Bug string `json:"bug,omitempty"`

	Connections Connections      `json:"connections"`
	Resets      []Reset          `json:"resets"`
	Counters    map[string]int64 `json:"counters"` // deltas; a counter that this kernel lacks is absent
	Program     *Program         `json:"program,omitempty"`
	Checks      []Check          `json:"checks"`
	Steps       Steps            `json:"steps"`
	Client      netip.AddrPort   `json:"client,omitzero"`  // its end of the connection in Flow
	Flow        []Segment        `json:"flow"`             // one connection: the first that was lost, or the first
	Tables      []Table          `json:"tables,omitempty"` // the socket tables, step by step; absent with --trace=off
	Events      []Event          `json:"events,omitempty"` // what the kernel's trace says; absent with --trace=off
	Trace       *Trace           `json:"trace,omitempty"`
	Stream      *Stream          `json:"stream,omitempty"`       // of a server that reloads under clients
	Reload      *Reload          `json:"reload,omitempty"`       // of a server of the user's own, which rpmig reload has played
	Namespace   *Namespace       `json:"namespace,omitempty"`    // of a cell whose evidence is kept
	DropBackend string           `json:"drop_backend,omitempty"` // what put the packet-drop rule in; empty: no rule
	Capture     Capture          `json:"capture"`
	At          float64          `json:"at,omitempty"` // when the cell began: seconds since Header.Started; 0: not known, or not played
	Elapsed     float64          `json:"elapsed"`
}

// ID names a cell within its run.
func (c *Cell) ID() string { return ID(c.Scenario, c.Family, c.Mode, c.Repeat) }

// ID names a cell within its run.
func ID(scenario, family, mode string, repeat int) string {
	return fmt.Sprintf("%s/%s/%s/%d", scenario, family, mode, repeat)
}

// ParseID takes the name of a cell apart.
func ParseID(id string) (scenario, family, mode string, repeat int, err error) {
	parts := strings.Split(id, "/")
	if n := len(parts); n >= 4 { // a scenario's name may have slashes
		if repeat, err = strconv.Atoi(parts[n-1]); err == nil && repeat > 0 {
			return strings.Join(parts[:n-3], "/"), parts[n-3], parts[n-2], repeat, nil
		}
	}
	return "", "", "", 0, fmt.Errorf("%q is no cell's name", id)
}

// Folder is where a cell's evidence is, if it has left any, relative to the ledger's folder, with slashes.
func (c *Cell) Folder() string { return "cells/" + c.ID() }

// Bad tells whether the cell is a FAIL or an ERROR, which always leaves evidence.
func (c *Cell) Bad() bool { return c.Status == Fail || c.Status == Error }

// HasEvidence tells whether the cell has left any.
func (c *Cell) HasEvidence() bool { return c.Bad() || c.Capture.File != "" }

// until is when the cell ended, in seconds since the run started. The cycles of a reload's cell take turns with those of others, and
// Elapsed has its own alone.
func (c *Cell) until() float64 {
	if c.Reload != nil && len(c.Reload.Cycles) > 0 {
		cycles := c.Reload.Cycles
		return c.At + cycles[len(cycles)-1].To - cycles[0].At
	}
	return c.At + c.Elapsed
}

// StepName is the name of a step by its number, as in Reset.Step; empty where there is none.
func (c *Cell) StepName(n int) string { return c.Steps.Name(n) }

// Brief is what the cell came to, without how: no resets, checks, steps, counters, nor what its story is told with.
func (c *Cell) Brief() Cell {
	return Cell{
		Scenario: c.Scenario, Family: c.Family, Mode: c.Mode, Repeat: c.Repeat,
		Status: c.Status, Reason: unique.Make(c.Reason).Value(), Control: c.Control, Confirmed: c.Confirmed, Void: c.Void, Bug: c.Bug,
		Connections: c.Connections, Trace: c.Trace, Stream: c.Stream, Reload: c.Reload, DropBackend: c.DropBackend, Capture: c.Capture,
		At: c.At, Elapsed: c.Elapsed,
	}
}

// Fact is what happened, whatever was expected: "1 of 1 lived".
func (c *Cell) Fact() string {
	if c.Connections.Staged == 0 {
		return "not played"
	}
	said := fmt.Sprintf("%d of %d lived", c.Connections.Survived, c.Connections.Staged)
	if n := c.Connections.Deaf; n > 0 {
		said += fmt.Sprintf(", and %d accepted and deaf", n)
	}
	return said
}

// Failed returns the checks that did not hold.
func (c *Cell) Failed() []Check {
	var failed []Check
	for _, k := range c.Checks {
		if !k.OK {
			failed = append(failed, k)
		}
	}
	return failed
}

// Replay is what a cell came to in another play than the one that it tells of.
type Replay struct {
	Status Status `json:"status"`
	Reason string `json:"reason"`
}

// Control is how the "off" cell beside a cell fared.
type Control string

const (
	IsControl    Control = "control"      // this cell is the "off" cell of its group
	Controlled   Control = "controlled"   // the off cell passed: its resets were caught
	Uncontrolled Control = "uncontrolled" // the off cell was not played or reached no verdict
)

// Connections counts the clients of a cell.
type Connections struct {
	Staged   int `json:"staged"`   // connected by the client before the listener closed
	Survived int `json:"survived"` // accepted on the surviving listener, with the data sent
	Lost     int `json:"lost"`     // all others
	// Deaf are those of the lost that were accepted with their data, and then nothing gets through either way, though nothing
	// is reset.
	Deaf int `json:"deaf,omitempty"`
}

// Reset is a TCP segment with RST that was seen on the wire.
type Reset struct {
	Time    float64        `json:"time"`
	Frame   int            `json:"frame"` // number in the capture, counted from 1
	From    netip.AddrPort `json:"from"`
	To      netip.AddrPort `json:"to"`
	Flavour Flavour        `json:"flavour"`
	// FromClient tells that a client sent it, and not the server.
	FromClient bool `json:"from_client,omitempty"`
	// Crossed tells that it answers a segment which was sent before its sender heard of the connection's first reset, or of
	// its end: sent is not arrived. It says nothing about the kernel.
	Crossed bool `json:"crossed,omitempty"`
	Step    int  `json:"step,omitempty"` // the step that was running when it was sent, counted from 1; 0: none
	// Why, in the kernel's words, as far as its trace tells: absent without privilege and before Linux 6.10.
	Reason string `json:"reason,omitempty"` // enum sk_rst_reason, without its prefix
	State  string `json:"state,omitempty"`  // of the socket that sent it
	Owner  Owner  `json:"owner,omitempty"`
}

// Owner is whose reset it is.
type Owner string

const (
	ClosingListener   Owner = "closing listener"   // a connection that a closing listener still held
	SurvivingListener Owner = "surviving listener" // a segment that a listener could make nothing of
	NoSocket          Owner = "no socket"          // a segment that found no socket at all
	OwnSocket         Owner = "the connection"     // an established socket, on its own account
	Harness           Owner = "harness"            // a client's socket: rpmig's own doing
)

// Table is the TCP sockets of the port at a moment, as sock_diag shows them.
type Table struct {
	Step    int      `json:"step"` // the step that had just ended, counted from 1
	At      float64  `json:"at"`
	Sockets []Socket `json:"sockets"`        // listeners first; no more than 16
	More    int      `json:"more,omitempty"` // sockets left out
}

// Socket is a row of a Table.
type Socket struct {
	State   string         `json:"state"` // LISTEN, SYN_RECV, ESTABLISHED …
	Name    string         `json:"name"`  // "A" of a listener; "request", "child" or "client" of others
	Local   netip.AddrPort `json:"local"`
	Remote  netip.AddrPort `json:"remote"`
	Queue   int            `json:"queue"`   // LISTEN: connections that wait for accept; others: bytes not yet read
	Backlog int            `json:"backlog"` // LISTEN: how many may wait
	Inode   uint32         `json:"inode"`   // 0: no process has it
	Cookie  uint64         `json:"cookie"`
	Retries int            `json:"retries,omitempty"` // retransmissions so far, a SYN+ACK's for a request
	Timer   float64        `json:"timer,omitempty"`   // seconds until it fires; 0: none runs
}

// Event is something that the kernel's trace told.
type Event struct {
	Time   float64        `json:"time"`
	Kind   string         `json:"kind"`             // the tracepoint, as tcp:tcp_send_reset
	Reason string         `json:"reason,omitempty"` // of a reset or a drop
	State  string         `json:"state,omitempty"`  // of the socket, once that has happened
	Old    string         `json:"old,omitempty"`    // the state before, of inet_sock_set_state
	From   netip.AddrPort `json:"from"`
	To     netip.AddrPort `json:"to"`
	// By is "address" or "thread" where the event most probably is the cell's, by no more than that: another namespace may
	// use the same addresses, and a thread is held up by the softirqs of others too. It decides no verdict.
	By string `json:"by,omitempty"`
}

// Trace says how well the trace was recorded.
type Trace struct {
	Lost    int      `json:"lost"`              // events that did not fit, or that the counters betray and the trace does not tell
	Missing []string `json:"missing,omitempty"` // tracepoints that this kernel lacks
	// HostWide says that the kernel told of the whole host, by tracefs and not to BPF programs. Then cells are played one at
	// a time, and what is not surely or probably a cell's own is left out.
	HostWide bool `json:"host_wide,omitempty"`
}

// Namespace is what a cell's network namespace was like when the scenario was over.
type Namespace struct {
	Sysctls map[string]string `json:"sysctls"` // that rpmig or the scenario sets; one that this kernel lacks is absent
	// Rules are the packet filter's, as they were last read before they were taken out, each a line with its counter.
	Rules []string `json:"rules,omitempty"`
	// Counters that moved, before and after, by group and name, as TcpExt.TCPMigrateReqSuccess.
	Counters map[string][2]int64 `json:"counters"`
	Unknown  []string            `json:"unknown,omitempty"` // what could not be read, and why
}

// Program is what the BPF program counted of its own runs.
type Program struct {
	SYN      uint64 `json:"syn"`      // asked to choose a listener for a SYN
	Stray    uint64 `json:"stray"`    // asked to choose one for a segment that belongs to no connection
	Migrated uint64 `json:"migrated"` // asked to choose a listener for a socket that is to migrate
	// Named is for how many of those it has named a listener.
	Named uint64 `json:"named,omitempty"`
}

// The counters that verdicts and reports know by name, as nstat(8) has them.
const (
	MigrateSuccess = "TCPMigrateReqSuccess" // Linux 5.14, commit 55d444b310c6
	MigrateFailure = "TCPMigrateReqFailure"
	OutRsts        = "OutRsts"     // resets sent, RFC 1213 tcpOutRsts
	EstabResets    = "EstabResets" // ESTABLISHED or CLOSE-WAIT to CLOSED, RFC 1213 tcpEstabResets
)

// Witness is the source of a fact.
type Witness string

const (
	Staging     Witness = "staging"     // sock_diag and the rule's counters, before the listener closes
	Application Witness = "application" // what accept, recv and the client's socket returned
	Wire        Witness = "wire"        // frames captured on loopback
	Counters    Witness = "counters"    // deltas of /proc/thread-self/net/{netstat,snmp}
	ProgramSaid Witness = "program"     // the BPF program's own counts
	TraceSaid   Witness = "trace"       // the kernel's own word on its resets
	Scenario    Witness = "scenario"    // what the scenario found out by itself
	After       Witness = "aftercare"   // fresh clients, once the case is over
	Agreement   Witness = "agreement"   // two of rpmig's own witnesses held against each other
	Accounts    Witness = "accounts"    // what the kernel counts and tells a program, held against what was seen
)

// Witnesses lists every witness.
func Witnesses() []Witness {
	return []Witness{Staging, Application, Wire, Counters, ProgramSaid, TraceSaid, Scenario, After, Agreement, Accounts}
}

// Check is one thing that was expected and one that was seen, in the same notation.
type Check struct {
	Name    string  `json:"name"`
	Witness Witness `json:"witness"`
	Want    string  `json:"want"`
	Got     string  `json:"got"`
	OK      bool    `json:"ok"`
	// Step is where what was seen parted from what was wanted, counted from 1; 0: it holds, or that is not known.
	Step int `json:"step,omitempty"`
}

// String puts what was seen beside what was expected.
func (c Check) String() string {
	return fmt.Sprintf("%s: want %s, got %s", c.Name, c.Want, c.Got)
}

// Step is a named action of the scenario and when it began.
type Step struct {
	Name string  `json:"name"`
	At   float64 `json:"at"`
}

// Steps are those of a cell, in the order in which they were played. They are numbered from 1.
type Steps []Step

// Name is the name of a step by its number; empty where there is none.
func (s Steps) Name(n int) string {
	if n < 1 || n > len(s) {
		return ""
	}
	return s[n-1].Name
}

// At is the number of the step that was running at a time; 0 before the first.
func (s Steps) At(time float64) int {
	n := 0
	for i := range s {
		if s[i].At <= time {
			n = i + 1
		}
	}
	return n
}

// Segment is a TCP segment of one connection.
type Segment struct {
	Time       float64 `json:"time"`
	Frame      int     `json:"frame"`
	FromClient bool    `json:"from_client"`
	Role       Role    `json:"role"`
	Again      bool    `json:"again,omitempty"`   // brings nothing that was not sent before: a retransmission
	Dropped    bool    `json:"dropped,omitempty"` // by the scenario's own packet-drop rule
	Text       string  `json:"text"`              // as tcpdump prints it, with relative numbers: "P. seq 1:12, ack 1"
	Note       string  `json:"note,omitempty"`    // why it matters
}

// Role is what a segment does in its connection. One that does several things has the first of: reset, SYN+ACK, SYN, FIN,
// data, ACK.
type Role string

const (
	RoleSYN          Role = "syn"
	RoleSYNACK       Role = "syn+ack"
	RoleHandshakeACK Role = "handshake ack" // the client's first ACK, of the SYN+ACK, without data
	RoleData         Role = "data"
	RoleACK          Role = "ack"
	RoleFIN          Role = "fin"
	RoleReset        Role = "reset"
	RoleOther        Role = "other"
)

// Capture says what the packet socket recorded.
type Capture struct {
	Packets int    `json:"packets"`        // frames recorded
	Lost    int    `json:"lost"`           // frames that the kernel dropped for want of room
	File    string `json:"file,omitempty"` // pcapng, relative to the ledger's folder
}

// Run is a whole ledger.
type Run struct {
	Header Header
	Cells  []Cell
	Ending *Ending // nil: it ended by itself, or was cut short without a word
	// Stored has the cells of a run that are not in Cells; nil: all are there.
	Stored *Stored
}

// Len returns how many cells there are.
func (r *Run) Len() int {
	if r.Stored != nil {
		return r.Stored.Len()
	}
	return len(r.Cells)
}

// Count returns how many cells have the status.
func (r *Run) Count(s Status) int {
	n := 0
	if r.Stored != nil {
		for _, k := range r.Stored.Kinds {
			n += k.Count[s]
		}
		return n
	}
	for i := range r.Cells {
		if r.Cells[i].Status == s {
			n++
		}
	}
	return n
}

// MeasuredAgain returns how many cells were played again because the first measurement was void: see Cell.Void.
func (r *Run) MeasuredAgain() int {
	n := 0
	if r.Stored != nil {
		for _, k := range r.Stored.Kinds {
			n += k.Again
		}
		return n
	}
	for i := range r.Cells {
		if r.Cells[i].Void != nil {
			n++
		}
	}
	return n
}

// Took is how long the run took by the wall clock, in seconds, up to the end of its last cell. It is not known of a ledger that
// does not say when its cells began.
func (r *Run) Took() (seconds float64, known bool) {
	for _, k := range r.Kinds() {
		seconds, known = max(seconds, k.Until), known || k.Began > 0
	}
	return seconds, known && !r.Header.Started.IsZero()
}

// Missing returns how many of the planned cells are not in the ledger: a run that was cut short.
func (r *Run) Missing() int { return max(r.Header.Cells-r.Len(), 0) }

// Exit codes. Skipped is kselftest's KSFT_SKIP; Usage and Failure follow sysexits(3).
const (
	ExitOK       = 0
	ExitFail     = 1
	ExitSkip     = 4
	ExitUsage    = 64
	ExitSoftware = 70
)

// ExitCode maps a run to the status of the process: an ERROR outweighs a FAIL, since nothing was concluded; a run that
// is nothing but SKIP says so.
func (r *Run) ExitCode() int {
	switch {
	case r.Count(Error) > 0 || r.Missing() > 0 || r.Ending != nil:
		return ExitSoftware
	case r.Count(Fail) > 0:
		return ExitFail
	case r.Len() > 0 && r.Count(Skip) == r.Len():
		return ExitSkip
	default:
		return ExitOK
	}
}

// ExitCode maps several runs to the status of the process: the worst of theirs. They are skipped only if all are.
func ExitCode(runs []*Run) int {
	var codes []int
	for _, r := range runs {
		codes = append(codes, r.ExitCode())
	}
	for _, worst := range []int{ExitSoftware, ExitFail, ExitOK, ExitSkip} {
		if slices.Contains(codes, worst) {
			return worst
		}
	}
	return ExitOK
}

// Summary is the run in one line: "10 cells: 8 PASS, 2 SKIP".
func (r *Run) Summary() string { return Summary([]*Run{r}) }

// Summary is several runs in one line, as if they were one.
func Summary(runs []*Run) string {
	cells, missing, again := 0, 0, 0
	for _, r := range runs {
		cells += r.Len()
		missing += r.Missing()
		again += r.MeasuredAgain()
	}
	var parts []string
	for _, s := range Statuses() {
		n := 0
		for _, r := range runs {
			n += r.Count(s)
		}
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	line := Plural(cells, "cell", "cells")
	if len(parts) > 0 {
		line += ": " + strings.Join(parts, ", ")
	}
	if again > 0 {
		line += fmt.Sprintf("; %d measured again", again)
	}
	if missing > 0 {
		line += fmt.Sprintf("; %d planned and not played", missing)
	}
	return line
}

// Plural counts things in words: "1 cell", "2 cells".
func Plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
