//go:build linux

package capture

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// inNamespace runs f on a thread in a new network namespace, in which lo is up. f must not call FailNow or Skip: it
// returns an error instead.
func inNamespace(tb testing.TB, f func() error) {
	tb.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies, and its namespace with it
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("unshare: %w", err)
			return
		}
		lo, err := netlink.LinkByName("lo")
		if err == nil {
			err = netlink.LinkSetUp(lo)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	err := <-done
	if errors.Is(err, unix.EPERM) {
		tb.Skipf("needs CAP_SYS_ADMIN and CAP_NET_RAW: %v", err)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// connection is both ends of a TCP connection over loopback.
type connection struct {
	listener, client, server int
}

// connect opens a listener and connects to it.
func connect(address netip.Addr) (c connection, err error) {
	var family int
	var local unix.Sockaddr
	if address.Is4() {
		family, local = unix.AF_INET, &unix.SockaddrInet4{Addr: address.As4()}
	} else {
		family, local = unix.AF_INET6, &unix.SockaddrInet6{Addr: address.As16()}
	}
	socket := func() int {
		var fd int
		if err == nil {
			fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		}
		return fd
	}
	step := func(f func() error) {
		if err == nil {
			err = f()
		}
	}
	c.listener, c.client = socket(), socket()
	step(func() error { return unix.Bind(c.listener, local) })
	step(func() error { return unix.Listen(c.listener, 1) })
	step(func() error {
		to, err := unix.Getsockname(c.listener)
		if err != nil {
			return err
		}
		return unix.Connect(c.client, to)
	})
	step(func() (err error) { c.server, _, err = unix.Accept(c.listener); return err })
	return c, err
}

func (c connection) close() error {
	return errors.Join(unix.Close(c.client), unix.Close(c.server), unix.Close(c.listener))
}

// abort closes the client with a RST (socket(7), SO_LINGER with a time of 0).
func (c connection) abort() error {
	err := unix.SetsockoptLinger(c.client, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	return errors.Join(err, unix.Close(c.client))
}

// record returns the recording of what f does.
func record(frames int, f func() error) (*Recording, error) {
	ring, err := Open("lo", frames)
	if err != nil {
		return nil, err
	}
	defer ring.Close()
	if err := f(); err != nil {
		return nil, err
	}
	return ring.Drain()
}

// TestRing: each frame of a connection is recorded once, in order.
func TestRing(t *testing.T) {
	for _, address := range []string{"127.0.0.1", "::1"} {
		t.Run(address, func(t *testing.T) {
			inNamespace(t, func() error {
				rec, err := record(256, func() error {
					c, err := connect(netip.MustParseAddr(address))
					if err != nil {
						return err
					}
					if _, err := unix.Write(c.client, []byte("Hello World")); err != nil {
						return err
					}
					// If the data were left unread, close would send a RST.
					if _, err := unix.Read(c.server, make([]byte, 64)); err != nil {
						return err
					}
					return c.close()
				})
				if err != nil {
					return err
				}
				if rec.Lost != 0 || rec.Received != len(rec.Packets) {
					t.Errorf("%d received, %d lost, %d read", rec.Received, rec.Lost, len(rec.Packets))
				}
				frames, undecodable := Decode(rec.Packets)
				if undecodable != 0 {
					t.Errorf("%d undecodable", undecodable)
				}
				flows := Flows(frames)
				if len(flows) != 1 {
					return fmt.Errorf("%d flows, want 1", len(flows))
				}
				var flags []string
				for _, s := range flows[0].Frames {
					flags = append(flags, s.Flags.String())
				}
				// The client closes first. Its FIN is answered by an ACK or by the server's FIN, whichever is first.
				want := []string{"S", "S.", ".", "P.", ".", "F."}
				if len(flags) < len(want) || !slices.Equal(flags[:len(want)], want) {
					t.Errorf("flags %q, want %q first", flags, want)
				}
				if data := flows[0].Frames[3]; data.Payload != len("Hello World") || data.Role != RoleData {
					t.Errorf("%v carries %d bytes", data, data.Payload)
				}
				if !flows[0].Established() {
					t.Error("not established")
				}
				last := rec.Start
				for _, p := range rec.Packets {
					if p.Time.Before(last) || p.Time.After(rec.End) {
						t.Errorf("time %v is not between %v and %v", p.Time, last, rec.End)
					}
					last = p.Time
				}
				return nil
			})
		})
	}
}

// TestLive: what is read while it is recorded is each frame once, in order, also when the ring has come round.
func TestLive(t *testing.T) {
	inNamespace(t, func() error {
		live, err := OpenLive("lo", 2*liveBlock)
		if err != nil {
			return err
		}
		defer live.Close()
		all := 0
		for round := range 50 {
			c, err := connect(netip.MustParseAddr("127.0.0.1"))
			if err == nil {
				err = errors.Join(c.abort(), unix.Close(c.server), unix.Close(c.listener))
			}
			if err != nil {
				return err
			}
			var flags []string
			for end := time.Now().Add(10 * time.Second); len(flags) < 4 && time.Now().Before(end); runtime.Gosched() {
				live.Read(func(p Packet) {
					frames, _ := Decode([]Packet{p})
					for _, f := range frames {
						flags = append(flags, f.Flags.String())
					}
				})
			}
			if diff := cmp.Diff([]string{"S", "S.", ".", "R."}, flags); diff != "" {
				return fmt.Errorf("round %d (-want +got):\n%s", round, diff)
			}
			all += len(flags)
		}
		if whole, err := live.Whole(); !whole || err != nil {
			return fmt.Errorf("all was read, and it says %t, %w", whole, err)
		}
		for range 2 { // the kernel forgets what it has told
			if received, lost, err := live.Recorded(); err != nil || received != all || lost != 0 {
				return fmt.Errorf("%d received, %d lost, %w; want %d", received, lost, err, all)
			}
		}
		return nil
	})
}

// TestLiveLoses: a ring that nobody reads counts what it lost, and what it has is cut, as that of a Ring.
func TestLiveLoses(t *testing.T) {
	inNamespace(t, func() error {
		live, err := OpenLive("lo", 1) // two blocks
		if err != nil {
			return err
		}
		defer live.Close()
		for range 400 {
			c, err := connect(netip.MustParseAddr("127.0.0.1"))
			if err != nil {
				return err
			}
			_, err = unix.Write(c.client, make([]byte, 5000))
			if err := errors.Join(err, c.abort(), unix.Close(c.server), unix.Close(c.listener)); err != nil {
				return err
			}
		}
		received, lost, err := live.Recorded()
		if err != nil {
			return err
		}
		read, longest, cut := 0, 0, false
		for end := time.Now().Add(10 * time.Second); read < received-lost && time.Now().Before(end); runtime.Gosched() {
			live.Read(func(p Packet) {
				read++
				longest, cut = max(longest, len(p.Data)), cut || p.Length > 5000
			})
		}
		if received < 2000 || lost == 0 || read != received-lost || longest != snapLen || !cut {
			t.Errorf("%d received, %d lost, %d read, of which the longest has %d bytes; one was cut: %t", received, lost, read, longest, cut)
		}
		return nil
	})
}

// TestRingHoldsResetAtClose: a RST is in the ring once close has returned.
func TestRingHoldsResetAtClose(t *testing.T) {
	inNamespace(t, func() error {
		const rounds, perRound = 200, 4
		ring, err := Open("lo", rounds*perRound)
		if err != nil {
			return err
		}
		defer ring.Close()
		for i := range rounds {
			c, err := connect(netip.MustParseAddr("127.0.0.1"))
			if err != nil {
				return err
			}
			if err := c.abort(); err != nil {
				return err
			}
			frames, _ := Decode(ring.read()[perRound*i:])
			var flags []string
			for _, f := range frames {
				flags = append(flags, f.Flags.String())
			}
			if diff := cmp.Diff([]string{"S", "S.", ".", "R."}, flags); diff != "" {
				return fmt.Errorf("round %d (-want +got):\n%s", i, diff)
			}
			if err := errors.Join(unix.Close(c.server), unix.Close(c.listener)); err != nil {
				return err
			}
		}
		return nil
	})
}

// TestRingHoldsSendersCopies: of the two copies of a frame on loopback, the ring has the one that is made before the sender goes
// on. The kernel puts the address, with the kind of packet, behind the header (packet(7), tpacket_rcv).
func TestRingHoldsSendersCopies(t *testing.T) {
	inNamespace(t, func() error {
		ring, err := Open("lo", 8)
		if err != nil {
			return err
		}
		defer ring.Close()
		c, err := connect(netip.MustParseAddr("127.0.0.1"))
		if err != nil {
			return err
		}
		if err := c.close(); err != nil {
			return err
		}
		frames := len(ring.read())
		if frames < 3 {
			t.Errorf("%d frames, want a handshake at least", frames)
		}
		for i := range frames {
			const align = unix.TPACKET_ALIGNMENT
			behind := (int(unsafe.Sizeof(unix.Tpacket2Hdr{})) + align - 1) / align * align
			from := (*unix.RawSockaddrLinklayer)(unsafe.Pointer(&ring.mem[i*slotSize+behind]))
			if from.Family != unix.AF_PACKET || from.Pkttype != unix.PACKET_OUTGOING {
				t.Errorf("frame %d is of type %d, address family %d", i+1, from.Pkttype, from.Family)
			}
		}
		return nil
	})
}

// TestRingLoses: a ring that is too small keeps the first frames, and counts those that it lost.
func TestRingLoses(t *testing.T) {
	inNamespace(t, func() error {
		sent := 0
		rec, err := record(1, func() error {
			for range slotsPerBlock {
				c, err := connect(netip.MustParseAddr("127.0.0.1"))
				if err != nil {
					return err
				}
				sent += 4 // S, S., . and R.
				if err := errors.Join(c.abort(), unix.Close(c.server), unix.Close(c.listener)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		if len(rec.Packets) != slotsPerBlock || rec.Received != sent || rec.Lost != sent-slotsPerBlock {
			t.Errorf("%d read, %d received, %d lost; want %d, %d and %d",
				len(rec.Packets), rec.Received, rec.Lost, slotsPerBlock, sent, sent-slotsPerBlock)
		}
		if rec.Lost == 0 {
			t.Error("nothing lost")
		}
		return nil
	})
}

// TestRingCuts: a frame that is larger than a slot is cut, and keeps its length.
func TestRingCuts(t *testing.T) {
	inNamespace(t, func() error {
		const sent = 20000
		rec, err := record(64, func() error {
			c, err := connect(netip.MustParseAddr("127.0.0.1"))
			if err != nil {
				return err
			}
			if _, err := unix.Write(c.client, make([]byte, sent)); err != nil {
				return err
			}
			return errors.Join(c.abort(), unix.Close(c.server), unix.Close(c.listener))
		})
		if err != nil {
			return err
		}
		frames, undecodable := Decode(rec.Packets)
		if undecodable != 0 {
			t.Errorf("%d undecodable", undecodable)
		}
		payload := 0
		for _, f := range frames {
			payload += f.Payload
		}
		if payload != sent {
			t.Errorf("%d bytes of payload, want %d", payload, sent)
		}
		largest := slices.MaxFunc(rec.Packets, func(a, b Packet) int { return len(a.Data) - len(b.Data) })
		if len(largest.Data) != rec.SnapLen || largest.Length <= rec.SnapLen {
			t.Errorf("the largest packet has %d of %d bytes, want %d", len(largest.Data), largest.Length, rec.SnapLen)
		}
		return nil
	})
}

func TestOpenFails(t *testing.T) {
	inNamespace(t, func() error {
		if _, err := Open("lo", 0); err == nil {
			t.Error("a ring of no frames was opened")
		}
		if _, err := Open("none0", 1); err == nil {
			t.Error("a ring on no interface was opened")
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetDown(lo); err != nil {
			return err
		}
		if _, err := Open("lo", 1); err == nil {
			t.Error("a ring on an interface that is down was opened")
		}
		return nil
	})
}

// TestOpenNotPermitted: without CAP_NET_RAW the error wraps EPERM.
func TestOpenNotPermitted(t *testing.T) {
	inNamespace(t, func() error {
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		none := [2]unix.CapUserData{}
		if err := unix.Capset(&header, &none[0]); err != nil { // of this thread, which ends
			return err
		}
		if _, err := Open("lo", 1); !errors.Is(err, unix.EPERM) {
			t.Errorf("error %v, want %v", err, unix.EPERM)
		}
		return nil
	})
}

// TestRecordingInTshark: tshark can read what a ring recorded.
func TestRecordingInTshark(t *testing.T) {
	var rec *Recording
	inNamespace(t, func() (err error) {
		rec, err = record(256, func() error {
			c, err := connect(netip.MustParseAddr("127.0.0.1"))
			if err != nil {
				return err
			}
			return errors.Join(c.abort(), unix.Close(c.server), unix.Close(c.listener))
		})
		return err
	})
	got := run(t, "tshark", "-r", writeFile(t, rec, map[int][]string{4: {"the client aborts"}}),
		"-Y", "tcp.flags.reset == 1", "-T", "fields", "-e", "frame.number", "-e", "frame.comment")
	if want := "4\tthe client aborts\n"; got != want {
		t.Errorf("tshark found %q, want %q", got, want)
	}
}

// BenchmarkOpenDrainClose measures the whole life of a ring that records one connection. Most of it is the wait for RCU
// grace periods, which rings that run side by side share.
func BenchmarkOpenDrainClose(b *testing.B) {
	for _, frames := range []int{32, 256, 4096} {
		b.Run(fmt.Sprint(frames), func(b *testing.B) {
			inNamespace(b, func() error {
				for b.Loop() {
					_, err := record(frames, func() error {
						c, err := connect(netip.MustParseAddr("127.0.0.1"))
						if err != nil {
							return err
						}
						return errors.Join(c.abort(), unix.Close(c.server), unix.Close(c.listener))
					})
					if err != nil {
						return err
					}
				}
				return nil
			})
		})
	}
}
