package harness

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestLate: a thread that has neither slept on purpose nor run was kept from running, and so was one that slept for longer than
// it wanted to. Both are noted, and what a busy machine does all the time is not.
func TestLate(t *testing.T) {
	const hour = time.Hour // more processor time than this the test's thread cannot have had
	for _, tt := range []struct {
		name string
		do   func(l *Lab)
		want string // empty: nothing is noted
	}{
		{"it was stopped", func(l *Lab) { time.Sleep(hour) }, "did not run"},
		{"it was stopped for a moment", func(l *Lab) { time.Sleep(late) }, ""},
		{"it slept on purpose", func(l *Lab) {
			_ = l.poll(hour, "it is so", func(time.Duration) (bool, error) { time.Sleep(hour); return true, nil })
		}, ""},
		{"it overslept", func(l *Lab) {
			_, _ = l.nap(slice/2, func(int) (int, error) { time.Sleep(hour); return 0, nil })
			l.clock.read()
		}, "overslept"},
		{"it slept for as long as it should", func(l *Lab) {
			_, _ = l.nap(hour, func(ms int) (int, error) { time.Sleep(time.Duration(ms) * time.Millisecond); return 0, nil })
			l.clock.read()
		}, ""},
		{"a handshake took long", func(l *Lab) {
			_ = l.poll(handshakeTimeout, "it is so", func(time.Duration) (bool, error) { time.Sleep(2 * late); return true, nil })
		}, "it took until it is so"},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := lab(t, false)
			l.clock.read()
			tt.do(l)
			l.worked()
			if tt.want == "" && len(l.obs.Delays) > 0 || tt.want != "" && (len(l.obs.Delays) != 1 || !strings.Contains(l.obs.Delays[0].What, tt.want)) {
				t.Errorf("%s: noted %+v, want %q", tt.name, l.obs.Delays, tt.want)
			}
		})
	}
}
