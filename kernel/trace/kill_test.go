package trace

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// victim, in the environment, makes this test program trace until it is killed.
const victim = "RPMIG_TEST_TRACE_VICTIM"

func stayIfVictim() {
	if os.Getenv(victim) == "" {
		return
	}
	tr, err := Open()
	if err != nil {
		panic(err)
	}
	has, err := belongings(tr)
	if err != nil {
		panic(err)
	}
	for _, t := range has {
		fmt.Println(t.kind, t.id)
	}
	os.Stdout.Close()
	select {}
}

// thing is something that the kernel keeps for a tracer: a program, a map or a link.
type thing struct {
	kind string
	id   uint32
}

// belongings are all that the kernel keeps for a tracer.
func belongings(t *Tracer) (all []thing, err error) {
	objs := &bpf(t).objs
	for _, p := range []*ebpf.Program{
		objs.EnterSoftirq, objs.ExitSoftirq, objs.SendReset, objs.ReceiveReset, objs.Retransmit,
		objs.RetransmitSynack, objs.SetState, objs.Drop,
	} {
		info, err := p.Info()
		if err != nil {
			return nil, err
		}
		id, _ := info.ID()
		all = append(all, thing{"program", uint32(id)})
		maps, _ := info.MapIDs()
		for _, id := range maps {
			if m := (thing{"map", uint32(id)}); !slices.Contains(all, m) {
				all = append(all, m)
			}
		}
	}
	for _, l := range bpf(t).links {
		info, err := l.Info()
		if err != nil {
			return nil, err
		}
		all = append(all, thing{"link", uint32(info.ID)})
	}
	return all, nil
}

// left returns which of these things the kernel still has.
func left(t *testing.T, of []thing) (still []thing) {
	t.Helper()
	for _, x := range of {
		var held io.Closer
		var err error
		switch x.kind { // BPF_*_GET_FD_BY_ID
		case "program":
			held, err = ebpf.NewProgramFromID(ebpf.ProgramID(x.id))
		case "map":
			held, err = ebpf.NewMapFromID(ebpf.MapID(x.id))
		case "link":
			held, err = link.NewFromID(link.ID(x.id))
		}
		switch {
		case errors.Is(err, os.ErrNotExist):
			continue
		case errors.Is(err, unix.EAGAIN): // being freed (bpf_link_by_id)
		case err != nil:
			t.Fatal(err)
		default:
			held.Close()
		}
		still = append(still, x)
	}
	return still
}

// mustVanish ends a tracer that has these things, and waits until the kernel has freed them, which it does in the
// background. A thing that is pinned, or attached by other means than a descriptor, would stay.
func mustVanish(t *testing.T, has []thing, end func()) {
	t.Helper()
	kinds := map[string]int{}
	for _, x := range left(t, has) {
		kinds[x.kind]++
	}
	// Five maps: the watches, the ring, the stacks, the interrupted threads, and the constants.
	if kinds["program"] != 8 || kinds["link"] != 8 || kinds["map"] != 5 || len(has) != 21 {
		t.Fatalf("the kernel has %v of a tracer's %v", kinds, has)
	}
	end()
	for limit := time.Now().Add(deadline); ; time.Sleep(5 * time.Millisecond) {
		still := left(t, has)
		if len(still) == 0 {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("the kernel still has %v", still)
		}
	}
}

func TestKillLeavesNothing(t *testing.T) {
	tracer(t, Options{})
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), victim+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	var has []thing
	for {
		var x thing
		if _, err := fmt.Fscan(out, &x.kind, &x.id); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		has = append(has, x)
	}
	mustVanish(t, has, func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // the error is that it was killed
	})
}

func TestCloseLeavesNothing(t *testing.T) {
	tr := tracer(t, Options{})
	has, err := belongings(tr)
	if err != nil {
		t.Fatal(err)
	}
	mustVanish(t, has, func() {
		if err := tr.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestHeldIsFound tests the check of the two tests above: it finds a program that is still held after its tracer is closed.
func TestHeldIsFound(t *testing.T) {
	tr := tracer(t, Options{})
	has, err := belongings(tr)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := bpf(tr).objs.Drop.Clone() // holds it as a pin would, without a file on the host
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	if err := tr.Close(); err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(deadline); ; time.Sleep(5 * time.Millisecond) {
		if still := left(t, has); !slices.ContainsFunc(still, func(x thing) bool { return x.kind == "program" }) {
			t.Fatalf("a program that is held is not found: %v", still)
		} else if !slices.ContainsFunc(still, func(x thing) bool { return x.kind == "link" }) {
			return // the rest is gone
		}
		if time.Now().After(limit) {
			t.Fatal("the links are still there")
		}
	}
}
