package reload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/reload/load"
)

// processes starts the processes of the sandbox and, as its process 1, reaps all there are. Nothing else in this process may
// wait for a child.
type processes struct {
	mu      sync.Mutex
	waiting map[int]*process // those that it has started and that have not ended
	orders  chan func()      // to the one thread that starts them
	signals chan os.Signal
	stop    chan struct{}
	reaper  sync.WaitGroup
}

// process is one that was started.
type process struct {
	pid    int
	name   string        // in words to a person
	ended  chan struct{} // closed when it has
	status unix.WaitStatus
	output *output
	alone  bool // nothing of its process group outlives it
}

// spawn is what there is to start.
type spawn struct {
	name  string
	args  []string
	env   []string
	dir   string
	user  *user
	alone bool // nothing of its process group is to outlive it
}

// user is who a process is to be.
type user struct{ uid, gid uint32 }

func newProcesses() *processes {
	p := &processes{
		waiting: map[int]*process{}, orders: make(chan func()), stop: make(chan struct{}), signals: make(chan os.Signal, 1),
	}
	signal.Notify(p.signals, unix.SIGCHLD)
	p.reaper.Go(func() {
		for {
			select {
			case <-p.signals:
				p.reap()
			case <-p.stop:
				return
			}
		}
	})
	p.reaper.Go(func() {
		runtime.LockOSThread() // never unlocked: it has lost its capabilities
		err := netns.DropRights()
		for {
			select {
			case order := <-p.orders:
				if err != nil {
					panic(err) // clearing one's own ambient set cannot fail (security/commoncap.c:cap_task_prctl)
				}
				order()
			case <-p.stop:
				return
			}
		}
	})
	return p
}

// close ends the reaping, and leaves the processes to the kernel, which ends them with process 1.
func (p *processes) close() {
	signal.Stop(p.signals)
	close(p.stop)
	p.reaper.Wait()
}

// reap takes all that have ended. Most are children of others, whose parent has ended before them.
func (p *processes) reap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if one := p.waiting[pid]; one != nil {
			delete(p.waiting, pid)
			one.status = status
			if one.alone {
				_ = unix.Kill(-pid, unix.SIGKILL) // as long as one is left no other group can have its number
			}
			close(one.ended)
		}
	}
}

// start starts a process in a session of its own, so that a terminal's Ctrl-C is for rpmig alone. What it and its children
// print goes to the output, or to a new one, which keeps the last of it.
func (p *processes) start(s spawn, to *output) (*process, error) {
	s.env = (&exec.Cmd{Env: s.env}).Environ() // of what is set twice the last, where most programs take the first
	path, err := lookPath(s)
	if err != nil {
		return nil, &StartError{s.name, s.args[0], err}
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.name, err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", s.name, err), r.Close(), w.Close())
	}
	defer func() { _, _ = w.Close(), null.Close() }()
	attr := &syscall.ProcAttr{
		Dir: s.dir, Env: s.env, Files: []uintptr{null.Fd(), w.Fd(), w.Fd()},
		Sys: &syscall.SysProcAttr{Setsid: true},
	}
	if s.user != nil {
		attr.Sys.Credential = &syscall.Credential{Uid: s.user.uid, Gid: s.user.gid}
	}
	// A server that starts itself anew by its own name wants an absolute one: nginx does on USR2.
	args := append([]string{path}, s.args[1:]...)
	if to == nil {
		to = &output{}
	}
	one := &process{name: s.name, ended: make(chan struct{}), output: to, alone: s.alone}
	done := make(chan struct{})
	p.orders <- func() {
		defer close(done)
		p.mu.Lock() // it may end before it is known
		defer p.mu.Unlock()
		if one.pid, err = syscall.ForkExec(path, args, attr); err == nil {
			p.waiting[one.pid] = one
		}
	}
	<-done
	if err != nil {
		return nil, errors.Join(&StartError{s.name, s.args[0], err}, r.Close())
	}
	one.output.opened(1)
	go one.output.readFrom(r)
	return one, nil
}

// client is load.Config.Run: what the reaper reaps, os/exec could not wait for.
func (p *processes) client(ctx context.Context, command, env []string) (said string, err error) {
	one, err := p.start(spawn{name: "a client", args: command, env: append(os.Environ(), env...), alone: true}, nil)
	if err != nil {
		return "", fmt.Errorf("%w: %w", load.ErrNotStarted, err)
	}
	select {
	case <-one.ended:
	case <-ctx.Done():
		p.kill(one)
		<-one.ended
	}
	if one.status != 0 {
		return strings.Join(one.output.lines(), "\n"), errors.New(one.fate())
	}
	return "", nil
}

// lookPath finds the program by the PATH that it will have.
func lookPath(s spawn) (string, error) {
	name := s.args[0]
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			name = filepath.Join(s.dir, name)
		}
		return filepath.Abs(name)
	}
	for _, v := range s.env {
		if list, ok := strings.CutPrefix(v, "PATH="); ok {
			for _, dir := range filepath.SplitList(list) {
				if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
					return filepath.Abs(path)
				}
			}
		}
	}
	// Servers are where the PATH of ordinary users does not lead.
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", exec.ErrNotFound
}

// FindServer tells whether there is a server to start, as far as that is known before anything is: what is set up may bring it.
func FindServer(c *Config) error {
	r := run{Config: *c}
	s := r.spawn("the server", c.Server)
	s.env = (&exec.Cmd{Env: s.env}).Environ()
	path, err := lookPath(s)
	if err == nil {
		err = unix.Access(path, unix.X_OK)
	}
	if info, statErr := os.Stat(path); err == nil && statErr == nil && info.IsDir() {
		err = unix.EISDIR
	}
	if err != nil && len(c.Setup) == 0 {
		return &StartError{s.name, s.args[0], err}
	}
	return nil
}

// StartError says that a program could not be started.
type StartError struct {
	What, Name string
	Err        error
}

func (e *StartError) Error() string { return fmt.Sprintf("start %s: %s: %v", e.What, e.Name, e.Err) }

func (e *StartError) Unwrap() error { return e.Err }

// Hint returns what to do next.
func (e *StartError) Hint() string {
	if errors.Is(e.Err, exec.ErrNotFound) || errors.Is(e.Err, unix.ENOENT) {
		return "is it installed? command -v " + e.Name
	}
	if errors.Is(e.Err, unix.EACCES) {
		return "may this user start it, and be in this folder? ls -ld . " + e.Name
	}
	return ""
}

// signal sends a signal to a process that has not ended.
func (p *processes) signal(one *process, s unix.Signal) error {
	p.mu.Lock() // it is not reaped meanwhile, so that its number is its own
	defer p.mu.Unlock()
	if p.waiting[one.pid] != one {
		return fmt.Errorf("send %s to %s: %w", unix.SignalName(s), one.name, unix.ESRCH)
	}
	return unix.Kill(one.pid, s)
}

// kill ends a process and all of its session that did not leave its process group.
func (p *processes) kill(one *process) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting[one.pid] == one {
		_ = unix.Kill(-one.pid, unix.SIGKILL)
	}
}

// alive tells whether it has not ended.
func (one *process) alive() bool {
	select {
	case <-one.ended:
		return false
	default:
		return true
	}
}

// fate says how it has ended.
func (one *process) fate() string {
	switch s := one.status; {
	case s.Signaled():
		return "was ended by " + unix.SignalName(s.Signal())
	default:
		return fmt.Sprintf("ended with exit status %d", s.ExitStatus())
	}
}

// outputKept is how much of what a process prints is kept, in bytes: its end.
const outputKept = 64 << 10

// output keeps the end of what a process and its children print.
type output struct {
	mu   sync.Mutex
	open int // pipes that may still bring something
	tail []byte
}

func (o *output) opened(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.open += n
}

func (o *output) readFrom(r *os.File) {
	defer o.opened(-1)
	defer func() { _ = r.Close() }()
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		o.add(buf[:n])
		if err != nil {
			return
		}
	}
}

func (o *output) add(b []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.tail = append(o.tail, b...)
	if over := len(o.tail) - outputKept; over > 0 {
		o.tail = append(o.tail[:0], o.tail[over:]...)
	}
}

// lines are the last lines, at most twenty. It waits for the end of what ended processes have printed, but not for long: others may
// have it open.
func (o *output) lines() []string {
	const most = 20
	o.mu.Lock()
	defer o.mu.Unlock()
	for deadline := time.Now().Add(200 * time.Millisecond); o.open > 0 && time.Now().Before(deadline); {
		o.mu.Unlock()
		time.Sleep(time.Millisecond)
		o.mu.Lock()
	}
	text := bytes.TrimRight(o.tail, "\n")
	if len(text) == 0 {
		return nil
	}
	lines := strings.Split(string(text), "\n")
	return lines[max(len(lines)-most, 0):]
}
