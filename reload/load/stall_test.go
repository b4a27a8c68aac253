package load_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/reload/load"
)

// role has the test's executable be another process of a test.
const role = "RPMIG_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(role) {
	case "generator":
		end(generate())
	case "server":
		end(serveAlone())
	}
	goleak.VerifyTestMain(m)
}

func end(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// generate is a process with four clients, until its input ends.
func generate() error {
	e, err := load.Start(context.Background(), load.Config{To: at, Clients: 4, Request: get(), Timeout: 20 * time.Second})
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	r, err := e.Stop(0)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(missed{r.Counts, r.Stalls})
}

// missed is what a generator reports.
type missed struct {
	Counts load.Counts
	Stalls []load.Stall
}

// serveAlone is a server, until its input ends.
func serveAlone() error {
	var config net.ListenConfig
	config.SetMultipathTCP(false)
	listener, err := config.Listen(context.Background(), "tcp", at.String())
	if err != nil {
		return err
	}
	fmt.Println("listening")
	go func() {
		var b [4096]byte
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(b[:])
			_, _ = io.WriteString(c, right)
			c.Close()
		}
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
	return nil
}

// process is another process of a test, in the namespace of the calling thread.
type process struct {
	*exec.Cmd
	stdin  io.Closer
	stdout *bufio.Reader
}

func start(t *testing.T, as string) (*process, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), role+"="+as)
	cmd.Stderr = t.Output()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { stdin.Close(); _ = cmd.Wait() })
	return &process{cmd, stdin, bufio.NewReader(stdout)}, cmd.Start()
}

// TestStopped: what a generator that was stopped meanwhile has missed is void, and the same is a loss where it ran.
func TestStopped(t *testing.T) {
	for _, test := range []struct {
		name    string
		stopped bool
	}{{"stopped", true}, {"not stopped", false}} {
		t.Run(test.name, func(t *testing.T) {
			inNamespace(t, func() error {
				held, free, served := make(chan struct{}, 4), make(chan struct{}), make(chan struct{})
				var count atomic.Int32
				err := serve(t, at, func(c net.Conn) {
					asked(c)
					select {
					case <-free: // those that come later
						io.WriteString(c, right)
						if count.Add(1) == 20 {
							close(served)
						}
					default:
						held <- struct{}{}
						<-free
						_ = c.(*net.TCPConn).SetLinger(0)
					}
				})
				if err != nil {
					return err
				}
				p, err := start(t, "generator")
				if err != nil {
					return err
				}
				for range 4 {
					<-held
				}
				if test.stopped {
					if err := stop(p.Process); err != nil {
						return err
					}
				}
				close(free)
				if test.stopped {
					<-time.After(1500 * time.Millisecond) // it is the time that it has missed
					if err := p.Process.Signal(unix.SIGCONT); err != nil {
						return err
					}
				}
				<-served // the four had to end for that
				r, err := p.report()
				if err != nil {
					return err
				}
				return judge(r, test.stopped)
			})
		})
	}
}

func judge(r missed, stopped bool) error {
	seen := fmt.Errorf("%v, stalls %v", r.Counts, r.Stalls)
	long := slices.ContainsFunc(r.Stalls, func(s load.Stall) bool { return s.To-s.From > time.Second })
	switch {
	case stopped && (r.Counts[load.Void] != 4 || r.Counts.Lost() != 0 || !long):
		return fmt.Errorf("want 4 void and none lost: %w", seen)
	case !stopped && r.Counts[load.ResetBefore]+r.Counts[load.Void] != 4, !stopped && len(r.Stalls) == 0 && r.Counts[load.Void] > 0:
		return fmt.Errorf("want 4 resets: %w", seen)
	}
	return nil
}

// stop stops a process, and returns when it has stopped.
func stop(p *os.Process) error {
	if err := p.Signal(unix.SIGSTOP); err != nil {
		return err
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.Pid))
		if err != nil {
			return err
		}
		if strings.Contains(string(stat), ") T ") {
			return nil
		}
	}
	return errors.New("it does not stop")
}

// report ends a generator and takes its report.
func (p *process) report() (r missed, err error) {
	p.stdin.Close()
	return r, json.NewDecoder(p.stdout).Decode(&r)
}

// TestAllocations: a connection costs no memory, and neither do fifty thousand.
func TestAllocations(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes 5 s")
	}
	inNamespace(t, func() error {
		p, err := start(t, "server")
		if err != nil {
			return err
		}
		if _, err := p.stdout.ReadString('\n'); err != nil {
			return err
		}
		sources := []netip.Addr{netip.MustParseAddr("127.0.1.1"), netip.MustParseAddr("127.0.1.2"), netip.MustParseAddr("127.0.1.3")}
		e, err := load.Start(t.Context(), load.Config{To: at, Sources: sources, Clients: 16, Request: get()})
		if err != nil {
			return err
		}
		const warm, count = 2_000, 50_000
		from, err := mallocs(e, warm)
		if err != nil {
			return err
		}
		to, err := mallocs(e, warm+count)
		if err != nil {
			return err
		}
		r, err := e.Stop(time.Second)
		if err != nil {
			return err
		}
		t.Logf("%d allocations for %d connections: %v, %d stalls", to-from, count, r.Counts, len(r.Stalls))
		if to-from > count/100 {
			return fmt.Errorf("%d allocations for %d connections", to-from, count)
		}
		return nil
	})
}

// mallocs is how often memory was allocated until so many connections ended.
func mallocs(e *load.Engine, count int64) (uint64, error) {
	for end := time.Now().Add(2 * time.Minute); total(e.Counts()) < count; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return 0, fmt.Errorf("only %v", e.Counts())
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs, nil
}
