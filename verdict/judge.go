// Package verdict judges a cell: it holds what its witnesses observed against what the kernel should have done, and the
// witnesses against one another. It knows nothing of how either came about, so that it can be tested by tables.
package verdict

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	"github.com/rpmig/rpmig/result"
)

// Verdict is what a cell comes to.
type Verdict struct {
	Status result.Status
	Reason string
	Bug    string // see result.Cell
	Checks []result.Check
}

// Judge holds an observation against what was expected, and its witnesses against one another. It is a pure function:
// the same facts always come to the same verdict.
//
// The order of precedence is ERROR, FAIL, PASS. It is an ERROR when the case was not staged, when rpmig's own witnesses
// disagree, and when something was not seen by a capture that lost frames: then nothing is known about the kernel. A check
// by any other witness that does not hold is a FAIL: among them what the kernel itself reports, where that contradicts what
// application and wire agree on.
//
// A FAIL in nothing but the checks of known bugs that this kernel has, or may have, is an XFAIL.
func Judge(exp Expectation, o *Observation, bugs []Suspect, strict bool) Verdict {
	j := &judgement{exp: exp, o: o, n: o.Staged, lived: o.lived()}
	if o.Stream != nil {
		j.stream()
	} else {
		j.staging()
		j.application()
		j.wire()
		j.counters()
		j.program()
		j.trace()
		j.agreement()
	}
	j.accounts()
	j.facts()
	j.postCheck()
	for i := range j.checks {
		if c := &j.checks[i]; !c.OK {
			c.Step = o.parted(exp, c)
		}
	}
	v := j.verdict()
	v.weigh(bugs, strict)
	switch bad := v.Status == result.Fail && !o.countsNoMigrations() || v.Status == result.Error; {
	case v.Status == result.Pass && o.PostCheck != nil && o.PostCheck.HeldUp:
		v.Status, v.Reason = result.Error, o.Slowly("whether the kernel frees what was closed is not known")
	case !bad || o.slow() == "":
	case o.PostCheck != nil && o.PostCheck.Unfreed > 0:
		// However late a case is, what it has closed is freed some time. The Lab does not count where it was held up while it waited.
		v.Status, v.Reason = result.Fail, "the listener is left damaged: "+unfreedCheck(o.PostCheck.Unfreed).String()
	default:
		v.Status, v.Reason = result.Error, o.Slowly(v.Reason)
	}
	return v
}

// Slowly puts before the reason of a verdict that the machine did not keep up with the case, if it is known that it did not.
func (o *Observation) Slowly(reason string) string {
	if slow := o.slow(); slow != "" {
		return fmt.Sprintf("too slow for this case: %s (a smaller --parallel helps); %s", slow, reason)
	}
	return reason
}

// IsVoid tells whether a verdict is a measurement that concluded nothing, and of which it is known by observation that the machine
// did not keep up with it: nothing else may have gone wrong. An ERROR for any other reason is not void, and a FAIL never is.
func (o *Observation) IsVoid(v Verdict) bool {
	return (v.Status == result.Error || v.Status == result.Skip) && o.slow() != ""
}

// OnSlowMachine is a verdict on a machine of which it was said before that it may not keep up: what is an ERROR for that reason alone
// is skipped. The kernel's selftests do likewise (xfail_on_slow in tools/testing/selftests/net/lib.sh).
func (o *Observation) OnSlowMachine(v Verdict) Verdict {
	if o.IsVoid(v) {
		v.Status = result.Skip
	}
	return v
}

// synackTimer is when the SYN+ACK timer first fires (TCP_TIMEOUT_INIT), in seconds.
const synackTimer = 1.0

// slow says by what it is known that the machine did not keep up with the case, so that what was seen may be the doing of
// timers that fired too early for it, or of steps that came too late; empty: there is nothing of the kind.
//
// A case that does not sit the SYN+ACK timer out must be over before that fires: the timer is another of the kernel's paths,
// and what it does says nothing about this one. All others must at least be staged by then: a timer that fires before
// the listener closes may prune the queue (reqsk_timer_handler).
func (o *Observation) slow() string {
	again := func(n int) string { return result.Plural(n, "SYN+ACK was", "SYN+ACKs were") + " sent again " }
	switch {
	case o.Wire.EarlySYNACKs > 0:
		return again(o.Wire.EarlySYNACKs) + "before the case was staged"
	case !o.SYNACKTimer && o.Wire.SYNACKsAgain > 0:
		return again(o.Wire.SYNACKsAgain) + "after 1 s"
	case o.StagedAt-o.Connected > synackTimer:
		return fmt.Sprintf("the case was staged %.1f s after the first client began to connect", o.StagedAt-o.Connected)
	case o.Sending.Seconds() > synackTimer && !o.SYNACKTimer: // under TCP_DEFER_ACCEPT it fires and sends nothing
		return fmt.Sprintf("the clients were done with sending %.1f s after they began to connect", o.Sending.Seconds())
	case len(o.Delays) > 0:
		d := slices.MaxFunc(o.Delays, func(a, b Delay) int { return cmp.Compare(a.Seconds, b.Seconds) })
		if d.Seconds == 0 {
			return fmt.Sprintf("%s, until %.4f s, during %q", d.What, d.At, o.Steps.Name(o.Steps.At(d.At)))
		}
		return fmt.Sprintf("%s for %.2f s, until %.4f s, during %q", d.What, d.Seconds, d.At, o.Steps.Name(o.Steps.At(d.At)))
	default:
		return ""
	}
}

// weigh holds a verdict against the bugs that this kernel has by its version, or may have. Strictly, a bug is named and
// excuses nothing.
func (v *Verdict) weigh(bugs []Suspect, strict bool) {
	for _, b := range bugs {
		for _, c := range v.Checks {
			if c.Name == b.Check && v.Status == result.Pass && !b.Unknown {
				v.Bug, v.Reason = b.ID, v.Reason+"; XPASS: "+b.ID+" was expected of this version, and did not show"
			}
		}
	}
	if v.Status != result.Fail {
		return
	}
	var ids []string
	unknown := false
	for _, c := range v.Checks {
		if c.OK {
			continue
		}
		i := slices.IndexFunc(bugs, func(b Suspect) bool { return b.Check == c.Name })
		if i < 0 {
			return // something else is wrong as well
		}
		ids = append(ids, bugs[i].ID)
		unknown = unknown || bugs[i].Unknown
	}
	v.Bug = strings.Join(slices.Compact(ids), ", ")
	if !strict {
		v.Status = result.XFail
	}
	if unknown {
		v.Reason += ", as the known bug " + v.Bug + " does; by version unknown whether this kernel has it"
	} else {
		v.Reason = v.Bug + ": " + v.Reason
	}
}

// Confirm holds a FAIL against what the cell came to when it was played again, alone: a kernel is accused of nothing that it
// did not do twice.
func (v *Verdict) Confirm(again Verdict) {
	if again.Status == result.Fail {
		return
	}
	v.Status = result.Error
	v.Reason = fmt.Sprintf("not confirmed: %s; played again, alone, it was %s: %s", v.Reason, again.Status, again.Reason)
}

// Fault makes a verdict of a report in which the kernel tells of a fault of its own, and which this cell has brought about: whatever
// became of the connections, that is not as it should be. line is the report's first.
func (v *Verdict) Fault(line string) {
	v.Status, v.Bug = result.Fail, ""
	v.Reason = "the kernel reported a fault of its own: " + line
	v.Checks = append(v.Checks, result.Check{Name: "faults that the kernel reports of itself", Witness: result.Accounts, Want: "none", Got: line})
}

// NoCulprit says that such a report came while this cell was played, with others or after them, and for none of them when each was
// played again, alone: the verdict, whatever it was, is not the whole truth.
func (v *Verdict) NoCulprit(line string) {
	v.Status, v.Bug = result.Error, ""
	v.Reason = "the kernel reported a fault of its own, and it is not known which cell has brought that about: it came while this one " +
		"was played, and not again when each that was played then was played alone: " + line
}

// Stalled says that the kernel reported, while this cell was played, that something did not go on for long, and that its clock is that
// of a machine which may have had no time for it.
func (v *Verdict) Stalled(line string) {
	v.Status, v.Bug = result.Error, ""
	v.Reason = "the kernel reported that it was held up, which in real time a busy machine does as well: " + line
}

// Control tells how the "off" cell beside this one fared; empty is that it was not played. A PASS without a control that
// passed says so: a reset that did not come proves something only where the same capture has caught one.
func (v *Verdict) Control(isControl bool, control result.Status) result.Control {
	switch {
	case isControl:
		return result.IsControl
	case control == result.Pass:
		return result.Controlled
	case v.Status == result.Pass && control == "":
		v.Reason += "; uncontrolled: no off cell was played"
	case v.Status == result.Pass:
		v.Reason += "; uncontrolled: the off cell was " + string(control)
	}
	return result.Uncontrolled
}

type judgement struct {
	exp    Expectation
	o      *Observation
	n      int // connections staged
	lived  int
	checks []result.Check
	// absence says that a check rests on something not having been seen on the wire.
	absence bool
}

func (j *judgement) check(w result.Witness, name string, want, got any) {
	c := result.Check{Name: name, Witness: w, Want: fmt.Sprint(want), Got: fmt.Sprint(got)}
	c.OK = c.Want == c.Got
	j.checks = append(j.checks, c)
}

func (j *judgement) staging() {
	for _, s := range j.o.Staging {
		j.check(result.Staging, "in the accept queue of "+s.Listener, s.WantQueued, s.Queued)
		j.check(result.Staging, "request sockets", s.WantRequests, s.Requests)
	}
	if r := j.o.Rule; r != nil {
		// A client may have retransmitted before the count was read, so more is as good.
		j.check(result.Staging, "segments dropped by the rule", fmt.Sprintf("%d or more", r.Want), atLeast(r.Dropped, r.Want))
	}
	j.check(result.Staging, "fate of every connection", "known", cmp.Or(j.o.Undecided, "known"))
}

func atLeast(got, want int) string {
	if got >= want {
		return fmt.Sprintf("%d or more", want)
	}
	return fmt.Sprint(got)
}

func (j *judgement) application() {
	want, says := 0, "ECONNRESET"
	if j.exp.Lives {
		want, says = j.n, "EAGAIN"
	}
	if j.o.Others > 0 {
		j.check(result.Application, "with a listener that the program did not choose", 0, j.o.Unchosen)
	}
	j.check(result.Application, "accepted", want, len(j.o.Accepted))
	j.check(result.Application, "accepted with their data", want, j.lived)
	if c := &j.checks[len(j.checks)-1]; !c.OK {
		c.Got += j.o.readInstead()
	}
	var heard []string
	for _, c := range j.o.Clients {
		heard = append(heard, c.Says)
	}
	// A client that has closed has no socket to ask.
	j.check(result.Application, "client sockets say", tally(slices.Repeat([]string{says}, len(heard))), tally(heard))
	var talks []string
	for _, a := range j.o.Accepted {
		if a.OK {
			talks = append(talks, a.Talk)
		}
	}
	j.check(result.Application, "survivors talk", tally(slices.Repeat([]string{j.exp.talk()}, want)), tally(talks))
}

// stream judges a server that reloads under clients, where it is not known in advance which of them will be hit.
func (j *judgement) stream() {
	s := j.o.Stream
	staked := "some"
	if s.AtStake == 0 {
		staked = "none"
	}
	j.check(result.Staging, "connections in the queues of old listeners", "some", staked)
	fate := "known"
	if s.TimedOut > 0 { // of a machine that did not keep up, or of a connection that nobody has: this cannot tell
		fate = result.Plural(s.TimedOut, "client waited in vain", "clients waited in vain")
	}
	j.check(result.Staging, "fate of every connection", "known", fate)
	j.checks = append(j.checks, lossCheck("lost", j.exp.Loss, s.PerMillion, s))
	j.check(result.Application, "replies that were cut short, or another's", 0, s.ClosedEarly+s.WrongReply)
	j.absence = true
	// A client that saw a reset has one on the wire, and so may one that saw the end of what the server sent: a FIN that comes first hides it
	// (tcp_reset in CLOSE_WAIT). Others have none.
	reset := s.InQueue + s.InHandshake
	j.check(result.Agreement, "application and wire: clients reset, connections reset", upTo(s.OnWire(), reset, s.EmptyReply+s.ClosedEarly), reset)
}

// trace holds what the kernel said of its resets against the wire, and against what was expected.
func (j *judgement) trace() {
	t := j.o.Trace
	if t == nil || t.Lost > 0 || t.LacksResets || t.LacksSoftirqs {
		return // what is not known contradicts nothing
	}
	explained := 0
	var owners, reasons []string
	for _, r := range j.o.Wire.Resets {
		// A trace of the whole host need not know of each, and what it is not sure of decides nothing.
		if t.HostWide && (r.Owner == "" || !t.Sure[r.Frame]) {
			continue
		}
		if r.Owner != "" {
			explained++
		}
		if r.Crossed {
			continue
		}
		owners = append(owners, string(r.Owner))
		if r.Reason != "" {
			reasons = append(reasons, r.Reason)
		}
	}
	if !t.HostWide {
		j.check(result.Agreement, "trace and wire: resets explained", len(j.o.Wire.Resets), explained)
	}
	if j.exp.Lives || t.HostWide && explained == 0 {
		return
	}
	if j.exp.Owner != "" {
		j.check(result.TraceSaid, "resets are of", tally(slices.Repeat([]string{string(j.exp.Owner)}, len(owners))), tally(owners))
	}
	if j.exp.Reason != "" && len(reasons) > 0 {
		j.check(result.TraceSaid, "resets have the reason", tally(slices.Repeat([]string{j.exp.Reason}, len(reasons))), tally(reasons))
	}
}

// notFoundOut stands for a Fact that the scenario has not noted.
const notFoundOut = "not found out"

// facts holds what the scenario found out by itself against what it should.
func (j *judgement) facts() {
	for _, name := range sortedKeys(j.exp.Facts) {
		got := Fact{Got: notFoundOut, Number: math.NaN()}
		for _, f := range j.o.Facts {
			if f.Name == name {
				got = f
			}
		}
		switch want := j.exp.Facts[name].(type) {
		case Range:
			j.checks = append(j.checks, result.Check{
				Name: name, Witness: result.Scenario, Want: want.String(), Got: got.Got, OK: want.holds(got.Number),
			})
		case IfKnown:
			if got.Got != notFoundOut {
				j.check(result.Scenario, name, string(want), got.Got)
			}
		case Each:
			j.check(result.Scenario, name, int(want)*j.n, got.Got)
		default:
			j.check(result.Scenario, name, want, got.Got)
		}
	}
}

// postCheck holds what fresh clients met against what undamaged listeners do.
func (j *judgement) postCheck() {
	p := j.o.PostCheck
	if p == nil {
		return
	}
	if p.Unfreed != NotCounted {
		j.checks = append(j.checks, unfreedCheck(p.Unfreed))
	}
	if p.Open == 0 {
		return
	}
	served := "all"
	if p.Broken != "" {
		served = p.Broken
	} else if p.Unserved > 0 {
		served = fmt.Sprintf("all but %d", p.Unserved)
	}
	j.check(result.After, "open listeners serve fresh clients", "all", served)
	for _, name := range []string{"SyncookiesSent", "ListenOverflows", "ListenDrops"} {
		j.check(result.After, name+" afterwards", 0, p.Counters[name])
	}
}

func unfreedCheck(n int) result.Check {
	return result.Check{Name: "closed sockets that are never freed", Witness: result.After, Want: "0", Got: fmt.Sprint(n), OK: n == 0}
}

// crossed is how many resets answer what had been sent before the first of their connection could be heard of.
func (o *Observation) crossed() int {
	n := 0
	for _, r := range o.Wire.Resets {
		if r.Crossed {
			n++
		}
	}
	return n
}

func (j *judgement) wire() {
	var want, got []string
	for _, r := range j.o.Wire.Resets {
		if r.Crossed {
			continue
		}
		sender := "server"
		if r.FromClient {
			sender = "client"
		}
		got = append(got, sender+" "+r.Flavour.String())
	}
	if !j.exp.Lives {
		want = slices.Repeat([]string{"server " + j.exp.Flavour.String()}, j.n)
	}
	j.absence = j.exp.Lives || len(got) < len(want)
	j.check(result.Wire, "resets", tally(want), tally(got))
	answered, answers := 0, 0
	for _, a := range j.o.Accepted {
		if j.o.Wire.Answered[a.Peer] {
			answered++
		}
	}
	if j.exp.Lives && j.exp.talk() != Gone {
		answers = j.n
	}
	j.check(result.Wire, "survivors to whom the server has sent", answers, answered)
}

func (j *judgement) counters() {
	for _, name := range sortedKeys(j.exp.Counted) {
		want := j.exp.Counted[name] * j.n
		if name == result.OutRsts {
			want += j.o.crossed()
		}
		if slices.Contains(j.exp.Retried, name) {
			want = upTo(want, int(j.o.Counters[name]), j.o.Retries)
		}
		if _, known := j.o.Known[name]; !known {
			if want != 0 { // what is not counted cannot have been counted wrongly
				j.check(result.Counters, name, want, "absent")
			}
			continue
		}
		j.check(result.Counters, name, want, j.o.Counters[name])
	}
}

func (j *judgement) program() {
	if p := j.o.Program; p != nil {
		j.check(result.ProgramSaid, "asked about a SYN", j.n+j.o.Bystanders+j.o.Wire.SYNsAgain, p.SYN)
		// It is asked about what crosses a reset, too, if it is still asked about anything.
		strays, asked := upTo(j.exp.Strays*j.n, int(p.Stray), j.o.crossed()), j.exp.Asked*j.n
		if slices.Contains(j.exp.Retried, result.MigrateFailure) {
			asked = upTo(asked, int(p.Migrated), j.o.Retries)
		}
		j.check(result.ProgramSaid, "asked about a stray segment", strays, p.Stray)
		j.check(result.ProgramSaid, "asked about a migration", asked, p.Migrated)
		if !j.o.Chooses {
			j.check(result.ProgramSaid, "named a listener for a migration", 0, p.Named)
		}
	}
}

// upTo is what is wanted of a count that may be higher by some: what was got, if that is in between.
func upTo(want, got, more int) int {
	if got > want && got <= want+more {
		return got
	}
	return want
}

// agreement holds rpmig's own witnesses against one another, whatever was expected of the kernel.
func (j *judgement) agreement() {
	o := j.o
	// Both ends of the handshake are rpmig's: connect has returned for each client.
	j.check(result.Agreement, "application and wire: handshakes", j.n+o.Bystanders, o.Wire.Handshakes)
	resets := map[netip.AddrPort]int{}
	for _, r := range o.Wire.Resets {
		if !r.Crossed {
			resets[r.To]++
		}
	}
	// A client is asked before the talk, and a reset that ends the talk comes after that: the talk tells of it.
	cut := map[netip.AddrPort]bool{}
	for _, a := range o.Accepted {
		cut[a.Peer] = !a.Talked() && a.Talk != Gone && a.Talk != Deaf
	}
	var odd []string
	for _, c := range o.Clients {
		heard, reset := c.Says == "ECONNRESET", resets[c.Local] > 0
		if heard && !reset || reset && !heard && !cut[c.Local] {
			odd = append(odd, fmt.Sprintf("%s says %s, with %s", c.Local, c.Says, result.Plural(resets[c.Local], "reset", "resets")))
		}
	}
	j.check(result.Agreement, "client and wire: who was reset heard it", "all", orAll(odd))
	odd = nil
	seen := map[netip.AddrPort]bool{}
	for _, a := range o.Accepted {
		if seen[a.Peer] && j.n == len(o.Clients) { // otherwise clients come and go, and their ports come again
			odd = append(odd, fmt.Sprintf("%s twice", a.Peer))
		}
		seen[a.Peer] = true
		if a.Talked() && !o.Wire.Answered[a.Peer] {
			odd = append(odd, fmt.Sprintf("%s was answered, and no frame shows it", a.Peer))
		}
		if a.Talk == BothWays && !o.Wire.Replied[a.Peer] {
			odd = append(odd, fmt.Sprintf("%s has sent again, and no frame shows it", a.Peer))
		}
	}
	for _, c := range o.Clients {
		if c.Held && !c.Accepted {
			odd = append(odd, fmt.Sprintf("%s is not noted, and its server's end is held by a process", c.Local))
		}
	}
	j.check(result.Agreement, "application, wire and sockets: who was accepted", "all", orAll(odd))
	// The tap comes before the INPUT hook, so what was dropped was seen.
	if r := o.Rule; r != nil {
		seen := "all"
		if r.Dropped > r.Sent {
			seen = fmt.Sprintf("%d of %d", r.Sent, r.Dropped)
		}
		j.check(result.Agreement, "rule and wire: dropped segments were sent", "all", seen)
	}
}

// accounts holds what the kernel counts, and what it tells a program, against what application and wire have seen, and against
// each other. If those agree, it is the kernel that miscounts.
func (j *judgement) accounts() {
	o := j.o
	if _, known := o.Known[result.OutRsts]; known {
		j.check(result.Accounts, "resets sent, and "+result.OutRsts, len(o.Wire.Resets), o.Counters[result.OutRsts])
	}
	if _, known := o.Known[result.MigrateSuccess]; !known || o.Stream != nil {
		return
	}
	// Where nothing but migration saves a connection, each survivor was counted; and where a connection should be lost, each
	// that lives must have migrated.
	if each := j.exp.Migrations; each > 0 || !j.exp.Lives {
		j.check(result.Accounts, "survivors, and "+result.MigrateSuccess, len(o.Accepted)*max(each, 1), o.Counters[result.MigrateSuccess])
	}
	if o.Program != nil && j.exp.Asked > 0 {
		j.check(result.Accounts, "migrations that the program decided, and those counted", o.Program.Migrated,
			o.Counters[result.MigrateSuccess]+o.Counters[result.MigrateFailure])
	}
}

func orAll(odd []string) string {
	const shown = 3
	switch {
	case len(odd) == 0:
		return "all"
	case len(odd) > shown:
		return strings.Join(odd[:shown], "; ") + fmt.Sprintf("; and %d more", len(odd)-shown)
	default:
		return strings.Join(odd, "; ")
	}
}

// verdict draws the conclusion from the checks.
func (j *judgement) verdict() Verdict {
	v := Verdict{Checks: j.checks}
	first := func(is func(result.Check) bool) *result.Check {
		if i := slices.IndexFunc(j.checks, is); i >= 0 {
			return &j.checks[i]
		}
		return nil
	}
	failed := func(ws ...result.Witness) *result.Check {
		return first(func(c result.Check) bool { return !c.OK && slices.Contains(ws, c.Witness) })
	}
	switch c := first(func(c result.Check) bool { return !slices.Contains(result.Witnesses(), c.Witness) }); {
	case c != nil:
		// Whether it holds or not: nothing is known of what it is worth.
		v.Status, v.Reason = result.Error, fmt.Sprintf("the judge does not know the witness %q: %s", c.Witness, c)
		return v
	case failed(result.Staging) != nil:
		v.Status, v.Reason = result.Error, "not staged: "+failed(result.Staging).String()
		return v
	case j.o.Wire.Lost > 0 && (j.absence || failed(result.Wire, result.Agreement, result.Accounts) != nil):
		v.Status = result.Error
		v.Reason = fmt.Sprintf("the capture lost %s of %d: what it did not see proves nothing",
			result.Plural(j.o.Wire.Lost, "frame", "frames"), j.o.Wire.Packets+j.o.Wire.Lost)
		return v
	case failed(result.Agreement) != nil:
		v.Status, v.Reason = result.Error, "the witnesses disagree: "+failed(result.Agreement).String()
		return v
	}
	c := first(func(c result.Check) bool { return !c.OK })
	if c == nil {
		v.Status, v.Reason = result.Pass, j.asExpected()
		return v
	}
	v.Status, v.Reason = result.Fail, c.String()
	if c.Witness == result.After {
		v.Reason = "the listener is left damaged: " + v.Reason
	}
	if odd := failed(result.Accounts); odd != nil && failed(result.Application, result.Wire, result.TraceSaid, result.Scenario, result.After) == nil {
		v.Reason = "the kernel miscounts: " + odd.String()
	}
	v.Reason = cmp.Or(j.inVain(), v.Reason)
	return v
}

// inVain says of a kernel that took tcp_migrate_req=1 that this did nothing; empty: there is no sign of that. It has the sysctl and
// not the code only where it does not even count migrations, as 5.10.188 and later 5.10.y.
func (j *judgement) inVain() string {
	const taken = "tcp_migrate_req=1 was taken, and "
	migrations := j.o.Counters[result.MigrateSuccess] + j.o.Counters[result.MigrateFailure]
	switch {
	case !j.o.SysctlTaken:
		return ""
	case j.o.countsNoMigrations():
		return "the sysctl is there and the code is not: " + taken + "this kernel does not count migrations: it has no " + result.MigrateSuccess
	case j.exp.Lives && j.exp.Migrations > 0 && j.lived == 0 && migrations == 0:
		return taken + "nothing migrated"
	default:
		return ""
	}
}

// countsNoMigrations tells that the kernel took tcp_migrate_req=1 and has no counter of migrations. The counters came with the
// code (5.14, commit 55d444b310c6), and are there from the start. So whatever such a kernel does not do, this is why, and no
// machine is too slow to know it.
func (o *Observation) countsNoMigrations() bool {
	_, known := o.Known[result.MigrateSuccess]
	return o.SysctlTaken && o.Known != nil && !known
}

// asExpected is the reason of a PASS.
func (j *judgement) asExpected() string {
	switch {
	case j.o.Stream != nil:
		return j.streamed()
	case j.exp.Lives && j.exp.talk() == Deaf:
		return "accepted and deaf, as expected: migrated, nothing gets through either way, no RST"
	case j.exp.Lives && j.exp.Migrations > 0:
		return "lived, as expected: migrated, no RST"
	case j.exp.Lives:
		return "lived, as expected, without migration"
	}
	reason := "lost, as expected: " + j.exp.Flavour.String()
	if len(j.o.Wire.Resets) > 0 {
		reason += fmt.Sprintf(" in frame %d, during %q", j.o.Wire.Resets[0].Frame, j.o.Steps.Name(j.o.Wire.Resets[0].Step))
	}
	return reason
}

// tally counts equal words: "24 EAGAIN, 1 ECONNRESET"; "none" for no words.
func tally(words []string) string {
	count := map[string]int{}
	for _, w := range words {
		count[w]++
	}
	var parts []string
	for _, w := range sortedKeys(count) {
		parts = append(parts, fmt.Sprintf("%d %s", count[w], w))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
