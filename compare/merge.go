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

// Merged is the ledger of a run whose shards were put together. Its cells stay where those are.
type Merged struct {
	Header result.Header
	parts  []Part
	cells  []mergedCell // sorted by name
}

// mergedCell is the place of a cell in its part.
type mergedCell struct{ part, at int32 }

// Each calls do with the cells, sorted by name.
func (m *Merged) Each(do func(*result.Cell) error) error {
	for _, of := range m.cells {
		p := m.parts[of.part].Run
		c, err := p.Cell(int(of.at))
		if err != nil {
			return err
		}
		cell := *c
		if cell.At > 0 { // since its own shard began
			cell.At += p.Header.Started.Sub(m.Header.Started.Time).Seconds()
		}
		if err := do(&cell); err != nil {
			return err
		}
	}
	return nil
}

// Merge joins the ledgers of the shards of one run, which began with the first of them. Its cells are sorted by name. It refuses
//   - a ledger that is no shard's;
//   - shards of different runs: of another rpmig, kernel, machine, command or number of shards;
//   - a shard that is there twice, or is missing;
//   - a shard that was cut short, and a cell that is in two.
func Merge(parts []Part) (*Merged, error) {
	if len(parts) == 0 {
		return nil, fmt.Errorf("nothing to merge")
	}
	first := parts[0]
	byIndex := map[int]string{}
	merged := &Merged{Header: first.Run.Header, parts: parts}
	merged.Header.Started = began(parts)
	for part, p := range parts {
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
		if n := p.Run.Missing(); n == 0 && p.Run.Ending != nil {
			return nil, fmt.Errorf("%s did not end by itself: %s", p.Path, p.Run.Ending.Why)
		} else if n > 0 {
			return nil, fmt.Errorf("%s was cut short: %d of %d cells are missing", p.Path, n, p.Run.Header.Cells)
		}
		for at := range p.Run.Len() {
			merged.cells = append(merged.cells, mergedCell{int32(part), int32(at)})
		}
	}
	of := first.Run.Header.Shard.Of
	for i := 1; i <= of; i++ {
		if byIndex[i] == "" {
			return nil, fmt.Errorf("shard %d/%d is missing", i, of)
		}
	}
	slices.SortFunc(merged.cells, merged.byName)
	for i := 1; i < len(merged.cells); i++ {
		if of := merged.cells[i]; merged.byName(merged.cells[i-1], of) == 0 {
			return nil, fmt.Errorf("%s is in two shards", result.ID(parts[of.part].Run.Place(int(of.at))))
		}
	}
	if planned := first.Run.Header.Shard.Planned; len(merged.cells) != planned {
		return nil, fmt.Errorf("the shards have %d cells together, and %d were planned", len(merged.cells), planned)
	}
	merged.Header.Shard = nil
	merged.Header.Cells = len(merged.cells)
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

func (m *Merged) byName(a, b mergedCell) int {
	k, l := Key{}, Key{}
	var repeat, other int
	k.Scenario, k.Family, k.Mode, repeat = m.parts[a.part].Run.Place(int(a.at))
	l.Scenario, l.Family, l.Mode, other = m.parts[b.part].Run.Place(int(b.at))
	return cmp.Or(k.compare(l), cmp.Compare(repeat, other))
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
