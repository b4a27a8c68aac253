package reports

import (
	"net/netip"
	"testing"

	"github.com/rpmig/rpmig/result"
)

// TestEventDoubt: what an event is known to be the cell's by is said where there is doubt.
func TestEventDoubt(t *testing.T) {
	server, client := netip.MustParseAddrPort("127.0.0.1:80"), netip.MustParseAddrPort("127.0.0.1:4000")
	for _, tt := range []struct {
		event result.Event
		want  string
	}{
		{result.Event{Kind: "tcp:tcp_send_reset", Reason: "NO_SOCKET", From: server, To: client}, "server: tcp:tcp_send_reset NO_SOCKET"},
		{result.Event{Kind: "tcp:tcp_send_reset", Reason: "NO_SOCKET", From: server, To: client, By: "address"},
			"server: tcp:tcp_send_reset NO_SOCKET (by its addresses)"},
		{result.Event{Kind: "skb:kfree_skb", Reason: "NETFILTER_DROP", By: "thread"}, "skb:kfree_skb NETFILTER_DROP (by the thread alone)"},
	} {
		if got := eventText(tt.event, server.Port()); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}
