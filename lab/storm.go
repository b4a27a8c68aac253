package lab

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/stream"
	"github.com/rpmig/rpmig/tcp"
)

// The slots of a storm's program: an empty one, so that the kernel chooses who gets what arrives, and that of the first listener,
// which stays. Those that open later put themselves into another.
const (
	stormArrive  = 2
	stormMigrate = 0
)

// Storm has n listeners close and open at random under a stream of clients, beside one that stays. Each of the rounds serves
// some clients, opens about half of those that are closed, and closes about half of those that are open, at the same time on two
// threads. The random numbers are those of the repeat, so that it can be played again, and is the same in each mode.
func (l *Lab) Storm(n, rounds, servedBetween int) {
	seed := uint64(l.cfg.Repeat)
	l.step("%d clients connect; %d times some of %d listeners close (seed %d)", stream.Clients, rounds, n, seed)
	chance := rand.New(rand.NewPCG(seed, 0))
	l.obs.Stream = &result.Stream{}
	stays := l.Listen("L0")
	if l.program != nil {
		l.must(l.program.Set(Policy{Answer: l.cfg.Mode.Answer, Arrive: stormArrive, Migrate: stormMigrate}))
	}
	var open []*Listener
	all := func() []*Listener { return append([]*Listener{stays}, open...) }
	l.stream(all, func() {
		for range rounds {
			for range n - len(open) {
				if chance.IntN(2) == 0 || len(open) == 0 { // one at least, to be closed
					s, err := l.open(fmt.Sprintf("L%d", len(l.listeners)), nil)
					l.must(err)
					open = append(open, s)
				}
			}
			l.must(l.serveAny(all(), servedBetween, handshakeTimeout))
			chance.Shuffle(len(open), func(i, j int) { open[i], open[j] = open[j], open[i] })
			closing := (len(open) + 1) / 2
			l.must(stream.ServeUntil(&l.waiter, fdsOf(all()), fdsOf(open[:closing]), handshakeTimeout, outcomeTimeout))
			l.closeAtOnce(open[:closing])
			open = slices.Clone(open[closing:])
		}
	})
}

// closeAtOnce closes listeners on two threads, so that one may be chosen for a migration while it closes.
func (l *Lab) closeAtOnce(listeners []*Listener) {
	var fds []int
	for _, s := range listeners {
		n, err := tcp.AcceptQueue(s.fd)
		l.must(err)
		l.obs.Stream.AtStake += n
		l.obs.Stream.Reloads++
		fds = append(fds, s.fd)
	}
	l.fds = slices.DeleteFunc(l.fds, func(fd int) bool { return slices.Contains(fds, fd) })
	for _, s := range listeners {
		s.fd = -1
	}
	half := len(fds) / 2
	var errs [2]error
	var other sync.WaitGroup
	closeAll := func(i int, fds []int) {
		for _, fd := range fds {
			errs[i] = errors.Join(errs[i], unix.Close(fd))
		}
	}
	other.Go(func() { closeAll(0, fds[:half]) })
	closeAll(1, fds[half:])
	other.Wait()
	l.must(wrap("close", errors.Join(errs[:]...)))
}
