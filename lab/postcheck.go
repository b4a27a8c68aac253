package lab

import (
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/tcp"
	"github.com/rpmig/rpmig/verdict"
)

// checkListeners sees whether the listeners that are left still work: a kernel that migrates and leaves the new listener
// damaged is no better. As many fresh clients connect as there are listeners open, and each listener has to serve one.
func (l *Lab) checkListeners() error {
	if l.rule != nil {
		if err := l.liftRule(); err != nil {
			return err
		}
	}
	// What the case itself asked for is not the kernel's doing.
	if slices.ContainsFunc(l.sysctls, func(s Sysctl) bool { return s.Name == syncookies && s.Value != "0" }) {
		if err := (Sysctl{Name: syncookies, Value: "0"}).Set(); err != nil {
			return err
		}
	}
	// Not by close: a child that is being started may have a copy of the descriptor.
	for _, s := range l.others {
		if err := unix.Shutdown(s.fd, unix.SHUT_RD); err != nil {
			return wrap("shutdown", err)
		}
	}
	left := map[int32]*Listener{} // by descriptor
	for _, s := range l.listeners {
		if s.serves() {
			left[int32(s.fd)] = s
		}
	}
	said := &verdict.PostCheck{Open: len(left)}
	l.obs.PostCheck = said
	if err := l.serveEach(left, said); err != nil {
		return err
	}
	said.Unserved = len(left)
	after, err := l.counters()
	if err != nil {
		return err
	}
	said.Counters = after.Since(l.obs.Known)
	return nil
}

// serveEach connects clients until each listener has served one, and takes those that have out of the map. It says why a
// client was not served.
func (l *Lab) serveEach(left map[int32]*Listener, said *verdict.PostCheck) error {
	ready, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return wrap("epoll_create1", err)
	}
	defer unix.Close(ready)
	in := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(l.cfg.Cancelled)}
	if err := unix.EpollCtl(ready, unix.EPOLL_CTL_ADD, l.cfg.Cancelled, &in); err != nil {
		return wrap("epoll_ctl", err)
	}
	for fd := range left {
		in.Fd = fd
		if err := unix.EpollCtl(ready, unix.EPOLL_CTL_ADD, int(fd), &in); err != nil {
			return wrap("epoll_ctl", err)
		}
	}
	for len(left) > 0 {
		s, err := l.serveOne(ready, left)
		if errors.Is(err, errCancelled) {
			return err
		} else if err != nil {
			said.Broken = err.Error()
			return nil
		}
		// The hash decides which listener is next, so one that has served leaves the group.
		delete(left, int32(s.fd))
		err = errors.Join(unix.EpollCtl(ready, unix.EPOLL_CTL_DEL, s.fd, nil), unix.Shutdown(s.fd, unix.SHUT_RD))
		if err != nil {
			return wrap("shutdown", err)
		}
	}
	return nil
}

// serveOne connects a client, has the listener that gets it accept it, and has the two talk both ways.
func (l *Lab) serveOne(ready int, left map[int32]*Listener) (*Listener, error) {
	fd, err := l.dial(l.cfg.Family.Dial)
	if err != nil {
		return nil, err
	}
	defer l.hangUp(fd)
	if _, err := unix.Write(fd, []byte{'?'}); err != nil {
		return nil, wrap("send", err)
	}
	fresh, err := unix.Getsockname(fd)
	if err != nil {
		return nil, wrap("getsockname", err)
	}
	var from *Listener
	child := -1
	events := make([]unix.EpollEvent, 2)
	err = l.poll(handshakeTimeout, "some listener has the fresh connection", func(limit time.Duration) (bool, error) {
		n, err := l.nap(limit, func(ms int) (int, error) { return unix.EpollWait(ready, events, ms) })
		for _, e := range events[:max(n, 0)] {
			s := left[e.Fd]
			if s == nil {
				return false, errCancelled
			}
			got, peer, err := unix.Accept4(s.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			if err != nil {
				return false, wrap("accept on "+s.name, err)
			}
			l.hold(got)
			if tcp.AddrPort(peer) != tcp.AddrPort(fresh) { // a bystander whose handshake is done by now
				l.hangUp(got)
				continue
			}
			from, child = s, got
		}
		return from != nil, err
	})
	if err != nil {
		return nil, err
	}
	defer l.hangUp(child)
	s := pair(fd, child)
	s.client.said = 1
	said, err := l.chat(s)
	if err == nil && said[0] == verdict.BothWays {
		err = l.endBoth(&s)
	} else if err == nil {
		err = errors.New(said[0])
	}
	return from, wrap("talk with the fresh client", err)
}
