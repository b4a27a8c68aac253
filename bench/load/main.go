//go:build linux

// Command load measures the clients of rpmig reload beside wrk, against the same nginx in one network namespace: connections a
// second, CPU a connection, and what the kernel's trace and the ring of packets cost. With -for it plays one long turn with both
// instead, and measures whether that takes more memory all the time, and whether a frame or an event is lost. It fails when a
// command fails, a connection is lost, or a long turn was not as it has to be; never because one was slow.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/netns"
)

var at = netip.MustParseAddrPort("127.0.0.1:80")

func main() {
	turns := flag.Int("turns", 10, "measure each `N` times, in the order ABCDDCBA")
	each := flag.Duration("each", time.Second, "how `long` a turn is")
	clients := flag.Int("clients", 24, "`N` connections at a time")
	long := flag.Duration("for", 0, "play one turn, so `long`, with the trace and the ring of packets")
	play := flag.Bool("play", false, "be the clients of rpmig for one turn, in the namespace that this is started in")
	with := flag.String("with", "", "in that turn, record `WHAT` beside it: trace, packets, or trace,packets")
	flag.Parse()
	err := errors.New("-turns and -clients must be 1 or more, -each a second or more")
	switch {
	case *turns < 1 || *clients < 1 || *each < time.Second || *long < 0:
	case *play:
		err = playTurn(max(*each, *long), *clients, strings.Split(*with, ","), *long > 0)
	case os.Geteuid() != 0:
		err = errors.New("it takes a network namespace: run it as root")
	case *long > 0:
		err = netns.Do(func() error { return endure(*long, *clients) })
	default:
		err = netns.Do(func() error { return measure(*turns, *each, *clients) })
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "load: error: %v\n", err)
		os.Exit(1)
	}
}

// side is one of those that are compared.
type side struct {
	name string
	args []string
	read func([]byte) (result, error)
	all  result
	cpu  time.Duration // of the process
}

func measure(turns int, each time.Duration, clients int) error {
	nginx, stop, err := startNginx()
	if err != nil {
		return err
	}
	defer stop()
	n := strconv.Itoa(clients)
	ours := func(name, with string) *side {
		return &side{name: name, args: []string{"/proc/self/exe", "-play", "-each", each.String(), "-clients", n, "-with", with}, read: readJSON}
	}
	sides := []*side{
		{name: "wrk -t1", args: []string{"wrk", "-t1", "-c" + n, "-d" + each.Round(time.Second).String(), "-H", "Connection: close", "http://" + at.String() + "/"}, read: readWrk},
		ours("rpmig", ""), ours("trace", "trace"), ours("packets", "packets"),
	}
	for turn := range turns {
		for i := range sides {
			s := sides[i]
			if turn%2 == 1 {
				s = sides[len(sides)-1-i]
			}
			if err := s.turn(nginx); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
		fmt.Fprintf(os.Stderr, "load: turn %d of %d\n", turn+1, turns)
	}
	report(sides[0], sides[1], turns)
	return costs(sides[1], sides[2:])
}

// turn plays one turn.
func (s *side) turn(nginx int) error {
	cmd := exec.Command(s.args[0], s.args[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	before := cpuOf(nginx)
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w: %s", err, out.Bytes())
	}
	r, err := s.read(out.Bytes())
	if err != nil {
		return err
	}
	r.Server = cpuOf(nginx) - before
	s.all.add(r)
	s.cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return nil
}

func readJSON(b []byte) (r result, err error) { return r, json.Unmarshal(b, &r) }

var wrkSays = regexp.MustCompile(`(\d+) requests in ([0-9.]+)s`)

// readWrk reads what wrk prints for people: "12345 requests in 1.00s, 1.98MB read".
func readWrk(b []byte) (r result, err error) {
	m := wrkSays.FindSubmatch(b)
	if m == nil || bytes.Contains(b, []byte("Socket errors")) || bytes.Contains(b, []byte("Non-2xx")) {
		return r, fmt.Errorf("it says %q", b)
	}
	if r.Connections, err = strconv.ParseInt(string(m[1]), 10, 64); err == nil {
		r.Seconds, err = strconv.ParseFloat(string(m[2]), 64)
	}
	return r, err
}

func report(wrk, rpmig *side, turns int) {
	average, _ := os.ReadFile("/proc/loadavg")
	fmt.Printf("the clients of rpmig reload beside wrk: %d CPUs, %d turns each, load average %s\n", runtime.NumCPU(), turns, strings.TrimSpace(string(average)))
	fmt.Printf("%-10s %12s %16s %16s\n", "", "connections", "connections/s", "CPU/connection")
	sides := []*side{rpmig, wrk}
	rate, cpu := make([]float64, 2), make([]float64, 2)
	for i, s := range sides {
		rate[i] = float64(s.all.Connections) / s.all.Seconds
		cpu[i] = float64(s.cpu.Microseconds()) / float64(s.all.Connections)
		fmt.Printf("%-10s %12d %16.0f %13.1f µs\n", s.name, s.all.Connections, rate[i], cpu[i])
	}
	fmt.Printf("%-10s %12s %16.2f %16.2f\n", "ratio", "", rate[0]/rate[1], cpu[0]/cpu[1])
	fmt.Printf("%-10s %12s %16s %16s\n", "target", "", ">= 1.00", "<= 1.10")
	fmt.Printf("rpmig's clients did not run for %.2f s of %.0f\n", rpmig.all.Stalled, rpmig.all.Seconds)
}

// costs says what recording costs.
func costs(without *side, recording []*side) error {
	fmt.Printf("\nwhat recording costs: CPU of clients, recorder and server\n")
	fmt.Printf("%-10s %12s %16s %8s %8s   %s\n", "", "connections", "CPU/connection", "cost", "target", "lost")
	base := without.all.each()
	fmt.Printf("%-10s %12d %13.1f µs\n", "without", without.all.Connections, base)
	lost := 0
	for i, s := range recording {
		target, what := 5, fmt.Sprintf("%d of %d events", s.all.EventsLost, s.all.Events+s.all.EventsLost)
		if i > 0 {
			target, what = 15, fmt.Sprintf("%d of %d frames", s.all.FramesLost, s.all.Frames)
		}
		fmt.Printf("%-10s %12d %13.1f µs %+6.1f %% %5s%d %%   %s\n", s.name, s.all.Connections, s.all.each(), (s.all.each()/base-1)*100, "<= ", target, what)
		lost += s.all.EventsLost + s.all.FramesLost
	}
	if lost > 0 {
		return errors.New("events or frames were lost")
	}
	return nil
}

// endure plays one long turn.
func endure(long time.Duration, clients int) error {
	nginx, stop, err := startNginx()
	if err != nil {
		return err
	}
	defer stop()
	s := &side{args: []string{"/proc/self/exe", "-play", "-for", long.String(), "-clients", strconv.Itoa(clients), "-with", "trace,packets"}, read: readJSON}
	if err := s.turn(nginx); err != nil {
		return err
	}
	r := s.all
	const most = 5
	fmt.Printf("%d connections in %.0f s, with the trace and the ring of packets, %d CPUs\n", r.Connections, r.Seconds, runtime.NumCPU())
	fmt.Printf("resident memory: %.1f MiB after %v, %.1f at the end, %.1f at most (target: ± %d)\n", r.First, settled, r.Last, r.Most, most)
	fmt.Printf("frames lost: %d of %d\n", r.FramesLost, r.Frames)
	fmt.Printf("events lost: %d of %d; of %d connections that were refused, %d are told\n", r.EventsLost, r.Events+r.EventsLost, r.Refused, min(r.Told, r.Refused))
	fmt.Printf("rpmig's clients did not run for %.2f s\n", r.Stalled)
	switch {
	case r.FramesLost+r.EventsLost > 0 || r.Told < r.Refused:
		return errors.New("events or frames were lost")
	case r.Most-r.First > most:
		return errors.New("it takes more and more memory")
	}
	return nil
}

// One process, so that nothing of it outlives a signal.
const nginxConf = `master_process off; daemon off; pid %[1]s/pid; error_log stderr crit;
events { worker_connections 8192; }
http { access_log off; server { listen %[2]s backlog=4096; location / { return 200 "Hello"; } } }
`

// startNginx starts it in the namespace of the calling thread, which it sets up, and returns its process when it listens.
func startNginx() (pid int, stop func(), err error) {
	for _, s := range []netns.Sysctl{
		{Name: "net.core.somaxconn", Value: "4096"},
		{Name: "net.ipv4.ip_local_port_range", Value: "1100 65535"},
		{Name: "net.ipv4.tcp_tw_reuse", Value: "1"}, // wrk has one address
	} {
		if err := s.Set(); err != nil {
			return 0, nil, err
		}
	}
	nginx, err := findNginx()
	if err != nil {
		return 0, nil, err
	}
	folder, err := os.MkdirTemp("", "rpmig-bench-")
	if err != nil {
		return 0, nil, err
	}
	conf := filepath.Join(folder, "nginx.conf")
	cmd := exec.Command(nginx, "-p", folder, "-e", "stderr", "-c", conf)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stop = func() {
		if cmd.Process != nil {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			_ = cmd.Wait()
		}
		_ = os.RemoveAll(folder)
	}
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, folder, at), 0o600); err != nil {
		stop()
		return 0, nil, err
	}
	if err := cmd.Start(); err != nil {
		stop()
		return 0, nil, err
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", at.String()); err == nil {
			_, _ = io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
			reply, _ := io.ReadAll(c)
			_ = c.Close()
			if bytes.HasSuffix(reply, []byte("Hello")) {
				return cmd.Process.Pid, stop, nil
			}
		}
	}
	stop()
	return 0, nil, errors.New("nginx does not answer")
}

// cpuOf is the CPU time of a process, as clock_getcpuclockid(3) has it.
func cpuOf(pid int) time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(int32(^pid<<3|2), &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// findNginx looks where Debian puts it as well, which the PATH of others than root leaves out.
func findNginx() (string, error) {
	if path, err := exec.LookPath("nginx"); err == nil {
		return path, nil
	}
	return exec.LookPath("/usr/sbin/nginx")
}
