package trace

import (
	"testing"

	"github.com/rpmig/rpmig/netns"
)

func BenchmarkOpen(b *testing.B) {
	for b.Loop() {
		t, err := Open()
		if err != nil {
			b.Skip(err)
		}
		if err := t.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWatch is what a cell pays whatever happens in it.
func BenchmarkWatch(b *testing.B) {
	benchmark(b, func(s *stage, tr *Tracer) {
		for b.Loop() {
			if _, err := s.watch(tr).Stop(); err != nil {
				must("stop", err)
			}
		}
	})
}

// BenchmarkRefused compares a refused connection, which is seven events, with and without a watch, and without programs.
func BenchmarkRefused(b *testing.B) {
	at := families[0].listen
	b.Run("untraced", func(b *testing.B) {
		if err := play(func(s *stage) {
			for b.Loop() {
				s.refused(at)
			}
		}); err != nil {
			b.Skip(err)
		}
	})
	b.Run("unwatched", func(b *testing.B) {
		benchmark(b, func(s *stage, _ *Tracer) {
			for b.Loop() {
				s.refused(at)
			}
		})
	})
	b.Run("watched", func(b *testing.B) {
		benchmark(b, func(s *stage, tr *Tracer) {
			n := 0
			w := s.watch(tr)
			for b.Loop() {
				s.refused(at)
				if n++; n%100 == 0 {
					r, err := w.Stop()
					must("stop", err)
					if r.Lost > 0 {
						b.Errorf("%d events were lost", r.Lost)
					}
					w = s.watch(tr)
				}
			}
		})
	})
}

func benchmark(b *testing.B, f func(*stage, *Tracer)) {
	if err := netns.Probe(); err != nil {
		b.Skip(err)
	}
	tr, err := Open()
	if err != nil {
		b.Skip(err)
	}
	defer tr.Close()
	if err := play(func(s *stage) { f(s, tr) }); err != nil {
		b.Fatal(err)
	}
}
