//go:build linux

package main

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/result"
)

// quick are flags with which a cycle takes little time.
var quick = []string{"reload", "--warm-up=200ms", "--still=150ms", "--ready=20s", "--format=jsonl"}

// reloadCells plays rpmig reload, which is to end with the status, and returns its cells by mode.
func reloadCells(t *testing.T, p *process, status int) map[string]*result.Cell {
	t.Helper()
	p.want(status, nil, nil)
	followSchema(t, p.stdout.Bytes())
	run, err := result.Read(&p.stdout)
	if err != nil {
		t.Fatal(err)
	}
	cells := map[string]*result.Cell{}
	for i := range run.Cells {
		c := &run.Cells[i]
		cells[c.Mode] = c
		if cycles := c.Reload.Cycles; (c.At > 0) != (len(cycles) > 0) || c.At > 0 && c.At <= cycles[0].At {
			t.Errorf("%s began %v s after the run did, which was before the load; its cycles: %+v", c.ID(), c.At, cycles)
		}
	}
	if took, known := run.Took(); known != (took > 0) || took > time.Since(run.Header.Started.Time).Seconds() {
		t.Errorf("it took %v s, and began at %v", took, run.Header.Started)
	}
	return cells
}

func reloadArgs(more ...string) []string { return append(append([]string{}, quick...), more...) }

// TestServerName: it is a word of a cell's name, whatever the command is called.
func TestServerName(t *testing.T) {
	for _, tt := range [][3]string{
		{"", "/usr/sbin/nginx", "nginx"}, {"", "./my_srv v2.sh", "my-srv-v2-sh"}, {"", "/opt/сервер", "server"}, {"", "./__", "server"},
		{"a/b c", "nginx", "a-b-c"},
	} {
		if got := serverName(tt[0], tt[1]); got != tt[2] {
			t.Errorf("--name=%q of %q: %q, want %q", tt[0], tt[1], got, tt[2])
		}
	}
}

// TestReloadModes: the oddserver loses what waits in its queues, and in each mode that migrates it loses nothing. The kernel's trace
// says why. An MPTCP listener takes the program by a guest.
func TestReloadModes(t *testing.T) {
	t.Parallel()
	needRoot(t)
	if !canBPF() {
		t.Skip("needs the migrate program: run as root, on Linux 5.14 or later")
	}
	for name, tt := range map[string]struct {
		server []string
		modes  string
		skip   string
	}{
		"tcp":   {[]string{"oddserver"}, "off,sysctl,bpf,bpf-drain", ""},
		"mptcp": {[]string{"oddserver", "-mptcp"}, "off,sysctl,bpf,bpf-drain", "bpf-drain"},
		"ipv4":  {[]string{"oddserver", "-at", "0.0.0.0:80"}, "off,bpf", ""},
		"two groups, of which clients reach the second": {
			[]string{"sh", "-c", "oddserver -at=[::1]:80 -listeners=1 & exec oddserver -at=127.0.0.1:80 -wait=200ms"}, "bpf", ""},
		"uid":   {[]string{"oddserver"}, "off,bpf", ""},
		"drain": {[]string{"oddserver", "-listeners=3", "-each=100ms", "-overlap=400ms"}, "bpf-drain", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := reloadArgs("--cycles=2", "--migrate="+tt.modes, "--reload=signal:HUP")
			switch name {
			case "uid":
				args = append(args, "--uid=65534")
			case "drain": // they come one by one, and that new ones have come is not the end of it
				args = append(args, "--still=800ms")
			}
			cells := reloadCells(t, command(t, "rpmig", append(append(args, "--"), tt.server...)...), 0)
			for _, mode := range strings.Split(tt.modes, ",") {
				c := cells[mode]
				switch lost := c.Reload.Lost; {
				case mode == tt.skip:
					if c.Status != result.Skip || !matches("MPTCP", c.Reason) {
						t.Errorf("%s: %s: %s", mode, c.Status, c.Reason)
					}
				case mode == "off":
					// Now and then one meets race B as well.
					if lost == 0 || c.Reload.Of(result.OfKernel)+c.Reload.Of(result.OfRace) != lost || c.Reload.Causes[0].By != "oddserver" {
						t.Errorf("off: lost %d, %+v", lost, c.Reload.Causes)
					}
					if c.Reload.Pause == 0 || c.Reload.Between.Count == 0 {
						t.Errorf("off: reloads that take no time, or all of it: a pause of %v s, and %d replies between", c.Reload.Pause, c.Reload.Between.Count)
					}
					if !slices.Contains(c.Reload.Examples[0].Stack, "inet_csk_listen_stop") && c.Reload.Examples[0].By != "" {
						t.Errorf("off: its stack is not that of a listener that closes: %+v", c.Reload.Examples[0])
					}
				case lost > c.Reload.Of(result.OfRace):
					t.Errorf("%s: %s, %+v", mode, c.Reason, c.Reload.Causes)
				case mode != "bpf-drain" && c.Counters[result.MigrateSuccess] == 0:
					t.Errorf("%s: nothing migrated", mode)
				case strings.HasPrefix(mode, "bpf") && c.Program.SYN == 0:
					t.Errorf("%s: the program saw nothing", mode)
				case name == "drain" && c.Program.Named == 0: // otherwise the new listeners may have been there for too short a time
					t.Errorf("%s: the program named none of the new listeners: %+v", mode, c.Program)
				}
			}
		})
	}
}

// TestReloadLittleGarbage: while the load is plain TCP, the heap grows by a fifth before it is collected, and not to eight times its size,
// which is what commands leave it. The runtime says what it is about to let grow (runtime, "gctrace"); the server has another one.
func TestReloadLittleGarbage(t *testing.T) {
	t.Parallel()
	needPlay(t)
	goal := regexp.MustCompile(`gc \d+ @.* (\d+) MB goal`)
	for what, c := range map[string]struct {
		client []string
		little bool
	}{"plain TCP": {nil, true}, "commands": {[]string{"--client=exit 0", "--clients=2"}, false}} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			p := command(t, "rpmig", append(reloadArgs(c.client...), "--cycles=1", "--migrate=sysctl", "--env=GODEBUG=", "--reload=signal:HUP", "--", "oddserver")...)
			p.Env = append(p.Env, "GODEBUG=gctrace=1")
			reloadCells(t, p, 0)
			little := 0
			for _, said := range goal.FindAllStringSubmatch(p.stderr.String(), -1) {
				const least = 32 // MB: the runtime's 4, at 800 %
				if n, err := strconv.Atoi(said[1]); err != nil || n < least {
					little++
				}
			}
			if little > 0 != c.little {
				t.Errorf("%d collections of a small heap:\n%s", little, &p.stderr)
			}
		})
	}
}

// TestReloadLate: what a client tells late is of the mode in which its connection was lost, and not of the next.
func TestReloadLate(t *testing.T) {
	t.Parallel()
	needPlay(t)
	// In the order of this seed each off is followed by sysctl.
	args := reloadArgs("--cycles=3", "--seed=23", "--migrate=off,sysctl", "--clients=8", "--client=exec oddserver -late", "--reload=signal:HUP", "--", "oddserver")
	cells := reloadCells(t, command(t, "rpmig", args...), 0)
	if off, sysctl := cells["off"], cells["sysctl"]; off.Reload.Lost == 0 || sysctl.Reload.Lost > 0 {
		t.Errorf("off: %s; sysctl: %s", off.Reason, sysctl.Reason)
	}
}

// TestReloadNothingToAttachTo: a listener without SO_REUSEPORT has no group.
func TestReloadNothingToAttachTo(t *testing.T) {
	t.Parallel()
	needRoot(t)
	if !canBPF() {
		t.Skip("needs the migrate program: run as root, on Linux 5.14 or later")
	}
	args := reloadArgs("--cycles=1", "--migrate=bpf", "--reload=signal:HUP", "--", "oddserver", "-alone", "-listeners=1", "-deaf")
	if c := reloadCells(t, command(t, "rpmig", args...), result.ExitSkip)["bpf"]; !matches("no SO_REUSEPORT", c.Reason) {
		t.Errorf("%s: %s", c.Status, c.Reason)
	}
}

// TestReloadApplication: what the server has accepted, and closes without an answer, is not the kernel's, in any mode.
func TestReloadApplication(t *testing.T) {
	t.Parallel()
	needRoot(t)
	args := reloadArgs("--cycles=2", "--migrate=off,sysctl", "--reload=signal:HUP", "--", "oddserver", "-abort")
	cells := reloadCells(t, command(t, "rpmig", args...), 1)
	c := cells["sysctl"]
	if c.Reload.Of(result.OfApplication) == 0 || c.Reload.Of(result.OfKernel) > 0 || c.Status != result.Fail {
		t.Errorf("%s: %s, %+v", c.Status, c.Reason, c.Reload.Causes)
	}
}

// TestReloadOrdinaryUser: off and sysctl are played without root, and the program's modes say what they lack.
func TestReloadOrdinaryUser(t *testing.T) {
	t.Parallel()
	needPlay(t)
	uid := ordinary()
	args := reloadArgs("--cycles=2", "--migrate=all", "--reload=signal:HUP", "--", "oddserver")
	cells := reloadCells(t, command(t, "rpmig", args...).as(uid), 0)
	if c := cells["off"]; c.Status != result.Pass || c.Reload.Lost == 0 || c.Reload.Untraced == "" {
		t.Errorf("off: %s: %s", c.Status, c.Reason)
	}
	if c := cells["sysctl"]; c.Status != result.Pass {
		t.Errorf("sysctl: %s: %s", c.Status, c.Reason)
	}
	for _, mode := range []string{"bpf", "bpf-drain"} {
		if c := cells[mode]; c.Status != result.Skip || !matches("CAP_BPF.*sudo rpmig", c.Reason) {
			t.Errorf("%s: %s: %s, want a SKIP with its reason", mode, c.Status, c.Reason)
		}
	}
}

// TestReloadPackets: the capture of a mode has the reset of each connection that it lost, with a comment, and no other.
func TestReloadPackets(t *testing.T) {
	t.Parallel()
	needPlay(t)
	p := command(t, "rpmig", reloadArgs("--cycles=2", "--migrate=off,sysctl", "--packets", "--out=out", "--reload=signal:HUP", "--", "oddserver")...)
	cells := reloadCells(t, p, 0)
	if c := cells["sysctl"]; c.Capture.File != "" {
		t.Errorf("sysctl lost %d, and has %+v", c.Reload.Lost, c.Capture)
	}
	off := cells["off"]
	if off.Capture.Lost > 0 || off.Capture.Packets > framesKept*int(off.Reload.Lost) {
		t.Errorf("off lost %d, and has %+v", off.Reload.Lost, off.Capture)
	}
	if _, err := exec.LookPath("tshark"); err != nil {
		t.Skip("needs tshark to read it: sudo make deps")
	}
	out, err := exec.Command("tshark", "-r", filepath.Join(p.dir, "out", off.Capture.File), "-Y", "tcp.flags.reset == 1 || pkt_comment",
		"-T", "fields", "-e", "tcp.flags.reset", "-e", "frame.comment").Output()
	if err != nil {
		t.Fatal(err)
	}
	lost, text := int(off.Reload.Lost), string(out)
	if resets, comments := len(regexp.MustCompile(`(?m)^(1|True)\b`).FindAllString(text, -1)), strings.Count(text, "cycle"); resets != lost || comments != lost {
		t.Errorf("%d lost, %d resets, %d comments:\n%s", lost, resets, comments, text)
	}
}

// framesKept is how many there are of a connection at most.
const framesKept = 12

// TestReloadSeed: the same seed plays the modes in the same order.
func TestReloadSeed(t *testing.T) {
	t.Parallel()
	needPlay(t)
	order := func() (order [9]string) {
		args := reloadArgs("--cycles=4", "--seed=3", "--migrate=off,sysctl", "--reload=signal:HUP", "--", "oddserver")
		for mode, c := range reloadCells(t, command(t, "rpmig", args...), 0) {
			for _, cycle := range c.Reload.Cycles {
				order[cycle.Number] = mode
			}
		}
		return order
	}
	if diff := gocmp.Diff(order(), order()); diff != "" {
		t.Error(diff)
	}
}

// TestReloadEnds: however rpmig ends, the server ends with it, and whatever that has forked.
func TestReloadEnds(t *testing.T) {
	t.Parallel()
	needPlay(t)
	for _, uid := range users() {
		for _, sig := range []unix.Signal{unix.SIGKILL, unix.SIGTERM, unix.SIGINT} {
			t.Run(fmt.Sprintf("%s/%d", unix.SignalName(sig), uid), func(t *testing.T) {
				t.Parallel()
				p := command(t, "rpmig", "reload", "--cycles=10000", "--migrate=off", "--ready=20s", "--warm-up=100ms", "--still=100ms", "--out=out",
					"--reload", "echo >>reloaded; kill -HUP $RPMIG_PID", "--", "oddserver", "-forks=20").as(uid).leader()
				p.start()
				until(t, "it has been reloaded twice", func() bool {
					b, err := os.ReadFile(filepath.Join(p.dir, "reloaded"))
					return err == nil && len(b) > 2
				})
				if n := len(p.marked()); n < 22 {
					t.Errorf("%d processes, want 22 or more: two of rpmig, the server and 20 others", n)
				}
				to := p.Process.Pid
				if sig == unix.SIGINT {
					to = -to // as a terminal does it
				}
				if err := unix.Kill(to, sig); err != nil {
					t.Fatal(err)
				}
				<-p.ended
				until(t, "no process is left", func() bool { return len(p.marked()) == 0 })
				if got := p.ProcessState.ExitCode(); sig != unix.SIGKILL && got != result.ExitSoftware {
					t.Errorf("exit status %d: %s", got, &p.stderr)
				}
				if sig != unix.SIGKILL {
					if !matches(`off +\d+ of \d+ lost in \d+ cycles?`, p.stdout.String()) || !matches(`interrupted after \d+ of 10000 cycles`, p.stderr.String()) {
						t.Errorf("it reports %s%s", &p.stdout, &p.stderr)
					}
					command(t, "rpmig", "report", filepath.Join(p.dir, "out")).want(0, []string{`off +\d+ of \d+ lost`}, nil)
				}
			})
		}
	}
}

// TestReloadKilled: in whatever it is killed, nothing is left of it.
func TestReloadKilled(t *testing.T) {
	t.Parallel()
	needPlay(t)
	for name, tt := range map[string]struct{ setup, reload, server string }{
		"in the setup":              {setup: "touch here; sleep 1000"},
		"before the server listens": {setup: "touch here", server: "-wait=1000s"},
		"before it answers":         {setup: "touch here", server: "-mute"},
		"in a reload that hangs":    {reload: "touch here; sleep 1000"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := command(t, "rpmig", "reload", "--migrate=off", "--ready=1000s", "--deadline=1000s", "--warm-up=100ms",
				"--setup="+cmp.Or(tt.setup, "true"), "--reload="+cmp.Or(tt.reload, "true"), "--", "oddserver", "-forks=20", cmp.Or(tt.server, "-listeners=1"))
			p.start()
			until(t, "it is there", func() bool {
				_, err := os.Stat(filepath.Join(p.dir, "here"))
				return err == nil
			})
			if err := p.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			<-p.ended
			until(t, "no process is left", func() bool { return len(p.marked()) == 0 })
		})
	}
}

const nginxConf = `daemon off; worker_processes %d; pid nginx.pid; error_log stderr warn; user root;
events { worker_connections 512; }
http { access_log off; server { listen 80 reuseport; return 200 "ok\n"; } }
`

// TestReloadNginx: nginx goes from 8 listeners to 1 and back. What it loses is in their queues, and with migration nothing.
func TestReloadNginx(t *testing.T) {
	t.Parallel()
	needRoot(t)
	if _, err := exec.LookPath("nginx"); err != nil {
		t.Skip("needs nginx: sudo make deps")
	}
	p := command(t, "rpmig")
	for name, workers := range map[string]int{"eight.conf": 8, "one.conf": 1, "nginx.conf": 8} {
		if err := os.WriteFile(filepath.Join(p.dir, name), []byte(fmt.Sprintf(nginxConf, workers)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	reload := func(conf string) string {
		return fmt.Sprintf("--reload=cp %s nginx.conf && nginx -p . -c nginx.conf -s reload", conf)
	}
	p.Args = append(p.Args, reloadArgs("--cycles=2", "--still=600ms", "--migrate=off,sysctl", "--clients=48", reload("one.conf"), reload("eight.conf"),
		"--", "nginx", "-p", ".", "-c", "nginx.conf")...)
	cells := reloadCells(t, p, 0)
	// Whether something waits in the queues when nginx closes them is chance.
	if off := cells["off"].Reload; off.Of(result.OfKernel)+off.Of(result.OfRace) != off.Lost {
		t.Errorf("off lost %d: %+v", off.Lost, off.Causes)
	} else {
		t.Logf("off: %s", off.Rating())
	}
	for _, cycle := range cells["off"].Reload.Cycles {
		if cycle.Steps[0].Listeners != 1 || cycle.Steps[1].Listeners != 8 {
			t.Errorf("listeners: %+v", cycle.Steps)
		}
	}
	if c := cells["sysctl"]; c.Reload.Lost > c.Reload.Of(result.OfRace) {
		t.Errorf("sysctl: %s: %+v", c.Reason, c.Reload.Causes)
	}
}

// TestRecipes: those of docs/recipes whose servers are at hand on every machine of ours can be played.
func TestRecipes(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir, err := filepath.Abs(filepath.Join("..", "..", "docs", "recipes"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"nginx", "nginx-shared", "go"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(strings.TrimSuffix(name, "-shared")); err != nil {
				t.Skip("needs nginx: sudo make deps")
			}
			p := command(t, "sh", filepath.Join(dir, name+".sh"), "--cycles=1", "--migrate=sysctl", "--max-lost=1000", "--format=jsonl")
			p.Env = append(p.Env, "RPMIG="+rpmigPath(t))
			cells := reloadCells(t, p, 0)
			if c := cells["sysctl"]; c.Reload.Connections == 0 || len(c.Reload.Cycles) != 1 {
				t.Errorf("%s: %s", c.Status, c.Reason)
			}
		})
	}
}
