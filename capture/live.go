//go:build linux

package capture

import (
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Live is a Ring that is read while it records, for as long as one likes. It is for one reader.
type Live struct {
	ring     *Ring
	next     int // slot
	received int
	lost     int
}

// OpenLive is Open for a Live. The ring has to hold what comes while nobody reads.
func OpenLive(iface string, frames int) (*Live, error) {
	r, err := open(iface, frames, unix.PROT_READ|unix.PROT_WRITE, (*Ring).ignoreSent)
	if err != nil {
		return nil, err
	}
	return &Live{ring: r}, nil
}

// ignoreSent makes the ring record only what is received, which costs less than the filter of a Ring: what is sent is cloned before a
// filter sees it. When a call that sends has returned, its frame need not be in the ring yet.
func (r *Ring) ignoreSent() error {
	if err := unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil { // Linux 4.20
		return fmt.Errorf("ignore what %s sends: %w", r.iface, err)
	}
	return nil
}

// Read hands over what was recorded since, in order. It does not wait for more: who did would be woken by nearly each frame, at the
// cost of who sends it. The data of a packet are the ring's, and gone when f returns.
func (l *Live) Read(f func(Packet)) {
	for {
		slot := l.ring.mem[l.next*slotSize:][:slotSize]
		h := (*unix.Tpacket2Hdr)(unsafe.Pointer(&slot[0]))
		if atomic.LoadUint32(&h.Status)&unix.TP_STATUS_USER == 0 {
			return
		}
		f(Packet{Time: time.Unix(int64(h.Sec), int64(h.Nsec)), Data: slot[h.Mac:][:h.Snaplen], Length: int(h.Len)})
		atomic.StoreUint32(&h.Status, unix.TP_STATUS_KERNEL)
		l.next = (l.next + 1) % (len(l.ring.mem) / slotSize)
	}
}

// Recorded is how many frames were offered to the ring so far, those it lost among them, and how many these are.
func (l *Live) Recorded() (received, lost int, err error) {
	stats, err := unix.GetsockoptTpacketStats(l.ring.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0, 0, fmt.Errorf("read packet statistics on %s: %w", l.ring.iface, err)
	}
	l.received, l.lost = l.received+int(stats.Packets), l.lost+int(stats.Drops) // the kernel counts from zero again
	return l.received, l.lost, nil
}

// Keep makes a Recording of packets that were read, in their order.
func (l *Live) Keep(packets []Packet, received, lost int) *Recording {
	return &Recording{Packets: packets, Received: received, Lost: lost, SnapLen: snapLen, Start: l.ring.start, End: time.Now()}
}

// Close ends the recording and frees the ring, as that of a Ring.
func (l *Live) Close() { l.ring.Close() }
