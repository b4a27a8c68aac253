// Package load is clients that connect to a server, ask and are answered, again and again, and what became of each connection.
//
// There are two engines. The one for plain TCP is a thread with an epoll loop, which allocates nothing for a connection, so that
// what is measured is the server. The other, for TLS and for clients that are commands, is a goroutine a client. Both end a
// connection in the same ways, and record the same of it.
//
// A client that gives a connection up, for Timeout or WrongReply, closes it: where something of the server's is unread or comes
// later, the kernel then resets it, on the client's account (TCPAbortOnClose, TCPAbortOnData).
package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Config is what to do. The zero value of a field, where a default is named, means that default.
type Config struct {
	To      netip.AddrPort
	Sources []netip.Addr // the clients' addresses, in turn; none: the one that the kernel picks, and one range of ports

	// One of the two. In a closed loop, so many clients each connect again when they have been served: a reload can cost each of
	// them one connection, and no more. In an open loop connections arrive at a rate, whatever becomes of the earlier ones, and
	// all times are counted from when one should have arrived: a pause of the server hides none of those that met it.
	Clients int
	Rate    float64 // arrivals a second
	MaxOpen int     // in an open loop, the most connections at a time: 10000, of TLS and commands 1000; an arrival that finds no room is void

	Request   Request
	Requests  int         // how many a connection makes: 1
	Pipelined bool        // it sends all of them at once, and does not wait for a reply before the next
	TLS       *tls.Config // speak TLS; ServerName or InsecureSkipVerify has to be set
	Command   []string    // be a command instead: its status 0 is OK, another is WrongReply. It gets RPMIG_ADDR and RPMIG_PORT
	// Run runs Command in a process group of its own, of which nothing is left when it returns or the context has ended; nil: os/exec
	// does. It is for a caller that reaps all children, and would take theirs from os/exec. It returns what the command said where
	// that has failed. ErrNotStarted is void.
	Run func(ctx context.Context, command, env []string) (said string, err error)

	Timeout time.Duration // how long a connection may take to its first reply, and from one reply to the next: 5 s
	Pause   time.Duration // how long a client in a closed loop waits after a connection that was not OK: 10 ms
	Stall   time.Duration // what is a stall of the generator: 50 ms. See Report.Stalls
	Slice   time.Duration // the width of Report.Slices: 100 ms
}

// Request is what a connection sends, and what it has to get. Either HTTP is set, or Send or Expect.
type Request struct {
	HTTP   *HTTP
	Send   []byte
	Expect []byte // how the reply begins; the rest is not waited for, and if it comes later it is reset. Empty: any byte is a reply
}

// HTTP is a request of HTTP/1.1, by GET.
type HTTP struct {
	Path   string // "/"
	Host   string // the address
	Header []string
	Status int // which status is right: 200
}

// Label says what an interval of the run is. Reload is for those that count as a time of reload: a connection or a pause that
// touches one belongs to it, whichever interval it ended in.
type Label struct {
	Name   string
	Reload bool
}

// Interval is a part of the run, from one mark to the next, and what ended in it.
type Interval struct {
	Label
	From    time.Duration // CLOCK_MONOTONIC
	Counts  Counts
	Replies int64         // right ones
	Pause   time.Duration // the longest time without a right reply
}

// Latency is histograms in microseconds, exact to two digits, of connections that no stall of the generator has touched.
type Latency struct {
	Connect *hdrhistogram.Histogram // until the TCP handshake was over
	Reply   *hdrhistogram.Histogram // until the whole reply, from the beginning of the connection; of a later request, from its sending
}

// Slice is a short part of the run, for a chart. Slices are all of one width; where they would be more than 8192, pairs of them
// are merged, and the width doubles: P99 is then the higher of the two.
type Slice struct {
	Counts   Counts
	Replies  int64
	P99, Max time.Duration // of the replies' latency; 0 where there is none
}

// Report is what became of all connections.
type Report struct {
	From, To   time.Duration // CLOCK_MONOTONIC
	Counts     Counts
	Replies    int64 // right ones
	Unfinished int64 // were open when the engine stopped, and are in no other count
	Intervals  []Interval
	Latency    map[Label]Latency // what intervals with the same label have together
	Slice      time.Duration     // the width of the slices
	Slices     []Slice           // from From
	Lost       []Lost            // by when they ended; at most MaxListed of each End: Counts has all
	// Stalls are the generator's own. A stall voids the connections that it touched and can have lost: those whose request was not sent
	// before it, and those that timed out where stalls took more than a tenth of the Timeout. Those timed out else, however busy the
	// machine is: a server that never replies is not excused. One of a second or more voids each that it touched, unless it was OK. Arrivals
	// that fall into a stall are void, so that they do not come all at once after it.
	Stalls     []Stall // the first 1000
	Stalled    time.Duration
	NotStarted int64 // of the void ones: arrivals in a stall, and those without room, descriptor or port
}

// Errors that a caller may want to tell apart.
var (
	ErrConfig = errors.New("cannot be played")                    // the Config asks for what does not exist
	ErrPast   = errors.New("the time is past what can be marked") // see Mark

	ErrNotStarted = errors.New("the command could not be started") // see Config.Run
)

// Now is CLOCK_MONOTONIC, on which all times of this package are.
func Now() time.Duration { return clock.now() }

// Engine is a load that is running.
type Engine struct {
	b        *book
	p        player
	told     *atomic.Int32
	cancel   context.CancelFunc // wakes who waits for nothing but a stop
	leave    func() bool        // the caller's context
	finished chan struct{}
	err      error // once finished
}

// player plays a load in the namespace of its thread, until it is told to stop or to quit.
type player interface {
	run(b *book) error
	seen() time.Duration
}

// Start starts the load, in the network namespace of the calling thread: a caller who has changed into one has locked itself to
// its thread. When it returns, the first connections begin. When the context ends, those that are open are given up.
func Start(ctx context.Context, c Config) (*Engine, error) {
	if err := c.complete(); err != nil {
		return nil, err
	}
	ns, err := openNamespace()
	if err != nil {
		return nil, err
	}
	for _, a := range c.Sources {
		if err := tryBind(newSockaddr(netip.AddrPortFrom(a, 0))); err != nil {
			ns.close()
			return nil, fmt.Errorf("%w: clients at %v: bind: %w", ErrConfig, a, err)
		}
	}
	e := &Engine{told: &atomic.Int32{}, finished: make(chan struct{})}
	var p player
	var stopped context.Context
	stopped, e.cancel = context.WithCancel(context.Background())
	if c.TLS != nil || len(c.Command) > 0 {
		p, err = newWorkers(stopped, &c, e.told, ns)
	} else {
		p, err = newEpoll(&c, e.told)
	}
	if err != nil {
		e.cancel()
		ns.close()
		return nil, err
	}
	e.p, e.b = p, newBook(&c)
	go func() {
		defer close(e.finished)
		defer e.b.finish()
		defer ns.close()
		leave, err := ns.enter()
		if err == nil {
			defer leave()
			err = p.run(e.b)
		}
		e.err = err
	}()
	e.leave = context.AfterFunc(ctx, e.quit)
	return e, nil
}

func (e *Engine) quit() {
	e.told.Store(quitting)
	e.cancel()
}

// Done is closed when the engine has stopped, which it does by itself only for an error.
func (e *Engine) Done() <-chan struct{} { return e.finished }

// Mark begins an interval at a time, and ends the one before it. The first interval begins by itself, with the zero Label. The
// time may lie in the past, since the end of a reload is known only when nothing has changed for a while, but not before
// the last mark, nor before the last 100,000 replies: that is ErrPast.
func (e *Engine) Mark(at time.Duration, label Label) error { return e.b.mark(at, label) }

// Snapshot is a copy of the report so far, for which the engine has to wait. What ended after the last mark is in Counts, Replies and
// Lost, and in the last interval only when it is over.
func (e *Engine) Snapshot() Report { return e.b.report() }

// Counts is that of a Snapshot, and the engine does not wait for it.
func (e *Engine) Counts() Counts { return e.b.sum() }

// Lost are Report.Lost from an index on, so far, without their Interval.
func (e *Engine) Lost(from int) []Lost { return e.b.lost(from) }

// Seen is until when the engine has noticed what became of its connections: a loss of before that is in the report. It is no later than
// when the connection that waits longest for a reply began to wait, or, with TLS and with commands, began; and where the machine holds
// the engine up it may lie well behind.
func (e *Engine) Seen() time.Duration { return e.p.seen() }

// Stop begins no more connections, waits up to a limit for those that are open, and returns the report. It may be called again.
// The error is the generator's own: the report then ends where it happened.
func (e *Engine) Stop(limit time.Duration) (Report, error) {
	e.told.CompareAndSwap(running, stopping)
	timer := time.AfterFunc(limit, e.quit)
	<-e.finished
	timer.Stop()
	e.leave()
	e.cancel()
	return e.b.report(), e.err
}
