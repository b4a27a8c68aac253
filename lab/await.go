package lab

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/tcp"
)

// AwaitOutcomes waits until each connection has reached the accept queue of one of the listeners, or has been reset.
func (l *Lab) AwaitOutcomes(listeners ...*Listener) {
	l.step("wait until every connection is queued or reset")
	l.decided(l.awaitDecided(outcomeTimeout, listeners...))
}

// AwaitQueuedOrReset is AwaitOutcomes where the clients have closed, so that none of them can tell of its reset.
func (l *Lab) AwaitQueuedOrReset(s *Listener) {
	l.step("wait until every connection is queued or reset")
	l.decided(l.until(outcomeTimeout, fmt.Sprintf("all %d connections settled", len(l.clients)), func() (bool, error) {
		n, err := tcp.AcceptQueue(s.fd)
		return n+l.Counter(result.OutRsts) >= len(l.clients), err
	}))
}

// decided notes how the wait for all connections ended: that one is decided by nothing is for the judge to see.
func (l *Lab) decided(err error) {
	if errors.Is(err, errTimeout) {
		l.obs.Undecided = err.Error()
		return
	}
	l.must(err)
}

// await is a step that is the wait for a condition, and has its name.
func (l *Lab) await(until until, limit time.Duration, condition string, holds func() (bool, error)) {
	l.step("%s", condition)
	l.must(until(limit, condition, holds))
}

// AwaitRefusals waits until every connection has found the accept queue full that many times, or has been reset.
func (l *Lab) AwaitRefusals(times int) {
	condition := result.Plural(times, "time the accept queue was full for each", "times the accept queue was full for each")
	l.await(l.until, outcomeTimeout, condition, func() (bool, error) {
		c, err := l.counters()
		return int(c["ListenOverflows"]+int64(times)*c[result.OutRsts]) >= times*l.cfg.Connections, err
	})
}

// CountRetries notes how many segments the clients' retransmission timers have sent again so far, for a case that is meant to
// be over before they fire.
func (l *Lab) CountRetries() {
	for _, c := range l.clients {
		info, err := unix.GetsockoptTCPInfo(c.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		l.must(wrap("getsockopt TCP_INFO", err))
		l.obs.Retries += int(info.Total_retrans)
	}
}

// AwaitCountedOrHeard waits until counters of what the kernel drops have together reached a value, or until each client has
// heard of what it has sent: an ACK, or a reset. It returns how many clients have.
func (l *Lab) AwaitCountedOrHeard(atLeast int, names ...string) (heard int) {
	condition := fmt.Sprintf("%s together are %d, or every client has an answer", strings.Join(names, ", "), atLeast)
	l.await(l.until, outcomeTimeout, condition, func() (bool, error) {
		c, err := l.counters()
		if err != nil {
			return false, err
		}
		dropped := 0
		for _, name := range names {
			dropped += int(c[name])
		}
		heard, err = l.heard()
		return dropped >= atLeast || heard == len(l.clients), err
	})
	return heard
}

// AwaitHeard waits until each client has heard of what it has sent: an ACK, or a reset.
func (l *Lab) AwaitHeard() {
	l.await(l.until, outcomeTimeout, "every client has an answer", func() (bool, error) {
		heard, err := l.heard()
		return heard == len(l.clients), err
	})
}

// heard is how many clients have nothing on its way that is not acknowledged; nor has one that was reset.
func (l *Lab) heard() (n int, err error) {
	for _, c := range l.clients {
		info, err := unix.GetsockoptTCPInfo(c.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return n, wrap("getsockopt TCP_INFO", err)
		}
		if info.Unacked == 0 {
			n++
		}
	}
	return n, nil
}

// AwaitRequests waits until the namespace has that many request sockets left.
func (l *Lab) AwaitRequests(n int) {
	l.awaitRequests(l.until, n, func(left int) bool { return left == n })
}

// AwaitRequestsByTimer waits until no more than that many are left, where nothing but the SYN+ACK timer ends them.
func (l *Lab) AwaitRequestsByTimer(n int) {
	l.awaitRequests(l.untilTimer, n, func(left int) bool { return left <= n }) // none comes back
}

func (l *Lab) awaitRequests(until until, n int, enough func(left int) bool) {
	l.await(until, outcomeTimeout, result.Plural(n, "request socket is left", "request sockets are left"), func() (bool, error) {
		socks, err := l.sockets(kernel.SynRecv)
		return enough(len(socks)), err
	})
}

// AwaitCounter waits until a counter of the namespace has reached a value. One that this kernel does not have never will: the
// step is over then, and the judge says what that means.
func (l *Lab) AwaitCounter(name string, atLeast int) {
	l.await(l.until, outcomeTimeout, fmt.Sprintf("%s is %d", name, atLeast), func() (bool, error) {
		c, err := l.counters()
		n, known := c[name]
		return !known || n >= int64(atLeast), err
	})
}

// AwaitCounterByTimer is AwaitCounter where nothing but the SYN+ACK timer moves it. It never gets there once no request socket is
// left for which that could fire, as where the kernel does not migrate what it should: the step is over then, too.
func (l *Lab) AwaitCounterByTimer(name string, atLeast int) {
	l.await(l.untilTimer, outcomeTimeout, fmt.Sprintf("%s is %d", name, atLeast), func() (bool, error) {
		socks, err := l.sockets(kernel.SynRecv) // first: the timer counts before its request is gone
		if err != nil {
			return false, err
		}
		c, err := l.counters()
		return len(socks) == 0 || c[name] >= int64(atLeast), err
	})
}

// AwaitTimer waits until the SYN+ACK timer has fired for each request of a listener that is closed: it has migrated, or
// is gone. A request that migrated may be left then, if its new listener does not take it for done.
func (l *Lab) AwaitTimer(migrates bool, left int) {
	if migrates {
		l.AwaitCounterByTimer(result.MigrateSuccess, l.cfg.Connections)
	} else {
		left = 0
	}
	l.AwaitRequestsByTimer(left)
}

// AwaitSYNACKTimers waits until the SYN+ACK timer has found the listener of every request socket gone: what is left of
// them has migrated. Where a rule drops what the clients answer, each SYN+ACK is sent again then, which the request sockets tell;
// else the kernel's count of migrations has to.
func (l *Lab) AwaitSYNACKTimers() {
	left := 0
	l.await(l.untilTimer, outcomeTimeout, "the SYN+ACK timers have fired", func() (bool, error) {
		socks, err := l.sockets(kernel.SynRecv)
		if err != nil {
			return false, err
		}
		left = len(socks)
		if l.rule != nil {
			return !slices.ContainsFunc(socks, func(s kernel.Socket) bool { return s.Retries == 0 }), nil
		}
		c, err := l.counters()
		return left <= int(c[result.MigrateSuccess]), err
	})
	if l.rule == nil {
		return
	}
	// A client answers a SYN+ACK that it has had before with a challenge ACK, which the rule drops as it does the final one.
	// One that is late would pass the rule once that is out, and race what the client sends then, on another CPU: both have
	// the request migrated, one of them in vain, and the kernel counts that neither way (inet_csk_complete_hashdance).
	err := l.until(handshakeTimeout, "the rule has dropped what answers the SYN+ACKs", func() (bool, error) {
		n, err := l.rule.Packets()
		return int(n) >= l.obs.Rule.Want+left, err
	})
	if !errors.Is(err, errTimeout) { // a kernel may limit them (net.ipv4.tcp_challenge_ack_limit)
		l.must(err)
	}
}

// AwaitFullWindows waits until each client has more to send than the server has room for: nothing is on its way, and
// something is left. It returns how many bytes the server holds for each connection, on average.
func (l *Lab) AwaitFullWindows() int {
	l.await(l.until, handshakeTimeout, "all receive windows are full", func() (bool, error) {
		for _, c := range l.clients {
			info, err := unix.GetsockoptTCPInfo(c.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
			if err != nil || info.Unacked > 0 || info.Notsent_bytes == 0 {
				return false, wrap("getsockopt TCP_INFO", err)
			}
		}
		return true, nil
	})
	socks, err := l.sockets(kernel.Established)
	l.must(err)
	unread := 0
	for _, s := range socks {
		unread += s.Queue
	}
	return unread / len(l.clients)
}

// Requests is how many request sockets the port has.
func (l *Lab) Requests() int {
	socks, err := l.sockets(kernel.SynRecv)
	l.must(err)
	return len(socks)
}

// Children is how many connections the server's side has, accepted or not, whose handshake is done.
func (l *Lab) Children() int {
	socks, err := l.sockets()
	l.must(err)
	return len(socks) - count(socks, kernel.Listen, kernel.SynRecv)
}

// Counter reads a counter of the namespace.
func (l *Lab) Counter(name string) int {
	c, err := l.counters()
	l.must(err)
	return int(c[name])
}
