package netns

import "sync"

// starting holds the children that are being started. Each has a channel that is closed once the child surely runs its own
// program, or has ended.
var starting struct {
	sync.Mutex
	now map[chan struct{}]bool
}

// BeginExec must be called before a child process is started, and over once the child surely runs its own program.
//
// A child has copies of all our descriptors until it execs. When vfork(2) returns they may still be open: begin_new_exec
// lets the parent run before it closes them (fs/exec.c). So a close(2) of ours may not be the last one of a socket. The
// socket then stays open for some microseconds, or for as long as the child does not get to run.
func BeginExec() (over func()) {
	c := make(chan struct{})
	starting.Lock()
	defer starting.Unlock()
	if starting.now == nil {
		starting.now = map[chan struct{}]bool{}
	}
	starting.now[c] = true
	return func() {
		starting.Lock()
		defer starting.Unlock()
		delete(starting.now, c)
		close(c)
	}
}

// WaitExecs waits for the children that are being started when it is called. When it returns, no child has a copy of a
// descriptor that this process closed before the call, unless the child was given one on purpose.
func WaitExecs() {
	starting.Lock()
	var all []chan struct{}
	for c := range starting.now {
		all = append(all, c)
	}
	starting.Unlock()
	for _, c := range all {
		<-c
	}
}
