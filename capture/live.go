//go:build linux

package capture

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Live is a TPACKET_V3 ring that is read while it records, for as long as one likes. It is for one reader. The kernel writes frames
// into it without a gap, which costs the senders less than the slots of a Ring: each of these is new to the CPU's cache.
type Live struct {
	ring     *Ring
	next     int // block
	read     int
	received int
	lost     int
}

// liveBlock is the unit in which the kernel hands frames over: when it is full, or after liveRetire.
const (
	liveBlock  = 128 << 10
	liveRetire = 10 * time.Millisecond
)

// OpenLive returns a Live that already records what iface receives, in the network namespace of the calling thread: on loopback, that
// is what it sends. When a call that sends has returned, its frame need not be there yet. The ring has to hold what comes while
// nobody reads: it is of that many bytes.
func OpenLive(iface string, size int) (*Live, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket on %s: %w", iface, err)
	}
	r := &Ring{fd: fd, iface: iface}
	if err := r.setLive(size); err != nil {
		r.Close()
		return nil, err
	}
	return &Live{ring: r}, nil
}

func (r *Ring) setLive(size int) error {
	// What is sent would be cloned before a filter sees it.
	if err := unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil { // Linux 4.20
		return fmt.Errorf("ignore what %s sends: %w", r.iface, err)
	}
	if err := r.attach(bpf.RetConstant{Val: snapLen}); err != nil {
		return err
	}
	blocks := max((size+liveBlock-1)/liveBlock, 2)
	req := unix.TpacketReq3{
		Block_size: liveBlock, Block_nr: uint32(blocks), Frame_size: slotSize, Frame_nr: uint32(blocks * (liveBlock / slotSize)),
		Retire_blk_tov: uint32(liveRetire.Milliseconds()),
	}
	err := errors.Join(
		unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V3),
		unix.SetsockoptTpacketReq3(r.fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req),
	)
	if err != nil {
		return fmt.Errorf("set up a ring of %d blocks on %s: %w", blocks, r.iface, err)
	}
	return r.record(blocks*liveBlock, unix.PROT_READ|unix.PROT_WRITE)
}

// Read hands over what was recorded since, in order, but for the block that the kernel still writes. It does not wait for more: who
// did would be woken at the cost of who sends. The data of a packet are the ring's, and gone when f returns.
func (l *Live) Read(f func(Packet)) {
	for {
		block := l.ring.mem[l.next*liveBlock:][:liveBlock]
		b := (*unix.TpacketHdrV1)(unsafe.Pointer(&block[8])) // behind the version, and where private data are
		if atomic.LoadUint32(&b.Block_status)&unix.TP_STATUS_USER == 0 {
			return
		}
		at := b.Offset_to_first_pkt
		for range b.Num_pkts {
			h := (*unix.Tpacket3Hdr)(unsafe.Pointer(&block[at]))
			f(Packet{Time: time.Unix(int64(h.Sec), int64(h.Nsec)), Data: block[at+uint32(h.Mac):][:h.Snaplen], Length: int(h.Len)})
			at += h.Next_offset
		}
		l.read += int(b.Num_pkts)
		atomic.StoreUint32(&b.Block_status, unix.TP_STATUS_KERNEL)
		l.next = (l.next + 1) % (len(l.ring.mem) / liveBlock)
	}
}

// Recorded is how many frames were offered to the ring so far, those it lost among them, and how many these are.
func (l *Live) Recorded() (received, lost int, err error) {
	stats, err := unix.GetsockoptTpacketStatsV3(l.ring.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0, 0, fmt.Errorf("read packet statistics on %s: %w", l.ring.iface, err)
	}
	l.received, l.lost = l.received+int(stats.Packets), l.lost+int(stats.Drops) // the kernel counts from zero again
	return l.received, l.lost, nil
}

// Whole tells whether all that was recorded so far has been read.
func (l *Live) Whole() (bool, error) {
	received, lost, err := l.Recorded()
	return l.read >= received-lost, err
}

// Keep makes a Recording of packets that were read, in their order.
func (l *Live) Keep(packets []Packet, received, lost int) *Recording {
	return &Recording{Packets: packets, Received: received, Lost: lost, SnapLen: snapLen, Start: l.ring.start, End: time.Now()}
}

// Close ends the recording and frees the ring, as that of a Ring.
func (l *Live) Close() { l.ring.Close() }
