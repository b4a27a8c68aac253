package load

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	tick       = 10 * time.Millisecond // the longest that the engine waits, so that a stall shows
	maxEvents  = 256
	bufferSize = 64 << 10
	launch     = 64 // arrivals at a time, before events are looked at again
)

// What an engine has been told.
const (
	running int32 = iota
	stopping
	quitting
)

// conn is a connection, or a place for one.
type conn struct {
	fd         int32
	generation int32 // tells the events of earlier connections in the same place
	list       listID
	prev, next int32 // in the list
	open       bool
	connected  bool
	watched    bool          // by epoll
	wantsOut   bool          // it is woken when it can send
	late       bool          // there was a stall before all was sent
	began      time.Duration // when it was due
	asked      time.Duration // began, or when the request that follows a reply was sent
	due        time.Duration // when it times out, or may begin again
	connect    int64         // µs; 0 where it is not connected
	source     int32
	ask        int32 // which of the requests is sent
	unsent     []byte
	got        int64
	replies    int32
	p          parser
}

// epoll is the engine for plain TCP.
type epoll struct {
	*book
	c       *Config
	s       script
	told    *atomic.Int32
	fd      int
	to      *sockaddr
	sources []*sockaddr
	turn    int32 // of the sources
	conns   []conn
	lists   [numLists]list
	busy    int64        // how many are open
	arrived int64        // of an open loop
	looked  atomic.Int64 // see seen
	events  [maxEvents]unix.EpollEvent
	buffer  [bufferSize]byte
}

func newEpoll(c *Config, told *atomic.Int32) (*epoll, error) {
	room, err := c.room()
	if err != nil {
		return nil, err
	}
	e := &epoll{c: c, s: c.script(), told: told, to: newSockaddr(c.To), conns: make([]conn, room)}
	for _, a := range c.Sources {
		e.sources = append(e.sources, newSockaddr(netip.AddrPortFrom(a, 0)))
	}
	for i := range e.lists {
		e.lists[i] = list{-1, -1}
	}
	for i := range e.conns {
		e.push(idle, int32(i))
	}
	if e.fd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	if _, errno := epollWait(e.fd, e.events[:], time.Nanosecond); errno != 0 && errno != unix.EINTR {
		unix.Close(e.fd)
		return nil, fmt.Errorf("epoll_pwait2: %w", errno)
	}
	return e, nil
}

// run is the loop. It ends when it was told to stop and nothing is open any more, or when it was told to quit.
func (e *epoll) run(b *book) error {
	defer unix.Close(e.fd)
	e.book = b
	var err error
	for told := e.told.Load(); err == nil && (told == running || told == stopping && e.busy > 0); told = e.told.Load() {
		err = e.round()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.r.Unfinished = e.busy
	for i := range e.conns {
		if c := &e.conns[i]; c.open {
			closeSocket(int(c.fd))
		}
	}
	return err
}

func (e *epoll) round() error {
	patience, began := e.patience(), clock.now()
	n, errno := epollWait(e.fd, e.events[:], patience)
	if errno != 0 && errno != unix.EINTR {
		return fmt.Errorf("epoll_pwait2: %w", errno)
	}
	if errno != 0 {
		n = 0
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	for i := range n {
		event := &e.events[i]
		if c := &e.conns[event.Fd]; c.open && c.generation == event.Pad {
			e.ready(event.Fd, event.Events)
		}
	}
	if n < maxEvents { // all that has come was seen
		e.expire(now)
	}
	if e.told.Load() == running {
		e.begin(now)
	}
	if errno == 0 && n < maxEvents {
		if first := e.lists[waiting].first; first >= 0 {
			began = min(began, e.conns[first].due-e.c.Timeout)
		}
		e.looked.Store(int64(began))
	}
	return nil
}

// seen is when it last looked at all connections, or since when the one that waits longest for a reply does: what becomes of that is
// not known.
func (e *epoll) seen() time.Duration { return time.Duration(e.looked.Load()) }

// now says that the engine runs.
func (e *epoll) now() time.Duration {
	now := clock.now()
	e.beat(now)
	return now
}

// patience is for how long there is nothing to do but to wait for events.
func (e *epoll) patience() time.Duration {
	now, left := clock.now(), tick
	if first := e.lists[waiting].first; first >= 0 {
		left = min(left, e.conns[first].due-now)
	}
	switch {
	case e.told.Load() != running:
	case e.c.Rate > 0:
		left = min(left, e.arrival(e.arrived)-now)
	case e.lists[idle].first >= 0:
		left = 0
	case e.lists[paused].first >= 0:
		left = min(left, e.conns[e.lists[paused].first].due-now)
	}
	return left
}

// arrival is when a connection of an open loop is due.
func (e *epoll) arrival(i int64) time.Duration {
	return e.r.From + time.Duration(float64(i)/e.c.Rate*float64(time.Second))
}

// begin begins the connections that are due.
func (e *epoll) begin(now time.Duration) {
	if e.c.Rate > 0 {
		e.arrive(now)
		return
	}
	for first := e.lists[paused].first; first >= 0 && e.conns[first].due <= now; first = e.lists[paused].first {
		e.move(idle, first)
	}
	for first := e.lists[idle].first; first >= 0; first = e.lists[idle].first {
		e.start(first, e.now())
	}
}

// arrive begins some of the connections of an open loop that are due.
func (e *epoll) arrive(now time.Duration) {
	for range launch {
		at := e.arrival(e.arrived)
		if at > now {
			return
		}
		e.arrived++
		first := e.lists[idle].first
		if first < 0 || e.lastStall.From < at && at <= e.lastStall.To {
			e.notStarted()
			continue
		}
		e.start(first, at)
	}
}

// start begins a connection in an idle place.
func (e *epoll) start(i int32, began time.Duration) {
	c := &e.conns[i]
	fd, errno := newSocket(e.to.family())
	if errno != 0 {
		e.notStarted()
		e.rest(i)
		return
	}
	*c = conn{
		fd: int32(fd), generation: c.generation + 1, list: c.list, prev: c.prev, next: c.next, open: true,
		began: began, asked: began, due: e.beatAt + e.c.Timeout, source: -1, unsent: e.s.asks[0],
	}
	e.busy++
	e.move(waiting, i)
	if len(e.sources) > 0 {
		c.source = e.turn
		e.turn = (e.turn + 1) % int32(len(e.sources))
		errno = bindLate(fd, e.sources[c.source])
	}
	if errno == 0 {
		errno = connect(fd, e.to)
	}
	switch errno {
	case 0, unix.EINPROGRESS:
		// Over loopback it may well be connected already.
		if len(c.unsent) == 0 || e.write(i) {
			e.watch(i, len(c.unsent) > 0 || !c.connected)
		}
	case unix.EADDRNOTAVAIL, unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM: // no port, or no memory
		closeSocket(fd)
		c.open = false
		e.busy--
		e.notStarted()
		e.rest(i)
	default:
		e.fail(i, errno)
	}
}

// rest has a place begin again later, and in an open loop whenever it is needed.
func (e *epoll) rest(i int32) {
	if e.c.Rate > 0 {
		e.move(idle, i)
		return
	}
	e.conns[i].due = e.beatAt + e.c.Pause
	e.move(paused, i)
}

// watch has epoll wake it, also when it can send, if it wants to.
func (e *epoll) watch(i int32, out bool) {
	c := &e.conns[i]
	change := epollChange
	switch {
	case !c.watched:
		change = epollAdd
	case out == c.wantsOut:
		return
	}
	c.watched, c.wantsOut = true, out
	var events uint32 = unix.EPOLLIN | unix.EPOLLRDHUP
	if out {
		events |= unix.EPOLLOUT
	}
	if errno := change(e.fd, int(c.fd), events, i, c.generation); errno != 0 { // no memory, or fs.epoll.max_user_watches
		e.end(i, Void, errno, "")
	}
}
