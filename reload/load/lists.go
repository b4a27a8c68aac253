package load

// listID is a list of places; each is in one of them.
type listID uint8

const (
	idle    listID = iota // may begin
	waiting               // open, the next to time out first
	paused                // of a closed loop: may begin later, the first first
	numLists
)

// list is a doubly linked list through conns: the first and the last, or -1.
type list struct{ first, last int32 }

// move takes a place out of its list, and puts it at the end of another.
func (e *epoll) move(to listID, i int32) {
	c := &e.conns[i]
	from := &e.lists[c.list]
	if c.prev >= 0 {
		e.conns[c.prev].next = c.next
	} else {
		from.first = c.next
	}
	if c.next >= 0 {
		e.conns[c.next].prev = c.prev
	} else {
		from.last = c.prev
	}
	e.push(to, i)
}

// push puts a place that is in no list at the end of one.
func (e *epoll) push(to listID, i int32) {
	c, l := &e.conns[i], &e.lists[to]
	c.list, c.prev, c.next = to, l.last, -1
	if l.last >= 0 {
		e.conns[l.last].next = i
	} else {
		l.first = i
	}
	l.last = i
}
