package vm

import (
	"errors"
	"slices"
	"strings"
	"testing"

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
