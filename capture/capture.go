// Package capture records what an interface sends and reads it back: an AF_PACKET ring, a decoder to TCP frames, a flow
// tracker that gives each frame its role, and a pcapng writer.
//
// A recording says how many frames it lost. The absence of a frame is evidence only if none was lost and every packet
// could be decoded.
package capture

import "time"

// A Packet is one captured frame, Ethernet header first.
type Packet struct {
	Time   time.Time // by the kernel's wall clock, in nanoseconds
	Data   []byte    // at most Recording.SnapLen bytes
	Length int       // bytes on the wire; more than len(Data) if the frame was cut
}

// A Recording is what a Ring held when it was drained.
type Recording struct {
	Packets  []Packet // in the order they were sent
	Received int      // frames offered to the ring, with those that it lost
	Lost     int      // frames dropped because the ring was full
	SnapLen  int      // the most bytes that a Packet holds
	Start    time.Time
	End      time.Time
}
