package trace

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNameStacks(t *testing.T) {
	const symbols = `0000000000000000 A fixed_percpu_data
ffffffff81000010 t inet_child_forget.isra.0
ffffffff81000018 D not_a_function
ffffffff81000020 T inet_csk_listen_stop
ffffffff81000030 T bpf_skops_established
ffffffff81000040 T __traceiter_tcp_send_reset
ffffffffa0000000 t bpf_prog_1234_send_reset	[bpf]
ffffffffa0001000 t in_a_module	[tcp_diag]
no line
ffffffff81000000 T _text
`
	stacks := map[uint32][stackDepth]uint64{
		1: {0xffffffffa0000004, 0xffffffff81000044, 0xffffffff8100001f, 0xffffffff81000020, 0xffffffff81000038, 0xffffffffa0001001},
		2: {1}, // before all symbols
	}
	for name, tt := range map[string]struct {
		symbols string
		want    *Stack
	}{
		"root":                      {symbols, &Stack{"inet_child_forget", "inet_csk_listen_stop", "bpf_skops_established", "in_a_module"}},
		"who may not see addresses": {"0000000000000000 T inet_child_forget\n0000000000000000 T inet_csk_listen_stop\n", nil},
	} {
		got := map[uint32]*Stack{}
		if err := nameStacks(stacks, strings.NewReader(tt.symbols), got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(got[1], tt.want); diff != "" || got[2] != nil {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if err := nameStacks(stacks, strings.NewReader(strings.Repeat("x", 1<<20)), map[uint32]*Stack{}); err == nil {
		t.Error("a line of a megabyte has no error")
	}
}

// TestStack: the reset of a connection that waits in the queue of a listener that closes is sent by inet_csk_listen_stop. There is no
// stack where none was asked for.
func TestStack(t *testing.T) {
	for _, with := range []bool{true, false} {
		tr := tracer(t, Options{Stacks: with})
		got := record(t, tr, func(s *stage) {
			a, _ := s.listen(families[0].listen)
			s.connect(families[0].reach)
			s.close(a)
		})
		sent := got.one(t, ResetSent, nil)
		if sent.Stack.Has("inet_csk_listen_stop") != with || (sent.Stack == nil) == with {
			t.Errorf("asked for: %t; the stack is %v", with, sent.Stack)
		}
	}
}
