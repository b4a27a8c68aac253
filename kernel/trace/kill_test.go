package trace

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/cilium/ebpf"
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
	ids, err := programs(tr)
	if err != nil {
		panic(err)
	}
	fmt.Println(len(ids))
	for _, id := range ids {
		fmt.Println(id)
	}
	select {}
}

func TestKillLeavesNothing(t *testing.T) {
	tracer(t, defaultRing, true)
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
	var n int
	if _, err := fmt.Fscan(out, &n); err != nil {
		t.Fatal(err)
	}
	ids := make([]ebpf.ProgramID, n)
	for i := range ids {
		if _, err := fmt.Fscan(out, &ids[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it says that it was killed
	gone(t, ids)
}
