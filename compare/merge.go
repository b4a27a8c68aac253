package compare

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/rpmig/rpmig/result"
)

// Part is the ledger of a shard.
type Part struct {
	Path string // as the user named it
	Run  *result.Run
}

// partFlags are those of rpmig run in which the shards of one run may differ: where each is, and how it is shown.
var partFlags = []string{"shard", "out", "bundle", "format", "parallel", "kcidb-origin", "kcidb-build", "kcidb-id"}

// Merge joins the ledgers of the shards of one run, which began with the first of them. Its cells are sorted by name. It refuses
//   - a ledger that is no shard's;
//   - shards of different runs: of another rpmig, kernel, machine, command or number of shards;
//   - a shard that is there twice, or is missing;
//   - a shard that was cut short, and a cell that is in two.
func Merge(parts []Part) (*result.Run, error) {
	if len(parts) == 0 {
		return nil, fmt.Errorf("nothing to merge")
	}
	first := parts[0]
	byIndex := map[int]string{}
	merged := &result.Run{Header: first.Run.Header}
	merged.Header.Started = began(parts)
	for _, p := range parts {
		s := p.Run.Header.Shard
		if s == nil {
			return nil, fmt.Errorf("%s is no shard: it is a whole run, or one of another kind", p.Path)
		}
		if s.Index < 1 || s.Index > s.Of {
			return nil, fmt.Errorf("%s says that it is shard %s", p.Path, s)
		}
		if what, a, b := differs(&first.Run.Header, &p.Run.Header); what != "" {
			return nil, fmt.Errorf("%s and %s are of different runs: %s: %s and %s", first.Path, p.Path, what, a, b)
		}
		if other, ok := byIndex[s.Index]; ok {
			return nil, fmt.Errorf("%s and %s are both shard %s", other, p.Path, s)
		}
		byIndex[s.Index] = p.Path
		if n := p.Run.Missing(); n > 0 || p.Run.Ending != nil {
			return nil, fmt.Errorf("%s was cut short: %d of %d cells are missing", p.Path, n, p.Run.Header.Cells)
		}
		for _, c := range p.Run.Cells {
			if c.At > 0 { // since its own shard began
				c.At += p.Run.Header.Started.Sub(merged.Header.Started.Time).Seconds()
			}
			merged.Cells = append(merged.Cells, c)
		}
	}
	of := first.Run.Header.Shard.Of
	for i := 1; i <= of; i++ {
		if byIndex[i] == "" {
			return nil, fmt.Errorf("shard %d/%d is missing", i, of)
		}
	}
	slices.SortFunc(merged.Cells, byName)
	for i := 1; i < len(merged.Cells); i++ {
		if id := merged.Cells[i].ID(); id == merged.Cells[i-1].ID() {
			return nil, fmt.Errorf("%s is in two shards", id)
		}
	}
	if planned := first.Run.Header.Shard.Planned; len(merged.Cells) != planned {
		return nil, fmt.Errorf("the shards have %d cells together, and %d were planned", len(merged.Cells), planned)
	}
	merged.Header.Shard = nil
	merged.Header.Cells = len(merged.Cells)
	merged.Header.Command = common(first.Run.Header.Command)
	return merged, nil
}

// began is when the first of the shards did.
func began(parts []Part) result.Time {
	first := parts[0].Run.Header.Started
	for _, p := range parts {
		if at := p.Run.Header.Started; at.Before(first.Time) {
			first = at
		}
	}
	return first
}

func byName(a, b result.Cell) int {
	return cmp.Or(Key{a.Scenario, a.Family, a.Mode}.compare(Key{b.Scenario, b.Family, b.Mode}), cmp.Compare(a.Repeat, b.Repeat))
}

// differs names what two shards of one run would not differ in.
func differs(a, b *result.Header) (what, inA, inB string) {
	for _, f := range []struct{ what, a, b string }{
		{"rpmig", a.Version, b.Version},
		{"kernel", a.Release(), b.Release()},
		{"machine", a.Machine, b.Machine},
		{"the kernel's image", image(a), image(b)},
		{"number of shards", fmt.Sprint(a.Shard.Of), fmt.Sprint(b.Shard.Of)},
		{"planned cells", fmt.Sprint(a.Shard.Planned), fmt.Sprint(b.Shard.Planned)},
		{"port", fmt.Sprint(a.Port), fmt.Sprint(b.Port)},
		{"command", strings.Join(common(a.Command), " "), strings.Join(common(b.Command), " ")},
	} {
		if f.a != f.b {
			return f.what, f.a, f.b
		}
	}
	return "", "", ""
}

// image is that of the kernel that was booted for a run.
func image(h *result.Header) string {
	switch {
	case h.Guest == nil:
		return "the machine's own"
	case h.Guest.Image == "":
		return "not known"
	default:
		return h.Guest.Image
	}
}

// common is a command without the flags in which shards may differ, and their values.
func common(command []string) []string {
	kept := []string{}
	for i := 0; i < len(command); i++ {
		name, dashes := strings.CutPrefix(strings.TrimPrefix(command[i], "-"), "-")
		name, _, joined := strings.Cut(name, "=")
		if (dashes || strings.HasPrefix(command[i], "-")) && slices.Contains(partFlags, name) {
			if !joined {
				i++
			}
			continue
		}
		kept = append(kept, command[i])
	}
	return kept
}
