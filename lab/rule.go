package lab

import (
	"errors"
	"fmt"

	"github.com/rpmig/rpmig/evidence"
	"github.com/rpmig/rpmig/verdict"
)

// DropACKs puts the rule in that takes the final ACK of every handshake away, and all that clients send after it.
func (l *Lab) DropACKs() {
	l.step("drop ACKs to port %d", l.cfg.Port)
	if l.obs.Rule == nil { // it may be the second time
		l.obs.Rule = &verdict.Rule{Backend: l.cfg.Dropper.Name()}
	}
	if l.cfg.faults.noRule {
		return
	}
	var err error
	l.rule, err = l.cfg.Dropper.Drop(l.v6(), l.cfg.Port)
	l.must(err)
	l.rules = append(l.rules, l.rule)
	l.record.Rule = append(l.record.Rule, evidence.Span{From: l.now()})
}

// StopDropping takes the rule out again.
func (l *Lab) StopDropping() {
	l.step("stop dropping")
	l.must(l.stopDropping())
}

func (l *Lab) stopDropping() error {
	if l.rule == nil {
		return nil
	}
	l.record.Rule[len(l.record.Rule)-1].Until = l.now()
	return l.liftRule()
}

// liftRule takes the packet-drop rule out. Where evidence is kept its counter is read a last time. The rule's connection to the kernel
// stays open until checkFreed has counted sockets: for a while one that is closed is in no table, and not freed yet.
func (l *Lab) liftRule() error {
	if l.cfg.Detail >= EvidenceDetail {
		if _, err := l.rule.Packets(); err != nil {
			return err
		}
	}
	err := l.rule.Remove()
	l.rule = nil
	return err
}

// awaitDropped waits until the rule has dropped what the clients have sent: it may still be on its way through the
// backlog of lo.
func (l *Lab) awaitDropped(want int) {
	l.obs.Rule.Want = want
	if l.rule == nil {
		return
	}
	err := l.until(handshakeTimeout, fmt.Sprintf("the rule has dropped %d", want), func() (bool, error) {
		n, err := l.rule.Packets()
		l.obs.Rule.Dropped, l.obs.Rule.At = int(n), l.now()
		return l.obs.Rule.Dropped >= want, err
	})
	if !errors.Is(err, errTimeout) { // that is for the judge to see
		l.must(err)
	}
}
