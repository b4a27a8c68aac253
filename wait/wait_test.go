package wait

import (
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// waiter returns one whose run is cancelled by what it returns, and counts what it was told.
func waiter(t *testing.T) (w *Waiter, cancel func(), left *int) {
	t.Helper()
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(pipe[0]); unix.Close(pipe[1]) })
	left = new(int)
	return &Waiter{
			Mul: 1, Cancelled: pipe[0], Prompt: time.Hour,
			Leave: func() { *left++ }, Delayed: func(what string, d time.Duration) { t.Logf("%s: %v", what, d) },
		}, func() {
			if _, err := unix.Write(pipe[1], []byte{'!'}); err != nil {
				t.Error(err)
			}
		}, left
}

// TestUntil: a wait ends with its condition, its limit, an error or the run, and says which.
func TestUntil(t *testing.T) {
	w, cancel, left := waiter(t)
	looks := 0
	if err := w.Until(time.Minute, "it holds", func() (bool, error) { looks++; return looks == 20, nil }); err != nil || looks != 20 {
		t.Errorf("after %d looks: %v", looks, err)
	}
	if *left != 1 {
		t.Errorf("20 looks are not brief, and it left its place %d times", *left)
	}
	never := func() (bool, error) { return false, nil }
	if err := w.Until(10*time.Millisecond, "it holds", never); !errors.Is(err, ErrTimeout) || !strings.Contains(err.Error(), "until it holds") {
		t.Errorf("it never holds: %v", err)
	}
	if err := w.Until(time.Minute, "it holds", func() (bool, error) { return false, unix.EBADF }); !errors.Is(err, unix.EBADF) {
		t.Errorf("it cannot be found out: %v", err)
	}
	if w.IsCancelled() {
		t.Error("nobody has cancelled the run")
	}
	cancel()
	if err := w.Until(time.Minute, "it holds", never); !errors.Is(err, ErrCancelled) || !w.IsCancelled() {
		t.Errorf("the run is cancelled: %v", err)
	}
	if *left != 1 {
		t.Errorf("it left its place %d times", *left)
	}
}

// TestScale: a limit is as the user wants it.
func TestScale(t *testing.T) {
	w, _, _ := waiter(t)
	w.Mul = 2.5
	if d := w.Scale(time.Second); d != 2500*time.Millisecond {
		t.Error(d)
	}
}
