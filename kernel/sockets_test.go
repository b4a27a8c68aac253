package kernel

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// TestSockets compares Diag with a library that asks the same kernel.
func TestSockets(t *testing.T) {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	at := netip.MustParseAddrPort(listener.Addr().String())
	for range 40 { // more than fit into one datagram, with the library's attributes
		c, err := net.Dial("tcp4", at.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	d, err := OpenDiag()
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	got, err := d.Sockets(at.Port(), []uint8{unix.AF_INET})
	if err != nil {
		t.Fatal(err)
	}
	all, err := netlink.SocketDiagTCP(unix.AF_INET)
	if err != nil {
		t.Fatal(err)
	}
	var want []Socket
	for _, s := range all {
		if s.ID.SourcePort != at.Port() && s.ID.DestinationPort != at.Port() {
			continue
		}
		local, _ := netip.AddrFromSlice(s.ID.Source.To4())
		remote, _ := netip.AddrFromSlice(s.ID.Destination.To4())
		timer := 0.0
		if s.Timer != 0 {
			timer = float64(s.Expires) / 1000
		}
		want = append(want, Socket{
			Timer: timer,
			State: State(s.State), Queue: int(s.RQueue), Backlog: int(s.WQueue), Inode: s.INode,
			Local: netip.AddrPortFrom(local, s.ID.SourcePort), Remote: netip.AddrPortFrom(remote, s.ID.DestinationPort),
			Cookie: uint64(s.ID.Cookie[1])<<32 | uint64(s.ID.Cookie[0]),
		})
	}
	byCookie := func(a, b Socket) int { return int(int64(a.Cookie) - int64(b.Cookie)) }
	slices.SortFunc(got, byCookie)
	slices.SortFunc(want, byCookie)
	if len(want) != 81 {
		t.Errorf("the library shows %d sockets, want both ends of 40 connections, and the listener", len(want))
	}
	// The timers are still running.
	if diff := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	listeners, err := d.Sockets(at.Port(), []uint8{unix.AF_INET}, Listen)
	if err != nil || len(listeners) != 1 || listeners[0].State != Listen || listeners[0].Queue != 40 {
		t.Errorf("listeners: %+v, %v, want one with 40 in its accept queue", listeners, err)
	}
	if some, err := d.Dump(at.Port(), []uint8{unix.AF_INET}, 3); err != nil || some.Count != 81 || len(some.Sockets()) != 3 {
		t.Errorf("%d of %d sockets were kept, %v; want 3 of 81", len(some.Sockets()), some.Count, err)
	}
	if _, err := d.Sockets(at.Port(), []uint8{unix.AF_UNIX}); err == nil {
		t.Error("no error for TCP sockets of AF_UNIX")
	}
}

// TestMappedEnds: an IPv4 client of an IPv6 listener has its IPv4 address, as on the wire.
func TestMappedEnds(t *testing.T) {
	m := diagMessage{Family: unix.AF_INET6, SrcPort: [2]byte{0, 80}, DstPort: [2]byte{0x9c, 0x40}}
	m.Src, m.Dst = netip.MustParseAddr("::ffff:127.0.0.1").As16(), netip.MustParseAddr("::ffff:127.0.0.2").As16()
	if s := m.socket(); s.Local.String() != "127.0.0.1:80" || s.Remote.String() != "127.0.0.2:40000" {
		t.Errorf("%v and %v", s.Local, s.Remote)
	}
}

// TestDiagRefusal: an errno in the answer is an error, and 0 is not.
func TestDiagRefusal(t *testing.T) {
	for errno, want := range map[uint32]error{0: nil, ^uint32(unix.ENOENT) + 1: unix.ENOENT} {
		answer := binary.NativeEndian.AppendUint32(nil, unix.SizeofNlMsghdr+4)
		answer = binary.NativeEndian.AppendUint16(answer, unix.NLMSG_ERROR)
		answer = append(binary.NativeEndian.AppendUint32(append(answer, 0, 0), 1), 0, 0, 0, 0)
		answer = binary.NativeEndian.AppendUint32(answer, errno)
		if done, err := parseDiag(answer, 1, nil); !done || !errors.Is(err, want) {
			t.Errorf("NLMSG_ERROR with %#x: %t, %v; want %v", errno, done, err, want)
		}
	}
}

// FuzzParseDiag feeds the parser messages that no kernel sends.
func FuzzParseDiag(f *testing.F) {
	message := func(kind uint16, body ...byte) []byte {
		b := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
		b = binary.NativeEndian.AppendUint16(b, kind)
		b = binary.NativeEndian.AppendUint16(b, 0)
		b = binary.NativeEndian.AppendUint32(b, 1)
		return append(append(b, 0, 0, 0, 0), body...)
	}
	f.Add(message(unix.NLMSG_DONE, 0, 0, 0, 0))
	f.Add(message(unix.NLMSG_ERROR, 0xfe, 0xff, 0xff, 0xff))
	f.Add(message(unix.SOCK_DIAG_BY_FAMILY, make([]byte, 72)...))
	f.Add(append(message(unix.SOCK_DIAG_BY_FAMILY, make([]byte, 79)...), message(unix.NLMSG_DONE)...))
	f.Add(message(unix.SOCK_DIAG_BY_FAMILY, 2))
	f.Fuzz(func(t *testing.T, b []byte) {
		sockets := 0
		_, _ = parseDiag(b, 1, func(m *diagMessage) {
			sockets++
			_ = m.socket().State.String()
		})
		if sockets*72 > len(b) {
			t.Errorf("%d sockets out of %d bytes", sockets, len(b))
		}
	})
}
