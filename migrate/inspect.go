package migrate

import (
	_ "embed"
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
)

//go:embed select.bpf.c
var source []byte

// Source returns the program of all modes that have one: its C source, and the object that is loaded.
func Source() (c, object []byte) { return source, _ChooseBytes }

// Inspect loads the mode's program once more, as a cell does, and returns what was loaded and the log of the kernel's
// verifier, which is too slow for every cell. It also works where the mode is not supported. It returns "" for a mode
// without a program.
func (m Mode) Inspect() string {
	if !m.HasProgram() {
		return ""
	}
	spec, err := loadChoose()
	if err != nil {
		return fmt.Sprintf("the object cannot be read: %v\n", err)
	}
	return m.inspect(spec)
}

func (m Mode) inspect(spec *ebpf.CollectionSpec) string {
	program := spec.Programs[chooseProgChooseListener]
	program.AttachType = m.Attach
	p := m.Policy()
	var b strings.Builder
	fmt.Fprintf(&b, "mode: %s: %s\n", m.Name, m.Doc)
	fmt.Fprintf(&b, "program: %s, %s, attach type %s\n", program.Name, program.Type, program.AttachType)
	fmt.Fprintf(&b, "variables: answer=%d (%s), arrive_slot=%d, migrate_slot=%d, spread=%d\n", p.Answer, p.Answer, p.Arrive, p.Migrate, p.Spread)
	b.WriteString("  as set before a scenario begins, which may set others\n")
	var objs chooseObjects
	err := spec.LoadAndAssign(&objs, &ebpf.CollectionOptions{
		Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelInstruction | ebpf.LogLevelStats},
	})
	if err != nil {
		fmt.Fprintf(&b, "kernel: refused: %v\n\nthe verifier's log:\n", explain(err))
		var refused *ebpf.VerifierError
		if errors.As(err, &refused) {
			b.WriteString(strings.Join(refused.Log, "\n") + "\n")
		} else {
			b.WriteString("(none: it did not get to the verifier)\n")
		}
		return b.String()
	}
	defer func() { _ = objs.Close() }()
	fmt.Fprintf(&b, "kernel: accepted\n\nthe verifier's log:\n%s\n", strings.TrimRight(objs.ChooseListener.VerifierLog, "\n"))
	return b.String()
}
