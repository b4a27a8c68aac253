package reports

import (
	"fmt"
	"regexp"
	"slices"
)

// folded are moments in a row, and how often such a row came, one behind the other.
type folded struct {
	moments []moment
	times   int
	last    []moment // the row that came last
}

const (
	foldFrom = 3  // that often it has to come, or it stays as it is
	longFold = 24 // moments that are folded together at most: what a short connection has
)

var numbersIn = regexp.MustCompile(`\d+`)

// shape is what a moment has in common with another that differs in numbers alone: in a name, a port or a sequence number. A reset
// is like no other.
func (m *moment) shape(i int) string {
	if m.reset != nil || m.segment.Role == "reset" {
		return fmt.Sprint("reset ", i)
	}
	s := &m.segment
	return fmt.Sprint(m.kind, s.FromClient, s.Dropped, s.Again, " ", numbersIn.ReplaceAllString(m.text, "#"))
}

// fold puts together what comes again and again, as 25 listeners that are opened one by one.
func fold(all []moment) []folded {
	shapes := make([]string, len(all))
	for i := range all {
		shapes[i] = all[i].shape(i)
	}
	var rows []folded
	for i := 0; i < len(all); {
		length, times := 1, 1
		for k := 1; k <= min(longFold, (len(all)-i)/foldFrom); k++ {
			n := 1
			for i+(n+1)*k <= len(all) && slices.Equal(shapes[i:i+k], shapes[i+n*k:i+(n+1)*k]) {
				n++
			}
			if n >= foldFrom && (n-1)*k > (times-1)*length {
				length, times = k, n
			}
		}
		end := i + length*times
		rows = append(rows, folded{all[i : i+length], times, all[end-length : end]})
		i = end
	}
	return rows
}

// often is " (× 8, to: slot 8 becomes L9)" of one moment that came again; empty of all others.
func (f *folded) often() string {
	switch {
	case f.times == 1 || len(f.moments) > 1:
		return ""
	case f.moments[0].text == f.last[0].text:
		return fmt.Sprintf(" (× %d)", f.times)
	default:
		return fmt.Sprintf(" (× %d, to: %s)", f.times, f.last[0].text)
	}
}
