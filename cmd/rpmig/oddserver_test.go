//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/tcp"
)

// oddserver is a server to reload, in a process of its own. On HUP it accepts no more until something waits in the queue of each
// listener, opens new ones, and closes the old, which without migration loses what waits. On TERM it ends.
func oddserver() {
	s := odd{}
	flag.StringVar(&s.at, "at", ":80", "listen here")
	flag.IntVar(&s.listeners, "listeners", 2, "so many")
	flag.DurationVar(&s.each, "each", 0, "so long one after the other")
	flag.BoolVar(&s.mptcp, "mptcp", false, "of MPTCP")
	flag.BoolVar(&s.alone, "alone", false, "one, without SO_REUSEPORT")
	flag.BoolVar(&s.keep, "keep", false, "do not close the old ones on HUP")
	flag.DurationVar(&s.overlap, "overlap", 0, "keep the old ones so long beside the new")
	flag.BoolVar(&s.deaf, "deaf", false, "do nothing on HUP")
	flag.BoolVar(&s.mute, "mute", false, "never answer")
	flag.BoolVar(&s.abort, "abort", false, "accept ten connections, and close them without an answer, on HUP")
	flag.StringVar(&s.status, "status", "200 OK", "answer this")
	wait := flag.Duration("wait", 0, "before it listens")
	exit := flag.Int("exit", -1, "end at once, with this status")
	forks := flag.Int("forks", 0, "start so many other processes, which are no children of it")
	files := flag.Int("files", 0, "open so many descriptors, which those that are started inherit")
	prints := flag.Bool("prints", false, "print without an end")
	stubborn := flag.Bool("stubborn", false, "do nothing on TERM")
	late := flag.Bool("late", false, "be a client, which tells only after some time that it was lost")
	daemon := flag.Bool("daemon", false, "go on in another process, and end")
	flag.Parse()

	if *late {
		lateClient()
	}
	if *exit >= 0 {
		fmt.Println("there is no such directory")
		os.Exit(*exit)
	}
	if *daemon {
		args := strings.Split(strings.Replace(strings.Join(os.Args, "\x00"), "\x00-daemon", "", 1), "\x00")
		cmd := exec.Command(args[0], args[1:]...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		must(cmd.Start())
		os.Exit(0)
	}
	for range *files {
		_, err := unix.Open("/dev/null", unix.O_RDONLY, 0)
		must(err)
	}
	for range *forks {
		must(exec.Command("/bin/sh", "-c", "sleep 1000 & exit 0").Run())
	}
	if *prints {
		go func() {
			for {
				fmt.Println(strings.Repeat("x", 1000))
			}
		}()
	}
	time.Sleep(*wait)
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGHUP, unix.SIGTERM)
	fmt.Println("listening")
	must(s.listen())
	for sig := range signals {
		switch {
		case sig == unix.SIGTERM && !*stubborn:
			s.close()
			time.Sleep(20 * time.Millisecond) // the last ones are being served
			os.Exit(0)
		case sig == unix.SIGHUP && !s.deaf:
			must(s.reload())
		}
	}
}

// lateClient is a client as on a machine that keeps it from running, in the midst of what comes after a reload.
func lateClient() {
	c, err := net.Dial("tcp", net.JoinHostPort(os.Getenv("RPMIG_ADDR"), os.Getenv("RPMIG_PORT")))
	if err == nil {
		_, _ = c.Write([]byte("x"))
		_, err = c.Read(make([]byte, 4096))
	}
	if err != nil {
		time.Sleep(800 * time.Millisecond)
	}
	must(err)
	os.Exit(0)
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// odd is the server.
type odd struct {
	at                                    string
	listeners                             int
	overlap, each                         time.Duration
	mptcp, alone, keep, deaf, mute, abort bool
	status                                string
	open                                  []net.Listener
	pause                                 sync.Mutex // held while nobody accepts
	aborts                                atomic.Int64
}

func (s *odd) close() {
	for _, l := range s.open {
		_ = l.Close()
	}
}

// reload waits for what there is to lose, but not for ever: nobody may be there to connect.
func (s *odd) reload() error {
	s.pause.Lock()
	defer s.pause.Unlock()
	old := s.open
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline) && !s.keep; time.Sleep(time.Millisecond) {
		if !slices.ContainsFunc(old, func(l net.Listener) bool { return waiting(l) == 0 }) {
			break
		}
	}
	s.open = nil
	if err := s.listen(); err != nil || s.keep {
		return err
	}
	time.Sleep(s.overlap)
	for _, l := range old {
		_ = l.Close()
	}
	if s.abort {
		s.aborts.Store(10)
	}
	return nil
}

// waiting is how many wait in a listener's queue.
func waiting(l net.Listener) (n int) {
	c, err := l.(*net.TCPListener).SyscallConn()
	must(err)
	must(c.Control(func(fd uintptr) {
		n, err = tcp.AcceptQueue(int(fd))
	}))
	must(err)
	return n
}

func (s *odd) listen() error {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		if s.alone {
			return nil
		}
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }), err)
	}}
	lc.SetMultipathTCP(s.mptcp)
	for i := range s.listeners {
		if i > 0 {
			time.Sleep(s.each)
		}
		l, err := lc.Listen(context.Background(), "tcp", s.at)
		if err != nil {
			return err
		}
		s.open = append(s.open, l)
		go s.serve(l)
	}
	return nil
}

// serve serves one connection after the other.
func (s *odd) serve(l net.Listener) {
	buf := make([]byte, 4096)
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		s.pause.Lock()
		s.pause.Unlock() //nolint:staticcheck // it only waits
		if s.mute {
			continue
		}
		if s.aborts.Add(-1) >= 0 {
			_ = c.Close()
			continue
		}
		if _, err := c.Read(buf); err == nil {
			_, _ = fmt.Fprintf(c, "HTTP/1.1 %s\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n", s.status)
		}
		_ = c.Close()
	}
}
