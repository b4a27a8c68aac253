package stats

import (
	"fmt"
	"slices"
)

// Answer is what the cycles say about migration in general.
type Answer uint8

const (
	CannotTell   Answer = iota // run More cycles of each mode
	NothingLost                // off loses nothing either, in enough cycles
	Removes                    // the loss
	KernelPart                 // removes it; what remains is the application's
	Reduces                    // the kernel's part, and leaves some of it: a race, or a group without a listener that lives on
	DoesNotHelp                // the kernel loses as much with it, or more
	Applications               // all loss is the application's, so there is nothing for it to remove
)

// Decision is an answer, and what it rests on.
type Decision struct {
	Answer  Answer
	Off, On Cycle   // all that each mode counted
	Cycles  [2]int  // of off, and of the other
	P       float64 // Permutation of the kernel's part; 1 where it was not asked
	More    int     // cycles of each mode, if CannotTell: so many more as these, and there would be an answer; 0 if that is past counting
}

const (
	// small is how rarely a reload may lose something that is called nothing.
	small = 0.1
	// certain is how many cycles have to lose connections, and all of them by the application, before that is called the rule:
	// if the kernel had a part in every second of them, they would be so once in 32 times.
	certain = 5
)

// Decide compares the mode off with another.
func Decide(off, on Sample, seed uint64) Decision {
	d := Decision{Off: off.Total(), On: on.Total(), Cycles: [2]int{len(off), len(on)}, P: 1}
	switch {
	case len(off) == 0 || len(on) == 0:
		d.More = needed(small)
	case d.Off.kernel() == 0 && d.On.kernel() == 0:
		d.withoutKernel(off, on)
	default:
		d.compare(off, on, seed)
	}
	return d
}

// withoutKernel decides where the kernel has lost nothing.
func (d *Decision) withoutKernel(off, on Sample) {
	lossy := 0
	for _, c := range slices.Concat(off, on) {
		if c.Lost > 0 {
			lossy++
		}
	}
	switch {
	case lossy >= certain:
		d.Answer = Applications
	case lossy > 0: // as many more again as it takes
		n := len(off) + len(on)
		d.More = ((certain-lossy)*n + 2*lossy - 1) / (2 * lossy)
	case len(off) >= needed(small):
		d.Answer = NothingLost
	default:
		d.More = needed(small) - len(off)
	}
}

// compare decides where the kernel has lost something.
func (d *Decision) compare(off, on Sample, seed uint64) {
	a, b := off.Kernel(), on.Kernel()
	d.P = Permutation(a, b, seed)
	less := d.On.kernel()*int64(len(off)) < d.Off.kernel()*int64(len(on))
	switch {
	case d.P > Risk && Mean(b, seed).Low*2 >= Mean(a, seed).Mean:
		d.Answer = DoesNotHelp // it does not even halve it
	case d.P > Risk:
		d.More = d.more(a, b, seed)
	case !less:
		d.Answer = DoesNotHelp
	case d.On.kernel() > 0:
		d.Answer = Reduces
	case d.On.Application > 0:
		d.Answer = KernelPart
	default:
		d.Answer = Removes
	}
}

// more is after how many more cycles like these the modes would be told apart.
func (d *Decision) more(a, b []int64, seed uint64) int {
	for _, times := range []int{2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64} {
		if Permutation(slices.Repeat(a, times), slices.Repeat(b, times), seed) <= Risk {
			return (times - 1) * max(len(a), len(b))
		}
	}
	return 0
}

// Sentence says it of a mode.
func (d Decision) Sentence(mode string) string {
	switch d.Answer {
	case NothingLost:
		return fmt.Sprintf("there is nothing to remove: off lost none in %s (a cycle loses something in %.1f %% of cases at most)",
			cycles(d.Cycles[0]), 100*Bound(d.Cycles[0]))
	case Removes:
		return fmt.Sprintf("%s removes the loss: off lost %d in %s, %s none in %d", mode, d.Off.Lost, cycles(d.Cycles[0]), mode, d.Cycles[1])
	case KernelPart:
		return fmt.Sprintf("%s removes the kernel's part of the loss, %d in %s; the rest is the application's, %d of %d",
			mode, d.Off.kernel(), cycles(d.Cycles[0]), d.On.Application, d.On.Lost)
	case Reduces:
		return fmt.Sprintf("%s reduces the kernel's part of the loss from %d in %s to %d in %d",
			mode, d.Off.kernel(), cycles(d.Cycles[0]), d.On.kernel(), d.Cycles[1])
	case DoesNotHelp:
		return fmt.Sprintf("%s does not help: off lost %d in %s, %s %d in %d", mode, d.Off.Lost, cycles(d.Cycles[0]), mode, d.On.Lost, d.Cycles[1])
	case Applications:
		return fmt.Sprintf("migration does not help: the loss is the application's, %d of %d", d.Off.Application+d.On.Application, d.Off.Lost+d.On.Lost)
	}
	if d.More == 0 {
		return "cannot tell whether migration helps: the modes hardly differ, and many more cycles would not show it"
	}
	return fmt.Sprintf("cannot tell whether migration helps: run %d more cycles of each mode", d.More)
}

func cycles(n int) string {
	if n == 1 {
		return "1 cycle"
	}
	return fmt.Sprintf("%d cycles", n)
}
