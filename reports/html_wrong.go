package reports

import (
	"cmp"
	"fmt"
	"html/template"
	"net/url"
	"slices"
	"strings"

	"github.com/rpmig/rpmig/result"
)

// htmlCase is what went wrong, or was not played, in the same way in one cell or several of a scenario. Cells that were skipped for
// the same reason are one case whatever their scenario.
type htmlCase struct {
	Status    result.Status
	Scenario  string // of the first cell
	Title     string // of the scenario
	N         int
	Links     []htmlLink
	More      int // cells without a link
	First     *htmlParted
	Reason    string // where no check failed
	Happened  string // in the first cell; empty: the bug, or the reason, says it
	Verdict   string // on that, where it is not just the first check
	Bugs      []htmlBug
	Confirmed *result.Replay
	Reload    bool   // of a server of the user's own: no known bug was looked for
	Again     string // command that plays the first cell again
}

type htmlLink struct {
	Text string
	Href template.URL
}

// htmlParted is the first check of a cell that does not hold.
type htmlParted struct {
	result.Check
	Stop string // the step at which that began, in words; empty: it is not known
	Href template.URL
}

// htmlBug is a known bug of the kernel, as far as the ledger describes it.
type htmlBug struct {
	result.Bug
	Href     template.URL // empty: the link is none that one may follow
	Releases string
	Here     string // whether the run's kernel has it
}

// worstFirst is the order in which cases are listed; what is not listed comes after ERROR.
var worstFirst = []result.Status{result.Fail, result.Error, "", result.XFail, result.Skip}

func severity(s result.Status) int {
	if i := slices.Index(worstFirst, s); i >= 0 {
		return i
	}
	return slices.Index(worstFirst, "")
}

// cases adds the cells of rows that are not PASS to those that there are.
func (d *htmlDrawer) cases(all []*htmlCase, rows []rowCells) []*htmlCase {
	const most = 30
	seen := map[string]*htmlCase{}
	for _, c := range all {
		seen[c.key()] = c
	}
	for _, row := range rows {
		for i, c := range row.cells {
			if c.Status == result.Pass {
				continue
			}
			next := d.newCase(c, row.anchors[i])
			is := seen[next.key()]
			if is == nil {
				is = next
				seen[next.key()] = is
				all = append(all, is)
			}
			is.N++
			if len(is.Links) == most {
				is.More++
				continue
			}
			text := strings.TrimPrefix(d.title(c), printable(c.Scenario)+" ")
			if c.Status == result.Skip {
				text = d.title(c)
			}
			is.Links = append(is.Links, htmlLink{text, template.URL("#" + row.anchors[i])})
		}
	}
	slices.SortStableFunc(all, func(a, b *htmlCase) int { return cmp.Compare(severity(a.Status), severity(b.Status)) })
	return all
}

func (d *htmlDrawer) newCase(c *result.Cell, anchor string) *htmlCase {
	about := d.stories.header
	next := &htmlCase{
		Status: c.Status, Scenario: c.Scenario, Title: about.Title(c.Scenario), Reason: c.Reason, Bugs: bugsOf(about, c.Bug),
		Confirmed: c.Confirmed, Reload: c.Reload != nil, Again: again(about, c), First: partedOf(c, anchor),
	}
	switch {
	case c.Status == result.Skip:
		next.Title, next.First = "", nil
	case c.Connections.Staged > 0 && c.Bug == "":
		next.Happened, _ = d.stories.Outcome(c)
	}
	if next.First != nil && !strings.Contains(c.Reason, next.First.String()) {
		next.Verdict = printable(c.Reason)
	}
	return next
}

func (c *htmlCase) key() string {
	if c.Status == result.Skip {
		return fmt.Sprintf("%q %q", c.Status, c.Reason)
	}
	why := c.Reason
	if c.First != nil {
		why = c.First.Name
	}
	return fmt.Sprintf("%q %q %q %q", c.Status, c.Scenario, why, c.Bugs)
}

// again is the command that plays a cell again, alone and in the kernel that it was played in. A server that was reloaded is none of
// rpmig's scenarios: that is the command of the run.
func again(h *result.Header, c *result.Cell) string {
	if c.Reload != nil {
		return command(h.Command)
	}
	args := []string{"run", c.Scenario, "--family=" + c.Family, "--migrate=" + c.Mode, "-v"}
	if h.Guest != nil {
		args = append(args, "--kernel="+h.Guest.From)
	}
	return command(args)
}

// command is what a shell takes for rpmig with these arguments.
func command(args []string) string {
	words := []string{"rpmig"}
	for _, a := range args {
		plain := a != "" && !strings.ContainsFunc(a, func(r rune) bool {
			return !strings.ContainsRune("+,-./:=@_", r) && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
		})
		if !plain {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		words = append(words, a)
	}
	return strings.Join(words, " ")
}

// parted returns the first check that does not hold, nil if all do, and the step at which what was seen parted from what was
// wanted, counted from 0; -1: that is not known.
func parted(c *result.Cell) (*result.Check, int) {
	i := slices.IndexFunc(c.Checks, func(k result.Check) bool { return !k.OK })
	if i < 0 {
		return nil, -1
	}
	if k := &c.Checks[i]; k.Step >= 1 && k.Step <= len(c.Steps) {
		return k, k.Step - 1
	}
	return &c.Checks[i], -1
}

func partedOf(c *result.Cell, anchor string) *htmlParted {
	k, step := parted(c)
	if k == nil {
		return nil
	}
	p := &htmlParted{Check: *k}
	if step >= 0 {
		p.Stop = fmt.Sprintf("step %d of %d, at %s: %s", step+1, len(c.Steps), seconds(c.Steps[step].At), printable(c.Steps[step].Name))
		p.Href = template.URL(fmt.Sprintf("#%s&step=%d", anchor, step+1))
	}
	return p
}

// bugsOf describes the known bugs that a cell names; of one that the ledger does not list, only the name is known.
func bugsOf(h *result.Header, named string) []htmlBug {
	if named == "" {
		return nil
	}
	var bugs []htmlBug
	for _, id := range strings.Split(named, ", ") {
		b := htmlBug{Bug: result.Bug{ID: id}}
		if i := slices.IndexFunc(h.Bugs, func(o result.Bug) bool { return o.ID == id }); i >= 0 {
			b = newHTMLBug(h, h.Bugs[i])
		}
		bugs = append(bugs, b)
	}
	return bugs
}

func newHTMLBug(h *result.Header, bug result.Bug) htmlBug {
	b := htmlBug{Bug: bug}
	// A ledger may come from a stranger: nothing but the web is linked to, and the link is its own text.
	if u, err := url.Parse(bug.Link); err == nil && u.Scheme == "https" && u.Host != "" && u.User == nil && printable(bug.Link) == bug.Link {
		b.Href = template.URL(u.String())
	}
	if bug.Since != "" {
		b.Releases = "In Linux since " + printable(bug.Since)
		if len(bug.Fixed) > 0 {
			b.Releases += ", fixed in " + printable(strings.Join(bug.Fixed, ", ")) + " and in what came after"
		}
		if len(bug.Still) > 0 {
			b.Releases += ", not fixed in " + printable(strings.Join(bug.Still, ", "))
		}
		b.Releases += "."
	}
	kernel := printable(cmp.Or(h.Upstream, h.Kernel))
	switch bug.In(h.Upstream) {
	case result.Has:
		b.Here = "This kernel, " + kernel + ", has it, by its version."
	case result.HasNot:
		b.Here = "This kernel, " + kernel + ", does not have it, by its version."
	default:
		b.Here = "Whether this kernel, " + kernel + ", has it cannot be told by its version."
	}
	return b
}
