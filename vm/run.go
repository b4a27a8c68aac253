package vm

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/result"
)

// Sink takes what comes home from a guest, as it comes. An error ends the guest.
type Sink interface {
	// Hello is told once that the guest is up.
	Hello(Hello) error
	// Header takes the first line of the ledger, as the guest has it, with the files that were sent before it.
	Header(h *result.Header, files []File) error
	// Cell takes a cell, with the files that were sent before it. Their names are local, and below no folder but the run's.
	Cell(c *result.Cell, files []File) error
	// Output takes what the run printed.
	Output(stderr bool, text []byte) error
}

// Ended is how a guest ended.
type Ended struct {
	// Status is the exit status of the run, if it came to an end: where Why is empty.
	Status int
	// Why is one sentence: what became of a run that did not come to its end. Without an end record there is no conclusion, whatever
	// QEMU's exit status: it is 0 after a panic as well as after power-off.
	Why string
	// Died tells that the kernel gave up, and said so on its console: then Why is its word. It is not told where too little memory, or a
	// machine without time for the guest, may have brought that about.
	Died bool
	// Hint is what to do next; it may be empty.
	Hint    string
	InPlay  []string // the cells that were being played
	Console []byte   // all that the guest's console said
	Last    []string // its last lines, since the guest was up
}

// Guest is a kernel, and how it is to be run.
type Guest struct {
	Kernel    *Kernel
	Machine   Machine
	Initramfs string // path
	Order     Order
	// IsTitle tells the first line of a report that a kernel prints of its own faults.
	IsTitle func(string) bool
	// IsStall tells a line by which a kernel says that something did not go on for long: in real time that is no word of its faults.
	IsStall func(string) bool
	// Silence is for how long a guest may say nothing before it is taken for hung; 0: for long enough.
	Silence time.Duration
}

// Describe is what a ledger says of the guest.
func (g *Guest) Describe(ctx context.Context) *result.Guest {
	m, k := g.Machine.Filled(), g.Kernel
	emulator := "QEMU"
	if path, err := Emulator(k.Arch); err == nil {
		emulator = emulatorVersion(ctx, path)
	}
	return &result.Guest{
		Name: k.Name, From: k.From, Image: k.SHA256, Emulator: emulator, Accelerator: m.Accel, Memory: m.Memory, CPUs: m.CPUs, Virtual: m.Virtual(),
	}
}

// silence is how long a guest may say nothing, that tells once a second of its own time that it is alive.
const silence = time.Minute

// SilenceVariable is Guest.Silence, for tests.
const SilenceVariable = "RPMIG_TEST_SILENCE"

// interruptGrace is how long a run in a guest may take to end after it was told to.
const interruptGrace = 15 * time.Second

// Run boots a guest, has it run what it is told to, and hands what comes home to the sink. When the context ends, the run is told
// to; what has come home by then stays. The error is of this machine or the sink; what became of the guest is told by Ended.
func Run(ctx context.Context, g Guest, sink Sink) (*Ended, error) {
	g.Machine = g.Machine.Filled()
	if g.Silence == 0 {
		g.Silence = silence
	}
	path, err := Emulator(g.Kernel.Arch)
	if err != nil {
		return nil, err
	}
	e, err := start(path, &g.Machine, g.Kernel, g.Initramfs)
	if err != nil {
		return nil, err
	}
	defer e.close()
	defer e.kill()
	w := &watch{Guest: g, e: e, sink: sink, console: watchConsole(e.console)}
	end, why, err := w.play(ctx)
	select {
	case <-e.ended:
		w.qemu = e.how()
	default:
	}
	e.kill()
	<-w.console.ended
	if err != nil {
		return nil, err
	}
	return w.ended(end, why), nil
}

// watch is the host's view of a guest that runs.
type watch struct {
	Guest
	e       *emulator
	sink    Sink
	console *console
	qemu    string // how it ended, if it did so by itself, in words for behind "QEMU"
	hello   bool
	header  bool // has come
	inPlay  []string
	files   []File // that have come since the last line
}

// message is one that has come home, over whichever channel the guest has.
type message struct {
	kind    kind
	payload []byte
	err     error
	from    *os.File
}

// reasons for a run that did not come to its end; the console may tell a better one.
var (
	errNotUp   = errors.New("the guest did not come up")
	errSilent  = errors.New("the guest hung")
	errLost    = errors.New("the control channel ended")
	errStopped = errors.New("the run was interrupted")
)

// listen reads the messages of a channel until it ends, or until done.
func listen(f *os.File, to chan<- message, done <-chan struct{}) {
	in := newMessages(f)
	for {
		k, payload, err := in.next()
		select {
		case to <- message{k, payload, err, f}:
		case <-done:
			return
		}
		if err != nil {
			return
		}
	}
}

// play sees the guest through, up to its end record or to what kept it from that.
func (w *watch) play(ctx context.Context) (*end, error, error) {
	incoming, done := make(chan message), make(chan struct{})
	defer close(done)
	go listen(w.e.channel, incoming, done)
	go listen(w.e.serial, incoming, done)
	waits := newPatience(w.e)
	defer waits.stop()
	interrupted := ctx.Done()
	var channel *os.File
	var stopped <-chan time.Time
	for {
		select {
		case m := <-incoming:
			switch {
			case m.err != nil && (!w.hello || m.from != channel): // a port that nobody uses; QEMU's end tells of a guest's
				continue
			case errors.Is(m.err, io.EOF), errors.Is(m.err, unix.ECONNRESET), errors.Is(m.err, io.ErrUnexpectedEOF):
				w.awaitQEMU() // it holds the other end
				return nil, errLost, nil
			case m.err != nil:
				return nil, m.err, nil
			case m.kind == kindHello && !w.hello:
				channel = m.from
				if err := w.greet(channel, m.payload); err != nil {
					return nil, nil, err
				}
			case !w.hello || m.from != channel:
				return nil, errFrame, nil
			}
			waits.begin()
			if end, err := w.take(m); end != nil || err != nil {
				return end, nil, err
			}
		case <-w.e.ended:
			// What it wrote before it ended is still there to be read, unless the guest never was up.
			if !w.hello {
				return nil, errNotUp, nil
			}
			return w.drain(channel, incoming)
		case <-waits.look():
			if waited := waits.waited(); !w.hello && waited > w.Machine.BootTimeout {
				return nil, fmt.Errorf("%w within %v", errNotUp, w.Machine.BootTimeout), nil
			} else if w.hello && waited > w.Silence {
				return nil, fmt.Errorf("%w: it said nothing for %v", errSilent, w.Silence), nil
			}
		case <-interrupted:
			interrupted = nil
			if !w.hello {
				return nil, errStopped, nil
			}
			_ = writeMessage(channel, kindSignal, []byte(strconv.Itoa(int(unix.SIGINT))))
			stopped = time.After(interruptGrace)
		case <-stopped:
			return nil, errStopped, nil
		}
	}
}

// awaitQEMU waits until QEMU has ended, which it is about to.
func (w *watch) awaitQEMU() {
	select {
	case <-w.e.ended:
	case <-time.After(interruptGrace):
	}
}

// drain takes what a guest has sent before QEMU ended.
func (w *watch) drain(channel *os.File, incoming <-chan message) (*end, error, error) {
	for m := range incoming {
		switch {
		case m.from != channel:
			continue
		case m.err != nil:
			return nil, errLost, nil
		}
		if end, err := w.take(m); end != nil || err != nil {
			return end, nil, err
		}
	}
	return nil, errLost, nil
}

// greet answers a hello with what to run.
func (w *watch) greet(channel *os.File, payload []byte) error {
	var h Hello
	if err := json.Unmarshal(payload, &h); err != nil {
		return fmt.Errorf("read the guest's hello: %w", err)
	}
	w.hello = true
	w.console.up()
	if err := w.sink.Hello(h); err != nil {
		return err
	}
	order := w.Order
	if !w.Machine.Virtual() {
		order.Env = append(slices.Clone(order.Env), realTimeVariable+"=1")
	}
	return writeJSON(channel, kindOrder, order)
}

// take takes a message of a guest that is up.
func (w *watch) take(m message) (*end, error) {
	switch m.kind {
	case kindStdout, kindStderr:
		return nil, w.sink.Output(m.kind == kindStderr, m.payload)
	case kindBegan:
		w.inPlay = append(w.inPlay, string(m.payload))
	case kindEnded:
		w.inPlay = slices.DeleteFunc(w.inPlay, func(id string) bool { return id == string(m.payload) })
	case kindFile:
		w.files = append(w.files, File{Name: string(m.payload), Mode: 0o644})
	case kindData:
		if len(w.files) == 0 {
			return nil, errFrame
		}
		f := &w.files[len(w.files)-1]
		f.Data = append(f.Data, m.payload...)
	case kindLedger:
		return nil, w.line(m.payload)
	case kindEnd:
		var said end
		if err := json.Unmarshal(m.payload, &said); err != nil {
			return nil, fmt.Errorf("read the guest's end: %w", err)
		}
		return &said, nil
	}
	return nil, nil
}

// line takes a line of the ledger.
func (w *watch) line(line []byte) error {
	files := w.files
	w.files = nil
	for _, f := range files {
		if !filepath.IsLocal(f.Name) {
			return fmt.Errorf("the guest sent a file named %q", f.Name)
		}
	}
	if !w.header {
		h, err := result.ParseHeader(line)
		if err != nil {
			return fmt.Errorf("read the ledger that came from the guest: %w", err)
		}
		w.header = true
		return w.sink.Header(h, files)
	}
	c, err := result.ParseCell(line)
	if err != nil {
		return fmt.Errorf("read the ledger that came from the guest: %w", err)
	}
	return w.sink.Cell(c, files)
}

// ended says how the guest ended: with its end record, or why there is none.
func (w *watch) ended(said *end, why error) *Ended {
	x := &Ended{InPlay: w.inPlay, Console: w.console.whole(), Last: tail(w.console.lines())}
	if said != nil {
		x.Status, x.Why = said.Status, said.Err
		if said.Err != "" {
			x.Hint = w.moreMemory()
		}
		return x
	}
	if died, ok := death(w.console.lines(), w.IsTitle); ok {
		x.Why, x.Died = "the kernel died: "+died, true
		switch {
		case short(died):
			x.Died, x.Hint = false, w.moreMemory()
		case !w.Machine.Virtual() && w.IsStall(died):
			x.Died, x.Hint = false, "this machine may have had no time for the guest: --accel=tcg --time=virtual"
		}
		if !w.hello {
			x.Why += " (while it booted)"
			x.Hint = w.moreMemory()
		}
		return x
	}
	switch {
	case errors.Is(why, errNotUp):
		x.Why = why.Error()
		x.Hint = "--boot-timeout=" + (2 * w.Machine.BootTimeout).String() + "; or " + w.moreMemory()
		if w.qemu != "" {
			x.Why += ": QEMU " + w.qemu
			x.Hint = w.moreMemory()
			if w.Machine.Accel == "kvm" {
				x.Hint = "--accel=tcg"
			}
		}
		if len(x.Last) == 0 {
			x.Why += ", and its console is empty"
		}
	case errors.Is(why, errLost):
		x.Why = "the guest was lost: QEMU " + cmp.Or(w.qemu, "closed the channel") + ", and no end record had come"
	default:
		x.Why = why.Error()
	}
	return x
}

func (w *watch) moreMemory() string {
	return fmt.Sprintf("the guest has %d MiB: more with --memory=%d", w.Machine.Memory, 2*w.Machine.Memory)
}

// Deaf is a Sink that takes nothing.
type Deaf struct{}

func (Deaf) Hello(Hello) error                     { return nil }
func (Deaf) Header(*result.Header, []File) error   { return nil }
func (Deaf) Cell(*result.Cell, []File) error       { return nil }
func (Deaf) Output(stderr bool, text []byte) error { return nil }
