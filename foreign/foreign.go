// Package foreign reads captures that rpmig has not made: which connections a server has reset, how, and what that means. It has
// nothing but the packets, and says what they cannot tell.
package foreign

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/rpmig/rpmig/capture"
)

// Bounds of what is kept of a capture, however long it is.
const (
	mostTold      = 200  // connections of a kind, whole
	mostEndpoints = 4096 // servers
	mostSpans     = 1000 // of a server: how often it changed between answering SYNs and refusing them
)

// Report is what a capture tells.
type Report struct {
	Reader *capture.Reader // at its end
	Cut    error           // why the rest of the file could not be read; nil: all was read
	Port   uint16          // of the servers; 0: any

	Frames      int // that carry TCP, of that port
	Others      int // that carry TCP, of others
	Connections int
	LetGo       int // connections of which the end is not known, as too many were open at a time
	Guessed     int // of those that were reset: which end is the server is not known
	Copies      int // frames that were there twice
	Late        int // frames that are behind a later one of their connection
	SYNs        int // retransmissions
	SYNACKs     int
	Again       [2]int // by the client, by the server
	Counts      [kinds]int
	Told        [kinds][]*capture.Followed // the first of each kind, for the kinds that are told one by one

	servers map[netip.AddrPort][]span // of each, in the order of time
	full    bool                      // how some of them answered SYNs was not kept
}

// span is from one answer to a SYN to another, between which all were alike.
type span struct {
	how         listening
	first, last time.Time
}

// listening is whether anybody listened, by how the nearest SYN was answered.
type listening int

const (
	unknown listening = iota
	closed
	listened
)

// Options are what there is to choose.
type Options struct {
	Port uint16 // of the servers; 0: any
	Most int    // connections that are followed at a time; 0: as many as fit
}

// Read reads a capture to its end. A file that is cut short, or broken in its midst, is read as far as it goes.
func Read(ctx context.Context, r io.Reader, o Options) (*Report, error) {
	in, err := capture.NewReader(r)
	if err != nil {
		return nil, err
	}
	rep := &Report{Reader: in, Port: o.Port, servers: map[netip.AddrPort][]span{}}
	if err := rep.read(ctx, o); err != nil {
		return nil, err
	}
	return rep, nil
}

func (rep *Report) read(ctx context.Context, o Options) error {
	in := rep.Reader
	follower := &capture.Follower{Server: rep.isServer, Ended: rep.ended, Most: o.Most}
	for {
		if in.Packets%1024 == 0 && ctx.Err() != nil {
			return context.Cause(ctx)
		}
		frame, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if errors.Is(err, capture.ErrLinkType) {
			return err
		} else if err != nil {
			rep.Cut = err
			break
		}
		if o.Port != 0 && frame.Src.Port() != o.Port && frame.Dst.Port() != o.Port {
			rep.Others++
			continue
		}
		rep.Frames++
		rep.listening(&frame)
		follower.Add(frame)
	}
	follower.Close()
	return nil
}

// isServer tells whether an end is known to be a server: by its port, or as it has answered a SYN.
func (rep *Report) isServer(a netip.AddrPort) bool {
	_, answers := rep.servers[a]
	return answers || rep.Port != 0 && a.Port() == rep.Port
}

// listening takes note of how a server answers SYNs.
func (rep *Report) listening(f *capture.Frame) {
	how := unknown
	switch {
	case f.Flags.Has(capture.SYN | capture.ACK):
		how = listened
	case f.Flags.Has(capture.RST|capture.ACK) && f.Seq == 0: // it answers a SYN
		how = closed
	default:
		return
	}
	spans, ok := rep.servers[f.Src]
	switch n := len(spans); {
	case !ok && len(rep.servers) >= mostEndpoints:
		rep.full = true
	case n > 0 && spans[n-1].how == how:
		spans[n-1].last = f.Time
	case n < mostSpans:
		rep.servers[f.Src] = append(spans, span{how, f.Time, f.Time})
	default:
		rep.full = true
	}
}

// listened tells whether anybody listened at a server's address after a time: by how it has answered the next SYN, or else by the
// last before.
func (rep *Report) listened(at netip.AddrPort, after time.Time) (how listening, next bool) {
	for _, s := range rep.servers[at] {
		if how = s.how; s.last.After(after) {
			return how, true
		}
	}
	return how, false
}

// ended takes a connection that is over.
func (rep *Report) ended(f *capture.Followed) {
	kind := kindOf(f)
	rep.Connections++
	rep.Counts[kind]++
	if len(f.Resets) > 0 && !begun(f) && !rep.isServer(f.Server) {
		rep.Guessed++
	}
	if f.LetGo {
		rep.LetGo++
	}
	rep.Copies += f.Copies
	rep.Late += f.Late
	rep.SYNs += f.SYNs
	rep.SYNACKs += f.SYNACKs
	for i, n := range f.Again {
		rep.Again[i] += n
	}
	if kind <= Gone && len(rep.Told[kind]) < mostTold {
		rep.Told[kind] = append(rep.Told[kind], f)
	}
}

// Bad is how many connections a server has reset.
func (rep *Report) Bad() int {
	n := 0
	for _, c := range rep.Counts[:Gone+1] {
		n += c
	}
	return n
}

// closing is a moment at which a server has reset connections that it had not served yet.
type closing struct {
	server      netip.AddrPort
	from, until time.Time
	clients     []netip.AddrPort
}

// together is how far apart the resets of one close() may be.
const together = 20 * time.Millisecond

// closings groups the resets that a closing listener may have sent.
func (rep *Report) closings() []closing {
	told := slices.Clone(rep.Told[Queued])
	slices.SortStableFunc(told, func(a, b *capture.Followed) int {
		if c := a.Server.Compare(b.Server); c != 0 {
			return c
		}
		return Deciding(a).Time.Compare(Deciding(b).Time)
	})
	var all []closing
	for _, f := range told {
		at := Deciding(f).Time
		if n := len(all); n == 0 || all[n-1].server != f.Server || at.Sub(all[n-1].until) > together {
			all = append(all, closing{server: f.Server, from: at})
		}
		c := &all[len(all)-1]
		c.until = at
		c.clients = append(c.clients, f.Client)
	}
	slices.SortStableFunc(all, func(a, b closing) int { return a.from.Compare(b.from) })
	return all
}
