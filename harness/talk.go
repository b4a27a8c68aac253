package harness

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/tcp"
	"github.com/rpmig/rpmig/verdict"
	"github.com/rpmig/rpmig/worker"
)

// survivor is a connection that was accepted with the data that its client sent.
type survivor struct {
	accepted int // its place in Observation.Accepted
	client   *client
	read     int // bytes that the server has read
	serverEnd
}

// serverEnd is the end of a connection that accept returned.
type serverEnd struct {
	fd     int // -1: a worker has it
	worker *Worker
	nth    int // of those that the worker has
}

func (e serverEnd) remote() bool { return e.worker != nil }

// unread is how much the client has sent that the server has not read.
func (s *survivor) unread() int { return s.client.said - s.read }

// errUnheard says that what one side has sent again and again does not reach the other.
var errUnheard = errors.New("what is sent, and sent again, is not heard")

// talk has every survivor talk both ways once the case is over: the server answers, the client reads that and sends again, the
// server reads that, and each side ends with a FIN. A connection that was accepted and is deaf from then on has not lived.
func (l *Lab) talk() error {
	if len(l.survivors) == 0 {
		return nil
	}
	if !l.cfg.faults.keepRule {
		if err := l.stopDropping(); err != nil {
			return err
		}
	}
	l.step("every survivor talks both ways, and ends")
	heard, err := l.orderTalk()
	if err != nil {
		return err
	}
	patience := handshakeTimeout
	for _, s := range l.survivors {
		said, err := l.converse(&s, patience)
		switch {
		case errors.Is(err, errCancelled):
			return err
		case errors.Is(err, errTimeout):
			patience = 0 // it has been waited for, and the others with it
		}
		l.obs.Accepted[s.accepted].Talk = said
	}
	return heard()
}

// converse is the talk of one survivor, or its client's side of it where the server's end is a worker's. It returns what the
// judge is to hear, and the error behind that.
func (l *Lab) converse(s *survivor, patience time.Duration) (string, error) {
	if s.client.fd < 0 {
		return verdict.Gone, nil
	}
	answer, again := tcp.Words()
	said, err := l.exchange(s, answer, again, patience)
	if said != verdict.BothWays && said != verdict.OneWay {
		return said, err
	}
	if err := l.endBoth(s, patience); err != nil {
		return "ends: " + tcp.Errno(err), err
	}
	return said, nil
}

// exchange has the server answer and the client send again.
func (l *Lab) exchange(s *survivor, answer, again []byte, patience time.Duration) (string, error) {
	c := s.client
	there := l.carry(patience, s.fd, c.fd, answer, 0)
	back := error(nil)
	if !c.ended {
		back = l.carry(patience, c.fd, s.fd, again, s.unread())
	}
	switch {
	case errors.Is(there, errUnheard) && errors.Is(back, errUnheard):
		return verdict.Deaf, nil
	case there != nil:
		return fmt.Sprintf("server to client: %s", tcp.Errno(there)), there
	case back != nil:
		return fmt.Sprintf("client to server: %s", tcp.Errno(back)), back
	}
	if c.ended {
		return verdict.OneWay, nil
	}
	return verdict.BothWays, nil
}

// endBoth ends a connection in good order: each side sends a FIN, and reads that of the other.
func (l *Lab) endBoth(s *survivor, patience time.Duration) error {
	if !s.remote() {
		if err := tcp.Finish(s.fd); err != nil {
			return err
		}
	}
	if err := l.eof(patience, s.client.fd, "the client reads the server's FIN"); err != nil {
		return err
	}
	if !s.client.ended {
		if err := tcp.Finish(s.client.fd); err != nil {
			return err
		}
	}
	if s.remote() {
		return nil
	}
	return l.eof(patience, s.fd, "the server reads the client's FIN")
}

func (l *Lab) eof(patience time.Duration, fd int, condition string) error {
	if err := l.wait(patience, fd, unix.POLLIN, condition); err != nil {
		return err
	}
	if said := tcp.Says(fd); said != "EOF" {
		return fmt.Errorf("%s instead of a FIN", said)
	}
	return nil
}

// carry sends from one end of a connection and reads at the other; before what is sent, so many bytes are there that were sent
// earlier. An end that is -1 is another process's.
func (l *Lab) carry(patience time.Duration, from, to int, words []byte, earlier int) error {
	rest, want := words, earlier+len(words)
	got := slices.Grow(l.talkBuffer[:0], want)
	defer func() { l.talkBuffer = got }()
	sentAgain := -1
	err := l.poll(patience, "it has arrived", func(left time.Duration) (bool, error) {
		fds := []unix.PollFd{{Fd: int32(l.cfg.cancelled), Events: unix.POLLIN}}
		if from >= 0 && len(rest) > 0 {
			n, err := unix.SendmsgN(from, rest, nil, nil, unix.MSG_NOSIGNAL)
			if rest = rest[max(n, 0):]; err != nil && !errors.Is(err, unix.EAGAIN) {
				return false, err
			}
			fds = append(fds, unix.PollFd{Fd: int32(from), Events: unix.POLLOUT})
		}
		if to >= 0 {
			var err error
			if got, err = tcp.ReadUpTo(to, got, want); err != nil {
				return false, err
			}
			fds = append(fds, unix.PollFd{Fd: int32(to), Events: unix.POLLIN})
		}
		if (from < 0 || len(rest) == 0) && (to < 0 || len(got) == want) {
			return true, nil
		}
		n, err := l.nap(left, func(ms int) (int, error) { return unix.Poll(fds, ms) })
		if fds[0].Revents != 0 {
			return false, errCancelled
		}
		if err != nil || n > 0 || from < 0 || to < 0 {
			return false, err
		}
		switch n, err := retransmitted(from); {
		case err != nil:
			return false, err
		case sentAgain < 0:
			sentAgain = n
		case n >= sentAgain+unheardAfter:
			return false, errUnheard
		}
		return false, nil
	})
	if err == nil && to >= 0 && !bytes.Equal(got[earlier:], words) {
		err = errors.New("other bytes than were sent")
	}
	return err
}

// unheardAfter is how often one side sends again, after a while in which nothing came, before what it sends is known not to
// arrive: twice by its retransmission timer is some 0.6 s.
const unheardAfter = 2

// retransmitted is how many segments a socket has sent again.
func retransmitted(fd int) (int, error) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, wrap("getsockopt TCP_INFO", err)
	}
	return int(info.Total_retrans), nil
}

// orderTalk has the workers play the server's side of what they have accepted, and returns what hears how that went.
func (l *Lab) orderTalk() (hear func() error, err error) {
	var ordered []*Worker
	theirs := map[*Worker][]survivor{}
	for _, s := range l.survivors {
		if w := s.worker; w != nil && s.client.fd >= 0 {
			if !slices.Contains(ordered, w) {
				ordered = append(ordered, w)
			}
			theirs[w] = append(theirs[w], s)
		}
	}
	for _, w := range ordered {
		o := worker.Order{Do: "talk", Timeout: l.scale(handshakeTimeout)}
		for _, s := range theirs[w] {
			o.Talks = append(o.Talks, worker.Talk{Nth: s.nth, Earlier: s.unread(), Ended: s.client.ended})
		}
		if err := w.tell(o, -1); err != nil {
			return nil, err
		}
	}
	return func() error {
		for _, w := range ordered {
			a, err := w.hear()
			if err != nil {
				return err
			}
			for i, said := range a.Talks {
				if to := &l.obs.Accepted[theirs[w][i].accepted].Talk; said != "" && (*to == verdict.BothWays || *to == verdict.OneWay) {
					*to = w.name + ": " + said
				}
			}
		}
		return nil
	}, nil
}
