package foreign

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/rpmig/rpmig/capture"
	"github.com/rpmig/rpmig/reports"
)

// The flags of a segment, as tcpdump writes them.
const (
	fin = capture.FIN
	syn = capture.SYN
	rst = capture.RST
	ack = capture.ACK
)

// segment is one of a conversation: the client's numbers begin at 1000, the server's at 9000.
type segment struct {
	at      int // milliseconds
	client  int // port; below zero: the server sends
	flags   capture.Flags
	seq     uint32
	ack     uint32
	payload int
}

// pcapOf writes segments between 10.0.0.2 and 10.0.0.1:80.
func pcapOf(tb testing.TB, segments ...segment) []byte {
	tb.Helper()
	var b bytes.Buffer
	w := pcapgo.NewWriterNanos(&b)
	if err := w.WriteFileHeader(262144, layers.LinkTypeRaw); err != nil {
		tb.Fatal(err)
	}
	for _, s := range segments {
		data := make([]byte, 40+s.payload)
		data[0], data[8], data[9] = 0x45, 64, 6
		binary.BigEndian.PutUint16(data[2:], uint16(len(data)))
		src, dst := data[12:16], data[16:20]
		ports := [2]int{s.client, 80}
		if s.client < 0 {
			src, dst, ports = dst, src, [2]int{80, -s.client}
		}
		copy(src, []byte{10, 0, 0, 2})
		copy(dst, []byte{10, 0, 0, 1})
		binary.BigEndian.PutUint16(data[20:], uint16(ports[0]))
		binary.BigEndian.PutUint16(data[22:], uint16(ports[1]))
		binary.BigEndian.PutUint32(data[24:], s.seq)
		binary.BigEndian.PutUint32(data[28:], s.ack)
		data[32], data[33] = 5<<4, byte(s.flags)
		ci := gopacket.CaptureInfo{Timestamp: time.Unix(1_700_000_000, 0).Add(time.Duration(s.at) * time.Millisecond), CaptureLength: len(data), Length: len(data)}
		if err := w.WritePacket(ci, data); err != nil {
			tb.Fatal(err)
		}
	}
	return b.Bytes()
}

// open is a handshake.
func open(at, client int) []segment {
	return []segment{{at, client, syn, 1000, 0, 0}, {at, -client, syn | ack, 9000, 1001, 0}, {at, client, ack, 1001, 9001, 0}}
}

// asked is a handshake, a request, and the server's ACK of it.
func asked(at, client int) []segment {
	return append(open(at, client), segment{at, client, ack, 1001, 9001, 11}, segment{at, -client, ack, 9001, 1012, 0})
}

func join(all ...[]segment) (out []segment) {
	for _, s := range all {
		out = append(out, s...)
	}
	return out
}

// oneSide is what the client has sent of a conversation, or what the server has.
func oneSide(server bool, segments []segment) (out []segment) {
	for _, s := range segments {
		if s.client < 0 == server {
			out = append(out, s)
		}
	}
	return out
}

func twice(segments []segment) (out []segment) {
	for _, s := range segments {
		out = append(out, s, s)
	}
	return out
}

var conversations = []struct {
	name     string
	segments []segment
	want     map[Kind]int
	said     []string
}{
	{
		"the accept queue of a closing listener, and another listener", join(asked(0, 5001), asked(1, 5002), asked(2, 5003),
			[]segment{{50, -5001, rst | ack, 9001, 1012, 0}, {50, -5002, rst | ack, 9001, 1012, 0}}, open(60, 5004),
			[]segment{{61, -5003, ack, 9001, 1012, 3}, {62, -5004, ack, 9001, 1001, 3}}),
		map[Kind]int{Queued: 2, Served: 2},
		[]string{"Reset as by a closing listener: 2", "10.0.0.1:80 reset 10.0.0.2:5001, 10.0.0.2:5002 within 0.0 ms, as by one close(); the next SYN was answered", "somebody listened afterwards", "net.ipv4.tcp_migrate_req=1"},
	},
	{
		"the last listener", join(asked(0, 5001), []segment{{50, -5001, rst | ack, 9001, 1012, 0}, {60, 5002, syn, 1, 0, 0}, {60, -5002, rst | ack, 0, 2, 0}}),
		map[Kind]int{Queued: 1, Refused: 1},
		[]string{"the next SYN was refused", "nobody listened afterwards", "that the server had accepted looks the same", "Refused: the SYN was answered with a reset: 1"},
	},
	{
		"a client that has sent nothing waits too", join(open(0, 5001), []segment{{50, -5001, rst | ack, 9001, 1001, 0}}),
		map[Kind]int{Queued: 1}, []string{"no SYN was answered or refused after it", "What would have saved them: if others listened"},
	},
	{
		"a stray at another listener", join(open(0, 5001), []segment{{1, 5001, ack, 1001, 9001, 11}, {250, 5001, ack, 1001, 9001, 11}, {250, -5001, rst, 9001, 0, 0}}, open(300, 5002)),
		map[Kind]int{Stray: 1, Silent: 1},
		[]string{"Reset as a stray: 1", "1 at another listener: the next SYN was answered", "reset, to frame 5", "data: 1 by clients", "tcp_abort_on_overflow"},
	},
	{
		"a stray, and an ACK of the server's behind it", join(open(0, 5001), []segment{{1, 5001, ack, 1001, 9001, 11}, {1, -5001, rst, 9001, 0, 0}, {2, -5001, ack, 9001, 1012, 0}}),
		map[Kind]int{Stray: 1}, nil,
	},
	{
		"a stray that met nobody", join(open(0, 5001), []segment{{1, -5001, rst, 9001, 0, 0}, {2, 5002, syn, 1, 0, 0}, {2, -5002, rst | ack, 0, 2, 0}}),
		map[Kind]int{Stray: 1, Refused: 1}, []string{"1 with no listener left: the next SYN was refused"},
	},
	{
		"a stray of which nothing more is known", join(open(0, 5001), []segment{{1, -5001, rst, 9001, 0, 0}}),
		map[Kind]int{Stray: 1}, []string{"1 after which no SYN was answered or refused, to tell"},
	},
	{
		"a socket that is gone", join(asked(0, 5001), []segment{{9, 5001, ack, 1012, 9001, 5}, {9, -5001, rst, 9001, 0, 0}}),
		map[Kind]int{Gone: 1}, []string{"the server's socket was gone: 1"},
	},
	{
		"after the server's end", join(asked(0, 5001), []segment{{5, -5001, fin | ack, 9001, 1012, 4}, {9, 5001, ack, 1012, 9006, 5}, {9, -5001, rst, 9006, 0, 0}}),
		map[Kind]int{Gone: 1}, nil,
	},
	{
		"a server that aborts", join(asked(0, 5001), []segment{{5, -5001, ack, 9001, 1012, 4}, {9, -5001, rst | ack, 9005, 1012, 0}}),
		map[Kind]int{Aborted: 1}, []string{"close() with data unread"},
	},
	{
		"a client that aborts", join(asked(0, 5001), []segment{{5, 5001, rst | ack, 1012, 9001, 0}, {6, -5001, rst, 9001, 0, 0}}),
		map[Kind]int{ByClient: 1}, []string{"of which servers reset 0"},
	},
	{
		"nobody answers", []segment{{0, 5001, syn, 1, 0, 0}, {1000, 5001, syn, 1, 0, 0}, {3000, 5001, syn, 1, 0, 0}},
		map[Kind]int{Unanswered: 1}, []string{"sent again: 2 SYN, 0 SYN+ACK"},
	},
	{
		"the middle of a connection", []segment{{0, 5001, ack, 5, 5, 10}, {1, -5001, ack, 5, 15, 10}}, map[Kind]int{Partial: 1}, nil,
	},
	{
		"reset in the middle", []segment{{0, 5001, ack, 5, 5, 10}, {1, -5001, rst | ack, 5, 15, 0}}, map[Kind]int{Aborted: 1}, nil,
	},
	{
		"what clients send, alone", oneSide(false, join(asked(0, 5001), asked(1, 5002), []segment{{9, 5002, fin | ack, 1012, 9001, 0}})),
		map[Kind]int{OneWay: 2}, []string{"in one direction alone"},
	},
	{
		"what the server sends, alone, and closes a listener", oneSide(true, append(asked(0, 5001), segment{5, -5001, rst | ack, 9001, 1012, 0})),
		map[Kind]int{Queued: 1}, nil,
	},
	{
		"what the server sends, alone, to a stray", oneSide(true, append(open(0, 5001), segment{5, -5001, rst, 9001, 0, 0})),
		map[Kind]int{Stray: 1}, nil,
	},
	{
		"what the server sends, alone, and serves or refuses", oneSide(true, join(asked(0, 5001), []segment{{5, -5001, ack, 9001, 1012, 4}, {6, -5002, rst | ack, 0, 2, 0}})),
		map[Kind]int{OneWay: 1, Refused: 1}, nil,
	},
	{
		"a server that says nothing but that it ends", append(open(0, 5001), segment{9, -5001, fin | ack, 9001, 1001, 0}),
		map[Kind]int{Served: 1}, nil,
	},
	{
		"a client that gives up", join(asked(0, 5001), []segment{{5000, 5001, fin | ack, 1012, 9001, 0}, {5000, -5001, ack, 9001, 1013, 0}}),
		map[Kind]int{Silent: 1}, nil,
	},
	{
		"a reset once both have ended", join(asked(0, 5001), []segment{
			{5, -5001, fin | ack, 9001, 1012, 4}, {6, 5001, fin | ack, 1012, 9006, 0}, {7, 5001, ack, 1013, 9006, 0}, {7, -5001, rst, 9006, 0, 0},
		}),
		map[Kind]int{Served: 1}, []string{"of which servers reset 0"},
	},
	{
		"the capture has lost the SYN+ACK", slices.Delete(asked(0, 5001), 1, 2), map[Kind]int{Silent: 1}, nil,
	},
	{
		"the SYN behind its answer", []segment{{0, -5001, syn | ack, 9000, 1001, 0}, {0, 5001, syn, 1000, 0, 0}, {0, 5001, ack, 1001, 9001, 0}, {5, -5001, rst | ack, 9001, 1001, 0}},
		map[Kind]int{Queued: 1}, nil,
	},
	{
		"a SYN that is refused in another way", []segment{{0, 5001, syn, 1000, 0, 0}, {0, -5001, rst | ack, 77, 1001, 0}, {1, 5002, syn, 1000, 0, 0}, {1, -5002, rst, 77, 0, 0}},
		map[Kind]int{Refused: 2}, nil,
	},
	{
		"a listener that goes while its SYN+ACK is lost", []segment{{0, 5001, syn, 1000, 0, 0}, {0, -5001, syn | ack, 9000, 1001, 0}, {1000, 5001, syn, 1000, 0, 0}, {1000, -5001, rst | ack, 0, 1001, 0}},
		map[Kind]int{Refused: 1}, nil,
	},
	{
		"a bare RST that answers nothing that was captured", append(open(0, 5001), segment{9, -5001, rst, 9500, 0, 0}),
		map[Kind]int{Gone: 1}, nil,
	},
	{
		"each packet twice, as -i any sees loopback", twice(append(asked(0, 5001), segment{5, -5001, rst | ack, 9001, 1012, 0})),
		map[Kind]int{Queued: 1}, []string{"that do not count: 6"},
	},
	{
		"a segment that another listener answers just before the reset of the one that closes",
		append(open(0, 5001), segment{1, 5001, ack, 1001, 9001, 5}, segment{1, -5001, rst, 9001, 0, 0}, segment{1, -5001, rst | ack, 9001, 1001, 0}),
		map[Kind]int{Queued: 1}, []string{"an RST+ACK in frame 6"},
	},
	{
		"the same, of a connection that began with a FIN since its listener closed",
		append(open(0, 5001), segment{1, -5001, fin | ack, 9001, 1001, 0}, segment{1, 5001, ack, 1001, 9002, 0},
			segment{1, -5001, rst, 9002, 0, 0}, segment{1, -5001, rst | ack, 9002, 1001, 0}),
		map[Kind]int{Aborted: 1}, []string{"an RST+ACK in frame 7"},
	},
	{
		"what the server has sent is not in the capture, and the client's ACK of it is",
		append(asked(0, 5001), segment{8, 5001, ack, 1012, 9101, 0}, segment{9, -5001, rst | ack, 9101, 1012, 0}),
		map[Kind]int{Aborted: 1}, nil,
	},
	{
		"what the server has sent is not in the capture, nor the ACK of it",
		append(asked(0, 5001), segment{9, -5001, rst | ack, 9101, 1012, 0}), map[Kind]int{Aborted: 1}, nil,
	},
	{
		"what the server has sent is not in the capture, the client's ACK of it is, and nobody resets",
		append(asked(0, 5001), segment{8, 5001, ack, 1012, 9101, 0}), map[Kind]int{Served: 1}, nil,
	},
	{
		"two listeners have answered: the numbers of one say nothing of the other's",
		append(open(0, 5001), segment{1, -5001, syn | ack, 9500, 1001, 0}, segment{9, -5001, rst | ack, 9501, 1001, 0}),
		map[Kind]int{Queued: 1}, nil,
	},
	{
		"the same port again, the server's side alone",
		oneSide(true, join(open(0, 5001), []segment{{1, -5001, rst, 9001, 0, 0}}, reopened(20, 5001), []segment{{25, -5001, rst | ack, 77_001, 50_001, 0}})),
		map[Kind]int{Stray: 1, Queued: 1}, nil,
	},
	{
		"the same port again, whose SYN the capture has lost",
		join(open(0, 5001), []segment{{1, -5001, rst | ack, 9001, 1001, 0}}, reopened(20, 5001)[1:], []segment{{25, -5001, rst | ack, 77_001, 50_001, 0}}),
		map[Kind]int{Queued: 2}, nil,
	},
	{
		"the same port again and again, refused, the server's side alone",
		[]segment{{0, -5001, rst | ack, 0, 2, 0}, {9, -5001, rst | ack, 0, 700, 0}, {19, -5001, rst | ack, 0, 9000, 0}},
		map[Kind]int{Refused: 3}, nil,
	},
	{
		"an answer to an old SYN, which the client resets, and the connection goes on",
		[]segment{{0, 5001, syn, 1000, 0, 0}, {0, -5001, syn | ack, 400, 77, 0}, {0, 5001, rst, 77, 0, 0}, {500, -5001, syn | ack, 400, 77, 0}, {1000, 5001, syn, 1000, 0, 0}, {1000, -5001, syn | ack, 9000, 1001, 0}},
		map[Kind]int{ByClient: 1}, nil,
	},
	{
		"a stray, and much later the reset of a connection whose beginning is lost",
		append(open(0, 5001), segment{1, 5001, ack, 1001, 9001, 5}, segment{1, -5001, rst, 9001, 0, 0}, segment{9000, -5001, rst | ack, 777, 888, 0}),
		map[Kind]int{Stray: 1}, nil,
	},
	{
		"a SYN with data (TCP Fast Open) in the accept queue of a closing listener",
		fastOpened, map[Kind]int{Queued: 1}, nil,
	},
	{
		"the same, seen by two interfaces, the one behind the other", slices.Concat(fastOpened, fastOpened), map[Kind]int{Queued: 1}, []string{"that do not count: 4"},
	},
	{
		"a capture that is not in the order of time", []segment{{0, 5001, syn, 1000, 0, 0}, {9, -5001, rst | ack, 9001, 1001, 0}, {1, -5001, syn | ack, 9000, 1001, 0}},
		map[Kind]int{Queued: 1}, []string{"behind a later one of their connection, so that its story may be wrong: reordercap FILE SORTED sorts them by time: 1"},
	},
}

// fastOpened is a connection whose SYN has data, and which a listener that closes resets.
var fastOpened = []segment{
	{0, 5001, syn, 1000, 0, 5}, {0, -5001, syn | ack, 9000, 1006, 0}, {1, 5001, ack, 1006, 9001, 0}, {9, -5001, rst | ack, 9001, 1006, 0},
}

// reopened is a handshake of another connection between the same ports.
func reopened(at, client int) []segment {
	return []segment{{at, client, syn, 50_000, 0, 0}, {at, -client, syn | ack, 77_000, 50_001, 0}, {at, client, ack, 50_001, 77_001, 0}}
}

// TestKinds: each kind of ending is told from the others, by nothing but the packets.
func TestKinds(t *testing.T) {
	for _, tt := range conversations {
		t.Run(tt.name, func(t *testing.T) {
			rep, err := Read(t.Context(), bytes.NewReader(pcapOf(t, tt.segments...)), Options{Port: 80})
			if err != nil {
				t.Fatal(err)
			}
			text := rep.Text("x.pcap", reports.Options{})
			if diff := cmp.Diff(tt.want, counted(rep)); diff != "" {
				t.Errorf("-want +got:\n%s\n%s", diff, text)
			}
			plain := strings.Join(strings.Fields(text), " ")
			for _, said := range tt.said {
				if !strings.Contains(plain, said) {
					t.Errorf("it does not say %q:\n%s", said, text)
				}
			}
			fits(t, text)
		})
	}
}

var update = flag.Bool("update", false, "rewrite the goldens")

// TestGolden: the whole text, of a server that reloads twice.
func TestGolden(t *testing.T) {
	var all []segment
	for i, tt := range conversations[:4] {
		at := 0
		if len(all) > 0 {
			at = all[len(all)-1].at + 1000
		}
		for _, s := range tt.segments {
			s.at += at
			if s.client += 100 * i; s.client < 100*i { // the server sends
				s.client -= 200 * i
			}
			all = append(all, s)
		}
	}
	rep, err := Read(t.Context(), bytes.NewReader(pcapOf(t, all...)), Options{Port: 80})
	if err != nil {
		t.Fatal(err)
	}
	got := rep.Text("server.pcap", reports.Options{})
	const golden = "testdata/reload.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("-want +got; -update takes what was got:\n%s", diff)
	}
}

func fits(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
}

// TestOtherPort: what is not of the port does not count, and without one all does.
func TestOtherPort(t *testing.T) {
	file := pcapOf(t, asked(0, 5001)...)
	rep, err := Read(t.Context(), bytes.NewReader(file), Options{Port: 81})
	if err != nil || !strings.Contains(rep.Text("x", reports.Options{}), "packets of TCP of other ports: 5\n") {
		t.Errorf("what was there instead: %v\n%s", err, rep.Text("x", reports.Options{}))
	}
	for port, want := range map[uint16]int{0: 1, 80: 1, 81: 0} {
		rep, err := Read(t.Context(), bytes.NewReader(file), Options{Port: port})
		if err != nil || rep.Connections != want {
			t.Errorf("port %d: %d connections, %v", port, rep.Connections, err)
		}
	}
}

// TestServerUnknown: which end of a connection is the server is a guess, if neither its SYN nor another answer of that server is there.
func TestServerUnknown(t *testing.T) {
	middle := []segment{{0, -5001, ack, 5, 5, 10}, {1, -5001, rst | ack, 15, 5, 0}}
	for _, tt := range []struct {
		name     string
		segments []segment
		port     uint16
		guessed  int
		kinds    map[Kind]int
	}{
		{"nothing known", middle, 0, 1, map[Kind]int{ByClient: 1}},
		{"by --port", middle, 80, 0, map[Kind]int{Aborted: 1}},
		{"by another connection", append(open(-9, 5002), middle...), 0, 0, map[Kind]int{Aborted: 1, Silent: 1}},
		{"nobody was reset", middle[:1], 0, 0, map[Kind]int{Partial: 1}},
		{"by the answer to a SYN that is not there", []segment{{0, -5001, rst | ack, 0, 2, 0}}, 0, 0, map[Kind]int{Refused: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rep, err := Read(t.Context(), bytes.NewReader(pcapOf(t, tt.segments...)), Options{Port: tt.port})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.kinds, counted(rep)); diff != "" || rep.Guessed != tt.guessed {
				t.Errorf("%d guessed, want %d; kinds: -want +got:\n%s", rep.Guessed, tt.guessed, diff)
			}
			if said := strings.Contains(rep.Text("x", reports.Options{}), "it is a guess"); said != (tt.guessed > 0) {
				t.Errorf("it says so: %v", said)
			}
		})
	}
}

// counted is how many connections are of each kind.
func counted(rep *Report) map[Kind]int {
	got := map[Kind]int{}
	for k, n := range rep.Counts {
		if n > 0 {
			got[Kind(k)] = n
		}
	}
	return got
}

// TestLetGo: of connections that are too many to be followed at a time it is told that their ends are not known.
func TestLetGo(t *testing.T) {
	rep, err := Read(t.Context(), bytes.NewReader(pcapOf(t, join(open(0, 5001), open(1, 5002), open(2, 5003))...)), Options{Most: 2})
	if err != nil {
		t.Fatal(err)
	}
	plain := strings.Join(strings.Fields(rep.Text("x", reports.Options{})), " ")
	const said = "connections that were let go of while they were open, as too many were: their ends are not known: 1"
	if rep.LetGo != 1 || !strings.Contains(plain, said) {
		t.Errorf("%d: %s", rep.LetGo, plain)
	}
}

// TestClosings: resets of one server that follow one another closely are of one close(), however many they are.
func TestClosings(t *testing.T) {
	rep := &Report{}
	for _, r := range []struct {
		ms, server, client int
	}{{100, 2, 1}, {52, 1, 4}, {0, 1, 1}, {15, 1, 2}, {30, 1, 3}, {105, 1, 5}} {
		f := &capture.Followed{Resets: []capture.Reset{{Flavour: capture.ResetWithACK}}}
		f.Resets[0].Time = time.UnixMilli(int64(r.ms))
		f.Server = netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), uint16(r.server))
		f.Client = netip.AddrPortFrom(netip.MustParseAddr("10.0.0.2"), uint16(r.client))
		rep.Told[Queued] = append(rep.Told[Queued], f)
	}
	var got []string
	for _, c := range rep.closings() {
		said := fmt.Sprintf("%d from %d to %d:", c.server.Port(), c.from.UnixMilli(), c.until.UnixMilli())
		for _, a := range c.clients {
			said += fmt.Sprint(" ", a.Port())
		}
		got = append(got, said)
	}
	if diff := cmp.Diff([]string{"1 from 0 to 30: 1 2 3", "1 from 52 to 52: 4", "2 from 100 to 100: 1", "1 from 105 to 105: 5"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestDeciding: behind a bare reset of the server's, nothing but the abort of a socket of its own decides, and that if it comes soon.
func TestDeciding(t *testing.T) {
	bare := capture.Reset{Flavour: capture.BareReset, Trigger: 3}
	abort := capture.Reset{Flavour: capture.ResetWithACK}
	abort.Seq = 9001
	with := func(r capture.Reset, edit func(*capture.Reset)) capture.Reset {
		edit(&r)
		return r
	}
	for _, tt := range []struct {
		name          string
		first, second capture.Reset
		want          int
	}{
		{"an abort", bare, abort, 1},
		{"the client's", bare, with(abort, func(r *capture.Reset) { r.FromClient = true }), 0},
		{"an answer", bare, with(abort, func(r *capture.Reset) { r.Trigger = 5 }), 0},
		{"the answer to a SYN that is not there", bare, with(abort, func(r *capture.Reset) { r.Seq = 0 }), 0},
		{"much later", bare, with(abort, func(r *capture.Reset) { r.Time = r.Time.Add(time.Second) }), 0},
		{"another bare one", bare, bare, 0},
		{"behind the client's", with(bare, func(r *capture.Reset) { r.FromClient = true }), abort, 0},
		{"behind another", abort, abort, 0},
	} {
		f := &capture.Followed{Resets: []capture.Reset{tt.first, tt.second}}
		if got := Deciding(f); got != &f.Resets[tt.want] {
			t.Errorf("%s: the other of the two decides", tt.name)
		}
	}
}

// TestTextBounds: of much of the same the first is told, and how much more there is; -v tells all.
func TestTextBounds(t *testing.T) {
	var all []segment
	for i := range 10 { // closings, the first of which reset five
		at, of := 100*i, []int{5010 + i}
		if i == 0 {
			of = []int{5001, 5002, 5003, 5004, 5005}
		}
		for _, client := range of {
			all = append(all, open(at, client)...)
		}
		for _, client := range of {
			all = append(all, segment{at + 50, -client, rst | ack, 9001, 1001, 0})
		}
	}
	long := open(2000, 5100)
	for i := range 90 {
		long = append(long, segment{2001 + i, 5100, ack, uint32(1001 + i), 9001, 1})
	}
	long = append(long, segment{2100, -5100, rst | ack, 9001, 1091, 0})
	for i := range 5 { // what a client sends that has not heard of it
		long = append(long, segment{2101 + i, 5100, ack, uint32(1091 + i), 9001, 1})
	}
	rep, err := Read(t.Context(), bytes.NewReader(pcapOf(t, append(all, long...)...)), Options{Port: 80})
	if err != nil {
		t.Fatal(err)
	}
	const first = "reset 10.0.0.2:5001, 10.0.0.2:5002, 10.0.0.2:5003 and 2 more within 0.0 ms"
	for verbose, closings := range map[bool]int{false: 8, true: 11} {
		text := rep.Text("x", reports.Options{Verbose: verbose})
		plain := strings.Join(strings.Fields(text), " ")
		if n := strings.Count(plain, " 10.0.0.1:80 reset "); n != closings || !strings.Contains(plain, first) {
			t.Errorf("-v: %t: %d moments, want %d:\n%s", verbose, n, closings, text)
		}
		if !verbose {
			continue
		}
		if !strings.Contains(plain, " ... ") || !strings.Contains(plain, " 2.1020 ") || strings.Contains(plain, " 2.1030 ") {
			t.Errorf("of a long connection all is drawn, or what is behind its end:\n%s", text)
		}
	}
}

// TestCut: of a file that is cut short the rest is told, and what was there is.
func TestCut(t *testing.T) {
	file := pcapOf(t, asked(0, 5001)...)
	rep, err := Read(t.Context(), bytes.NewReader(file[:len(file)-5]), Options{})
	if err != nil || !errors.Is(rep.Cut, io.ErrUnexpectedEOF) || rep.Connections != 1 {
		t.Fatalf("%+v, %v", rep, err)
	}
	if text := rep.Text("x", reports.Options{}); !strings.Contains(text, "the rest cannot be read") {
		t.Error(text)
	}
}

// TestCancelled: a capture without an end does not make a command deaf.
func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Read(ctx, bytes.NewReader(pcapOf(t, asked(0, 5001)...)), Options{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// FuzzRead: whatever a capture holds, it can be told in 80 columns, and every connection has one kind.
func FuzzRead(f *testing.F) {
	for _, tt := range conversations {
		f.Add(pcapOf(f, tt.segments...), uint16(80))
	}
	f.Fuzz(func(t *testing.T, data []byte, port uint16) {
		rep, err := Read(t.Context(), bytes.NewReader(data), Options{Port: port, Most: 3})
		if err != nil {
			return
		}
		sum := 0
		for _, n := range rep.Counts {
			sum += n
		}
		if sum != rep.Connections {
			t.Errorf("%d connections, and %d of a kind", rep.Connections, sum)
		}
		fits(t, rep.Text(fmt.Sprintf("%.40q", data), reports.Options{Verbose: true}))
	})
}

// TestServersAreBounded: neither servers nor how often each came and went fill the memory, whatever a capture has.
func TestServersAreBounded(t *testing.T) {
	rep := &Report{servers: map[netip.AddrPort][]span{}}
	at := netip.MustParseAddrPort("10.0.0.1:80")
	for range mostSpans + 1 {
		rep.listening(&capture.Frame{Src: at, Flags: capture.SYN | capture.ACK})
		rep.listening(&capture.Frame{Src: at, Flags: capture.RST | capture.ACK})
	}
	if n := len(rep.servers[at]); n != mostSpans {
		t.Errorf("%d spans are kept", n)
	}
	for i := range mostEndpoints + 1 {
		rep.listening(&capture.Frame{Src: netip.AddrPortFrom(at.Addr(), uint16(i+1000)), Flags: capture.SYN | capture.ACK})
	}
	if n := len(rep.servers); n != mostEndpoints {
		t.Errorf("%d servers are kept", n)
	}
}

// TestServersNotKept: of a server that was one too many nobody says that no SYN came to it any more.
func TestServersNotKept(t *testing.T) {
	queued := append(asked(0, 5001), segment{50, -5001, rst | ack, 9001, 1012, 0})
	all := join(queued, open(60, 5002))
	for _, full := range []bool{false, true} {
		in, err := capture.NewReader(bytes.NewReader(pcapOf(t, all...)))
		if err != nil {
			t.Fatal(err)
		}
		rep := &Report{Reader: in, servers: map[netip.AddrPort][]span{}}
		for i := 0; full && i < mostEndpoints; i++ {
			rep.listening(&capture.Frame{Src: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.9"), uint16(i+1)), Flags: capture.SYN | capture.ACK})
		}
		if err := rep.read(t.Context(), Options{}); err != nil {
			t.Fatal(err)
		}
		plain := strings.Join(strings.Fields(rep.Text("x", reports.Options{})), " ")
		if strings.Contains(plain, "it is not kept how SYNs were answered") != full || strings.Contains(plain, "; the next SYN was answered") == full || strings.Contains(plain, "no SYN was answered") {
			t.Errorf("full: %v: %s", full, plain)
		}
	}
}

// TestUnseen: what was not looked into is told with what it is, most of it first.
func TestUnseen(t *testing.T) {
	rep := &Report{Reader: &capture.Reader{Unknown: 3, Datagrams: 5, Timeless: 6, Inexact: 7, Unseen: map[string]int{"a": 1, "b": 2, "c": 1, "d": 1, "ESP": 9, "e": 1}}}
	text := rep.Text("x", reports.Options{})
	fits(t, text)
	plain := strings.Join(strings.Fields(text), " ")
	if strings.Contains(plain, " from ") {
		t.Errorf("of no packet it is known when it began:\n%s", text)
	}
	for _, said := range []string{
		"packets that may carry TCP, and are not looked into (ESP, b, a, c and others): 15", "not known here: 3", "at their usual ports: 5", "no time, so that what is sent again looks like a copy: 6",
		"(if_tsresol): 7",
	} {
		if !strings.Contains(plain, said) {
			t.Errorf("it does not say %q:\n%s", said, text)
		}
	}
}
