//go:build linux

package capture

import (
	"errors"
	"fmt"
	"iter"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	// slotSize is the space for one frame and its header. The frames of a scenario are far smaller, but a ring with smaller
	// slots is not cheaper to open.
	slotSize = 512

	// snapLen is what a slot leaves for the frame: tpacket_rcv (net/packet/af_packet.c) puts a TPACKET2_HDRLEN and
	// alignment before it, 66 bytes with an Ethernet header.
	snapLen = slotSize - 66

	// blockSize is the unit in which the kernel allocates a ring: larger than a page, for fewer mappings, and small enough
	// that a small ring stays small.
	blockSize = 16 << 10

	slotsPerBlock = blockSize / slotSize
)

// Ring is a TPACKET_V2 ring that records the frames an interface sends (packet(7), PACKET_RX_RING). It is read after the
// recording, so it wakes no thread.
//
// gopacket's afpacket is not used because of its getsockopt: it takes the address of a variable on the stack as a
// uintptr. If the stack moves in between, the kernel writes the length of PACKET_STATISTICS, 8, to where the variable
// was. A goroutine returned to address 8 because of that. x/sys/unix has safe calls for all that a ring needs.
type Ring struct {
	fd    int
	iface string
	mem   []byte
	start time.Time
}

// Open returns a Ring that already records what iface sends, in the network namespace of the calling thread. It holds at
// least the given number of frames, and drops further ones when it is full.
//
// Open mostly waits for an RCU grace period, some 15 ms. It returns an error that wraps EPERM if the thread lacks
// CAP_NET_RAW in its namespace, and ENETDOWN if iface is not up.
func Open(iface string, frames int) (*Ring, error) {
	if frames <= 0 {
		return nil, fmt.Errorf("open packet socket on %s: a ring of %d frames", iface, frames)
	}
	// Without a protocol the socket receives nothing until it is bound. By then it has its filter and its ring.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket on %s: %w", iface, err)
	}
	r := &Ring{fd: fd, iface: iface}
	if err := r.set(frames); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

func (r *Ring) set(frames int) error {
	if err := r.filter(); err != nil {
		return err
	}
	blocks := (frames + slotsPerBlock - 1) / slotsPerBlock
	req := unix.TpacketReq{
		Block_size: blockSize, Block_nr: uint32(blocks),
		Frame_size: slotSize, Frame_nr: uint32(blocks * slotsPerBlock),
	}
	// Not V3: it hands over whole blocks, and only when a block is full or too old.
	err := errors.Join(
		unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V2),
		unix.SetsockoptTpacketReq(r.fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &req),
	)
	if err != nil {
		return fmt.Errorf("set up a ring of %d frames on %s: %w", req.Frame_nr, r.iface, err)
	}
	return r.record(blocks*blockSize, unix.PROT_READ)
}

// record maps the ring, which is of that size, and begins to record.
func (r *Ring) record(size, protection int) (err error) {
	if r.mem, err = unix.Mmap(r.fd, 0, size, protection, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("map a ring of %d bytes on %s: %w", size, r.iface, err)
	}
	dev, err := unix.NewIfreq(r.iface)
	if err == nil {
		err = unix.IoctlIfreq(r.fd, unix.SIOCGIFINDEX, dev)
	}
	if err != nil {
		return fmt.Errorf("find %s: %w", r.iface, err)
	}
	r.start = time.Now()
	all := uint16(unix.ETH_P_ALL)<<8 | uint16(unix.ETH_P_ALL)>>8 // in network order
	if err := unix.Bind(r.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: int(dev.Uint32())}); err != nil {
		return fmt.Errorf("bind packet socket to %s: %w", r.iface, err)
	}
	// The kernel binds to a device that is down, and reports the error with the next call.
	if e, err := unix.GetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || e != 0 {
		return fmt.Errorf("bind packet socket to %s: %w", r.iface, errors.Join(err, unix.Errno(e)))
	}
	return nil
}

// filter makes the ring record only what is sent. Loopback shows a frame twice, as PACKET_OUTGOING and as PACKET_HOST.
// dev_queue_xmit_nit (net/core/dev.c) makes the first copy in the context of the sender: when close() has returned, the
// RST that it sent is in the ring. It is also made before any rule of the INPUT hook.
func (r *Ring) filter() error {
	return r.attach(
		bpf.LoadExtension{Num: bpf.ExtType},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.PACKET_OUTGOING, SkipFalse: 1},
		bpf.RetConstant{Val: 1<<32 - 1},
		bpf.RetConstant{Val: 0},
	)
}

// attach attaches a filter.
func (r *Ring) attach(instructions ...bpf.Instruction) error {
	program, err := bpf.Assemble(instructions)
	if err != nil {
		return fmt.Errorf("assemble packet filter: %w", err)
	}
	raw := make([]unix.SockFilter, len(program))
	for i, in := range program {
		raw[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	prog := unix.SockFprog{Len: uint16(len(raw)), Filter: &raw[0]}
	if err := unix.SetsockoptSockFprog(r.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog); err != nil {
		return fmt.Errorf("set packet filter on %s: %w", r.iface, err)
	}
	return nil
}

// Drain returns all that was recorded, in order. Call it once, at the end of the recording and before Close.
//
// A frame that is sent while Drain runs may count as received without being among the packets.
func (r *Ring) Drain() (*Recording, error) {
	packets := r.read()
	// Read last, so that every drop up to here is counted. The kernel resets its counters when they are read.
	stats, err := unix.GetsockoptTpacketStats(r.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return nil, fmt.Errorf("read packet statistics on %s: %w", r.iface, err)
	}
	return &Recording{
		Packets:  packets,
		Received: int(stats.Packets), // drops are included: packet_getsockopt adds them
		Lost:     int(stats.Drops),
		SnapLen:  snapLen,
		Start:    r.start,
		End:      time.Now(),
	}, nil
}

// read copies the frames out of the ring. No slot is given back to the kernel, so it fills each once, from the first on.
func (r *Ring) read() []Packet {
	count, size := 0, 0
	for h := range r.filled() {
		count++
		size += int(h.Snaplen)
	}
	packets, data := make([]Packet, 0, count), make([]byte, 0, size)
	for h, slot := range r.filled() {
		if len(packets) == count { // the kernel has filled more meanwhile
			break
		}
		at := len(data)
		data = append(data, slot[h.Mac:][:h.Snaplen]...)
		packets = append(packets, Packet{
			Time:   time.Unix(int64(h.Sec), int64(h.Nsec)),
			Data:   data[at:len(data):len(data)],
			Length: int(h.Len),
		})
	}
	return packets
}

// filled are the slots that hold a frame, from the first on.
func (r *Ring) filled() iter.Seq2[*unix.Tpacket2Hdr, []byte] {
	return func(yield func(*unix.Tpacket2Hdr, []byte) bool) {
		for slot := r.mem; len(slot) >= slotSize; slot = slot[slotSize:] {
			// The kernel writes the status last, after a barrier (__packet_set_status).
			h := (*unix.Tpacket2Hdr)(unsafe.Pointer(&slot[0]))
			if atomic.LoadUint32(&h.Status)&unix.TP_STATUS_USER == 0 || !yield(h, slot) {
				return
			}
		}
	}
}

// Close ends the recording and frees the ring. It waits some 20 to 55 ms for RCU grace periods in packet_release
// (net/packet/af_packet.c), so overlap it with other work.
func (r *Ring) Close() {
	if r.mem != nil {
		_ = unix.Munmap(r.mem)
		r.mem = nil
	}
	_ = unix.Close(r.fd)
}
