//go:build linux

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/capture"
	"github.com/rpmig/rpmig/foreign"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/result"
)

// TestExplainTcpdump: tcpdump captures, by whichever link type, a server of which one listener is closed with connections in its queue while
// another listens on. rpmig names the resets of the closing listener, one for each client that was reset, and what would have saved them.
func TestExplainTcpdump(t *testing.T) {
	needRoot(t) // tcpdump does
	needPlay(t)
	tcpdump, err := exec.LookPath("tcpdump")
	if err != nil {
		t.Skipf("%v: make deps", err)
	}
	for name, args := range map[string][]string{
		"ethernet": {"-i", "lo", "-s", "256"}, "any": {"-i", "any", "-s", "256"}, "any, older": {"-i", "any", "-y", "LINUX_SLL", "-s", "256"}, "cut": {"-i", "lo", "-s", "60"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "server.pcap")
			var reset, clients int
			if err := netns.Do(func() error {
				stop, err := startTcpdump(t, tcpdump, append(args, "-B", "16384", "-w", file, "-U", "--immediate-mode", "tcp port 80"))
				if err != nil {
					return err
				}
				server := &server{}
				defer server.close()
				if reset, clients, err = server.closeOneOfTwo(); err != nil {
					return err
				}
				return errors.Join(written(file), stop())
			}); err != nil {
				t.Fatal(err)
			}
			if reset == 0 || reset == clients {
				t.Fatalf("%d of %d clients were reset: nothing is shown by that", reset, clients)
			}
			out, err := exec.Command(rpmigPath(t), "explain", file, "--port", "80").CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			said := strings.Join(strings.Fields(string(out)), " ")
			for _, want := range []string{
				fmt.Sprintf("%d connections, of which servers reset %d", clients+1, reset),
				fmt.Sprintf("Reset as by a closing listener: %d", reset), "as by one close(); the next SYN was answered", "somebody listened afterwards. If it was another listener, and was there when they were reset, net.ipv4.tcp_migrate_req=1",
			} {
				if !strings.Contains(said, want) {
					t.Errorf("it does not say %q:\n%s", want, out)
				}
			}
		})
	}
}

// TestExplainNginx: tcpdump captures nginx, which is reloaded while connections wait in the queues of its listeners, of which the new
// configuration has fewer. rpmig names each reset.
func TestExplainNginx(t *testing.T) {
	needRoot(t) // tcpdump does
	needPlay(t)
	var paths []string
	for _, name := range []string{"tcpdump", "nginx"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Skipf("%v: make deps", err)
		}
		paths = append(paths, path)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "server.pcap")
	var reset int
	if err := netns.Do(func() error {
		stop, err := startTcpdump(t, paths[0], []string{"-i", "lo", "-s", "256", "-B", "16384", "-w", file, "-U", "--immediate-mode", "tcp port 80"})
		if err != nil {
			return err
		}
		clients := &server{}
		defer clients.close()
		if reset, err = clients.reloadNginx(paths[1], dir); err != nil {
			return err
		}
		return errors.Join(written(file), stop())
	}); err != nil {
		t.Fatal(err)
	}
	if reset == 0 { // all of them are, where none is in the queue of the listener that is left
		t.Fatal("no client was reset: nothing is shown by that")
	}
	out, err := exec.Command(rpmigPath(t), "explain", file, "--port", "80").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	said := strings.Join(strings.Fields(string(out)), " ")
	for _, want := range []string{
		fmt.Sprintf("%d connections, of which servers reset %d", nginxClients+1, reset), fmt.Sprintf("Reset as by a closing listener: %d", reset), "net.ipv4.tcp_migrate_req=1",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
}

const nginxClients = 40

// reloadNginx starts nginx with 8 listeners, has clients connect while its workers do not accept, and reloads it with one listener, whose
// queue the new worker takes over. It returns how many clients were reset, as their own sockets say.
func (s *server) reloadNginx(path, dir string) (reset int, err error) {
	configure := func(workers int) error {
		return os.WriteFile(filepath.Join(dir, "nginx.conf"), []byte(fmt.Sprintf(nginxConf, workers)), 0o600)
	}
	if err := configure(8); err != nil {
		return 0, err
	}
	cmd := exec.Command(path, "-p", dir, "-c", "nginx.conf")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	master := cmd.Process.Pid
	defer func() { // with its workers, whatever has become of them
		err = errors.Join(err, unix.Kill(-master, unix.SIGKILL))
		_ = cmd.Wait()
	}()
	workers := func() (pids []int) {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", master, master))
		for _, f := range strings.Fields(string(text)) {
			pid, _ := strconv.Atoi(f)
			pids = append(pids, pid)
		}
		return pids
	}
	if err := eventually("nginx has its workers", func() bool { return len(workers()) == 8 }); err != nil {
		return 0, err
	}
	old := workers()
	for _, pid := range old {
		if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
			return 0, err
		}
	}
	if err := eventually("they are stopped", func() bool {
		return !slices.ContainsFunc(old, func(pid int) bool {
			text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			return !strings.Contains(string(text), ") T ")
		})
	}); err != nil {
		return 0, err
	}
	var polled []unix.PollFd
	for i := range nginxClients {
		fd, err := s.connect(lastPort - nginxClients + i)
		if err != nil {
			return 0, err
		}
		polled = append(polled, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	if err := errors.Join(configure(1), unix.Kill(master, unix.SIGHUP)); err != nil {
		return 0, err
	}
	if err := eventually("nginx has a new worker", func() bool { return len(workers()) > 8 }); err != nil {
		return 0, err
	}
	// Its master tells them to end soon, too. They are told before they go on and accept something.
	for _, pid := range old {
		if err := errors.Join(unix.Kill(pid, unix.SIGQUIT), unix.Kill(pid, unix.SIGCONT)); err != nil {
			return 0, err
		}
	}
	if err := eventually("the old workers have ended, and each client is answered or reset", func() bool {
		n, _ := unix.Poll(polled, 0)
		return n == len(polled) && !slices.ContainsFunc(old, func(pid int) bool { return unix.Kill(pid, 0) == nil })
	}); err != nil {
		return 0, err
	}
	for _, p := range polled {
		if e, err := unix.GetsockoptInt(int(p.Fd), unix.SOL_SOCKET, unix.SO_ERROR); err != nil {
			return 0, err
		} else if unix.Errno(e) == unix.ECONNRESET {
			reset++
		}
	}
	last, err := s.connect(lastPort)
	if err != nil {
		return 0, err
	}
	// It is answered before nginx is killed, which resets it else.
	return reset, eventually("the last client is answered", func() bool {
		n, _ := unix.Poll([]unix.PollFd{{Fd: int32(last), Events: unix.POLLIN}}, 0)
		return n == 1
	})
}

// lastPort is the client's port of the last connection.
const lastPort = 65000

// written waits until tcpdump has written the last packets.
func written(file string) error {
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if r, err := capture.NewReader(bytes.NewReader(data)); err == nil {
			for f, err := r.Next(); err == nil; f, err = r.Next() {
				if f.Src.Port() == lastPort && f.Payload > 0 {
					return nil
				}
			}
		}
		runtime.Gosched()
	}
	return errors.New("tcpdump has not written the last packet")
}

// startTcpdump begins a capture in the namespace of this thread, and returns once it has begun. Its stop ends it, once what it has is
// written.
func startTcpdump(t *testing.T, path string, args []string) (stop func() error, err error) {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "listening on") {
			return func() error {
				if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
					return err
				}
				for lines.Scan() { // it counts what it has written
				}
				return cmd.Wait()
			}, nil
		}
	}
	return nil, fmt.Errorf("tcpdump does not begin: %w", cmd.Wait())
}

// server is the sockets of a test, of both ends.
type server struct{ fds []int }

func (s *server) close() {
	for _, fd := range s.fds {
		unix.Close(fd)
	}
}

// socket opens one that is bound to a port.
func (s *server) socket(port int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	s.fds = append(s.fds, fd)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return -1, err
	}
	return fd, unix.Bind(fd, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}})
}

// connect asks something of the server, from a port.
func (s *server) connect(port int) (int, error) {
	fd, err := s.socket(port)
	if err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: 80, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return -1, err
	}
	_, err = unix.Write(fd, []byte("GET / HTTP/1.0\r\n\r\n"))
	return fd, err
}

// closeOneOfTwo has clients connect to two listeners of a SO_REUSEPORT group, closes one with what is in its queue, and then connects once
// more. It returns how many clients were reset, as their own sockets say, of how many. It runs on a thread in a namespace of its own.
func (s *server) closeOneOfTwo() (reset, clients int, err error) {
	const many = 40
	var fds []int
	for range 2 {
		fd, err := s.socket(80)
		if err != nil {
			return 0, 0, err
		}
		if err := unix.Listen(fd, 2*many); err != nil {
			return 0, 0, err
		}
	}
	for i := range many {
		fd, err := s.connect(lastPort - many + i)
		if err != nil {
			return 0, 0, err
		}
		fds = append(fds, fd)
	}
	// Over loopback the resets have arrived when it returns.
	if err := unix.Close(s.fds[0]); err != nil {
		return 0, 0, err
	}
	s.fds = s.fds[1:]
	for _, fd := range fds {
		if e, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR); err != nil {
			return 0, 0, err
		} else if unix.Errno(e) == unix.ECONNRESET {
			reset++
		}
	}
	_, err = s.connect(lastPort)
	return reset, many, err
}

// TestExplainAgreesWithTheTrace: what the packets of a connection alone are told to mean is what the kernel's trace says whose the reset
// is that ended it, connection by connection.
func TestExplainAgreesWithTheTrace(t *testing.T) {
	t.Parallel()
	if !canBPF() {
		t.Skip("needs the kernel's trace: run as root")
	}
	dir := filepath.Join(t.TempDir(), "run")
	const which = "quiz1,quiz2,synack-timer,chain-*,last-listener-*,client-state-*,storm,other-group-uid-*"
	if out, err := exec.Command(rpmigPath(t), "run", which, "--family=ipv4,ipv6", "--migrate=off,sysctl", "--out", dir, "-q").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	run := readRun(t, dir)
	told := map[result.Owner]int{}
	for i := range run.Cells {
		c := &run.Cells[i]
		if c.Capture.File == "" || c.Trace == nil || c.Trace.Lost > 0 || len(c.Trace.Missing) > 0 {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, c.Capture.File))
		if err != nil {
			t.Fatal(err)
		}
		rep, err := foreign.Read(t.Context(), bytes.NewReader(data), foreign.Options{Port: 80})
		if err != nil {
			t.Fatal(err)
		}
		for _, problem := range disagreements(c, rep, told) {
			t.Errorf("%s: %s", c.ID(), problem)
		}
	}
	for _, owner := range []result.Owner{result.ClosingListener, result.SurvivingListener, result.NoSocket} {
		if told[owner] == 0 {
			t.Errorf("no reset of %s: nothing is shown", owner)
		}
	}
}

// meant are whose reset it may be that ended a connection of a kind.
var meant = map[foreign.Kind][]result.Owner{
	foreign.Queued: {result.ClosingListener}, foreign.Stray: {result.SurvivingListener, result.NoSocket},
}

// meantOfStorm adds the races of a storm, by which packets do not tell that the listener was closing. A child whose listener closes
// while the handshake's last ACK is handled, on another CPU, sends the reset itself. One that is made of a listener while it closes
// sends a FIN first, and then is reset, or answers data with a reset, or is gone when data comes, which another listener answers. And
// of the reset of a listener that closes while it answers an ACK the trace does not tell whose it is.
var meantOfStorm = map[foreign.Kind][]result.Owner{
	foreign.Queued: {result.ClosingListener, result.OwnSocket}, foreign.Stray: append(meant[foreign.Stray], ""),
	foreign.Aborted: {result.ClosingListener, result.OwnSocket}, foreign.Gone: {result.OwnSocket, result.SurvivingListener},
}

// disagreements are where the packets of a cell and its trace differ. It adds to told whose resets ended connections.
func disagreements(c *result.Cell, rep *foreign.Report, told map[result.Owner]int) []string {
	may := meant
	if c.Scenario == "storm" {
		may = meantOfStorm
	}
	var all []string
	resets := map[int]result.Reset{} // by the frame: the server's, that are not accounted for yet
	for _, r := range c.Resets {
		if !r.FromClient {
			resets[r.Frame] = r
		}
	}
	for kind := range foreign.Gone + 1 {
		if n := rep.Counts[kind]; n != len(rep.Told[kind]) {
			all = append(all, fmt.Sprintf("of %d connections of kind %d, %d are told", n, kind, len(rep.Told[kind])))
		}
		for _, f := range rep.Told[kind] {
			deciding, known := resets[foreign.Deciding(f).Number]
			told[deciding.Owner]++
			untold := deciding.Owner == "" && deciding.State != "CLOSE" // of a socket in CLOSE alone whose it is may not be known
			if !known || untold || !slices.Contains(may[kind], deciding.Owner) {
				all = append(all, fmt.Sprintf("%v is of kind %d by its packets, and by the trace its reset is %+v", f.Client, kind, deciding))
			}
			for _, r := range f.Resets {
				delete(resets, r.Number)
			}
		}
	}
	for _, r := range resets {
		if !r.Crossed {
			all = append(all, fmt.Sprintf("by its packets no connection was ended by %+v", r))
		}
	}
	return all
}
