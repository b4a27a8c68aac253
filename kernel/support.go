package kernel

import "errors"

// ErrNotSupported is wrapped by a probe's clear "no". Any other error from a probe means that it could not find out.
var ErrNotSupported = errors.New("not supported")

// NotSupportedError says what this kernel or this user lacks, and how to get it. It wraps ErrNotSupported.
type NotSupportedError struct {
	Reason, Next string
	// Denied is set where the kernel could, and did not let this process.
	Denied *DeniedError
}

func (e *NotSupportedError) Error() string { return e.Reason }

func (e *NotSupportedError) Unwrap() error { return ErrNotSupported }

// Hint returns what to do next.
func (e *NotSupportedError) Hint() string { return e.Next }

// MayNot tells whether a probe said no because this user lacks a capability, and for no other reason.
func MayNot(err error) bool {
	var no *NotSupportedError
	return errors.As(err, &no) && no.Denied != nil && len(no.Denied.Missing) > 0
}
