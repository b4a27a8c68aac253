package result

import (
	"reflect"
	"testing"
	"unsafe"
)

// TestKeeper: a cell that is kept says what it said, in as little room as it takes.
func TestKeeper(t *testing.T) {
	cell := func() *Cell {
		c := &Cell{
			Events: append(make([]Event, 0, 99), Event{Kind: string([]byte("tcp:tcp_send_reset")), Old: "LISTEN", State: "CLOSE", By: "thread"}),
			Checks: []Check{{Name: "resets", Witness: Wire, Want: "none", Got: "1"}},
		}
		c.Tables = []Table{{Step: 1, Sockets: append(make([]Socket, 0, 99), Socket{State: string([]byte("SYN_RECV")), Name: "request"})}}
		return c
	}
	keep := Keeper{}
	first, second := keep.Cell(cell()), keep.Cell(cell())
	for _, c := range []*Cell{first, second} {
		if !reflect.DeepEqual(cell(), c) {
			t.Errorf("kept as %+v", c)
		}
		if cap(c.Events) > 8 || cap(c.Tables[0].Sockets) > 8 {
			t.Errorf("room for %d events and %d sockets", cap(c.Events), cap(c.Tables[0].Sockets))
		}
	}
	for _, s := range [][2]string{{first.Events[0].Kind, second.Events[0].Kind}, {first.Tables[0].Sockets[0].State, second.Tables[0].Sockets[0].State}} {
		if unsafe.StringData(s[0]) != unsafe.StringData(s[1]) {
			t.Errorf("%s is there twice", s[0])
		}
	}
}
