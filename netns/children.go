package netns

import "sync"

// births are the children that are being started: each has a channel that is closed once it is sure to run a program of
// its own, or has ended.
var births struct {
	sync.Mutex
	now map[chan struct{}]bool
}

// Birth is called before a child process is started; what it returns, once the child is sure to run its own program.
//
// A child holds copies of all our descriptors until it execs, and not even the return of vfork(2) says that they are gone:
// begin_new_exec lets the parent go before it closes them (fs/exec.c). So a close(2) of ours may not be the last one of a
// socket, which then lives on for some microseconds, or as long as the child is kept from running.
func Birth() (over func()) {
	c := make(chan struct{})
	births.Lock()
	defer births.Unlock()
	if births.now == nil {
		births.now = map[chan struct{}]bool{}
	}
	births.now[c] = true
	return func() {
		births.Lock()
		defer births.Unlock()
		delete(births.now, c)
		close(c)
	}
}

// AwaitBirths waits for the children that are being started when it is called. What this process closed before the call is
// closed for good when it returns, unless a child was given it on purpose.
func AwaitBirths() {
	births.Lock()
	var all []chan struct{}
	for c := range births.now {
		all = append(all, c)
	}
	births.Unlock()
	for _, c := range all {
		<-c
	}
}
