package netns

import (
	"errors"
	"runtime"
	"testing"
	"time"
)

// TestLeft: who is in a namespace counts, and who has left it does not: for that room would be waited for without end.
func TestLeft(t *testing.T) {
	needNamespace(t)
	inside := func() int {
		ours.Lock()
		defer ours.Unlock()
		return ours.inside
	}
	before := inside()
	for _, fails := range []error{nil, errors.New("no")} {
		err := Do(func() error {
			if n := inside(); n != before+1 {
				t.Errorf("%d are in a namespace, want %d", n, before+1)
			}
			return fails
		})
		if !errors.Is(err, fails) {
			t.Fatal(err)
		}
		// Its thread leaves when Do has returned.
		for deadline := time.Now().Add(10 * time.Second); inside() != before; runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatalf("%d are still in a namespace, want %d", inside(), before)
			}
		}
	}
}
