package kernel

import "errors"

// ErrNotSupported is wrapped by a probe's clear "no". Any other error from a probe means that it could not find out.
var ErrNotSupported = errors.New("not supported")

// NotSupportedError says what this kernel or this user lacks, and how to get it. It wraps ErrNotSupported.
type NotSupportedError struct{ Reason, Next string }

func (e *NotSupportedError) Error() string { return e.Reason }

func (e *NotSupportedError) Unwrap() error { return ErrNotSupported }

// Hint returns what to do next.
func (e *NotSupportedError) Hint() string { return e.Next }
