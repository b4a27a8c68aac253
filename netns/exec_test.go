package netns

import (
	"testing"
	"testing/synctest"
)

// TestWaitExecs: it waits for the children that are being started when it is called, and for no others.
func TestWaitExecs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		WaitExecs() // for none
		first, second := BeginExec(), BeginExec()
		done := make(chan struct{})
		go func() { WaitExecs(); close(done) }()
		synctest.Wait()
		third := BeginExec()
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
