//go:build linux

// Command load measures the clients of rpmig reload beside wrk: connections a second, and CPU a connection, against the same nginx
// in one network namespace. It fails when a command fails or a connection is lost, never because one was slow.
package main

import (
	"bytes"
	"context"
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

	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/reload/load"
)

var at = netip.MustParseAddrPort("127.0.0.1:80")

func main() {
	turns := flag.Int("turns", 10, "measure each `N` times, in the order ABBA")
	each := flag.Duration("each", time.Second, "how `long` a turn is")
	clients := flag.Int("clients", 24, "`N` connections at a time")
	play := flag.Bool("play", false, "be the clients of rpmig for one turn, in the namespace that this is started in")
	flag.Parse()
	err := errors.New("-turns and -clients must be 1 or more, -each a second or more")
	switch {
	case *turns < 1 || *clients < 1 || *each < time.Second:
	case *play:
		err = playTurn(*each, *clients)
	case os.Geteuid() != 0:
		err = errors.New("it takes a network namespace: run it as root")
	default:
		err = netns.Do(func() error { return measure(*turns, *each, *clients) })
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "load: error: %v\n", err)
		os.Exit(1)
	}
}

// playTurn plays one turn, and prints what came of it.
func playTurn(each time.Duration, clients int) error {
	c := load.Config{To: at, Clients: clients, Request: load.Request{HTTP: &load.HTTP{}}}
	for i := range min(clients, 24) {
		c.Sources = append(c.Sources, netip.AddrFrom4([4]byte{127, 0, 1, byte(i + 1)}))
	}
	e, err := load.Start(context.Background(), c)
	if err != nil {
		return err
	}
	select {
	case <-time.After(each):
	case <-e.Done():
	}
	r, err := e.Stop(time.Second)
	if err != nil {
		return err
	}
	if len(r.Lost) > 0 {
		return fmt.Errorf("%d lost, the first: %+v", r.Counts.Lost(), r.Lost[0])
	}
	return json.NewEncoder(os.Stdout).Encode(result{r.Counts[load.OK], (r.To - r.From).Seconds(), r.Stalled.Seconds()})
}

// result is what one or all turns of a program came to.
type result struct {
	Connections int64
	Seconds     float64
	Stalled     float64 // of them, those in which rpmig's clients did not run
}

// side is one of the two.
type side struct {
	name string
	args []string
	read func([]byte) (result, error)
	all  result
	cpu  time.Duration
}

func measure(turns int, each time.Duration, clients int) error {
	for _, s := range []netns.Sysctl{
		{Name: "net.core.somaxconn", Value: "4096"},
		{Name: "net.ipv4.ip_local_port_range", Value: "1100 65535"},
		{Name: "net.ipv4.tcp_tw_reuse", Value: "1"}, // wrk has one address
	} {
		if err := s.Set(); err != nil {
			return err
		}
	}
	stop, err := startNginx()
	if err != nil {
		return err
	}
	defer stop()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	n := strconv.Itoa(clients)
	sides := []*side{
		{name: "rpmig", args: []string{self, "-play", "-each", each.String(), "-clients", n}, read: readJSON},
		{name: "wrk -t1", args: []string{"wrk", "-t1", "-c" + n, "-d" + each.Round(time.Second).String(), "-H", "Connection: close", "http://" + at.String() + "/"}, read: readWrk},
	}
	for turn := range 2 * turns {
		s := sides[(turn+1)/2%2] // ABBA
		if err := s.turn(); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		fmt.Fprintf(os.Stderr, "load: turn %d of %d\n", turn+1, 2*turns)
	}
	report(sides, turns)
	return nil
}

func (s *side) turn() error {
	cmd := exec.Command(s.args[0], s.args[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w: %s", err, out.Bytes())
	}
	r, err := s.read(out.Bytes())
	if err != nil {
		return err
	}
	s.all.Connections += r.Connections
	s.all.Seconds += r.Seconds
	s.all.Stalled += r.Stalled
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

func report(sides []*side, turns int) {
	average, _ := os.ReadFile("/proc/loadavg")
	fmt.Printf("the clients of rpmig reload beside wrk: %d CPUs, %d turns each, load average %s\n", runtime.NumCPU(), turns, strings.TrimSpace(string(average)))
	fmt.Printf("%-10s %12s %16s %16s\n", "", "connections", "connections/s", "CPU/connection")
	rate, cpu := make([]float64, 2), make([]float64, 2)
	for i, s := range sides {
		rate[i] = float64(s.all.Connections) / s.all.Seconds
		cpu[i] = float64(s.cpu.Microseconds()) / float64(s.all.Connections)
		fmt.Printf("%-10s %12d %16.0f %13.1f µs\n", s.name, s.all.Connections, rate[i], cpu[i])
	}
	fmt.Printf("%-10s %12s %16.2f %16.2f\n", "ratio", "", rate[0]/rate[1], cpu[0]/cpu[1])
	fmt.Printf("%-10s %12s %16s %16s\n", "target", "", ">= 1.00", "<= 1.10")
	fmt.Printf("rpmig's clients did not run for %.2f s of %.0f\n", sides[0].all.Stalled, sides[0].all.Seconds)
}

// One process, so that nothing of it outlives a signal.
const nginxConf = `master_process off; daemon off; pid %[1]s/pid; error_log stderr crit;
events { worker_connections 8192; }
http { access_log off; server { listen %[2]s backlog=4096; location / { return 200 "Hello"; } } }
`

// startNginx starts it in the namespace of the calling thread, and returns when it listens.
func startNginx() (stop func(), err error) {
	nginx, err := findNginx()
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "rpmig-bench-")
	if err != nil {
		return nil, err
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
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		stop()
		return nil, err
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", at.String()); err == nil {
			_, _ = io.WriteString(c, "GET / HTTP/1.0\r\n\r\n")
			reply, _ := io.ReadAll(c)
			_ = c.Close()
			if bytes.HasSuffix(reply, []byte("Hello")) {
				return stop, nil
			}
		}
	}
	stop()
	return nil, errors.New("nginx does not answer")
}

// findNginx looks where Debian puts it as well, which the PATH of others than root leaves out.
func findNginx() (string, error) {
	if path, err := exec.LookPath("nginx"); err == nil {
		return path, nil
	}
	return exec.LookPath("/usr/sbin/nginx")
}
