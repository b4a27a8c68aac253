package trace

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
)

var native = binary.NativeEndian

// perfRecord is a record as perf_event_open(2) describes it.
func perfRecord(kind uint32, body []byte) []byte {
	b := native.AppendUint32(nil, kind)
	b = native.AppendUint16(native.AppendUint16(b, 0), uint16(8+len(body)))
	return append(b, body...)
}

// perfSample is a record of a sample.
func perfSample(pid, tid int32, time uint64, raw []byte) []byte {
	b := native.AppendUint32(native.AppendUint32(nil, uint32(pid)), uint32(tid))
	b = native.AppendUint32(native.AppendUint64(b, time), uint32(len(raw)))
	return perfRecord(unix.PERF_RECORD_SAMPLE, append(b, raw...))
}

func TestParseRecords(t *testing.T) {
	ring := slices.Concat(
		perfSample(1, 2, 3, []byte("raw.")), perfRecord(unix.PERF_RECORD_LOST, make([]byte, 16)), perfSample(-1, -1, 4, nil))
	var got []sample
	if err := parseRecords(ring, func(s sample) error { got = append(got, s); return nil }); err != nil {
		t.Fatal(err)
	}
	want := []sample{{1, 2, 3, []byte("raw.")}, {0, 0, 4, nil}}
	if !slices.EqualFunc(got, want, func(a, b sample) bool {
		return a.pid == b.pid && a.tid == b.tid && a.time == b.time && bytes.Equal(a.raw, b.raw)
	}) {
		t.Errorf("got %v, want %v", got, want)
	}
	stop := errors.New("stop")
	if err := parseRecords(ring, func(sample) error { return stop }); err != stop {
		t.Errorf("got %v, want the caller's error", err)
	}
	for _, tt := range []struct {
		name string
		ring []byte
		want string
	}{
		{"half a header", ring[:7], "header of 7 bytes"},
		{"cut short", ring[:20], "a perf record of 32 bytes where there are 20"},
		{"no size", make([]byte, 8), "a perf record of 0 bytes"},
		{"too short a sample", perfRecord(unix.PERF_RECORD_SAMPLE, make([]byte, 19)), "a perf sample of 19 bytes"},
		{"too long a record", perfRecord(unix.PERF_RECORD_SAMPLE, append(make([]byte, 16), 255, 255, 255, 255)), "a tracepoint's record of 4294967295 bytes"},
	} {
		err := parseRecords(tt.ring, func(sample) error { return nil })
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want …%s…", tt.name, err, tt.want)
		}
	}
}

func FuzzRecords(f *testing.F) {
	f.Add(perfSample(1, 2, 3, []byte("raw.")))
	f.Add(perfRecord(unix.PERF_RECORD_LOST, make([]byte, 16)))
	f.Fuzz(func(t *testing.T, ring []byte) {
		total := 0
		err := parseRecords(ring, func(s sample) error {
			if s.pid < 0 || s.tid < 0 {
				t.Errorf("thread %d of process %d", s.tid, s.pid)
			}
			total += len(s.raw) + 28
			return nil
		})
		if total > len(ring) {
			t.Errorf("samples of %d bytes in %d, %v", total, len(ring), err)
		}
	})
}

// fill returns a record with these numbers and bytes in the fields of a format.
func fill(f format, values map[string]any) []byte {
	size := 0
	for _, at := range f.fields {
		size = max(size, at.offset+at.size)
	}
	record := make([]byte, size)
	for name, v := range values {
		at, ok := f.fields[name]
		if !ok {
			panic("no field " + name)
		}
		var b []byte
		switch v := v.(type) {
		case int:
			b = native.AppendUint64(nil, uint64(v))[:at.size] // little-endian, as every machine that this is built for
		case []byte:
			b = v
		}
		copy(record[at.offset:at.offset+at.size], b)
	}
	return record
}

// before610 is the format of tcp_send_reset in Linux 5.15 to 6.9 (include/trace/events/tcp.h): no reason, and no sockaddrs.
const before610 = `name: tcp_send_reset
ID: 7
format:
	field:unsigned short common_type;	offset:0;	size:2;	signed:0;
	field:unsigned char common_flags;	offset:2;	size:1;	signed:0;
	field:const void * skbaddr;	offset:8;	size:8;	signed:0;
	field:const void * skaddr;	offset:16;	size:8;	signed:0;
	field:int state;	offset:24;	size:4;	signed:1;
	field:__u16 sport;	offset:28;	size:2;	signed:0;
	field:__u16 dport;	offset:30;	size:2;	signed:0;
	field:__u8 saddr[4];	offset:32;	size:4;	signed:0;
	field:__u8 daddr[4];	offset:36;	size:4;	signed:0;
	field:__u8 saddr_v6[16];	offset:40;	size:16;	signed:0;
	field:__u8 daddr_v6[16];	offset:56;	size:16;	signed:0;
`

func TestDecode(t *testing.T) {
	all := formats(t)
	old, err := parseFormat([]byte(before610))
	if err != nil {
		t.Fatal(err)
	}
	mapped := func(s string) []byte { a := in6(s); return a[:] }
	const open = 0x80 // BH_OFF, which is no interrupt
	for _, tt := range []struct {
		name   string
		kind   Kind
		format format
		values map[string]any
		want   hostEvent
	}{
		{"a listener rejects", ResetSent, all[ResetSent], map[string]any{
			"common_flags": 0x10, "skbaddr": 5, "skaddr": 6, "state": 10, "reason": 6,
			"saddr": append([]byte{unix.AF_INET, 0, 0, 80, 127, 0, 0, 1}, make([]byte, 20)...), "daddr": append([]byte{unix.AF_INET, 0}, make([]byte, 26)...),
		}, hostEvent{Event: Event{
			Kind: ResetSent, Src: netip.MustParseAddrPort("127.0.0.1:80"), Dst: netip.MustParseAddrPort("0.0.0.0:0"), Reason: "TCP_FLAGS",
			State: "LISTEN", Answer: true, Softirq: true,
		}, sock: 6}},
		{"no socket, IPv6, and a reason without a name", ResetSent, all[ResetSent], map[string]any{
			"common_flags": 0x18, "skbaddr": 5, "reason": 999,
			"saddr": append([]byte{unix.AF_INET6, 0, 0, 80, 0, 0, 0, 0}, append(mapped("::1"), 0, 0, 0, 0)...),
			"daddr": append([]byte{unix.AF_INET6, 0, 1, 0, 0, 0, 0, 0}, append(mapped("::2"), 0, 0, 0, 0)...),
		}, hostEvent{Event: Event{
			Kind: ResetSent, Src: netip.MustParseAddrPort("[::1]:80"), Dst: netip.MustParseAddrPort("[::2]:256"), Reason: "0x3e7",
			Answer: true, Softirq: true,
		}}},
		{"before Linux 6.10", ResetSent, old, map[string]any{
			"common_flags": open, "skaddr": 6, "state": 7, "sport": 80, "dport": 4000,
			"saddr_v6": mapped("::ffff:127.0.0.1"), "daddr_v6": mapped("::ffff:127.0.0.2"),
		}, hostEvent{Event: Event{
			Kind: ResetSent, Src: netip.MustParseAddrPort("127.0.0.1:80"), Dst: netip.MustParseAddrPort("127.0.0.2:4000"), State: "CLOSE",
		}, sock: 6}},
		{"received, so that the peer is its source", ResetReceived, all[ResetReceived], map[string]any{
			"skaddr": 6, "sport": 4000, "dport": 80, "saddr_v6": mapped("::2"), "daddr_v6": mapped("::1"), "sock_cookie": 9,
		}, hostEvent{Event: Event{
			Kind: ResetReceived, Src: netip.MustParseAddrPort("[::1]:80"), Dst: netip.MustParseAddrPort("[::2]:4000"), Cookie: 9,
		}, sock: 6}},
		{"a change of MPTCP", StateChange, all[StateChange], map[string]any{
			"skaddr": 6, "oldstate": 7, "newstate": 10, "protocol": 262, "saddr_v6": mapped("::"), "daddr_v6": mapped("::"),
		}, hostEvent{Event: Event{
			Kind: StateChange, Src: netip.MustParseAddrPort("[::]:0"), Dst: netip.MustParseAddrPort("[::]:0"), OldState: "CLOSE", State: "LISTEN",
		}, sock: 6, foreign: true}},
		{"a drop", Drop, all[Drop], map[string]any{"rx_sk": 6, "protocol": 0x86dd, "reason": 12},
			hostEvent{Event: Event{Kind: Drop, Reason: "NETFILTER_DROP"}, sock: 6, ip: true}},
		{"a drop of something else", Drop, all[Drop], map[string]any{"protocol": 0x0806, "reason": 12},
			hostEvent{Event: Event{Kind: Drop, Reason: "NETFILTER_DROP"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, err := newDecoder(tt.kind, tt.format)
			if err != nil {
				t.Fatal(err)
			}
			record := fill(tt.format, tt.values)
			tt.want.Time, tt.want.PID, tt.want.TID = time.Unix(1, 5), 3, 4
			s := sample{pid: 3, tid: 4, time: 5, raw: record}
			if got, err := d.decode(s, time.Second); err != nil || got != tt.want {
				t.Errorf("got  %+v, %v\nwant %+v", got, err, tt.want)
			}
			s.raw = record[:len(record)-2]
			if got, err := d.decode(s, 0); err == nil && tt.kind != Destroy {
				t.Errorf("a record that is too short: %+v", got)
			}
		})
	}
}

// TestDecoderRefuses: a tracepoint without the expected fields is not supported.
func TestDecoderRefuses(t *testing.T) {
	for kind, f := range formats(t) {
		needed := "skaddr"
		if kind == Drop {
			needed = "protocol"
		}
		delete(f.fields, needed)
		if _, err := newDecoder(kind, f); !errors.Is(err, kernel.ErrNotSupported) || !strings.Contains(err.Error(), kind.String()) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}
