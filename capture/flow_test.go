package capture

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// line is what a test compares of a segment.
type line struct {
	Role Role
	Text string
}

func lines(f Flow) []line {
	var got []line
	for _, s := range f.Frames {
		got = append(got, line{s.Role, s.String()})
	}
	return got
}

func TestFlows(t *testing.T) {
	const c, s = 0x10000000, 0xf0000000 // initial sequence numbers
	out := func(flags Flags, seq, ack uint32, n int) Frame { return frame(client4, server4, flags, seq, ack, n) }
	in := func(flags Flags, seq, ack uint32, n int) Frame { return frame(server4, client4, flags, seq, ack, n) }
	const there, back = "127.0.0.1.39258 > 127.0.0.1.80: ", "127.0.0.1.80 > 127.0.0.1.39258: "

	for _, test := range []struct {
		name        string
		frames      []Frame
		want        []line
		established bool
		incomplete  bool
		resets      []Reset // Flavour, Trigger and FromClient
	}{
		{
			name: "an accepted connection is reset when the listener closes",
			frames: []Frame{
				out(SYN, c, 0, 0), in(SYN|ACK, s, c+1, 0), out(ACK, c+1, s+1, 0),
				out(PSH|ACK, c+1, s+1, 11), in(ACK, s+1, c+12, 0), in(RST|ACK, s+1, c+12, 0),
			},
			want: []line{
				{RoleSYN, there + "Flags [S], seq 0, length 0"},
				{RoleSYNACK, back + "Flags [S.], seq 0, ack 1, length 0"},
				{RoleHandshakeACK, there + "Flags [.], ack 1, length 0"},
				{RoleData, there + "Flags [P.], seq 1:12, ack 1, length 11"},
				{RoleACK, back + "Flags [.], ack 12, length 0"},
				{RoleReset, back + "Flags [R.], seq 1, ack 12, length 0"},
			},
			established: true,
			resets:      []Reset{{Flavour: ResetWithACK}},
		},
		{
			name: "a half-open connection is reset when the client retransmits",
			frames: []Frame{
				out(SYN, c, 0, 0), in(SYN|ACK, s, c+1, 0), out(ACK, c+1, s+1, 0),
				out(PSH|ACK, c+1, s+1, 11), out(PSH|ACK, c+1, s+1, 11), in(RST, s+1, 0, 0),
			},
			want: []line{
				{RoleSYN, there + "Flags [S], seq 0, length 0"},
				{RoleSYNACK, back + "Flags [S.], seq 0, ack 1, length 0"},
				{RoleHandshakeACK, there + "Flags [.], ack 1, length 0"},
				{RoleData, there + "Flags [P.], seq 1:12, ack 1, length 11"},
				{RoleDataRetransmission, there + "Flags [P.], seq 1:12, ack 1, length 11"},
				{RoleReset, back + "Flags [R], seq 1, length 0"},
			},
			established: true,
			resets:      []Reset{{Flavour: BareReset, Trigger: 5}},
		},
		{
			name:   "the port is closed",
			frames: []Frame{out(SYN, c, 0, 0), in(RST|ACK, 0, c+1, 0)},
			want: []line{
				{RoleSYN, there + "Flags [S], seq 0, length 0"},
				{RoleReset, back + "Flags [R.], seq 1, ack 1, length 0"},
			},
			resets: []Reset{{Flavour: ResetWithACK, Trigger: 1}},
		},
		{
			name: "SYN and SYN+ACK are retransmitted",
			frames: []Frame{
				out(SYN, c, 0, 0), out(SYN, c, 0, 0), in(SYN|ACK, s, c+1, 0), in(SYN|ACK, s, c+1, 0),
				out(ACK, c+1, s+1, 0), out(ACK, c+1, s+1, 0),
			},
			want: []line{
				{RoleSYN, there + "Flags [S], seq 0, length 0"},
				{RoleSYNRetransmission, there + "Flags [S], seq 0, length 0"},
				{RoleSYNACK, back + "Flags [S.], seq 0, ack 1, length 0"},
				{RoleSYNACKRetransmission, back + "Flags [S.], seq 0, ack 1, length 0"},
				{RoleHandshakeACK, there + "Flags [.], ack 1, length 0"},
				{RoleACK, there + "Flags [.], ack 1, length 0"},
			},
			established: true,
		},
		{
			name:   "the SYN+ACK is not answered",
			frames: []Frame{out(SYN, c, 0, 0), in(SYN|ACK, s, c+1, 0)},
			want: []line{
				{RoleSYN, there + "Flags [S], seq 0, length 0"},
				{RoleSYNACK, back + "Flags [S.], seq 0, ack 1, length 0"},
			},
		},
		{
			name: "a second listener answers the SYN",
			frames: []Frame{
				out(SYN, c, 0, 0), in(SYN|ACK, s, c+1, 0), out(SYN, c, 0, 0), in(SYN|ACK, s+999, c+1, 0),
				out(ACK, c+1, s+1000, 0),
			},
			want: []line{
				{RoleSYN, there + "Flags [S], seq 0, length 0"},
				{RoleSYNACK, back + "Flags [S.], seq 0, ack 1, length 0"},
				{RoleSYNRetransmission, there + "Flags [S], seq 0, length 0"},
				{RoleSYNACK, back + "Flags [S.], seq 0, ack 1, length 0"},
				{RoleHandshakeACK, there + "Flags [.], ack 1, length 0"},
			},
			established: true,
		},
		{
			name: "the handshake ends with data, and the client resets",
			frames: []Frame{
				out(SYN, c, 0, 0), in(SYN|ACK, s, c+1, 0), out(PSH|ACK, c+1, s+1, 11), out(ACK, c+12, s+1, 0),
				out(RST|ACK, c+12, s+1, 0), in(PSH|ACK, s+1, c+12, 5), out(RST, c+12, 0, 0),
			},
			want: []line{
				{RoleSYN, there + "Flags [S], seq 0, length 0"},
				{RoleSYNACK, back + "Flags [S.], seq 0, ack 1, length 0"},
				{RoleData, there + "Flags [P.], seq 1:12, ack 1, length 11"},
				{RoleACK, there + "Flags [.], ack 1, length 0"},
				{RoleReset, there + "Flags [R.], seq 12, ack 1, length 0"},
				{RoleData, back + "Flags [P.], seq 1:6, ack 12, length 5"},
				{RoleReset, there + "Flags [R], seq 12, length 0"},
			},
			established: true,
			resets: []Reset{
				{Flavour: ResetWithACK, Segment: Segment{FromClient: true}},
				{Flavour: BareReset, Trigger: 6, Segment: Segment{FromClient: true}},
			},
		},
		{
			name: "both sides finish",
			frames: []Frame{
				out(SYN, c, 0, 0), in(SYN|ACK, s, c+1, 0), out(ACK, c+1, s+1, 0),
				out(FIN|ACK, c+1, s+1, 0), in(FIN|PSH|ACK, s+1, c+2, 3), out(ACK, c+2, s+5, 0),
			},
			want: []line{
				{RoleSYN, there + "Flags [S], seq 0, length 0"},
				{RoleSYNACK, back + "Flags [S.], seq 0, ack 1, length 0"},
				{RoleHandshakeACK, there + "Flags [.], ack 1, length 0"},
				{RoleFIN, there + "Flags [F.], seq 1, ack 1, length 0"},
				{RoleFIN, back + "Flags [FP.], seq 1:4, ack 2, length 3"},
				{RoleACK, there + "Flags [.], ack 5, length 0"},
			},
			established: true,
		},
		{
			name: "sequence numbers wrap around",
			frames: []Frame{
				out(SYN, 1<<32-3, 0, 0), in(SYN|ACK, 1<<32-1, 1<<32-2, 0), out(ACK, 1<<32-2, 0, 0),
				out(PSH|ACK, 1<<32-2, 0, 11), out(PSH|ACK, 1<<32-2, 0, 11), out(PSH|ACK, 4, 0, 11), out(PSH|ACK, 9, 0, 6),
			},
			want: []line{
				{RoleSYN, there + "Flags [S], seq 0, length 0"},
				{RoleSYNACK, back + "Flags [S.], seq 0, ack 1, length 0"},
				{RoleHandshakeACK, there + "Flags [.], ack 1, length 0"},
				{RoleData, there + "Flags [P.], seq 1:12, ack 1, length 11"},
				{RoleDataRetransmission, there + "Flags [P.], seq 1:12, ack 1, length 11"},
				{RoleData, there + "Flags [P.], seq 7:18, ack 1, length 11"}, // the last five bytes are new
				{RoleDataRetransmission, there + "Flags [P.], seq 12:18, ack 1, length 6"},
			},
			established: true,
		},
		{
			name:   "the recording begins in the middle",
			frames: []Frame{out(PSH|ACK, c, s, 11), in(ACK, s, c+11, 0), out(0, c+11, 0, 0)},
			want: []line{
				{RoleData, there + "Flags [P.], seq 1:12, ack 1, length 11"},
				{RoleACK, back + "Flags [.], ack 12, length 0"},
				{RoleOther, there + "Flags [none], length 0"},
			},
			incomplete: true,
		},
		{
			name:   "the recording begins with the SYN+ACK",
			frames: []Frame{in(SYN|ACK, s, c+1, 0), out(ACK, c+1, s+1, 0)},
			want: []line{
				{RoleSYNACK, back + "Flags [S.], seq 0, ack 1, length 0"},
				{RoleHandshakeACK, there + "Flags [.], ack 1, length 0"},
			},
			incomplete: true,
		},
		{
			name:   "the client resets instead of the final ACK",
			frames: []Frame{out(SYN, c, 0, 0), in(SYN|ACK, s, c+1, 0), out(RST|ACK, c+1, s+1, 0)},
			want: []line{
				{RoleSYN, there + "Flags [S], seq 0, length 0"},
				{RoleSYNACK, back + "Flags [S.], seq 0, ack 1, length 0"},
				{RoleReset, there + "Flags [R.], seq 1, ack 1, length 0"},
			},
			resets: []Reset{{Flavour: ResetWithACK, Segment: Segment{FromClient: true}}},
		},
		{
			name:   "a FIN without ACK is answered with all that it brought",
			frames: []Frame{out(SYN, c, 0, 0), out(FIN, c+1, 0, 0), in(RST|ACK, 0, c+2, 0)},
			want: []line{
				{RoleSYN, there + "Flags [S], seq 0, length 0"},
				{RoleFIN, there + "Flags [F], seq 1, length 0"},
				{RoleReset, back + "Flags [R.], seq 1, ack 2, length 0"},
			},
			resets: []Reset{{Flavour: ResetWithACK, Trigger: 2}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			flows := Flows(numbered(test.frames...))
			if len(flows) != 1 {
				t.Fatalf("%d flows, want 1", len(flows))
			}
			f := flows[0]
			if f.Client != client4 || f.Server != server4 || f.Complete == test.incomplete {
				t.Errorf("client %v, server %v, complete %v", f.Client, f.Server, f.Complete)
			}
			if diff := cmp.Diff(test.want, lines(f)); diff != "" {
				t.Errorf("frames (-want +got):\n%s", diff)
			}
			if got := f.Established(); got != test.established {
				t.Errorf("Established() = %v, want %v", got, test.established)
			}
			var resets []Reset
			for _, r := range f.Resets() {
				resets = append(resets, Reset{Flavour: r.Flavour, Trigger: r.Trigger, Segment: Segment{FromClient: r.FromClient}})
			}
			if diff := cmp.Diff(test.resets, resets, compareAddrPorts); diff != "" {
				t.Errorf("resets (-want +got):\n%s", diff)
			}
		})
	}
}

// TestFlowsAreSeparate: connections at the same time are separate flows, and so are two with the same ends one after the
// other.
func TestFlowsAreSeparate(t *testing.T) {
	frames := numbered(
		frame(client4, server4, SYN, 100, 0, 0),
		frame(client6, server6, SYN, 100, 0, 0),
		frame(server4, client4, SYN|ACK, 500, 101, 0),
		frame(server6, client6, RST|ACK, 0, 101, 0),
		frame(client4, server4, RST, 101, 0, 0),
		frame(client4, server4, SYN, 9000, 0, 0), // the ports again
		frame(server4, client4, SYN|ACK, 700, 9001, 0),
		frame(server4, client4, SYN, 42, 0, 0), // and in the other direction
	)
	type flow struct {
		Client  netip.AddrPort
		Numbers []int
	}
	want := []flow{
		{client4, []int{1, 3, 5}},
		{client6, []int{2, 4}},
		{client4, []int{6, 7}},
		{server4, []int{8}},
	}
	var got []flow
	for _, f := range Flows(frames) {
		numbers := make([]int, len(f.Frames))
		for i, s := range f.Frames {
			numbers[i] = s.Number
		}
		got = append(got, flow{f.Client, numbers})
	}
	if diff := cmp.Diff(want, got, compareAddrPorts); diff != "" {
		t.Errorf("flows (-want +got):\n%s", diff)
	}
}

func TestSegmentStringIPv6(t *testing.T) {
	flows := Flows(numbered(frame(client6, server6, SYN, 5, 0, 0)))
	if got, want := flows[0].Frames[0].String(), "::1.39258 > ::1.80: Flags [S], seq 0, length 0"; got != want {
		t.Errorf("String() = %q, want %q", got, want)
	}
}

// framesFrom makes at most 64 frames of data, eleven bytes each: ends, flags, seq, ack and payload.
func framesFrom(data []byte) []Frame {
	ends := []netip.AddrPort{client4, server4, client6, server6}
	var frames []Frame
	for ; len(data) >= 11 && len(frames) < 64; data = data[11:] {
		frames = append(frames, Frame{
			Number:  len(frames) + 1,
			Src:     ends[data[0]&3],
			Dst:     ends[data[0]>>2&3], // also to itself: TCP can connect like that
			Flags:   Flags(data[1]),
			Seq:     binary.BigEndian.Uint32(data[2:]),
			Ack:     binary.BigEndian.Uint32(data[6:]),
			Payload: int(data[10]),
		})
	}
	return frames
}

func FuzzFlows(f *testing.F) {
	record := func(ends byte, flags Flags, seq, ack uint32, n byte) []byte {
		b := binary.BigEndian.AppendUint32([]byte{ends, byte(flags)}, seq)
		return append(binary.BigEndian.AppendUint32(b, ack), n)
	}
	const out, in = 0b0100, 0b0001
	f.Add(slices.Concat(
		record(out, SYN, 1<<32-1, 0, 0), record(in, SYN|ACK, 7, 0, 0), record(out, ACK, 0, 8, 0),
		record(out, PSH|ACK, 0, 8, 11), record(out, PSH|ACK, 0, 8, 11), record(in, RST, 8, 0, 0),
		record(out, SYN, 77, 0, 0), record(in, RST|ACK, 0, 78, 0)))
	f.Add(slices.Concat(record(in, SYN|ACK, 7, 1, 0), record(in, SYN|ACK, 9, 1, 0), record(out, FIN|ACK, 1, 10, 3)))
	f.Add(slices.Concat(record(0, SYN, 7, 1, 0), record(0, SYN|ACK, 7, 8, 0), record(0, 0, 8, 8, 1)))
	f.Fuzz(func(t *testing.T, data []byte) {
		frames := framesFrom(data)
		flows := Flows(frames)

		seen := make([]int, len(frames)) // how often each frame is in a flow
		lastFirst := 0
		for _, flow := range flows {
			if len(flow.Frames) == 0 {
				t.Fatal("a flow without frames")
			}
			if first := flow.Frames[0].Number; first <= lastFirst {
				t.Errorf("a flow begins with frame %d after one that begins with frame %d", first, lastFirst)
			} else {
				lastFirst = first
			}
			last := 0
			for _, s := range flow.Frames {
				seen[s.Number-1]++
				if s.Number <= last {
					t.Errorf("frame %d after frame %d", s.Number, last)
				}
				last = s.Number
				if diff := cmp.Diff(frames[s.Number-1], s.Frame, compareAddrPorts); diff != "" {
					t.Errorf("the flow changed a frame:\n%s", diff)
				}
				ends := [2]netip.AddrPort{flow.Client, flow.Server}
				if !s.FromClient {
					ends[0], ends[1] = ends[1], ends[0]
				}
				if s.Src != ends[0] || s.Dst != ends[1] {
					t.Errorf("%v is in the flow of %v and %v", s, flow.Client, flow.Server)
				}
				_ = s.String()
			}
			if flow.Established() && !flow.Complete {
				t.Error("established without a SYN")
			}
			checkNumbers(t, flow)
			checkResets(t, flow)
		}
		for i, n := range seen {
			if n != 1 {
				t.Errorf("frame %d is in %d flows", i+1, n)
			}
		}
	})
}

// checkNumbers checks that all relative numbers of one side are off by the same amount, its initial sequence number,
// which only a SYN+ACK may change.
func checkNumbers(t *testing.T, f Flow) {
	t.Helper()
	if f.Client == f.Server {
		return // both sides have the same address
	}
	isn := make(map[bool]uint32) // by whether it is the client's
	check := func(client bool, got uint32, s Segment) {
		if want, known := isn[client]; known && got != want {
			t.Errorf("%v: numbers start from %d, before from %d", s, got, want)
		}
		isn[client] = got
	}
	for _, s := range f.Frames {
		if s.Role == RoleSYNACK {
			delete(isn, s.FromClient)
		}
		check(s.FromClient, s.Seq-s.RelSeq, s)
		if s.Flags.Has(ACK) {
			check(!s.FromClient, s.Ack-s.RelAck, s)
		}
	}
}

// checkResets checks that each RST is reported once, and its trigger came earlier and from the other side.
func checkResets(t *testing.T, f Flow) {
	t.Helper()
	byNumber := make(map[int]Segment)
	rsts := 0
	for _, s := range f.Frames {
		byNumber[s.Number] = s
		rsts += bits.OnesCount8(uint8(s.Flags & RST))
	}
	resets := f.Resets()
	if len(resets) != rsts {
		t.Errorf("%d resets of %d", len(resets), rsts)
	}
	for _, r := range resets {
		if r.Trigger == 0 {
			continue
		}
		trigger, ok := byNumber[r.Trigger]
		if !ok || trigger.Number >= r.Number || trigger.FromClient == r.FromClient {
			t.Errorf("%v is said to answer frame %d, %v", r, r.Trigger, trigger)
		}
	}
}
