package lab

import "github.com/rpmig/rpmig/result"

// Bystanders connects clients besides those that the case is about: they send the greeting and take up room, and
// nothing is judged by what becomes of them. The scenario has to ask for FramesServed of room in the capture for each.
func (l *Lab) Bystanders(n int) {
	l.step("%s", result.Plural(n, "bystander connects and sends", "bystanders connect and send"))
	for range n {
		fd, err := l.dial(l.cfg.Family.Dial)
		l.must(err)
		l.send(l.bystander(fd))
	}
}

// Reach has bystanders connect and send, and returns how many of them the accept queue of a listener has then, in which there was
// nothing before.
func (s *Listener) Reach(n int) int {
	s.lab.Bystanders(n)
	s.lab.AwaitRequests(0) // their last ACKs may be on their way
	return s.Queued()
}

// FastBystanders is Bystanders with TCP Fast Open.
func (l *Lab) FastBystanders(n int) {
	l.step("%s with the SYN", result.Plural(n, "bystander sends", "bystanders send"))
	for range n {
		l.bystander(l.dialFast())
	}
}

// BystanderLater connects one more client, and returns what has it send the greeting, and waits until that is acknowledged.
func (l *Lab) BystanderLater() (send func()) {
	l.step("a bystander connects")
	fd, err := l.dial(l.cfg.Family.Dial)
	l.must(err)
	c := l.bystander(fd)
	return func() {
		l.step("the bystander sends %q", greeting)
		l.send(c)
		l.awaitArrival(c)
	}
}

func (l *Lab) bystander(fd int) *client {
	c := l.clientOf(fd)
	l.bystanders = append(l.bystanders, c)
	l.obs.Bystanders++
	return c
}
