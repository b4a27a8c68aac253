//go:build linux

package main

import (
	"testing"

	"github.com/rpmig/rpmig/result"
)

// TestPackets: a FAIL and an ERROR keep their captures whatever was asked for, as no script can make them fail.
func TestPackets(t *testing.T) {
	for _, tt := range []struct {
		status result.Status
		lost   int
		want   map[packets]bool
	}{
		{result.Pass, 0, map[packets]bool{allPackets: true, lostPackets: false, noPackets: false}},
		{result.Pass, 1, map[packets]bool{allPackets: true, lostPackets: true, noPackets: false}},
		{result.XFail, 1, map[packets]bool{allPackets: true, lostPackets: true, noPackets: false}},
		{result.Fail, 0, map[packets]bool{allPackets: true, lostPackets: true, noPackets: true}},
		{result.Error, 0, map[packets]bool{allPackets: true, lostPackets: true, noPackets: true}},
	} {
		for p, want := range tt.want {
			c := result.Cell{Status: tt.status, Connections: result.Connections{Lost: tt.lost}}
			if got := p.capture(&c); got != want {
				t.Errorf("%s of %s with %d lost: %t", p, tt.status, tt.lost, got)
			}
		}
	}
}
