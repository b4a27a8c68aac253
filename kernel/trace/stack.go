package trace

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
)

// stackDepth is STACK_DEPTH in trace.bpf.c.
const stackDepth = 16

// Stack is the names of functions, the innermost first.
type Stack []string

// Has tells whether a function is on the stack; of none it says no.
func (s *Stack) Has(function string) bool { return s != nil && slices.Contains(*s, function) }

// stacksOf returns the stacks of records, by number. Each is read and named once: the kernel keeps one of a kind.
func (t *programs) stacksOf(records []byte) (map[uint32]*Stack, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stacks == nil {
		return nil, nil
	}
	unnamed := map[uint32][stackDepth]uint64{}
	for record := range slices.Chunk(records, recordSize) {
		id, ok := stackOf(record)
		if _, known := t.stacks[id]; !ok || known {
			continue
		}
		var stack [stackDepth]uint64
		if err := t.objs.Stacks.Lookup(id, &stack); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return nil, explainLost(fmt.Errorf("read a stack: %w", err))
		}
		unnamed[id] = stack
	}
	if len(unnamed) > 0 {
		f, err := os.Open("/proc/kallsyms")
		if err != nil {
			return nil, fmt.Errorf("name the functions of a stack: %w", err)
		}
		defer func() { _ = f.Close() }()
		if err := nameStacks(unnamed, f, t.stacks); err != nil {
			return nil, fmt.Errorf("name the functions of a stack: %w", err)
		}
	}
	return maps.Clone(t.stacks), nil
}

// nameStacks reads the kernel's symbols, as /proc/kallsyms has them, and puts the stacks with names in the place of addresses.
// Who may not see addresses is shown zeros (kptr_restrict), and then a stack has no names.
func nameStacks(stacks map[uint32][stackDepth]uint64, symbols io.Reader, to map[uint32]*Stack) error {
	type symbol struct {
		at   uint64
		name string
	}
	nearest := map[uint64]symbol{} // by the address in a stack: the last symbol that is not behind it
	for _, stack := range stacks {
		for _, at := range stack {
			if at != 0 {
				nearest[at] = symbol{}
			}
		}
	}
	lines := bufio.NewScanner(symbols)
	for lines.Scan() { // "ffffffff8200a2e0 T inet_csk_listen_stop", and of a module "	[name]"
		address, rest, _ := strings.Cut(lines.Text(), " ")
		kind, rest, ok := strings.Cut(rest, " ")
		at, err := strconv.ParseUint(address, 16, 64)
		if err != nil || !ok || !strings.Contains("tTwW", kind) {
			continue
		}
		for wanted, s := range nearest {
			if at <= wanted && at > s.at {
				name, _, _ := strings.Cut(rest, "\t")
				name, _, _ = strings.Cut(name, ".") // a part of it, as the compiler made it: .isra.0, .cold
				nearest[wanted] = symbol{at, strings.Clone(name)}
			}
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	for id, stack := range stacks {
		var names Stack
		for _, at := range stack {
			name := nearest[at].name
			switch {
			case name == "":
			case names == nil && (strings.Contains(name, "bpf_") || strings.HasPrefix(name, "__traceiter_")): // the tracing's own
			default:
				names = append(names, name)
			}
		}
		if to[id] = nil; len(names) > 0 {
			to[id] = &names
		}
	}
	return nil
}
