package lab

import (
	"errors"

	"github.com/rpmig/rpmig/migrate"
)

// What a Policy's program answers when it is asked about a migration.
const (
	Choose = migrate.Select
	Pass   = migrate.Pass
	Refuse = migrate.Refuse
)

// Program is the mode's BPF program. In a mode without one its methods do nothing.
type Program struct{ lab *Lab }

// Program returns it.
func (l *Lab) Program() Program { return Program{l} }

// Set changes what it does from now on.
func (p Program) Set(policy Policy) {
	if l := p.lab; l.program != nil {
		l.step("the program's policy becomes %+v", policy)
		l.must(l.program.Set(policy))
	}
}

// AllToLatest has it send what arrives to the listener that came up last, too.
func (p Program) AllToLatest() {
	if l := p.lab; l.program != nil {
		l.step("the program sends what arrives to the latest listener, too")
		l.must(l.program.Set(l.toLatest()))
	}
}

// toLatest is the policy by which what arrives goes where what migrates does.
func (l *Lab) toLatest() Policy {
	latest := l.cfg.Mode.Policy()
	latest.Arrive = latest.Migrate
	return latest
}

// Put puts a listener into one of the slots that it chooses from.
func (p Program) Put(slot int, s *Listener) {
	if l := p.lab; l.program != nil {
		l.step("slot %d becomes %s", slot, s.name)
		l.must(l.program.Put(uint32(slot), s.fd))
	}
}

// Empty empties a slot.
func (p Program) Empty(slot int) {
	if l := p.lab; l.program != nil {
		l.step("slot %d is emptied", slot)
		l.must(l.program.Take(uint32(slot)))
	}
}

// Detach takes it off the reuseport group of a listener.
func (p Program) Detach(s *Listener) {
	if l := p.lab; l.program != nil {
		l.step("detach the program")
		l.must(migrate.Detach(s.fd))
	}
}

// Asked is what it has been asked so far.
func (p Program) Asked() migrate.Asked {
	l := p.lab
	if l.program == nil {
		return migrate.Asked{}
	}
	a, err := l.program.Asked()
	l.must(err)
	return a
}

// enlist gives the program its usual listeners: the first for what arrives, the latest for what migrates.
func (l *Lab) enlist(s *Listener) error {
	usual := l.cfg.Mode.Policy()
	if len(l.listeners) == 0 {
		return errors.Join(l.program.Put(usual.Arrive, s.fd), l.program.Attach(s.fd))
	}
	if l.cfg.faults.noChoice {
		return nil
	}
	return l.program.Put(usual.Migrate, s.fd)
}
