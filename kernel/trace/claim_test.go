package trace

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
)

// TestClaim: which events are claimed, by what, and which are left out.
func TestClaim(t *testing.T) {
	const thread, worker, another = 1, 2, 3
	server, client := netip.MustParseAddrPort("127.0.0.1:80"), netip.MustParseAddrPort("127.0.0.1:4000")
	other := netip.MustParseAddrPort("127.0.0.1:4001")
	own := Own{Thread: thread, Processes: []int{worker}, Seen: func(a, b netip.AddrPort) bool {
		return a == server && b == client || a == client && b == server
	}}
	// event returns an event of a kind, by a thread, in a softirq or not, of the socket at an address, between two ends.
	event := func(k Kind, tid int, softirq bool, sock uint64, src, dst netip.AddrPort) hostEvent {
		return hostEvent{Event: Event{Kind: k, TID: tid, PID: tid, Softirq: softirq, Src: src, Dst: dst}, sock: sock, ip: true}
	}
	none := netip.AddrPort{}
	listens := event(StateChange, thread, false, 7, server, none)
	for _, tt := range []struct {
		name    string
		events  []hostEvent
		missing []string
		want    []string // "event's index: By"
	}{
		{"in a call of the thread", []hostEvent{listens}, nil, []string{"0: 1"}},
		{"in a call of a process of its own", []hostEvent{event(StateChange, worker, false, 7, server, none)}, nil, []string{"0: 1"}},
		{"in a call of another, on the same ends", []hostEvent{event(StateChange, another, false, 7, server, other)}, nil, nil},
		{"by a socket that is known, in any softirq", []hostEvent{listens, event(ResetSent, another, true, 7, server, none)}, nil, []string{"0: 1", "1: 1"}},
		{"by an equal one of another namespace", []hostEvent{listens, event(ResetSent, another, true, 8, server, none)}, nil, []string{"0: 1"}},
		{"on a thread of ours, but by another socket", []hostEvent{listens, event(ResetSent, thread, true, 8, server, none)}, nil, []string{"0: 1"}},
		{"after its destruction the socket may be another's", []hostEvent{
			listens, event(Destroy, another, true, 7, server, none), event(ResetSent, another, true, 7, server, none),
		}, nil, []string{"0: 1"}},
		{"without its tracepoint no destruction is known, and so no socket", []hostEvent{listens, event(ResetSent, another, true, 7, server, none)},
			[]string{"tcp:tcp_destroy_sock"}, []string{"0: 1"}},
		{"a drop for a socket that is known", []hostEvent{listens, event(Drop, another, true, 7, none, none)}, nil, []string{"0: 1", "1: 1"}},
		{"between ends that were captured", []hostEvent{event(ResetSent, another, true, 0, server, client)}, nil, []string{"0: 2"}},
		{"between others", []hostEvent{event(ResetSent, another, true, 0, server, other)}, nil, nil},
		{"a drop on the thread", []hostEvent{event(Drop, thread, true, 0, none, none)}, nil, []string{"0: 3"}},
		{"a drop on another", []hostEvent{event(Drop, another, true, 0, none, none)}, nil, nil},
		{"a drop of no IP packet", []hostEvent{{Event: Event{Kind: Drop, TID: thread}}}, nil, nil},
		{"another protocol", []hostEvent{{Event: Event{Kind: StateChange, TID: thread}, foreign: true}}, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for i := range tt.events {
				tt.events[i].Seq = uint32(i)
			}
			r := &Recording{HostWide: true, Missing: tt.missing, host: tt.events}
			if len(r.Events) != 0 {
				t.Error("there are events before Claim")
			}
			r.Claim(own)
			var got []string
			for _, e := range r.Events {
				got = append(got, fmt.Sprintf("%d: %d", e.Seq, e.By))
				if e.Sure() != (e.By.String() == "") {
					t.Errorf("sure: %t, and yet attributed by %q", e.Sure(), e.By)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
	known := []Event{{Kind: Drop}}
	r := &Recording{Events: known}
	if r.Claim(Own{}); !slices.Equal(r.Events, known) || !r.Events[0].Sure() {
		t.Error("Claim changed events that have their namespace from the kernel")
	}
}
