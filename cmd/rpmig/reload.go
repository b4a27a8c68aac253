//go:build linux

package main

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/harness"
	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/kernel/trace"
	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/reload"
	"github.com/rpmig/rpmig/reload/load"
	"github.com/rpmig/rpmig/result"
)

// reloadName is the command whose arguments are another command: no flag of rpmig's is behind the first of them.
const reloadName = "reload"

const reloadHelp = "Starts the server COMMAND in namespaces of its own, reloads it under load again and again, with " +
	"migration and without, and tells which connections it loses in each mode, whose doing that is, and what migration is worth to it. " +
	"Nothing that the server forks outlives rpmig. Exit status: 0 no judged mode lost more than --max-lost, 1 one did, " +
	"4 no mode could be played here, 64 wrong usage, 70 no conclusion."

func (e *env) reloadCommand() *cli.Command {
	return &cli.Command{
		Name:        reloadName,
		Usage:       "reload a server of yours under load, and tell what it loses and why",
		UsageText:   "rpmig reload --reload HOW [options] -- COMMAND [ARGUMENT…]",
		Description: strings.Join(wrapWords(reloadHelp, helpWidth), "\n"),
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "reload", Usage: "reload it `HOW`: a command for the shell, which has RPMIG_PID; signal:NAME; or rolling: start another, and end the old one. Several are the steps of a cycle"},
			&cli.StringFlag{Name: "stop", Value: "TERM", Usage: "end the old one of a rolling restart by `SIGNAL`"},
			&cli.IntFlag{Name: "cycles", Value: 20, Usage: "play `N` cycles in each mode"},
			&cli.StringFlag{Name: "migrate", Value: "off,sysctl,bpf", Usage: "ask for migration in these `MODES`, from cycle to cycle in random order: a comma list of " + strings.Join(reload.ModeNames(), ", ") + "; or all"},
			&cli.IntFlag{Name: "max-lost", Usage: "a judged mode may lose `N` connections"},
			&cli.StringFlag{Name: "judge", DefaultText: "every mode but off, or off alone", Usage: "these `MODES` may lose no more"},
			&cli.Uint64Flag{Name: "seed", DefaultText: "random", Usage: "the order of modes is that of `N`"},
			&cli.StringFlag{Name: "address", Value: "127.0.0.1", Usage: "connect to `ADDR`"},
			&cli.IntFlag{Name: "port", Value: 80, Usage: "connect to `PORT`, inside the namespace"},
			&cli.IntFlag{Name: "clients", Value: 24, Usage: "closed loop: `N` clients, each of which connects again when it is served"},
			&cli.Float64Flag{Name: "rate", Usage: "open loop: `R` connections a second, instead of clients"},
			&cli.StringFlag{Name: "http", Value: "/", Usage: "ask for `PATH` by HTTP"},
			&cli.StringFlag{Name: "host", Usage: "the `NAME` of the Host header, and of TLS"},
			&cli.IntFlag{Name: "status", Value: 200, Usage: "the reply is right if its HTTP status is `N`"},
			&cli.StringFlag{Name: "send", Usage: `send ` + "`TEXT`" + `, in which \r, \n and \x00 mean bytes, instead of HTTP`},
			&cli.StringFlag{Name: "expect", Usage: "the reply is right if it begins with `TEXT`; alone, the server speaks first"},
			&cli.StringFlag{Name: "client", Usage: "be the command `CMD` for the shell instead, which has RPMIG_ADDR and RPMIG_PORT; status 0 is served"},
			boolFlag("tls", "", "speak TLS; no certificate is checked"),
			&cli.IntFlag{Name: "keep-alive", Value: 1, Usage: "make `K` requests on a connection"},
			boolFlag("pipeline", "", "send them all at once"),
			&cli.DurationFlag{Name: "timeout", Value: 5 * time.Second, Usage: "a reply that takes longer than `TIME` is lost"},
			&cli.DurationFlag{Name: "warm-up", Value: time.Second, Usage: "put it under load for `TIME` before the first reload, in which nothing may be lost"},
			&cli.DurationFlag{Name: "ready", Value: 10 * time.Second, Usage: "give it `TIME` to start, and to answer"},
			&cli.DurationFlag{Name: "deadline", Value: 5 * time.Second, Usage: "give a reload `TIME` to change who holds the listeners, and its command to return"},
			&cli.DurationFlag{Name: "still", Value: 500 * time.Millisecond, Usage: "a reload is done when they have not changed for `TIME`"},
			&cli.StringFlag{Name: "name", DefaultText: "the command's, or server where that has neither", Usage: "call the server `NAME` in reports, of the letters A to Z and digits; what else is in it becomes a hyphen"},
			&cli.StringSliceFlag{Name: "setup", Usage: "run `CMD` in its namespaces before it starts"},
			&cli.StringSliceFlag{Name: "env", Usage: "set `NAME=VALUE` for it"},
			&cli.PathFlag{Name: "cwd", Usage: "start it in `DIR`"},
			&cli.StringFlag{Name: "uid", Usage: "start it as `USER`, a name or a number; takes root"},
			&cli.StringFlag{Name: "trace", Value: "auto", Usage: "have the kernel tell by `HOW` why it resets: " + strings.Join(reloadTraces, ", ")},
			boolFlag("packets", "", "keep the last packets of the connections that are lost, of the first 2000, as a capture in --out; the tap costs the load some 10 % more CPU"),
			formatFlag(),
			&cli.PathFlag{Name: "out", Usage: "write run.jsonl, and the captures of --packets, to `DIR`"},
			&cli.PathFlag{Name: "bundle", Usage: "put the run into one `FILE`.tar.gz, as rpmig bundle does"},
			boolFlag("force", "", "write over the FILE of --bundle"),
			verboseFlag(),
			boolFlag("quiet", "q", "say nothing but the summary and what went wrong"),
			noColorFlag(),
		},
		Action: e.reload,
	}
}

var reloadTraces = []string{"auto", "on", "off"}

// reload plays what the command line asks for.
func (e *env) reload(c *cli.Context) error {
	cfg, terms, err := reloadConfig(c)
	if err != nil {
		return err
	}
	r, err := e.reloadRequest(c)
	if err != nil {
		return err
	}
	if !netns.InSandbox() {
		if err := reload.FindServer(cfg); err != nil {
			return &usageError{"reload: " + err.Error(), cmp.Or(hintOf(err), c.Command.HelpName+" --help")}
		}
		status, err := netns.ReexecSandbox()
		if err != nil {
			return err
		}
		return exitStatus(status)
	}
	if err := netns.EnterSandbox(); err != nil {
		return err
	}
	// The load's thread keeps a processor of Go's for itself.
	runtime.GOMAXPROCS(max(4, 2*runtime.NumCPU()))
	if cfg.Tracer, terms.Untraced, err = reloadTracer(c.String("trace")); err != nil {
		return err
	}
	if cfg.Tracer != nil {
		defer func() { _ = cfg.Tracer.Close() }()
	}
	out, err := newOutput(e, c, r)
	if err != nil {
		return err
	}
	out.live = nil // it counts cells
	out.run.Header.Modes = nil
	for _, m := range reload.Modes() {
		out.run.Header.Modes = append(out.run.Header.Modes, result.Mode{Name: m.Name, Doc: m.Doc, Saves: m.Saves, Advice: m.Advice})
	}
	runErr := e.reloadTo(c, cfg, terms, out)
	return r.status(cmp.Or(runErr, e.report(c, r, out)), &out.run)
}

// reloadTo plays it, and writes a cell for each mode.
func (e *env) reloadTo(c *cli.Context, cfg *reload.Config, terms *reload.Terms, out *output) error {
	bundling, err := newBundling(c, out)
	if err != nil {
		return err
	}
	if err := out.Begin(len(cfg.Modes)); err != nil {
		return err
	}
	say := e.reloadProgress(c)
	cfg.Say = say.say
	outcome, err := reload.Play(c.Context, *cfg)
	say.end()
	var servers *reload.ServerError
	var interrupted error
	switch {
	case outcome == nil && c.Err() != nil:
		return errors.New("interrupted before the first cycle was over")
	case c.Err() != nil:
		interrupted = fmt.Errorf("interrupted after %d of %d cycles", len(outcome.Cycles), cfg.Cycles*len(cfg.Modes))
		err = nil
	case outcome == nil, err != nil && !errors.As(err, &servers):
		return err
	}
	if c.Bool("v") {
		fmt.Fprintf(e.stderr, "rpmig: time: %v\n", outcome.Phases())
	}
	if n := outcome.Without(); n > 0 {
		fmt.Fprintf(e.stderr, "rpmig: --packets keeps those of the first %d lost connections; %d more were lost\n", reload.PacketsOf, n)
	}
	for _, cell := range outcome.Cells(cfg, *terms, err) {
		if cycles := cell.Reload.Cycles; len(cycles) > 0 {
			cell.At = outcome.BeganAfter(out.run.Header.Started.Time).Seconds() + cycles[0].At
		}
		files := outcome.Files(*terms, cell.Mode)
		if files.HasCapture() {
			cell.Capture = files.Counts(cell.Folder())
			cell.Client, cell.Flow = files.First(outcome.Beginning())
		}
		if err := out.Cell(&cell, files); err != nil {
			return err
		}
	}
	if interrupted != nil {
		if err := out.notByItself(result.Ending{Why: interrupted.Error()}); err != nil {
			return err
		}
	}
	ctx, done := e.afterwards(c.Context)
	defer done()
	if err := bundling.end(ctx, out); err != nil {
		return err
	}
	if servers != nil && servers.Hint() != "" {
		e.advise("hint: %s", printable(servers.Hint()))
	}
	return interrupted
}

// reloadRequest is what the report and the ledger need of the command line.
func (e *env) reloadRequest(c *cli.Context) (*request, error) {
	r := &request{Options: harness.Options{Settings: lab.Settings{Port: uint16(c.Int("port")), Upstream: kernel.Upstream(), Started: time.Now()}}}
	if err := checkFiles(c); err != nil {
		return nil, err
	}
	if c.Bool("q") && c.Bool("v") {
		return nil, &usageError{"-q and -v contradict each other", c.Command.HelpName + " --help"}
	}
	var err error
	if r.format, err = lookupFormat(c); err != nil {
		return nil, err
	}
	r.kernel, r.machine, err = uname()
	return r, err
}

// reloadTracer opens the trace of resets. "auto" does without it, for the reason that it returns.
func reloadTracer(want string) (*trace.Tracer, string, error) {
	if want == "off" {
		return nil, "--trace=off", nil
	}
	t, err := reload.OpenTracer()
	if err == nil && t.HostWide {
		err = errors.Join(t.NoBPF, t.Close())
	}
	switch {
	case err == nil:
		return t, "", nil
	case want == "auto":
		return nil, err.Error(), nil
	default:
		return nil, "", err
	}
}

// reloadConfig reads the command line. Nothing that is wrong becomes a default.
func reloadConfig(c *cli.Context) (*reload.Config, *reload.Terms, error) {
	if c.Args().First() == "" {
		return nil, nil, &usageError{"reload: which server?", "rpmig reload --reload 'nginx -s reload' -- nginx -g 'daemon off;'"}
	}
	if err := checkReload(c); err != nil {
		return nil, nil, err
	}
	cfg := &reload.Config{
		Server: c.Args().Slice(), Setup: c.StringSlice("setup"), Env: c.StringSlice("env"), Dir: c.Path("cwd"), UID: -1, GID: -1, Packets: c.Bool("packets"),
		Cycles: c.Int("cycles"), Seed: rand.Uint64N(1e6),
		WarmUp: c.Duration("warm-up"), Ready: c.Duration("ready"), Deadline: c.Duration("deadline"), Still: c.Duration("still"),
	}
	if c.IsSet("seed") {
		cfg.Seed = c.Uint64("seed")
	}
	terms := &reload.Terms{Name: serverName(c.String("name"), c.Args().First()), MaxLost: c.Int("max-lost"), Family: "ipv4"}
	var err error
	modes := append(reload.ModeNames(), "all")
	if cfg.Modes, err = reload.ParseModes(c.String("migrate")); err != nil {
		return nil, nil, reloadUsage(c, "migrate", err, didYouMean(c.String("migrate"), modes))
	}
	if terms.Judged, err = judgedModes(c, cfg.Modes); err != nil {
		return nil, nil, reloadUsage(c, "judge", err, didYouMean(c.String("judge"), modes))
	}
	if cfg.Stop, err = reload.ParseSignal(c.String("stop")); err != nil {
		return nil, nil, reloadUsage(c, "stop", err, signalMeant(c.String("stop")))
	}
	for _, text := range c.StringSlice("reload") {
		step, err := reload.ParseStep(text)
		if err != nil {
			return nil, nil, reloadUsage(c, "reload", err, signalMeant(strings.TrimPrefix(text, "signal:")))
		}
		cfg.Steps = append(cfg.Steps, step)
	}
	if len(cfg.Steps) == 0 {
		return nil, nil, &usageError{"reload: how is it reloaded?", "in front of the server: --reload 'nginx -s reload', --reload signal:HUP or --reload rolling"}
	}
	if cfg.UID, cfg.GID, err = lookUpUser(c.String("uid")); err != nil {
		return nil, nil, reloadUsage(c, "uid", err)
	}
	if cfg.Load, err = loadConfig(c); err != nil {
		return nil, nil, err
	}
	if cfg.Load.To.Addr().Is6() {
		terms.Family = "ipv6"
	}
	return cfg, terms, nil
}

func reloadUsage(c *cli.Context, flag string, err error, meant ...string) error {
	return &usageError{"--" + flag + ": " + err.Error(), strings.Join(meant, "") + c.Command.HelpName + " --help"}
}

// signalMeant asks whether the signal was meant whose name is most like a word; empty where none is like it.
func signalMeant(word string) string {
	var names []string
	for s := syscall.Signal(1); s < 32; s++ { // there are no names for those in real time
		names = append(names, strings.TrimPrefix(unix.SignalName(s), "SIG"))
	}
	return didYouMean(strings.TrimPrefix(strings.ToUpper(word), "SIG"), names)
}

const mostCycles = 100_000 // that --cycles may ask for

// checkReload refuses numbers that are out of range, and words that contradict each other.
func checkReload(c *cli.Context) error {
	for _, f := range []struct {
		name     string
		min, max int
	}{{"port", 1, math.MaxUint16}, {"cycles", 1, mostCycles}, {"max-lost", 0, math.MaxInt32}, {"clients", 1, 10_000},
		{"status", 100, 599}, {"keep-alive", 1, 1000}} {
		if n := c.Int(f.name); n < f.min || n > f.max {
			return reloadUsage(c, f.name, fmt.Errorf("%d is not between %d and %d", n, f.min, f.max))
		}
	}
	for _, name := range []string{"timeout", "warm-up", "ready", "deadline", "still"} {
		if d := c.Duration(name); d < 10*time.Millisecond || d > time.Hour {
			return reloadUsage(c, name, fmt.Errorf("%v is not between 10ms and 1h", d))
		}
	}
	if r := c.Float64("rate"); c.IsSet("rate") && !(r >= 1 && r <= 1e6) {
		return reloadUsage(c, "rate", fmt.Errorf("%v is not between 1 and 1000000", r))
	}
	for _, pair := range [][2]string{{"rate", "clients"}, {"send", "http"}, {"expect", "http"}, {"client", "http"}, {"client", "send"},
		{"client", "expect"}, {"client", "tls"}, {"client", "status"}, {"client", "host"}, {"client", "keep-alive"}, {"client", "pipeline"},
		{"send", "status"}, {"expect", "status"}} {
		if c.IsSet(pair[0]) && c.IsSet(pair[1]) {
			return &usageError{fmt.Sprintf("--%s and --%s contradict each other", pair[0], pair[1]), c.Command.HelpName + " --help"}
		}
	}
	switch {
	case c.Bool("pipeline") && c.Int("keep-alive") == 1:
		return reloadUsage(c, "pipeline", errors.New("it takes more than one request on a connection: --keep-alive K"))
	case c.IsSet("host") && !c.Bool("tls") && (c.IsSet("send") || c.IsSet("expect")):
		return reloadUsage(c, "host", errors.New("what is sent has no Host header, and no TLS is spoken"))
	case c.IsSet("stop") && !slices.Contains(c.StringSlice("reload"), "rolling"):
		return reloadUsage(c, "stop", errors.New("it is for --reload rolling alone"))
	case c.IsSet("name") && asWord(c.String("name")) == "":
		return reloadUsage(c, "name", fmt.Errorf("%q has neither a letter from A to Z nor a digit", c.String("name")))
	case c.IsSet("cwd"):
		is, err := os.Stat(c.Path("cwd"))
		if err == nil && is.IsDir() {
			err = unix.Access(c.Path("cwd"), unix.X_OK)
		}
		if err == nil && !is.IsDir() || notThere(err) {
			return reloadUsage(c, "cwd", fmt.Errorf("%q is no directory", c.Path("cwd")))
		} else if err != nil {
			return reloadUsage(c, "cwd", fmt.Errorf("enter %q: %w", c.Path("cwd"), err))
		}
	}
	for _, name := range []string{"client", "expect", "host", "send", "uid"} { // what would be as if it was not there
		if c.IsSet(name) && c.String(name) == "" {
			return reloadUsage(c, name, errors.New("it is empty"))
		}
	}
	if slices.Contains(c.StringSlice("setup"), "") {
		return reloadUsage(c, "setup", errors.New("it is empty"))
	}
	for _, v := range c.StringSlice("env") {
		if name, _, ok := strings.Cut(v, "="); !ok || name == "" {
			return reloadUsage(c, "env", fmt.Errorf("%q is not NAME=VALUE", v))
		}
	}
	return notOneOf(c, "trace", reloadTraces, c.Command.HelpName+" --help")
}

// judgedModes are those of --judge, or every mode that was asked for but off, unless that is the only one.
func judgedModes(c *cli.Context, asked []reload.Mode) (names []string, err error) {
	judged := asked
	if c.IsSet("judge") {
		if judged, err = reload.ParseModes(c.String("judge")); err != nil {
			return nil, err
		}
	}
	has := func(name string) bool {
		return slices.ContainsFunc(asked, func(m reload.Mode) bool { return m.Name == name })
	}
	for _, m := range judged {
		switch {
		case !has(m.Name) && c.String("judge") != "all":
			return nil, fmt.Errorf("the mode %s is not played: --migrate=%s,%s", m.Name, c.String("migrate"), m.Name)
		case m.Name == "off" && !c.IsSet("judge") && len(asked) > 1:
		case has(m.Name):
			names = append(names, m.Name)
		}
	}
	return names, nil
}

var noWord = regexp.MustCompile(`[^A-Za-z0-9]+`)

// serverName is what reports call the server: a word of a cell's ID.
func serverName(name, command string) string {
	if name == "" { // one that was given has a word in it: see checkReload
		name = filepath.Base(command)
	}
	return cmp.Or(asWord(name), "server")
}

// asWord makes one word of a name; empty: there is none in it.
func asWord(name string) string { return strings.Trim(noWord.ReplaceAllString(name, "-"), "-") }

// lookUpUser finds a user's number and group; -1 where none was named.
func lookUpUser(name string) (uid, gid int, err error) {
	if name == "" {
		return -1, -1, nil
	}
	if os.Geteuid() != 0 {
		return -1, -1, errors.New("only root may start a server as another user")
	}
	u, err := user.Lookup(name)
	if err != nil {
		if u, err = user.LookupId(name); err != nil {
			if number, numErr := strconv.ParseUint(name, 10, 31); numErr == nil {
				return int(number), int(number), nil
			}
			return -1, -1, fmt.Errorf("no user %q", name)
		}
	}
	uid, uidErr := strconv.Atoi(u.Uid)
	gid, gidErr := strconv.Atoi(u.Gid)
	return uid, gid, errors.Join(uidErr, gidErr)
}

// loadConfig is who connects, and what is right.
func loadConfig(c *cli.Context) (load.Config, error) {
	l := load.Config{
		Clients: c.Int("clients"), Rate: c.Float64("rate"), Requests: c.Int("keep-alive"), Pipelined: c.Bool("pipeline"),
		Timeout: c.Duration("timeout"),
	}
	addr, err := netip.ParseAddr(c.String("address"))
	if err != nil {
		return l, reloadUsage(c, "address", fmt.Errorf("%q is no IP address", c.String("address")))
	}
	if !addr.IsLoopback() {
		return l, reloadUsage(c, "address", fmt.Errorf("%v is not of the loopback device, and there is no other", addr))
	}
	l.To = netip.AddrPortFrom(addr, uint16(c.Int("port")))
	if l.Rate > 0 {
		l.Clients = 0
	}
	if addr.Is4() {
		for i := range min(max(l.Clients, 24), 200) {
			l.Sources = append(l.Sources, netip.AddrFrom4([4]byte{127, 0, 1, byte(i + 1)}))
		}
	}
	if c.Bool("tls") {
		l.TLS = &tls.Config{InsecureSkipVerify: true, ServerName: c.String("host")}
	}
	switch {
	case c.IsSet("client"):
		l.Command = []string{"/bin/sh", "-c", c.String("client")}
	case c.IsSet("send") || c.IsSet("expect"):
		send, err1 := unescape(c.String("send"))
		expect, err2 := unescape(c.String("expect"))
		if err := errors.Join(err1, err2); err != nil {
			return l, &usageError{"--send, --expect: " + err.Error(), `--send 'PING\r\n' --expect +PONG`}
		}
		l.Request = load.Request{Send: send, Expect: expect}
	default:
		if !strings.HasPrefix(c.String("http"), "/") {
			return l, reloadUsage(c, "http", fmt.Errorf("the path %q does not begin with /", c.String("http")))
		}
		l.Request = load.Request{HTTP: &load.HTTP{Path: c.String("http"), Host: c.String("host"), Status: c.Int("status")}}
	}
	return l, nil
}

// unescape reads the escapes of a Go string.
func unescape(text string) ([]byte, error) {
	var b strings.Builder
	for rest := text; rest != ""; {
		r, wide, tail, err := strconv.UnquoteChar(rest, 0)
		if err != nil {
			return nil, fmt.Errorf("%q is not written as \\n, \\r, \\t, \\\\ or \\x00", text)
		}
		if rest = tail; wide {
			b.WriteRune(r)
		} else {
			b.WriteByte(byte(r))
		}
	}
	return []byte(b.String()), nil
}

// reloadSaying tells how far a run has come: on a line of a terminal that is drawn over, or now and then on one of its own.
type reloadSaying struct {
	w     io.Writer
	width func() int // nil: it is no terminal
	quiet bool
	last  time.Time
	drawn bool
}

func (e *env) reloadProgress(c *cli.Context) *reloadSaying {
	return &reloadSaying{w: e.stderr, width: e.liveErr, quiet: c.Bool("q"), last: time.Now()}
}

func (s *reloadSaying) say(format string, args ...any) {
	const seldom = 10 * time.Second
	text := printable(fmt.Sprintf(format, args...))
	switch {
	case s.quiet:
	case s.width != nil:
		fmt.Fprintf(s.w, "\r\x1b[K%s", text[:min(len(text), max(s.width()-1, 0))])
		s.drawn = true
	case time.Since(s.last) >= seldom:
		fmt.Fprintf(s.w, "rpmig: %s\n", text)
		s.last = time.Now()
	}
}

func (s *reloadSaying) end() {
	if s.drawn {
		fmt.Fprint(s.w, "\r\x1b[K")
	}
}
