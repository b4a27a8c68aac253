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
	empty := func() { // a thread leaves when Do has returned
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); inside() != 0; runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatalf("%d are still in a namespace", inside())
			}
		}
	}
	empty() // of other tests
	for _, fails := range []error{nil, errors.New("no")} {
		err := Do(func() error {
			if n := inside(); n != 1 {
				t.Errorf("%d are in a namespace, want 1", n)
			}
			return fails
		})
		if !errors.Is(err, fails) {
			t.Fatal(err)
		}
		empty()
	}
}
