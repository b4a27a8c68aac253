//go:build linux

package capture

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/gopacket/gopacket/afpacket"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	// slotSize is the room for one frame and its header. The frames of a scenario are far smaller; opening a ring of
	// smaller slots is no cheaper.
	slotSize = 2048

	// snapLen is what a slot leaves for the frame: tpacket_rcv (net/packet/af_packet.c) puts a TPACKET2_HDRLEN and
	// alignment before it, 66 bytes with an Ethernet header.
	snapLen = slotSize - 66

	// blockSize is the unit in which the kernel allocates a ring: larger than a page as that makes fewer mappings,
	// small enough for a small ring to stay small.
	blockSize = 64 << 10

	slotsPerBlock = blockSize / slotSize
)

// Ring is a TPACKET_V2 ring that records the frames an interface sends (packet(7), PACKET_RX_RING). Nobody reads it while
// it records, so it wakes nobody.
type Ring struct {
	socket *afpacket.TPacket
	iface  string
	slots  int
	start  time.Time
}

// Open returns a Ring that already records what iface, in the network namespace of the calling thread, sends. It holds at
// least the given number of frames and drops those that come once it is full.
//
// Open takes two RCU grace periods, some 25 ms of waiting and little work. It returns an error that wraps EPERM if the
// thread lacks CAP_NET_RAW in its namespace, and an error if iface is not up.
func Open(iface string, frames int) (*Ring, error) {
	if frames <= 0 {
		return nil, fmt.Errorf("open packet socket on %s: a ring of %d frames", iface, frames)
	}
	blocks := (frames + slotsPerBlock - 1) / slotsPerBlock
	socket, err := afpacket.NewTPacket(
		afpacket.OptInterface(iface),
		afpacket.TPacketVersion2, // V3 hands frames over by the block, and a block only when it is full or too old
		afpacket.OptFrameSize(slotSize),
		afpacket.OptBlockSize(blockSize),
		afpacket.OptNumBlocks(blocks),
		afpacket.OptPollTimeout(0), // an empty ring answers at once
	)
	if err != nil {
		return nil, fmt.Errorf("open packet socket on %s: %w", iface, err)
	}
	r := &Ring{socket: socket, iface: iface, slots: blocks * slotsPerBlock}
	if err := r.filter(); err != nil {
		r.Close()
		return nil, err
	}
	r.start = time.Now()
	return r, nil
}

// filter makes the ring keep what is sent and only that. Loopback shows a frame twice, as PACKET_OUTGOING and as
// PACKET_HOST. The first copy is made by dev_queue_xmit_nit (net/core/dev.c) in the context of the sender: when close()
// has returned, the RST that it sent is in the ring. It also comes before any rule of the INPUT hook.
func (r *Ring) filter() error {
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.PACKET_OUTGOING, SkipFalse: 1},
		bpf.RetConstant{Val: 1<<32 - 1},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return fmt.Errorf("assemble packet filter: %w", err)
	}
	if err := r.socket.SetBPF(program); err != nil {
		return fmt.Errorf("set packet filter on %s: %w", r.iface, err)
	}
	// afpacket binds before a filter can be set, so frames of both kinds may be in the ring by now.
	if _, err := r.read(); err != nil {
		return err
	}
	if err := r.socket.InitSocketStats(); err != nil {
		return fmt.Errorf("reset packet statistics on %s: %w", r.iface, err)
	}
	return nil
}

// Drain returns all that was recorded, in order. It is for the end of a recording: call it once, before Close.
//
// A frame sent while Drain runs may be counted as received and yet be in none of the packets.
func (r *Ring) Drain() (*Recording, error) {
	packets, err := r.read()
	if err != nil {
		return nil, err
	}
	// Only now: a drop up to here must be counted. The kernel resets its counters when they are read.
	stats, _, err := r.socket.SocketStats()
	if err != nil {
		return nil, fmt.Errorf("read packet statistics on %s: %w", r.iface, err)
	}
	return &Recording{
		Packets:  packets,
		Received: int(stats.Packets()), // drops are included: packet_getsockopt adds them
		Lost:     int(stats.Drops()),
		SnapLen:  snapLen,
		Start:    r.start,
		End:      time.Now(),
	}, nil
}

// read empties the ring. It reads no more than the ring can hold, lest a busy interface keep it for ever.
func (r *Ring) read() ([]Packet, error) {
	var packets []Packet
	for range r.slots {
		data, info, err := r.socket.ZeroCopyReadPacketData()
		if errors.Is(err, afpacket.ErrTimeout) {
			break
		}
		if errors.Is(err, afpacket.ErrPoll) { // the socket's pending error: ENETDOWN is the one a ring can have
			return nil, fmt.Errorf("read packets on %s: is it up? %w", r.iface, err)
		}
		if err != nil {
			return nil, fmt.Errorf("read packets on %s: %w", r.iface, err)
		}
		packets = append(packets, Packet{Time: info.Timestamp, Data: bytes.Clone(data), Length: info.Length})
	}
	return packets, nil
}

// Close ends the recording and frees the ring. It waits some 20 to 55 ms for RCU grace periods in packet_release
// (net/packet/af_packet.c), so overlap it with other work.
func (r *Ring) Close() {
	r.socket.Close()
}
