package compare

import (
	"fmt"
	"strings"
)

// Pairs says which runs are held against each other: the runs of one name, where both sides have several, such as one a kernel; and
// else each new run against the only old one. A run that the other side lacks is held against one in which nothing was played.
func Pairs(old, changed []*Side) ([]Pair, error) {
	if len(old) == 0 || len(changed) == 0 {
		return nil, fmt.Errorf("nothing to compare")
	}
	var pairs []Pair
	if len(old) == 1 {
		for _, s := range changed {
			pairs = append(pairs, Pair{old[0], s})
		}
		return pairs, nil
	}
	byName := map[string]*Side{}
	var names []string
	for _, s := range old {
		byName[s.Run] = s
		names = append(names, s.Run)
	}
	matched := map[string]bool{}
	for _, s := range changed {
		if s.Run == "" {
			return nil, fmt.Errorf("%s has several runs, and %s is one: name one of %s", old[0].Path, s.Path, strings.Join(names, ", "))
		}
		before := byName[s.Run]
		if before == nil {
			before = NewSide(old[0].Path, s.Run)
		}
		matched[s.Run] = true
		pairs = append(pairs, Pair{before, s})
	}
	for _, s := range old {
		if !matched[s.Run] {
			pairs = append(pairs, Pair{s, NewSide(changed[0].Path, s.Run)})
		}
	}
	return pairs, nil
}
