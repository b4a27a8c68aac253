//go:build linux

// Command bench measures rpmig beside the talk's two scripts, in one run, and prints each figure with its target. It
// fails when a command fails, never because one was slow: that is for whoever reads the table.
//
// It uses the standard library only, and sees rpmig from the outside.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

func main() {
	rpmig := flag.String("rpmig", "bin/rpmig", "the `program` to measure")
	scripts := flag.String("scripts", "bench", "the `folder` of quiz1.py and quiz2.py")
	rounds := flag.Int("rounds", 5, "measure everything `N` times")
	cells := flag.Int("cells", 1000, "cells in a long run")
	only := flag.Int("bare", 0, "do the kernel's part of `N` cells and nothing else, in the namespace that this is started in")
	connections := flag.Int("connections", 1, "with -bare: connections in each")
	survivors := flag.Int("survivors", 1, "with -bare: how many of these talk")
	flag.Parse()
	if *only > 0 {
		if err := bare(*only, *connections, *survivors); err != nil {
			fmt.Fprintf(os.Stderr, "bench: error: %v\n", err)
			os.Exit(1)
		}
		return
	}
	if err := run(*rpmig, *scripts, *rounds, *cells); err != nil {
		fmt.Fprintf(os.Stderr, "bench: error: %v\n", err)
		os.Exit(1)
	}
}

// figure is one line of the table: what was measured in each round, and what is wanted.
type figure struct {
	name   string
	unit   string
	values []float64
	target float64 // 0: there is none
	least  bool    // the target is a least and not a most
}

func run(rpmig, scripts string, rounds, cells int) error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("it takes network namespaces and BPF: run it as root")
	}
	if rounds < 1 || cells < 1 {
		return fmt.Errorf("nothing to measure: -rounds and -cells must be 1 or more")
	}
	folder, err := os.MkdirTemp("", "rpmig-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(folder) }()
	b := &benchmark{scripts: scripts, cells: cells, folder: folder, many: strconv.Itoa(cells) + " quiz"}
	if b.rpmig, err = filepath.Abs(rpmig); err != nil {
		return err
	}
	if err := b.choose(); err != nil {
		return err
	}
	before, err := readCPU()
	if err != nil {
		return err
	}
	if err := b.measure(rounds); err != nil {
		return err
	}
	after, err := readCPU()
	if err != nil {
		return err
	}
	fmt.Printf("rpmig beside the talk's scripts: %d CPUs, %d rounds\n\n", runtime.NumCPU(), rounds)
	fmt.Printf("%-28s %11s  %-15s %8s %6s\n", "", "median", "min - max", "target", "ratio")
	for _, f := range b.figures() {
		fmt.Println(f.line())
	}
	fmt.Printf("\nratio: how many times better than the target. What each said last:\n\n")
	for i, c := range b.commands {
		fmt.Printf("%s: %s\n", c.name, b.said[i])
	}
	fmt.Printf("\n%s\n", before.until(after))
	return nil
}

// benchmark is what is measured, and what came of it.
type benchmark struct {
	rpmig, scripts, folder string
	cells                  int    // of a long run
	many                   string // what a long run is called
	chain                  float64
	page                   int // bytes
	commands               []command
	browser                bool // a page is opened

	seconds, mebibytes [][]float64 // by command, and by round
	said               []string    // last, by command
	opened, timers     []float64   // by round
}

// The commands, by their place.
const (
	one1 = iota
	one2
	py1
	py2
	long1
	long2
	traced
	selftest
	told
	everything
	kernelsPart
	openPage
)

// choose finds out what is to be measured.
func (b *benchmark) choose() error {
	// The interpreter itself: "python3" may be a wrapper that takes as long as the script.
	out, err := exec.Command("python3", "-c", "import sys; print(sys.executable)").Output()
	if err != nil {
		return fmt.Errorf("find python3: %w", err)
	}
	python := strings.TrimSpace(string(out))
	if b.chain, err = longestChain(b.rpmig); err != nil {
		return err
	}
	all := []string{b.rpmig, "run", "all", "--migrate=all", "--family=all"}
	if b.page, err = writePage(filepath.Join(b.folder, "page.html"), append(slices.Clone(all), "--format=html")); err != nil {
		return err
	}
	played, connections, survivors, err := tally(all)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	long := func(scenario string, more ...string) []string {
		args := []string{b.rpmig, "run", scenario, "--migrate=sysctl", "--no-control", "--repeat", strconv.Itoa(b.cells), "-q"}
		return append(args, more...)
	}
	b.commands = []command{
		one1:       {name: "quiz1", args: []string{b.rpmig, "run", "quiz1", "-q"}},
		one2:       {name: "quiz2 --migrate=bpf", args: []string{b.rpmig, "run", "quiz2", "--migrate=bpf", "-q"}},
		py1:        {name: "quiz1.py", args: []string{python, filepath.Join(b.scripts, "quiz1.py")}, apart: true},
		py2:        {name: "quiz2.py", args: []string{python, filepath.Join(b.scripts, "quiz2.py")}, apart: true},
		long1:      {name: b.many + "1", args: long("quiz1")},
		long2:      {name: b.many + "2", args: long("quiz2", "--trace=off")},
		traced:     {name: b.many + "2, traced", args: long("quiz2", "--trace=on")},
		selftest:   {name: "selftest/*", args: []string{b.rpmig, "run", "selftest/*", "--migrate=bpf", "--no-control", "-q"}},
		told:       {name: "selftest/*, told", args: []string{b.rpmig, "run", "selftest/*", "--migrate=bpf", "--no-control", "--format=jsonl"}},
		everything: {name: "everything", args: append(slices.Clone(all), "-q")},
		kernelsPart: {name: "the kernel's part of it", apart: true, args: []string{
			self, "-bare", strconv.Itoa(played), "-connections", strconv.Itoa((connections + played - 1) / played),
			"-survivors", strconv.Itoa(survivors / played),
		}},
	}
	browser, err := exec.LookPath("chromium")
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: no chromium here, so no page is opened: apt-get install chromium")
		return nil
	}
	b.browser = true
	frame := filepath.Join(b.folder, "frame.html")
	b.commands = append(b.commands, command{name: "the page", args: []string{
		browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
		"--disable-extensions", "--user-data-dir=" + filepath.Join(b.folder, "profile"), "--dump-dom", "file://" + frame,
	}})
	return os.WriteFile(frame, []byte(timedFrame), 0o600)
}

// measure runs the commands round by round, so that what slows the machine for a while does not fall on one command alone.
func (b *benchmark) measure(rounds int) error {
	b.seconds, b.mebibytes = make([][]float64, len(b.commands)), make([][]float64, len(b.commands))
	b.said = make([]string, len(b.commands))
	for round := range rounds {
		for i, c := range b.commands {
			m, err := measure(c.args, c.apart)
			if err != nil {
				return err
			}
			b.seconds[i] = append(b.seconds[i], m.wall.Seconds())
			b.mebibytes[i] = append(b.mebibytes[i], m.mebibytes)
			lines := strings.Split(strings.TrimSpace(m.stdout), "\n")
			b.said[i] = lines[len(lines)-1]
			switch i {
			case told:
				timer, err := synACKTimer(m.stdout)
				if err != nil {
					return err
				}
				b.timers = append(b.timers, timer)
				b.said[i] = fmt.Sprintf("the SYN+ACK timer fired after %.3f s", timer)
			case openPage:
				_, body, _ := strings.Cut(b.said[i], "<body>")
				var ms float64
				if _, err := fmt.Sscanf(body, "%f ms", &ms); err != nil {
					return fmt.Errorf("open the page: chromium said %q", b.said[i])
				}
				b.opened = append(b.opened, ms/1000)
			}
		}
		fmt.Fprintf(os.Stderr, "bench: round %d of %d\n", round+1, rounds)
	}
	return nil
}

// figures are the lines of the table.
func (b *benchmark) figures() []figure {
	rate := func(i int) []float64 {
		return each(b.seconds[i], func(s float64) float64 { return float64(b.cells) / s })
	}
	// A script plays one cell: its seconds are the ratio of the rates.
	ratio := func(long, script int) []float64 {
		return each(rate(long), func(r float64) float64 { return r * median(b.seconds[script]) })
	}
	figures := []figure{
		{name: "quiz1: off, sysctl, bpf", unit: "s", values: b.seconds[one1], target: 0.15},
		{name: "quiz2 --migrate=bpf", unit: "s", values: b.seconds[one2], target: 0.5},
		{name: "quiz1.py", unit: "s", values: b.seconds[py1]},
		{name: "quiz2.py", unit: "s", values: b.seconds[py2]},
		{name: b.many + "1", unit: "s", values: b.seconds[long1]},
		{name: b.many + "1, rate", unit: "cells/s", values: rate(long1), target: 150, least: true},
		{name: b.many + "1, rate : quiz1.py", unit: "x", values: ratio(long1, py1)},
		{name: b.many + "1, peak memory", unit: "MiB", values: b.mebibytes[long1], target: 400},
		{name: b.many + "2", unit: "s", values: b.seconds[long2], target: 6 * float64(b.cells) / 1000},
		{name: b.many + "2, rate", unit: "cells/s", values: rate(long2)},
		{name: b.many + "2, rate : quiz2.py", unit: "x", values: ratio(long2, py2), target: 170, least: true},
		{name: b.many + "2, peak memory", unit: "MiB", values: b.mebibytes[long2], target: 400},
		{name: b.many + "2, trace and tables", unit: "%", values: more(b.seconds[traced], b.seconds[long2]), target: 10},
		{name: "selftest/*, all eight", unit: "s", values: b.seconds[selftest]},
		{name: "selftest/* : its timers", unit: "x", values: pairs(b.seconds[selftest], b.timers), target: 1.1},
		{name: "all, in all modes, families", unit: "s", values: b.seconds[everything], target: 1.25 * b.chain},
		{name: "the kernel's part of it", unit: "s", values: b.seconds[kernelsPart]},
		{name: "all : the kernel's part", unit: "x", values: pairs(b.seconds[everything], b.seconds[kernelsPart])},
		{name: "page of everything", unit: "MB", values: []float64{float64(b.page) / 1e6}, target: 5},
	}
	if b.browser {
		figures = append(figures, figure{name: "the page, opened", unit: "s", values: b.opened, target: 2})
	}
	return figures
}

// timedFrame is a page that opens the page and says how long it took to load, without the start of the browser.
const timedFrame = `<!doctype html><body><script>
const began = performance.now(), frame = document.createElement("iframe")
frame.onload = () => { document.body.textContent = (performance.now() - began).toFixed(0) + " ms" }
frame.src = "page.html"
document.body.append(frame)
</script>
`

// command is what is measured.
type command struct {
	name  string
	args  []string
	apart bool // in a namespace of its own, which rpmig sees to by itself
}

// longestChain is how many seconds of the kernel's timers the longest scenario sits out, by its own account.
func longestChain(rpmig string) (longest float64, err error) {
	out, err := exec.Command(rpmig, "list", "--json").Output()
	if err != nil {
		return 0, fmt.Errorf("rpmig list: %w", err)
	}
	var list struct {
		Scenarios []struct {
			Seconds float64 `json:"seconds"`
		} `json:"scenarios"`
	}
	if err := json.Unmarshal(out, &list); err != nil {
		return 0, fmt.Errorf("rpmig list: %w", err)
	}
	for _, s := range list.Scenarios {
		longest = max(longest, s.Seconds)
	}
	return longest, nil
}

// synACKTimer is how many seconds the SYN+ACK timer took at most in the cells of a ledger that sit it out: from a SYN to the
// second SYN+ACK. It is set to 1 s, and the kernel's timer wheel adds up to 36 ms to that (HZ=250, kernel/time/timer.c).
func synACKTimer(ledger string) (longest float64, err error) {
	for line := range strings.Lines(ledger) {
		var c struct {
			Scenario string
			Flow     []struct {
				Time float64
				Text string
			}
		}
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			return 0, fmt.Errorf("read the ledger: %w", err)
		}
		if !strings.Contains(c.Scenario, "timer") {
			continue
		}
		for _, s := range c.Flow {
			if strings.HasPrefix(s.Text, "S. ") { // as tcpdump has it
				longest = max(longest, s.Time-c.Flow[0].Time)
			}
		}
	}
	if longest < 1 {
		return 0, fmt.Errorf("read the ledger: no SYN+ACK timer fired, but after %v s", longest)
	}
	return longest, nil
}

// aStream is how many connections of a cell come and go, one after another, and say no more than a few bytes.
const aStream = 1000

// tally is how many cells a run plays, with how many connections in all, and how many of these live and talk with their server:
// those of a stream exchange a few bytes.
func tally(args []string) (cells, connections, survivors int, err error) {
	out, err := exec.Command(args[0], append(slices.Clone(args[1:]), "--format=jsonl")...).Output()
	if err != nil {
		return 0, 0, 0, fmt.Errorf("%s: %w", strings.Join(args, " "), err)
	}
	for line := range strings.Lines(string(out)) {
		var c struct {
			Scenario    string
			Connections struct{ Staged, Survived int }
			Stream      json.RawMessage
		}
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			return 0, 0, 0, fmt.Errorf("read the ledger: %w", err)
		}
		if c.Scenario != "" {
			cells++
			connections += c.Connections.Staged
			if c.Stream == nil && c.Connections.Staged < aStream {
				survivors += c.Connections.Survived
			}
		}
	}
	return cells, connections, survivors, nil
}

// pairs is how many times longer the one took than the other in the same round.
func pairs(xs, than []float64) []float64 {
	out := make([]float64, len(xs))
	for i := range xs {
		out[i] = xs[i] / than[i]
	}
	return out
}

// writePage writes a run's page to a file, and returns its size in bytes.
func writePage(file string, args []string) (int, error) {
	page, err := exec.Command(args[0], args[1:]...).Output()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", strings.Join(args, " "), err)
	}
	return len(page), os.WriteFile(file, page, 0o600)
}

// more is by how many percent the one took longer than the other in the same round.
func more(xs, than []float64) []float64 {
	out := make([]float64, len(xs))
	for i := range xs {
		out[i] = 100 * (xs[i]/than[i] - 1)
	}
	return out
}

func (f figure) line() string {
	mid := median(f.values)
	line := fmt.Sprintf("%-28s %11s  %-15s", f.name, short(mid)+" "+f.unit, short(slices.Min(f.values))+" - "+short(slices.Max(f.values)))
	if f.target == 0 {
		return strings.TrimRight(line, " ")
	}
	sign, margin := "<=", f.target/mid
	if f.least {
		sign, margin = ">=", mid/f.target
	}
	line += fmt.Sprintf(" %8s", sign+" "+short(f.target))
	if mid <= 0 { // a cost that is less than the noise
		return line
	}
	return line + fmt.Sprintf(" %6.2f", margin)
}

// short shows three digits that count.
func short(x float64) string {
	switch {
	case x >= 100:
		return strconv.FormatFloat(x, 'f', 0, 64)
	case x >= 10:
		return strconv.FormatFloat(x, 'f', 1, 64)
	case x >= 1:
		return strconv.FormatFloat(x, 'f', 2, 64)
	default:
		return strconv.FormatFloat(x, 'f', 3, 64)
	}
}

func each(xs []float64, f func(float64) float64) []float64 {
	ys := make([]float64, len(xs))
	for i, x := range xs {
		ys[i] = f(x)
	}
	return ys
}

func median(xs []float64) float64 {
	s := slices.Sorted(slices.Values(xs))
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}

// measured is what one command took.
type measured struct {
	wall      time.Duration
	mebibytes float64 // the peak of its resident memory
	stdout    string
}

// measure runs a command to its end, apart in a fresh network namespace if asked.
func measure(args []string, apart bool) (m measured, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if apart {
			// A child starts in the namespace of the thread that forks it. Never unlocked: the thread ends with the
			// goroutine, and the namespace with its last process.
			runtime.LockOSThread()
			if err = newNamespace(); err != nil {
				return
			}
		}
		cmd := exec.Command(args[0], args[1:]...)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		began := time.Now()
		err = cmd.Run()
		m.wall = time.Since(began)
		if err != nil {
			err = fmt.Errorf("%s: %w\n%s%s", strings.Join(args, " "), err, stdout.Bytes(), stderr.Bytes())
			return
		}
		m.mebibytes = float64(cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss) / 1024 // ru_maxrss is in KiB: getrusage(2)
		m.stdout = stdout.String()
	}()
	<-done
	return m, err
}

// newNamespace moves the calling thread to a network namespace whose lo is up.
func newNamespace() error {
	if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
		return fmt.Errorf("unshare network namespace: %w", err)
	}
	s, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	defer syscall.Close(s)
	// struct ifreq of netdevice(7): 16 bytes of name, then a union of 24.
	req := struct {
		name  [syscall.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}{flags: syscall.IFF_UP}
	copy(req.name[:], "lo")
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(s), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&req))); errno != 0 {
		return fmt.Errorf("set lo up: %w", errno)
	}
	return nil
}

// cpu is the first line of /proc/stat, proc_stat(5), and the load average.
type cpu struct {
	all, idle, stolen float64
	load              string
}

func readCPU() (c cpu, err error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return c, err
	}
	line, _, _ := strings.Cut(string(stat), "\n")
	fields := strings.Fields(line)
	const idle, iowait, steal, guest = 4, 5, 8, 9 // guest time is in user time, too
	if len(fields) <= steal || fields[0] != "cpu" {
		return c, fmt.Errorf("read /proc/stat: unexpected line %q", line)
	}
	for i, f := range fields[1:min(len(fields), guest)] {
		ticks, err := strconv.ParseFloat(f, 64)
		if err != nil {
			return c, fmt.Errorf("read /proc/stat: %w", err)
		}
		c.all += ticks
		switch i + 1 {
		case idle, iowait:
			c.idle += ticks
		case steal:
			c.stolen += ticks
		}
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return c, err
	}
	c.load, _, _ = strings.Cut(string(load), " ")
	return c, nil
}

// until tells how noisy the machine was between two readings. What neither this program's children used nor was idle
// nor stolen is the work of others, the kernel's own threads among them.
func (c cpu) until(d cpu) string {
	const hz = 100 // USER_HZ, in which /proc/stat counts
	var u syscall.Rusage
	children := 0.0
	if syscall.Getrusage(syscall.RUSAGE_CHILDREN, &u) == nil {
		children = hz * (time.Duration(u.Utime.Nano()) + time.Duration(u.Stime.Nano())).Seconds()
	}
	all := d.all - c.all
	part := func(ticks float64) float64 { return 100 * max(ticks, 0) / all }
	return fmt.Sprintf("CPU time: %.0f%% theirs, %.0f%% others', %.0f%% idle, %.1f%% stolen; load %s, then %s",
		part(children), part(all-children-(d.idle-c.idle)-(d.stolen-c.stolen)), part(d.idle-c.idle), part(d.stolen-c.stolen), c.load, d.load)
}
