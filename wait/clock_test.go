package wait

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestLate: a thread that has neither slept on purpose nor run was kept from running, and so was one that slept for longer than
// it wanted to. Both are noted, and what a busy machine does all the time is not.
func TestLate(t *testing.T) {
	const prompt = 10 * time.Second
	const hour = time.Hour // more processor time than this the test's thread cannot have had
	for _, tt := range []struct {
		name string
		do   func(w *Waiter)
		want string // empty: nothing is noted
	}{
		{"it was stopped", func(w *Waiter) { time.Sleep(hour) }, "did not run"},
		{"it was stopped for a moment", func(w *Waiter) { time.Sleep(Late) }, ""},
		{"it slept on purpose", func(w *Waiter) {
			_ = w.Poll(hour, "it is so", func(time.Duration) (bool, error) { time.Sleep(hour); return true, nil })
		}, ""},
		{"it overslept", func(w *Waiter) {
			_, _ = w.Nap(slice/2, func(int) (int, error) { time.Sleep(hour); return 0, nil })
			w.ReadClock()
		}, "overslept"},
		{"it slept for as long as it should", func(w *Waiter) {
			_, _ = w.Nap(hour, func(ms int) (int, error) { time.Sleep(time.Duration(ms) * time.Millisecond); return 0, nil })
			w.ReadClock()
		}, ""},
		{"a handshake took long", func(w *Waiter) {
			_ = w.Poll(prompt, "it is so", func(time.Duration) (bool, error) { time.Sleep(2 * Late); return true, nil })
		}, "it took until it is so"},
	} {
		synctest.Test(t, func(t *testing.T) {
			var noted []string
			w := &Waiter{Mul: 1, Cancelled: -1, Prompt: prompt, Delayed: func(what string, _ time.Duration) { noted = append(noted, what) }}
			w.ReadClock()
			tt.do(w)
			w.Worked()
			if tt.want == "" && len(noted) > 0 || tt.want != "" && (len(noted) != 1 || !strings.Contains(noted[0], tt.want)) {
				t.Errorf("%s: noted %q, want %q", tt.name, noted, tt.want)
			}
		})
	}
}
