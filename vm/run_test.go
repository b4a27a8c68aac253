package vm

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/result"
)

// keeper is a Sink that keeps what comes.
type keeper struct {
	Deaf
	header *result.Header
	cells  []string
	files  []string
	err    error
}

func (k *keeper) Header(h *result.Header, _ []File) error {
	k.header = h
	return k.err
}

func (k *keeper) Cell(c *result.Cell, files []File) error {
	k.cells = append(k.cells, c.ID())
	for _, f := range files {
		k.files = append(k.files, f.Name+"="+string(f.Data))
	}
	return k.err
}

const (
	aHeader = `{"schema":2,"version":"1","kernel":"6.12","machine":"x86_64","command":[],"cells":2,"port":80,"modes":[]}`
	aCell   = `{"scenario":"quiz1","family":"ipv4","mode":"off","repeat":1,"status":"PASS","reason":"lost","control":"control"}`
)

// TestTake: files belong to the cell whose line comes next, and a cell is in play until it has ended.
func TestTake(t *testing.T) {
	k := &keeper{}
	w := &watch{sink: k}
	say := func(kind kind, text string) error {
		_, err := w.take(message{kind: kind, payload: []byte(text)})
		return err
	}
	for _, m := range []struct {
		kind kind
		text string
	}{
		{kindLedger, aHeader}, {kindBegan, "quiz1/ipv4/off/1"}, {kindBegan, "quiz1/ipv4/sysctl/1"}, {kindAlive, ""}, {kindEnded, "quiz1/ipv4/off/1"},
		{kindFile, "cells/a"}, {kindData, "one, "}, {kindData, "two"}, {kindFile, "cells/b"}, {kindLedger, aCell}, {kindFile, "cells/of-none"},
	} {
		if err := say(m.kind, m.text); err != nil {
			t.Fatalf("%c %s: %v", m.kind, m.text, err)
		}
	}
	if k.header == nil || k.header.Cells != 2 || !slices.Equal(k.cells, []string{"quiz1/ipv4/off/1"}) || !slices.Equal(k.files, []string{"cells/a=one, two", "cells/b="}) {
		t.Errorf("header %v, cells %q, files %q", k.header, k.cells, k.files)
	}
	if !slices.Equal(w.inPlay, []string{"quiz1/ipv4/sysctl/1"}) {
		t.Errorf("in play: %q", w.inPlay)
	}
	end, err := w.take(message{kind: kindEnd, payload: []byte(`{"status":1,"err":""}`)})
	if err != nil || end == nil || end.Status != 1 {
		t.Errorf("end %v, %v", end, err)
	}
}

// TestTakeRefuses: a guest's kernel may be anybody's.
func TestTakeRefuses(t *testing.T) {
	full := errors.New("the disk is full")
	for name, tt := range map[string]struct {
		sink error
		said []message
		want string
	}{
		"a file above":          {nil, []message{{kind: kindFile, payload: []byte("../x")}, {kind: kindLedger, payload: []byte(aHeader)}}, `file named "../x"`},
		"a file from the root":  {nil, []message{{kind: kindFile, payload: []byte("/etc/x")}, {kind: kindLedger, payload: []byte(aHeader)}}, `file named "/etc/x"`},
		"data of no file":       {nil, []message{{kind: kindData, payload: []byte("x")}}, "no frame"},
		"no header":             {nil, []message{{kind: kindLedger, payload: []byte(`{"hello":1}`)}}, "read the ledger that came from the guest"},
		"no cell":               {nil, []message{{kind: kindLedger, payload: []byte(aHeader)}, {kind: kindLedger, payload: []byte(`{}`)}}, "read the ledger that came from the guest"},
		"a sink that is full":   {full, []message{{kind: kindLedger, payload: []byte(aHeader)}}, "the disk is full"},
		"an end that is no end": {nil, []message{{kind: kindEnd, payload: []byte("bye")}}, "read the guest's end"},
	} {
		w := &watch{sink: &keeper{err: tt.sink}}
		var err error
		for _, m := range tt.said {
			if _, err = w.take(m); err != nil {
				break
			}
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
}

// TestEnded: what a kernel dies of is its doing, but not where the machine may have brought it about.
func TestEnded(t *testing.T) {
	const (
		stall = "Kernel panic - not syncing: softlockup: hung tasks"
		crash = "Kernel panic - not syncing: Fatal exception in interrupt"
		full  = "Kernel panic - not syncing: System is deadlocked on memory"
	)
	for name, tt := range map[string]struct {
		real bool
		said string
		died bool
		hint string
	}{
		"a crash":                 {false, crash, true, ""},
		"a crash in real time":    {true, crash, true, ""},
		"a stall":                 {false, stall, true, ""},
		"a stall in real time":    {true, stall, false, "--time=virtual"},
		"a shortage":              {false, full, false, "--memory="},
		"a shortage in real time": {true, full, false, "--memory="},
	} {
		g := Guest{Machine: Machine{Real: tt.real}.Filled(), IsTitle: isTitle, IsStall: func(line string) bool { return strings.Contains(line, "softlockup") }}
		w := &watch{Guest: g, hello: true, console: &console{text: []byte("[    1.0] " + tt.said + "\n")}}
		x := w.ended(nil, errLost)
		if x.Why != "the kernel died: "+tt.said || x.Died != tt.died || !strings.Contains(x.Hint, tt.hint) || tt.hint == "" && x.Hint != "" {
			t.Errorf("%s: %q, died %v, hint %q", name, x.Why, x.Died, x.Hint)
		}
	}
}

// fakeQEMU has what runs kernels be a program that writes these bytes to the control channel, takes an order into the file that it
// returns, and says nothing more. With nothing to write it says nothing at all.
func fakeQEMU(t *testing.T, frames []byte) (order string) {
	t.Helper()
	dir := t.TempDir()
	order = filepath.Join(dir, "order")
	script := fmt.Sprintf("#!/bin/sh\necho pid $$ >&%d\n", consoleFD) // the console tells who it is
	if len(frames) > 0 {
		said := filepath.Join(dir, "frames")
		if err := os.WriteFile(said, frames, 0o644); err != nil {
			t.Fatal(err)
		}
		script += fmt.Sprintf("cat '%s' >&%d\ndd bs=65536 count=1 of='%s' <&%d 2>&-\n", said, channelFD, order, channelFD)
	}
	script += "exec sleep 1000\n"
	if err := os.WriteFile(filepath.Join(dir, emulators["amd64"].program), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return order
}

// TestRunSilent: a guest that says nothing is given up, before it is up and after. What came home stays, and nothing is left of QEMU.
func TestRunSilent(t *testing.T) {
	var frames bytes.Buffer
	for _, m := range []struct {
		kind kind
		text string
	}{
		{kindHello, `{"release":"6.12","machine":"x86_64"}`}, {kindLedger, aHeader}, {kindBegan, "quiz1/ipv4/off/1"}, {kindEnded, "quiz1/ipv4/off/1"},
		{kindLedger, aCell}, {kindBegan, "quiz1/ipv4/sysctl/1"}, {kindFile, "cells/of-the-second"},
	} {
		if err := writeMessage(&frames, m.kind, []byte(m.text)); err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		frames []byte
		real   bool
		why    string
		hint   string
		cells  []string
		inPlay []string
	}{
		"never up":          {nil, false, "the guest did not come up within 2s", "--boot-timeout=4s", nil, nil},
		"hung":              {frames.Bytes(), false, "the guest hung: it said nothing for 2s", "", []string{"quiz1/ipv4/off/1"}, []string{"quiz1/ipv4/sysctl/1"}},
		"hung in real time": {frames.Bytes(), true, "the guest hung: it said nothing for 2s", "", []string{"quiz1/ipv4/off/1"}, []string{"quiz1/ipv4/sysctl/1"}},
	} {
		t.Run(name, func(t *testing.T) {
			order := fakeQEMU(t, tt.frames)
			k := &keeper{}
			g := Guest{
				Kernel: &Kernel{Arch: "amd64", Image: "image"}, Machine: Machine{Real: tt.real, BootTimeout: 2 * time.Second}, Order: Order{Args: []string{"run"}},
				IsTitle: isTitle, IsStall: isTitle, Silence: 2 * time.Second,
			}
			if tt.frames != nil {
				g.Machine.BootTimeout = time.Minute
			}
			x, err := Run(t.Context(), g, k)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(x.Why, tt.why) || x.Died || !strings.HasPrefix(x.Hint, tt.hint) || !slices.Equal(k.cells, tt.cells) || !slices.Equal(x.InPlay, tt.inPlay) {
				t.Errorf("%q (died %v), hint %q, cells %q, in play %q", x.Why, x.Died, x.Hint, k.cells, x.InPlay)
			}
			_, said, _ := strings.Cut(string(x.Console), "pid ")
			if pid, err := strconv.Atoi(strings.TrimSpace(said)); err != nil {
				t.Errorf("the console says %q", x.Console)
			} else if err := unix.Kill(pid, 0); !errors.Is(err, unix.ESRCH) {
				t.Errorf("QEMU, process %d, is still there: %v", pid, err)
			}
			if tt.frames == nil {
				return
			}
			got, err := os.ReadFile(order)
			if err != nil || !bytes.Contains(got, []byte(`"run"`)) || bytes.Contains(got, []byte(realTimeVariable)) != tt.real {
				t.Errorf("it was ordered %q, %v", got, err)
			}
		})
	}
}

// TestArguments: what a guest is given is what QEMU is told.
func TestArguments(t *testing.T) {
	for name, tt := range map[string]struct {
		m    Machine
		arch string
		want []string
	}{
		"as it comes": {Machine{}, "amd64", []string{"-M pc", "-cpu max,-erms", "-m 768", "-smp 1", "thread=single -icount shift=" + instructionShift + ",sleep=off", "console=ttyS0", "panic=-1", cryptoUntested}},
		"real time":   {Machine{Real: true, CPUs: 3}, "amd64", []string{"-smp 3", "-accel tcg,thread=multi"}},
		"kvm":         {Machine{Accel: "kvm", CPUs: 1}, "amd64", []string{"-accel kvm", "-cpu host"}},
		"arm64":       {Machine{Memory: 1024}, "arm64", []string{"-M virt", "-m 1024", "console=ttyAMA0"}},
	} {
		m := tt.m.Filled()
		said := strings.Join(m.arguments(&Kernel{Arch: tt.arch, Image: "image"}, "initramfs"), " ")
		for _, want := range tt.want {
			if !strings.Contains(said, want) {
				t.Errorf("%s: no %q in %s", name, want, said)
			}
		}
		if virtual := strings.Contains(said, "-icount"); virtual != m.Virtual() {
			t.Errorf("%s: virtual time %v, and told %v", name, m.Virtual(), virtual)
		}
		// In real time, and for more than one processor, the local APIC's timer is measured. Other architectures have none.
		if one := strings.Contains(said, " nolapic_timer"); one != (name == "as it comes") {
			t.Errorf("%s: it does without the local APIC's timer: %v", name, one)
		}
	}
}
