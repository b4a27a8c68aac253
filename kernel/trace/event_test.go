package trace

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
)

// encode returns a record as the programs write it. Its type is from the compiler, so this tests the offsets in parse.
func encode(tb testing.TB, e probeEvent) []byte {
	tb.Helper()
	b, err := binary.Append(nil, binary.LittleEndian, e)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

var testNames = names{
	reset: map[uint64]string{1: "NO_SOCKET", 14: "TCP_STATE"},
	drop:  map[uint64]string{12: "NETFILTER_DROP"},
}

func in6(s string) [16]byte { return netip.MustParseAddr(s).As16() }

var records = []struct {
	name  string
	event probeEvent
	want  Event
	line  string
}{
	{
		name: "a listener closes on a connection",
		event: probeEvent{
			Time: 1_000, Cookie: 2, Watch: 3, Pid: 4, Tid: 5, Reason: 14, Src: [16]uint8{127, 0, 0, 1}, Dst: [16]uint8{127, 0, 0, 2},
			SrcPort: 80, DstPort: 4000, Family: 2, Kind: uint8(ResetSent), State: 7, Bits: hasSocket | orphan,
		},
		want: Event{
			Time: time.Unix(1, 1_000), Kind: ResetSent, Cookie: 2, PID: 4, TID: 5, Reason: "TCP_STATE", State: "CLOSE", Orphan: true,
			Src: netip.MustParseAddrPort("127.0.0.1:80"), Dst: netip.MustParseAddrPort("127.0.0.2:4000"),
		},
		line: "tcp:tcp_send_reset 127.0.0.1:80 > 127.0.0.2:4000 state CLOSE reason TCP_STATE in thread 5",
	},
	{
		name: "no listener",
		event: probeEvent{
			Reason: 1, Src: in6("::1"), Dst: in6("::2"), SrcPort: 80, DstPort: 4000, Family: 10, Kind: uint8(ResetSent),
			Seq: 6, Ack: 7, Flags: 2, Bits: hasSegment | softirq,
		},
		want: Event{
			Time: time.Unix(1, 0), Kind: ResetSent, Reason: "NO_SOCKET", Answer: true, Flags: 2, Seq: 6, Ack: 7, Softirq: true,
			Src: netip.MustParseAddrPort("[::1]:80"), Dst: netip.MustParseAddrPort("[::2]:4000"),
		},
		line: "tcp:tcp_send_reset [::1]:80 > [::2]:4000 reason NO_SOCKET segment flags 0x02 seq 6 ack 7 in softirq",
	},
	{
		name: "a mapped address",
		event: probeEvent{
			Src: in6("::ffff:127.0.0.1"), Dst: in6("::ffff:127.0.0.2"), Family: 10, Kind: uint8(StateChange),
			State: 12, OldState: 10, Bits: hasSocket,
		},
		want: Event{
			Time: time.Unix(1, 0), Kind: StateChange, State: "NEW_SYN_RECV", OldState: "LISTEN",
			Src: netip.MustParseAddrPort("127.0.0.1:0"), Dst: netip.MustParseAddrPort("127.0.0.2:0"),
		},
		line: "sock:inet_sock_set_state 127.0.0.1:0 > 127.0.0.2:0 from LISTEN state NEW_SYN_RECV in thread 0",
	},
	{
		name: "a reason and a state without a name, and no address",
		event: probeEvent{
			Reason: 0x20001, Kind: uint8(Drop), State: 99, Bits: hasSocket | hasSegment | softirq,
		},
		want: Event{Time: time.Unix(1, 0), Kind: Drop, Reason: "0x20001", State: "99", Softirq: true},
		line: "skb:kfree_skb invalid AddrPort > invalid AddrPort state 99 reason 0x20001 segment flags 0x00 seq 0 ack 0 in softirq",
	},
}

func TestParse(t *testing.T) {
	for _, tt := range records {
		t.Run(tt.name, func(t *testing.T) {
			record := encode(t, tt.event)
			got, err := parse(record, testNames, time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
				t.Errorf("parse (-want +got):\n%s", diff)
			}
			if id, ok := watchOf(record); !ok || id != tt.event.Watch {
				t.Errorf("watchOf = %d, %t; want %d", id, ok, tt.event.Watch)
			}
			if got.String() != tt.line {
				t.Errorf("String() = %q\nwant       %q", got, tt.line)
			}
		})
	}
}

// TestEventsAreSorted: two CPUs may put their events into the ring out of order.
func TestEventsAreSorted(t *testing.T) {
	w := &bpfWatch{tracer: &programs{clock: unix.CLOCK_MONOTONIC}}
	var err error
	if w.offset, err = wallOffset(w.tracer.clock); err != nil {
		t.Fatal(err)
	}
	var ring []byte
	for _, at := range []uint64{30, 10, 20} {
		ring = append(ring, encode(t, probeEvent{Time: at * 1e6, Seq: uint32(at), Kind: uint8(Drop)})...)
	}
	events, err := w.events(ring)
	if err != nil || len(events) != 3 || events[0].Seq != 10 || events[1].Seq != 20 || events[2].Seq != 30 {
		t.Errorf("%v, %v", events, err)
	}
	// Their time is the capture's, and not that of the clock that the programs read.
	if err == nil && time.Since(events[0].Time) < 0 {
		t.Errorf("the first was at %v", events[0].Time)
	}
}

// TestParseWithoutReasons: an old kernel gives no reasons.
func TestParseWithoutReasons(t *testing.T) {
	for _, kind := range []Kind{ResetSent, Drop} {
		e, err := parse(encode(t, probeEvent{Kind: uint8(kind)}), names{}, 0)
		if err != nil || e.Reason != "" {
			t.Errorf("%v: reason %q, %v; want none", kind, e.Reason, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	whole := encode(t, probeEvent{Kind: uint8(Drop)})
	for _, tt := range []struct {
		name   string
		record []byte
		want   string
	}{
		{"nothing", nil, "a record of 0 bytes, want 88"},
		{"too short", whole[:87], "a record of 87 bytes, want 88"},
		{"too long", append(whole, 0), "a record of 89 bytes, want 88"},
		{"no kind", encode(t, probeEvent{}), "a record of kind 0"},
		{"another kind", encode(t, probeEvent{Kind: uint8(kinds)}), "a record of kind 8"},
		{"another family", encode(t, probeEvent{Kind: 1, Family: 1}), "a record of address family 1"},
	} {
		if _, err := parse(tt.record, testNames, 0); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want …%s…", tt.name, err, tt.want)
		}
	}
}

func TestUntraced(t *testing.T) {
	events := []Event{{Kind: ResetSent}, {Kind: Retransmit}, {Kind: SynAckRetransmit}, {Kind: Drop}}
	for _, tt := range []struct {
		resets, retransmissions int64
		missing                 []string
		want                    int
	}{
		{0, 0, nil, 0}, {1, 2, nil, 0}, {2, 2, nil, 1}, {1, 3, nil, 1}, {3, 4, nil, 4},
		// An event for which the kernel has no tracepoint does not count.
		{3, 4, []string{"tcp:tcp_send_reset"}, 2}, {3, 4, []string{"tcp:tcp_retransmit_synack"}, 2},
		{3, 4, []string{"skb:kfree_skb"}, 4},
	} {
		during := kernel.Counters{"OutRsts": tt.resets, "RetransSegs": tt.retransmissions}
		if got := (&Recording{Events: events, Missing: tt.missing}).Untraced(during); got != tt.want {
			t.Errorf("%d resets and %d retransmissions, without %v: got %d, want %d",
				tt.resets, tt.retransmissions, tt.missing, got, tt.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, r := range records {
		f.Add(encode(f, r.event))
	}
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, record []byte) {
		_, ours := watchOf(record)
		e, err := parse(record, testNames, time.Second)
		if err != nil {
			return
		}
		if !ours {
			t.Error("a record that is for no watch was parsed")
		}
		if e.Kind.String() == "" || e.Src.Addr().Is4In6() || e.Dst.Addr().Is4In6() {
			t.Errorf("parse: %+v", e)
		}
		if (e.OldState != "") != (e.Kind == StateChange) {
			t.Errorf("old state %q of %v", e.OldState, e.Kind)
		}
		_ = e.String()
	})
}
