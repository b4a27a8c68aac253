package reload

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Step is one reload of a cycle.
type Step struct {
	Text    string      // as it was asked for
	Command string      // for the shell; empty: it is one of the others
	Signal  unix.Signal // to the server; 0: none
	Rolling bool        // start another, wait until it serves, and end the old one
}

// ParseStep reads a step: "rolling", "signal:HUP", or a command. It refuses
//   - nothing at all,
//   - a signal that Linux does not have.
func ParseStep(text string) (Step, error) {
	s := Step{Text: text}
	switch name, isSignal := strings.CutPrefix(text, "signal:"); {
	case strings.TrimSpace(text) == "":
		return s, fmt.Errorf("an empty reload: want a command, signal:NAME or rolling")
	case text == "rolling":
		s.Rolling = true
	case isSignal:
		var err error
		s.Signal, err = ParseSignal(name)
		return s, err
	default:
		s.Command = text
	}
	return s, nil
}

// ParseSignal reads the name of a signal, with SIG or without.
func ParseSignal(name string) (unix.Signal, error) {
	s := unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(name), "SIG"))
	if s == 0 {
		return 0, fmt.Errorf("no signal %q: want one that kill -l lists, as HUP", name)
	}
	return s, nil
}
