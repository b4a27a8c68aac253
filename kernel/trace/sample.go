package trace

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
)

// A sample is one event in a perf ring.
type sample struct {
	pid, tid int // 0: our PID namespace does not show it
	time     uint64
	raw      []byte // the tracepoint's record
}

// sampleType is which fields a sample has, in the order of perf_event_open(2).
const sampleType = unix.PERF_SAMPLE_TID | unix.PERF_SAMPLE_TIME | unix.PERF_SAMPLE_RAW

// parseRecords reads the records of a perf ring (perf_event_open(2), "MMAP layout"), and calls each for the samples. It skips
// other records, PERF_RECORD_LOST too: the counts of the perf events tell how many were lost.
func parseRecords(ring []byte, each func(sample) error) error {
	ne := binary.NativeEndian
	for len(ring) > 0 {
		if len(ring) < 8 {
			return fmt.Errorf("a perf record's header of %d bytes, want 8", len(ring))
		}
		kind, size := ne.Uint32(ring), int(ne.Uint16(ring[6:]))
		if size < 8 || size > len(ring) {
			return fmt.Errorf("a perf record of %d bytes where there are %d", size, len(ring))
		}
		body := ring[8:size]
		ring = ring[size:]
		if kind != unix.PERF_RECORD_SAMPLE {
			continue
		}
		if len(body) < 20 {
			return fmt.Errorf("a perf sample of %d bytes, want 20 or more", len(body))
		}
		long := ne.Uint32(body[16:])
		if int64(long) > int64(len(body)-20) {
			return fmt.Errorf("a tracepoint's record of %d bytes where there are %d", long, len(body)-20)
		}
		// -1 is a thread that has ended already (perf_event_pid_type).
		s := sample{
			pid: max(int(int32(ne.Uint32(body))), 0), tid: max(int(int32(ne.Uint32(body[4:]))), 0), time: ne.Uint64(body[8:]),
			raw: body[20 : 20+long],
		}
		if err := each(s); err != nil {
			return err
		}
	}
	return nil
}

// hostEvent is an event of any namespace, with what Claim needs to attribute it.
type hostEvent struct {
	Event
	sock    uint64 // the address of its struct sock; 0: none, or unknown
	ip      bool   // of a Drop: of an IP packet
	foreign bool   // of a StateChange: not of TCP
}

// decoder reads the records of one tracepoint.
type decoder struct {
	kind Kind
	format
}

// Bits of common_flags: enum trace_flag_type in linux/trace_events.h.
const inInterrupt = 0x08 | 0x10 | 0x40 // hardirq, softirq, NMI

// newDecoder refuses a tracepoint that lacks a field that is needed here.
func newDecoder(k Kind, f format) (*decoder, error) {
	d := &decoder{kind: k, format: f}
	need := map[Kind][]string{
		ResetSent: {"skbaddr", "skaddr", "state", "saddr", "daddr"}, ResetReceived: {"skaddr"}, Retransmit: {"skaddr"},
		SynAckRetransmit: {"skaddr"}, StateChange: {"skaddr", "oldstate", "newstate", "protocol"}, Drop: {"protocol"}, Destroy: {"skaddr"},
	}[k]
	need = append(need, "common_type", "common_flags")
	if k != Drop && !d.sockaddrs() {
		need = append(need, "sport", "dport", "saddr_v6", "daddr_v6")
	}
	for _, name := range need {
		if _, ok := f.fields[name]; !ok {
			return nil, &kernel.NotSupportedError{Reason: fmt.Sprintf("this kernel's %s has no field %s", k, name), Next: "rpmig doctor"}
		}
	}
	return d, nil
}

// sockaddrs tells whether the ends are struct sockaddr_in6, as those of tcp_send_reset are since Linux 6.10.
func (d *decoder) sockaddrs() bool { return d.fields["saddr"].size == unix.SizeofSockaddrInet6 }

// decode reads a sample. offset is how far the wall clock is ahead of the sample's.
func (d *decoder) decode(s sample, offset time.Duration) (hostEvent, error) {
	var errs []error
	number := func(name string) uint64 {
		f, ok := d.fields[name]
		if !ok {
			return 0
		}
		n, err := f.number(s.raw)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		return n
	}
	end := func(addr, port string) netip.AddrPort {
		a, err := d.end(s.raw, addr, port)
		errs = append(errs, err)
		return a
	}
	e := hostEvent{Event: Event{
		Time: time.Unix(0, int64(s.time)).Add(offset), Kind: d.kind, PID: s.pid, TID: s.tid,
		Softirq: number("common_flags")&inInterrupt != 0, Cookie: number("sock_cookie"),
	}, sock: number("skaddr")}
	if n := number("state"); n != 0 {
		e.State = stateName(uint8(n))
	}
	if d.kind == ResetSent || d.kind == Drop {
		if _, ok := d.fields["reason"]; ok {
			e.Reason = reason(d.symbols["reason"], uint32(number("reason")))
		}
	}
	if d.kind != Drop {
		e.Src, e.Dst = end("saddr", "sport"), end("daddr", "dport")
	}
	switch d.kind {
	case ResetSent:
		e.Answer = number("skbaddr") != 0
	case ResetReceived: // src and dst are the socket's, which received it
		e.Src, e.Dst = e.Dst, e.Src
	case StateChange:
		e.OldState, e.State = stateName(uint8(number("oldstate"))), stateName(uint8(number("newstate")))
		protocol := number("protocol")
		e.foreign = protocol != unix.IPPROTO_TCP
	case Drop:
		protocol := number("protocol")
		e.ip = protocol == unix.ETH_P_IP || protocol == unix.ETH_P_IPV6
		e.sock = number("rx_sk") // Linux 6.11
	}
	if err := errors.Join(errs...); err != nil {
		return hostEvent{}, fmt.Errorf("%s: %w", d.kind, err)
	}
	return e, nil
}

// end returns one end of an event.
func (d *decoder) end(raw []byte, addr, port string) (netip.AddrPort, error) {
	if d.sockaddrs() {
		b, err := d.fields[addr].in(raw)
		if err != nil {
			return netip.AddrPort{}, err
		}
		if len(b) != unix.SizeofSockaddrInet6 {
			return netip.AddrPort{}, fmt.Errorf("%s has %d bytes", addr, len(b))
		}
		at := binary.BigEndian.Uint16(b[2:])
		switch family := binary.NativeEndian.Uint16(b); family {
		case unix.AF_UNSPEC:
			return netip.AddrPort{}, nil
		case unix.AF_INET:
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:])), at), nil
		case unix.AF_INET6:
			return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:])).Unmap(), at), nil
		default:
			return netip.AddrPort{}, fmt.Errorf("address family %d", family)
		}
	}
	// These fields have IPv4 addresses too, mapped into IPv6 (TP_STORE_ADDRS).
	b, err := d.fields[addr+"_v6"].in(raw)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if len(b) != 16 {
		return netip.AddrPort{}, fmt.Errorf("%s_v6 has %d bytes", addr, len(b))
	}
	at, err := d.fields[port].number(raw)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b)).Unmap(), uint16(at)), nil
}
