package trace

import (
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

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

// BenchmarkWatch is what a watch costs each cell, whatever happens in it.
func BenchmarkWatch(b *testing.B) {
	for _, o := range []Options{{}, {Tracefs: true}} {
		b.Run(map[bool]string{false: "bpf", true: "tracefs"}[o.Tracefs], func(b *testing.B) {
			benchmarkWith(b, o, func(s *stage, tr *Tracer) {
				for b.Loop() {
					if _, err := s.watch(tr).Stop(); err != nil {
						must("stop", err)
					}
				}
			})
		})
	}
}

// BenchmarkRefused measures a refused connection, which is seven events: without programs, without a watch, and with one.
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

func benchmark(b *testing.B, f func(*stage, *Tracer)) { benchmarkWith(b, Options{}, f) }

func benchmarkWith(b *testing.B, o Options, f func(*stage, *Tracer)) {
	if err := netns.Probe(); err != nil {
		b.Skip(err)
	}
	tr, err := OpenWith(o)
	if err != nil {
		b.Skip(err)
	}
	defer tr.Close()
	if err := play(func(s *stage) { f(s, tr) }); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkPrograms measures how long each program runs, and how often for a refused connection. The kernel counts this
// while a descriptor is open (BPF_ENABLE_STATS, Linux 5.8).
func BenchmarkPrograms(b *testing.B) {
	at := families[0].listen
	for _, watched := range []bool{false, true} {
		b.Run(map[bool]string{false: "unwatched", true: "watched"}[watched], func(b *testing.B) {
			benchmark(b, func(s *stage, tr *Tracer) {
				stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
				must("enable stats", err)
				defer stats.Close()
				if watched {
					defer s.watch(tr).Stop()
				}
				for b.Loop() {
					s.refused(at)
				}
				for name, p := range map[string]*ebpf.Program{
					"softirq": bpf(tr).objs.EnterSoftirq, "reset": bpf(tr).objs.SendReset, "state": bpf(tr).objs.SetState, "drop": bpf(tr).objs.Drop,
				} {
					ran, err := p.Stats()
					must("stats", err)
					if ran.RunCount > 0 {
						b.ReportMetric(float64(ran.Runtime.Nanoseconds())/float64(ran.RunCount), "ns/"+name)
						b.ReportMetric(float64(ran.RunCount)/float64(b.N), name+"s/op")
					}
				}
			})
		})
	}
}
