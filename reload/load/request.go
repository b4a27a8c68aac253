package load

import (
	"bytes"
	"fmt"
	"math"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	defaultOpen = 10_000
	maxRate     = 1e6
)

// complete fills in the defaults, and refuses
//   - an address without port, or sources of another family;
//   - both loops or none, or numbers that are no numbers of these things;
//   - more than one kind of request, or none; TLS or more than one request for a command;
//   - a Pipelined request whose replies cannot be told apart.
func (c *Config) complete() error {
	setDefault(&c.Requests, 1)
	setDefault(&c.Timeout, 5*time.Second)
	setDefault(&c.Pause, 10*time.Millisecond)
	setDefault(&c.Stall, 50*time.Millisecond)
	setDefault(&c.Slice, 100*time.Millisecond)
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, args...))
	}
	if !c.To.IsValid() || c.To.Port() == 0 {
		return refuse("the server's address %v has no port", c.To)
	}
	for _, s := range c.Sources {
		if s.Is4() != c.To.Addr().Is4() || s.Zone() != "" {
			return refuse("clients at %v cannot reach %v", s, c.To)
		}
	}
	if (c.Clients > 0) == (c.Rate > 0) || c.Clients < 0 || c.Rate < 0 || math.IsNaN(c.Rate) {
		return refuse("%d clients and a rate of %v: one of them has to be more than 0", c.Clients, c.Rate)
	}
	if c.Rate > maxRate {
		return refuse("a rate of %v a second: it can be %.0f", c.Rate, maxRate)
	}
	if c.Requests < 1 || c.MaxOpen < 0 || c.Timeout < time.Millisecond || c.Pause < 0 || c.Stall < time.Millisecond || c.Slice < time.Millisecond {
		return refuse("fewer than 1 request, or a time under 1 ms")
	}
	if len(c.Command) > 0 {
		return c.completeCommand()
	}
	if c.TLS != nil && c.TLS.ServerName == "" && !c.TLS.InsecureSkipVerify {
		return refuse("TLS without ServerName or InsecureSkipVerify")
	}
	return c.Request.complete(c)
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c *Config) completeCommand() error {
	if c.TLS != nil || c.Requests != 1 || c.Request.HTTP != nil || len(c.Request.Send)+len(c.Request.Expect) > 0 {
		return fmt.Errorf("%w: a command asks in its own way, once: TLS, Requests and Request are not for it", ErrConfig)
	}
	if _, err := exec.LookPath(c.Command[0]); err != nil {
		return fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return nil
}

func (r *Request) complete(c *Config) error {
	raw := len(r.Send)+len(r.Expect) > 0
	if raw == (r.HTTP != nil) {
		return fmt.Errorf("%w: a request is either HTTP, or Send or Expect", ErrConfig)
	}
	if raw && c.Requests > 1 && len(r.Expect) == 0 {
		return fmt.Errorf("%w: several requests without Expect: their replies cannot be told apart", ErrConfig)
	}
	if raw {
		return nil
	}
	h := *r.HTTP
	setDefault(&h.Path, "/")
	setDefault(&h.Host, c.To.String())
	setDefault(&h.Status, 200)
	r.HTTP = &h
	return h.check()
}

// script is what a connection sends, and what it has to get.
type script struct {
	want expected
	asks [][]byte // in turn; all but the first wait for the reply to the one before
	each int      // replies to each of them
}

func (c *Config) script() script {
	s := script{each: 1}
	one := func(bool) []byte { return c.Request.Send }
	if h := c.Request.HTTP; h != nil {
		s.want = expected{http: true, status: h.Status}
		one = h.bytes
	} else {
		s.want = expected{begin: c.Request.Expect}
	}
	for i := range c.Requests {
		s.asks = append(s.asks, one(i == c.Requests-1))
	}
	if c.Pipelined {
		s.asks, s.each = [][]byte{bytes.Join(s.asks, nil)}, c.Requests
	}
	return s
}

// room is how many connections can be open at the same time, which the limit of descriptors has to allow.
func (c *Config) room() (int, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("getrlimit RLIMIT_NOFILE: %w", err)
	}
	most := int(min(limit.Cur, math.MaxInt32)) - 64 // others need some as well
	if c.Clients > most || c.MaxOpen > most {
		return 0, fmt.Errorf("%w: %d connections at a time, where a process may hold %d descriptors: ulimit -n", ErrConfig, max(c.Clients, c.MaxOpen), limit.Cur)
	}
	if c.Clients > 0 {
		return c.Clients, nil
	}
	if c.MaxOpen > 0 {
		return c.MaxOpen, nil
	}
	return min(defaultOpen, most), nil
}
