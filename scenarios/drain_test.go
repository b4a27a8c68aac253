package scenarios

import (
	"testing"
	"time"
)

// TestWithin: a wait that ended too soon, and one that lasted too long unless the machine is slow.
func TestWithin(t *testing.T) {
	const fine = "as the SYN+ACK timer says"
	for _, c := range []struct {
		wait time.Duration
		slow bool
		ok   bool
	}{
		{500 * time.Millisecond, false, false}, {500 * time.Millisecond, true, false},
		{2 * time.Second, false, true}, {2 * time.Second, true, true},
		{9 * time.Second, false, false}, {9 * time.Second, true, true},
	} {
		if got := within(c.wait, 1, 3, c.slow); (got == fine) != c.ok {
			t.Errorf("%v, slow %t: %s", c.wait, c.slow, got)
		}
	}
}
