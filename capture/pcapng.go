package capture

import (
	"fmt"
	"io"
	"math"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// Meta describes where a capture file comes from. Empty fields are not written.
type Meta struct {
	Application string
	OS          string
	Hardware    string
	Comment     string // for the whole file
	Interface   string
}

// WritePcapng writes rec as a pcapng file: times in nanoseconds, the comments on each packet by its number, and the
// counts of received and lost frames at the end. The same input gives the same bytes. Wireshark shows all comments on a
// packet, and cuts each after 240 bytes.
//
// It returns an error if a comment is on a packet that is not in rec or is longer than 65535 bytes.
func WritePcapng(w io.Writer, rec *Recording, comments map[int][]string, meta Meta) error {
	for number, all := range comments {
		if number < 1 || number > len(rec.Packets) {
			return fmt.Errorf("write pcapng: comment on packet %d of %d", number, len(rec.Packets))
		}
		for _, comment := range all {
			if len(comment) > math.MaxUint16 { // the length field of an option; pcapgo does not check
				return fmt.Errorf("write pcapng: comment on packet %d has %d bytes", number, len(comment))
			}
		}
	}
	ng, err := pcapgo.NewNgWriterInterface(w,
		pcapgo.NgInterface{
			Name:       meta.Interface,
			LinkType:   layers.LinkTypeEthernet,
			SnapLength: uint32(rec.SnapLen),
		},
		pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{
			Application: meta.Application,
			OS:          meta.OS,
			Hardware:    meta.Hardware,
			Comment:     meta.Comment,
		}},
	)
	if err != nil {
		return fmt.Errorf("write pcapng: %w", err)
	}
	outbound := &pcapgo.NgEpbFlags{Direction: pcapgo.NgEpbFlagDirectionOutbound}
	for i, p := range rec.Packets {
		info := gopacket.CaptureInfo{Timestamp: p.Time, CaptureLength: len(p.Data), Length: p.Length}
		options := pcapgo.NgPacketOptions{Flags: outbound, Comments: comments[i+1]}
		if err := ng.WritePacketWithOptions(info, p.Data, options); err != nil {
			return fmt.Errorf("write pcapng: packet %d: %w", i+1, err)
		}
	}
	err = ng.WriteInterfaceStats(0, pcapgo.NgInterfaceStatistics{
		LastUpdate:      rec.End,
		StartTime:       rec.Start,
		EndTime:         rec.End,
		PacketsReceived: uint64(rec.Received),
		PacketsDropped:  uint64(rec.Lost),
	})
	if err != nil {
		return fmt.Errorf("write pcapng: interface statistics: %w", err)
	}
	if err := ng.Flush(); err != nil {
		return fmt.Errorf("write pcapng: %w", err)
	}
	return nil
}
