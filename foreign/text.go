package foreign

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/rpmig/rpmig/capture"
	"github.com/rpmig/rpmig/reports"
	"github.com/rpmig/rpmig/result"
)

// words are what a kind is called in the summary.
var words = [kinds]string{
	Queued:     "reset by RST+ACK before the server had sent a byte: as by a closing listener",
	Stray:      "reset by a bare RST in the handshake, as a stray",
	Refused:    "refused: the SYN was answered with a reset",
	Aborted:    "reset by the server's own socket, later on",
	Gone:       "answered with a bare RST once they were open: the server's socket was gone",
	Unanswered: "asked for, and no answer was captured",
	Unfinished: "answered, and the handshake not finished",
	ByClient:   "reset by the client",
	Served:     "served, or ended by the server in order",
	Silent:     "open, and not a byte from the server",
	OneWay:     "captured in one direction alone: what became of them is not known",
	Partial:    "open before the capture began",
}

// Text is the report for people: a summary, then what is behind it.
func (rep *Report) Text(name string, o reports.Options) string {
	s := &sheet{reports.NewSheet(o), rep, o.Verbose}
	s.summary(name)
	s.queued()
	s.strays()
	s.others()
	if rep.Bad() > 0 {
		s.cannot()
	}
	return s.String()
}

type sheet struct {
	*reports.Sheet
	*Report
	all bool // draw all that are told of, and not one of a kind
}

func (s *sheet) summary(name string) {
	where := "TCP"
	if s.Port != 0 {
		where = fmt.Sprintf("port %d", s.Port)
	}
	s.Heading(fmt.Sprintf("%s in %s: %s, of which servers reset %d", where, name, result.Plural(s.Connections, "connection", "connections"), s.Bad()))
	r := s.Reader
	said := fmt.Sprintf("%s, %s: %s", r.Format, cmp.Or(strings.Join(r.Links, " and "), "no link type"), result.Plural(r.Packets, "packet", "packets"))
	if !r.Start.IsZero() {
		said += fmt.Sprintf(" in %s, from %s", spell(r.End.Sub(r.Start)), r.Start.UTC().Format("2006-01-02 15:04:05.000 UTC"))
	}
	s.Say(2, fmt.Sprintf("%s; %d of %s", said, s.Frames, where))
	if s.Connections == 0 {
		s.Say(2, "None of its packets is of a connection of that kind.")
		s.counted(uint64(s.Others), "packets of TCP of other ports")
		s.counted(uint64(r.Datagrams), "packets of UDP, where of tunnels VXLAN, Geneve and GTP are looked into, at their usual ports")
	}
	for k, n := range s.Counts {
		if n > 0 {
			s.Item(2, fmt.Sprintf("%6d", n), words[k])
		}
	}
	if s.SYNs+s.SYNACKs+s.Again[0]+s.Again[1] > 0 {
		s.Say(2, fmt.Sprintf("sent again: %d SYN, %d SYN+ACK; data: %d by clients, %d by servers", s.SYNs, s.SYNACKs, s.Again[0], s.Again[1]))
	}
	s.doubts()
}

// doubts say what of the capture was not seen.
func (s *sheet) doubts() {
	r := s.Reader
	unseen, names := unseen(r.Unseen)
	for _, d := range []struct {
		n    uint64
		said string
	}{
		{r.Dropped, "packets that whoever captured has lost, so that what is not here may have been there"},
		{uint64(r.Undecodable), "packets that cannot be decoded: malformed, or cut too short (tcpdump -s)"},
		{uint64(r.Fragments), "fragments of IP, which are not put together; of TCP the first of each packet is read, and not counted here"},
		{uint64(r.Unknown), "packets of link types that are not known here"},
		{unseen, "packets that may carry TCP, and are not looked into (" + names + ")"},
		{uint64(s.LetGo), "connections that were let go of while they were open, as too many were: their ends are not known"},
		{uint64(s.Guessed), "resets of connections whose beginning is missing, so that it is a guess which end is the server: --port tells"},
		{uint64(s.Copies), "packets that repeat one of the millisecond before, as another interface sees it or as an ACK is sent twice, and that do not count"},
		{uint64(s.Late), "packets that are behind a later one of their connection, so that its story may be wrong: reordercap FILE SORTED sorts them by time"},
		{uint64(r.Timeless), "packets of which the file has no time, so that what is sent again looks like a copy"},
		{uint64(r.Inexact), "packets whose time is off by up to 74 ms, as their interface counts in binary fractions of a second (if_tsresol)"},
	} {
		s.counted(d.n, d.said)
	}
	if s.Cut != nil {
		s.Say(2, fmt.Sprintf("the rest cannot be read: %v", s.Cut))
	}
}

func (s *sheet) counted(n uint64, said string) {
	if n > 0 {
		s.Say(2, fmt.Sprintf("%s: %d", said, n))
	}
}

// unseen is how many packets were not looked into, and what most of them are.
func unseen(of map[string]int) (n uint64, names string) {
	all := slices.SortedFunc(maps.Keys(of), func(a, b string) int { return cmp.Or(cmp.Compare(of[b], of[a]), cmp.Compare(a, b)) })
	for _, name := range all {
		n += uint64(of[name])
	}
	const most = 4
	names = strings.Join(all[:min(len(all), most)], ", ")
	if len(all) > most {
		names += " and others"
	}
	return n, names
}

func (s *sheet) queued() {
	told := s.Told[Queued]
	if len(told) == 0 {
		return
	}
	s.Heading(fmt.Sprintf("Reset as by a closing listener: %d", s.Counts[Queued]))
	s.Say(2, "An RST+ACK that answers nothing, on a connection whose handshake was done and on which the server had not sent a byte. So Linux "+
		"ends each connection in the accept queue of a listener that is closed (inet_csk_listen_stop).")
	other, none := false, false
	for i, c := range s.closings() {
		how, next := s.listened(c.server, c.until)
		other, none = other || next && how == listened, none || next && how == closed
		const mostClosings, mostClients = 8, 3
		if i >= mostClosings && !s.all {
			continue
		}
		said := fmt.Sprintf("at %s %v reset ", s.since(c.from), c.server)
		for j, a := range c.clients[:min(len(c.clients), mostClients)] {
			if j > 0 {
				said += ", "
			}
			said += a.String()
		}
		if more := len(c.clients) - mostClients; more > 0 {
			said += fmt.Sprintf(" and %d more", more)
		}
		if len(c.clients) > 1 {
			said += fmt.Sprintf(" within %s, as by one close()", spell(c.until.Sub(c.from)))
		}
		s.Say(4, said+"; "+map[bool]string{false: cmp.Or(s.notKept(), "no SYN was answered or refused after it"), true: map[listening]string{listened: "the next SYN was answered", closed: "the next SYN was refused"}[how]}[next])
	}
	if more := s.Counts[Queued] - len(told); more > 0 {
		s.Say(4, fmt.Sprintf("and %d more, later", more))
	}
	s.Say(2, "A connection that the server had accepted looks the same, if it was closed with data unread or with SO_LINGER of 0 seconds; and many at "+
		"once do, if the process was killed.")
	s.saves(other, none, "quiz1")
	s.draw(Queued)
}

// notKept says why it is not known how SYNs were answered after something; empty: all is known that the capture has.
func (s *sheet) notKept() string {
	if !s.full {
		return ""
	}
	return "of too many servers, or of one that came and went too often, it is not kept how SYNs were answered afterwards"
}

// saves says what would have saved connections that were tied to a listener.
func (s *sheet) saves(other, none bool, scenario string) {
	const migrate = "net.ipv4.tcp_migrate_req=1 in the server's network namespace (Linux 5.14), or a BPF program that is attached as " +
		"BPF_SK_REUSEPORT_SELECT_OR_MIGRATE, hands them to another listener of the same SO_REUSEPORT group"
	const before = "Without migration: accept until EAGAIN before close(), which leaves a small gap; or pass the listener itself on to the next process."
	switch {
	case other:
		s.Say(2, "What would have saved them: somebody listened afterwards. If it was another listener, and was there when they were reset, "+migrate+". "+before)
	case none:
		s.Say(2, "What would have saved them: nobody listened afterwards, and migration has nowhere to go then. Start the new server first; then "+migrate+".")
	default:
		s.Say(2, "What would have saved them: if others listened, "+migrate+". "+before)
	}
	s.Say(2, fmt.Sprintf("To see it on this kernel: rpmig run %s", scenario))
}

func (s *sheet) strays() {
	told := s.Told[Stray]
	if len(told) == 0 {
		return
	}
	s.Heading(fmt.Sprintf("Reset as a stray: %d", s.Counts[Stray]))
	s.Say(2, "A bare RST that answers the client's ACK, or its first data, though its SYN had been answered: the socket that it met knew nothing of "+
		"the handshake. So it is when the listener that had the request has closed: the kernel lets go of the request, and looks for another listener (tcp_v4_rcv).")
	count := map[listening]int{}
	for _, f := range told {
		how, next := s.listened(f.Server, Deciding(f).Time)
		if !next {
			how = unknown
		}
		count[how]++
	}
	for _, c := range []struct {
		how  listening
		said string
	}{
		{listened, "at another listener: the next SYN was answered"}, {closed, "with no listener left: the next SYN was refused"},
		{unknown, cmp.Or(s.notKept(), "after which no SYN was answered or refused, to tell whether anybody listened")},
	} {
		if n := count[c.how]; n > 0 {
			s.Say(4, fmt.Sprintf("%d %s", n, c.said))
		}
	}
	if more := s.Counts[Stray] - len(told); more > 0 {
		s.Say(4, fmt.Sprintf("and %d more, later", more))
	}
	s.Say(2, "A full accept queue sends the same with net.ipv4.tcp_abort_on_overflow=1, and so does a SYN cookie that is too old.")
	s.saves(count[listened] > 0, count[closed] > 0, "quiz2")
	s.draw(Stray)
}

// meanings of the kinds about which migration can do nothing.
var meanings = map[Kind]string{
	Refused: "A reset in answer to a SYN: nobody listened at that address and port, or a firewall said so for it (REJECT --reject-with tcp-reset). " +
		"Nothing waits anywhere, so that there is nothing to migrate: the new listener has to be there before the old one goes.",
	Aborted: "An RST+ACK of the server's own accord, on a connection on which it had sent something, or whose beginning is not in the capture: " +
		"close() with data unread, SO_LINGER of 0 seconds, or a process that was killed. A listener has no part in it, but where the server had sent nothing yet.",
	Gone: "A bare RST to a segment of a connection that had been open: the server had closed it, or given it up, before that came. A listener has " +
		"no part in it, but where the server had sent a FIN and no data: then it may have closed while the connection was made of it.",
}

func (s *sheet) others() {
	for _, k := range []Kind{Refused, Aborted, Gone} {
		if s.Counts[k] == 0 {
			continue
		}
		s.Heading(strings.ToUpper(words[k][:1]) + words[k][1:] + fmt.Sprintf(": %d", s.Counts[k]))
		s.Say(2, meanings[k])
		s.draw(k)
	}
}

func (s *sheet) cannot() {
	s.Heading("What a capture alone cannot tell")
	s.Say(2, "Whether the server had accepted a connection that it reset; which of several listeners or processes it was; whether they were of one "+
		"SO_REUSEPORT group; and whether somebody between the two ends sent the reset. A connection that migrated looks like any other.")
	s.Say(2, "The server's kernel can: while it happens, ss -ltn shows the accept queue (Recv-Q); nstat -az TcpExtTCPMigrateReqSuccess "+
		"TcpExtTCPMigrateReqFailure TcpExtListenOverflows counts; and perf trace -e tcp:tcp_send_reset tells the reason of each reset (Linux 6.10): "+
		"TCP_STATE in CLOSE from a closing listener, TCP_FLAGS in LISTEN of a stray. On the server, rpmig doctor says whether migration is on.")
}

// draw shows the first connection of a kind, or all that are kept.
func (s *sheet) draw(k Kind) {
	told := s.Told[k]
	if !s.all {
		told = told[:min(len(told), 1)]
	}
	for _, f := range told {
		s.Gap()
		reset := Deciding(f)
		s.Say(2, fmt.Sprintf("%v to %v: %s in frame %d", f.Client, f.Server, flavour(reset), reset.Number))
		s.arrows(f)
	}
	if more := s.Counts[k] - len(told); more > 0 && !s.all {
		s.Say(2, fmt.Sprintf("and %d more: -v", more))
	} else if more > 0 {
		s.Say(2, fmt.Sprintf("and %d more", more))
	}
}

func flavour(r *capture.Reset) string {
	if r.Flavour == capture.BareReset {
		return "a bare RST"
	}
	return "an RST+ACK"
}

// arrows draws a connection up to a little behind its first reset.
func (s *sheet) arrows(f *capture.Followed) {
	const behind = 2
	var flow []result.Segment
	last := -1
	for i, g := range f.Frames {
		if last >= 0 && i > last+behind {
			break
		}
		segment := result.Segment{
			Time: g.Time.Sub(s.Reader.Start).Seconds(), Frame: g.Number, FromClient: g.FromClient, Text: g.Short(),
			Again: again(g.Role), Role: result.RoleOther,
		}
		if g.Role == capture.RoleReset {
			segment.Role = result.RoleReset
			if last < 0 {
				last = i
			}
			if t := trigger(f, g.Number); t > 0 {
				segment.Note = fmt.Sprintf("reset, to frame %d", t)
			}
		}
		flow = append(flow, segment)
	}
	s.Arrows(flow, capture.FirstFrames, f.Count-len(f.Frames))
}

func trigger(f *capture.Followed, number int) int {
	for _, r := range f.Resets {
		if r.Number == number {
			return r.Trigger
		}
	}
	return 0
}

func again(r capture.Role) bool {
	return r == capture.RoleSYNRetransmission || r == capture.RoleSYNACKRetransmission || r == capture.RoleDataRetransmission
}

func (s *sheet) since(t time.Time) string {
	return fmt.Sprintf("%.4f s", t.Sub(s.Reader.Start).Seconds())
}

// spell is a duration in the unit that fits it.
func spell(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1000)
	default:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
}
