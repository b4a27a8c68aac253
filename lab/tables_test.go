package lab

import (
	"net/netip"
	"testing"

	"github.com/rpmig/rpmig/kernel"
)

// TestNameOf: what the sockets of the port are called in the story.
func TestNameOf(t *testing.T) {
	l := &Lab{cfg: Config{Settings: Settings{Port: 80}}, listeners: []*Listener{{name: "A", inode: 7}, {name: "B", inode: 8}}}
	ours, theirs := netip.MustParseAddrPort("127.0.0.1:80"), netip.MustParseAddrPort("127.0.0.1:4000")
	for _, tt := range []struct {
		socket kernel.Socket
		want   string
	}{
		{kernel.Socket{State: kernel.Listen, Local: ours, Inode: 8}, "B"},
		{kernel.Socket{State: kernel.Listen, Local: ours, Inode: 9}, "listener"},
		{kernel.Socket{State: kernel.SynRecv, Local: ours, Remote: theirs}, "request"},
		{kernel.Socket{State: kernel.Established, Local: ours, Remote: theirs, Inode: 8}, "child"},
		{kernel.Socket{State: kernel.Established, Local: theirs, Remote: ours}, "client"},
	} {
		if got := l.nameOf(tt.socket); got != tt.want {
			t.Errorf("%+v is called %q, want %q", tt.socket, got, tt.want)
		}
	}
}
