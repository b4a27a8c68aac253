package load

import (
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// End is how a connection ended, as its client saw it.
type End uint8

const (
	OK             End = iota // every reply came, and was as expected
	Refused                   // ECONNREFUSED: nobody listens
	ResetInConnect            // a reset, or another error, before the handshake was over
	ResetBefore               // a reset before the server had sent a byte
	ResetAfter                // a reset after it had
	EOF                       // closed in good order, without a byte
	ClosedEarly               // closed in good order, in the midst of a reply or before one that was asked for
	Timeout                   // nothing, for Config.Timeout
	WrongReply                // a whole reply, or its beginning, that is not the expected one; a failure of Config.Command
	Void                      // says nothing about the server: the generator itself did not run, or could not start it
	NumEnds                   // how many there are
)

var endNames = [NumEnds]string{"ok", "refused", "reset in connect", "reset before a byte", "reset after some",
	"eof without a byte", "closed early", "timeout", "wrong reply", "void"}

func (e End) String() string {
	if e < NumEnds {
		return endNames[e]
	}
	return fmt.Sprintf("End(%d)", uint8(e))
}

// Lost tells whether it is a loss: neither served nor void.
func (e End) Lost() bool { return e != OK && e < Void }

// MarshalText is for JSON.
func (e End) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// UnmarshalText refuses what MarshalText does not write.
func (e *End) UnmarshalText(b []byte) error {
	for i, name := range endNames {
		if name == string(b) {
			*e = End(i)
			return nil
		}
	}
	return fmt.Errorf("no connection ends as %q", b)
}

// Counts is how many connections ended in each way.
type Counts [NumEnds]int64

// Lost is how many were lost.
func (c Counts) Lost() (n int64) {
	for e, k := range c {
		if End(e).Lost() {
			n += k
		}
	}
	return n
}

// Judged is how many say something about the server: all but the void ones.
func (c Counts) Judged() int64 { return c[OK] + c.Lost() }

// Add adds others to them.
func (c *Counts) Add(others Counts) {
	for e := range c {
		c[e] += others[e]
	}
}

// Phase is what a connection was doing when it ended.
type Phase uint8

const (
	Connecting  Phase = iota // the TCP handshake
	Handshaking              // the TLS handshake
	Sending                  // a request
	Receiving                // a reply
)

var phaseNames = [...]string{"connect", "TLS handshake", "request", "reply"}

func (p Phase) String() string {
	if int(p) < len(phaseNames) {
		return phaseNames[p]
	}
	return fmt.Sprintf("Phase(%d)", uint8(p))
}

// Lost is a connection that was lost.
//
// With Config.Command, only Began, Ended, End, Interval and Detail are known.
type Lost struct {
	Began, Ended time.Duration  // CLOCK_MONOTONIC; with a rate, it began when it should have
	Local        netip.AddrPort // the client's address; its port is 0 where it is not known: of TLS that did not get to connect
	Remote       netip.AddrPort
	End          End
	Phase        Phase
	Errno        unix.Errno // what the system said; 0 for EOF, Timeout and WrongReply
	Received     int64      // bytes that came, as TCP counts them. One of them proves that the server had accepted the connection
	Replies      int        // whole ones, of Config.Requests
	Interval     int        // index in Report.Intervals
	Detail       string     // the beginning of a wrong reply; what TLS or the command said

	asked time.Duration // when its last request was due; of the first, when the connection was
}

// Stall is a time in which the generator did not run, though it had something to do or was due to look.
type Stall struct {
	From, To time.Duration // CLOCK_MONOTONIC
}
