package lab

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/tcp"
	"github.com/rpmig/rpmig/verdict"
	"github.com/rpmig/rpmig/wait"
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

// unread is how much the client has sent that the server has not read.
func (s *survivor) unread() int { return s.client.said - s.read }

// unheardError says that what one side has sent again and again does not reach the other, after so many bytes that did.
type unheardError struct{ heard int }

func (e unheardError) Error() string {
	return fmt.Sprintf("what is sent, and sent again, is not heard after %d bytes", e.heard)
}

// heardNothing tells whether not even a byte has got through.
func heardNothing(err error) bool {
	var unheard unheardError
	return errors.As(err, &unheard) && unheard.heard == 0
}

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
	answer, again := tcp.Words()
	said, err := l.exchange(l.survivors, answer, again)
	if err != nil {
		return err
	}
	for i, s := range l.survivors {
		to := &l.obs.Accepted[s.accepted]
		if to.Talk = said[i]; !to.Talked() {
			continue
		}
		if err := l.endBoth(&s); errors.Is(err, errCancelled) {
			return err
		} else if err != nil {
			to.Talk = "ends: " + tcp.Errno(err)
		}
	}
	return heard()
}

// pair is a connection whose two ends are here, and have read all that there was.
func pair(fd, child int) survivor {
	return survivor{client: &client{fd: fd}, serverEnd: serverEnd{fd: child}}
}

// chat is a talk of a byte each way, which does not end.
func (l *Lab) chat(all ...survivor) ([]string, error) {
	answer, again := tcp.Words()
	return l.exchange(all, answer[:1], again[:1])
}

// exchange has the servers answer and the clients send again, and returns what the judge is to hear of each. Of a connection
// whose server's end is a worker's it is the client's side.
func (l *Lab) exchange(all []survivor, answer, again []byte) ([]string, error) {
	there, back := make([]*parcel, len(all)), make([]*parcel, len(all))
	for i, s := range all {
		if s.client.fd < 0 {
			continue
		}
		there[i] = &parcel{from: s.fd, to: s.client.fd, words: answer}
		if !s.client.ended {
			back[i] = &parcel{from: s.client.fd, to: s.fd, words: again, earlier: s.unread()}
		}
	}
	// What a client sends again while the servers answer counts, too: each time it waits twice as long.
	for _, p := range slices.Concat(there, back) {
		if p == nil || p.from < 0 {
			continue
		}
		var err error
		if p.sentAgain, err = retransmitted(p.from); err != nil {
			return nil, err
		}
	}
	if err := l.carry(there); err != nil {
		return nil, err
	}
	if err := l.carry(back); err != nil {
		return nil, err
	}
	said := make([]string, len(all))
	for i := range all {
		switch t, b := there[i], back[i]; {
		case t == nil:
			said[i] = verdict.Gone
		case b != nil && heardNothing(t.err) && heardNothing(b.err):
			said[i] = verdict.Deaf
		case t.err != nil:
			said[i] = "server to client: " + tcp.Errno(t.err)
		case b == nil:
			said[i] = verdict.OneWay
		case b.err != nil:
			said[i] = "client to server: " + tcp.Errno(b.err)
		default:
			said[i] = verdict.BothWays
		}
	}
	return said, nil
}

// parcel is what one end of a connection sends and the other reads. An end that is -1 is another process's.
type parcel struct {
	from, to  int
	words     []byte
	sent      int   // bytes of them
	earlier   int   // bytes that were sent before, and are still to be read
	sentAgain int   // segments that the sender had sent again before
	err       error // why it has not arrived
}

// carry sends all parcels before it waits for any. A nil one is none. Its error is that of a run that is to end.
func (l *Lab) carry(parcels []*parcel) error {
	for _, p := range parcels {
		if p != nil && p.from >= 0 {
			p.err = p.post()
		}
	}
	patience := handshakeTimeout
	for _, p := range parcels {
		if p == nil || p.err != nil {
			continue
		}
		switch p.err = l.deliver(p, patience); {
		case errors.Is(p.err, errCancelled):
			return p.err
		case errors.Is(p.err, errTimeout):
			patience = wait.Late // the others have been waited for as well, and what is well with them needs a moment to be read
		}
	}
	return nil
}

// post sends what the socket takes now.
func (p *parcel) post() error {
	n, err := unix.SendmsgN(p.from, p.words[p.sent:], nil, nil, unix.MSG_NOSIGNAL)
	if p.sent += max(n, 0); errors.Is(err, unix.EAGAIN) {
		return nil
	}
	return err
}

// deliver sends the rest of a parcel, and reads it at the other end.
func (l *Lab) deliver(p *parcel, patience time.Duration) error {
	want := p.earlier + len(p.words)
	got := l.talkBuffer[:0]
	defer func() { l.talkBuffer = got }()
	err := l.poll(patience, "what was sent has arrived", func(left time.Duration) (bool, error) {
		fds := []unix.PollFd{{Fd: int32(l.cfg.Cancelled), Events: unix.POLLIN}}
		if p.from >= 0 && p.sent < len(p.words) {
			if err := p.post(); err != nil {
				return false, err
			}
			fds = append(fds, unix.PollFd{Fd: int32(p.from), Events: unix.POLLOUT})
		}
		if p.to >= 0 {
			var err error
			if got, err = tcp.ReadUpTo(p.to, got, want); err != nil {
				return false, err
			}
			fds = append(fds, unix.PollFd{Fd: int32(p.to), Events: unix.POLLIN})
		}
		if (p.from < 0 || p.sent == len(p.words)) && (p.to < 0 || len(got) == want) {
			return true, nil
		}
		n, err := l.nap(left, func(ms int) (int, error) { return unix.Poll(fds, ms) })
		if fds[0].Revents != 0 {
			return false, errCancelled
		}
		if err != nil || n > 0 || p.from < 0 || p.to < 0 {
			return false, err
		}
		if again, err := retransmitted(p.from); err != nil || again < p.sentAgain+unheardAfter {
			return false, err
		}
		return false, unheardError{max(len(got)-p.earlier, 0)}
	})
	if err == nil && p.to >= 0 && !bytes.Equal(got[p.earlier:], p.words) {
		err = errors.New("other bytes than were sent")
	}
	return err
}

// endBoth ends a connection in good order: each side sends a FIN, and reads that of the other.
func (l *Lab) endBoth(s *survivor) error {
	if s.fd >= 0 {
		if err := tcp.Finish(s.fd); err != nil {
			return err
		}
	}
	if err := l.eof(s.client.fd, "the client reads the server's FIN"); err != nil {
		return err
	}
	if !s.client.ended {
		if err := tcp.Finish(s.client.fd); err != nil {
			return err
		}
	}
	if s.fd < 0 {
		return nil
	}
	return l.eof(s.fd, "the server reads the client's FIN")
}

func (l *Lab) eof(fd int, condition string) error {
	if err := l.wait(handshakeTimeout, fd, unix.POLLIN, condition); err != nil {
		return err
	}
	if said := tcp.Says(fd); said != "EOF" {
		return fmt.Errorf("%s instead of a FIN", said)
	}
	return nil
}

// unheardAfter is how often one side sends again before what it sends is known not to arrive: a tail loss probe, and twice by its
// retransmission timer, which is some 0.6 s.
const unheardAfter = 3

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
		if err := w.process.Tell(o, -1); err != nil {
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
				if to := &l.obs.Accepted[theirs[w][i].accepted]; said != "" && to.Talked() {
					to.Talk = w.name + ": " + said
				}
			}
		}
		return nil
	}, nil
}
