package netns

import (
	"testing"
	"testing/synctest"
)

// TestAwaitBirths: who waits, waits for those that were there when it began, and for no others.
func TestAwaitBirths(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		AwaitBirths() // for nobody
		first, second := Birth(), Birth()
		done := make(chan struct{})
		go func() { AwaitBirths(); close(done) }()
		synctest.Wait()
		third := Birth()
		first()
		synctest.Wait()
		select {
		case <-done:
			t.Fatal("it did not wait for the second")
		default:
		}
		second()
		<-done
		third()
	})
}
