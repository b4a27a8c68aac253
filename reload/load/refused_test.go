package load

import (
	"crypto/tls"
	"math"
	"net/netip"
	"time"
)

var at = netip.MustParseAddrPort("127.0.0.1:80")

// refusals are changes of a Config that can be played, and what is said of them.
var refusals = []struct {
	change func(*Config)
	want   string
}{
	{func(c *Config) { c.To = netip.AddrPort{} }, "has no port"},
	{func(c *Config) { c.To = netip.AddrPortFrom(at.Addr(), 0) }, "has no port"},
	{func(c *Config) { c.Sources = []netip.Addr{netip.IPv6Loopback()} }, "clients at ::1 cannot reach"},
	{func(c *Config) { c.Sources = []netip.Addr{{}} }, "clients at invalid IP cannot reach"},
	{func(c *Config) { c.Clients = 0 }, "one of them has to be more than 0"},
	{func(c *Config) { c.Clients = -1 }, "one of them has to be more than 0"},
	{func(c *Config) { c.Rate = 1 }, "one of them has to be more than 0"},
	{func(c *Config) { c.Clients, c.Rate = 0, math.NaN() }, "one of them has to be more than 0"},
	{func(c *Config) { c.Clients, c.Rate = 0, math.Inf(1) }, "it can be 1000000"},
	{func(c *Config) { c.Requests = -1 }, "fewer than 1 request"},
	{func(c *Config) { c.Timeout = time.Microsecond }, "a time under 1 ms"},
	{func(c *Config) { c.Pause = -1 }, "a time under 1 ms"},
	{func(c *Config) { c.Request = Request{} }, "either HTTP, or Send or Expect"},
	{func(c *Config) { c.Request.Send = []byte("x") }, "either HTTP, or Send or Expect"},
	{func(c *Config) { c.Request, c.Requests = Request{Send: []byte("x")}, 2 }, "several requests without Expect"},
	{func(c *Config) { c.Request.HTTP.Path = "x" }, `the path "x"`},
	{func(c *Config) { c.Request.HTTP.Path = "/ HTTP/1.0\r\n" }, "the path"},
	{func(c *Config) { c.Request.HTTP.Host = "x\r\ny" }, "one line"},
	{func(c *Config) { c.Request.HTTP.Header = []string{"x"} }, "one line, Name: value"},
	{func(c *Config) { c.Request.HTTP.Header = []string{"connection : x"} }, "Connection is set"},
	{func(c *Config) { c.Request.HTTP.Status = 100 }, "the status 100"},
	{func(c *Config) { c.TLS = &tls.Config{} }, "TLS without ServerName"},
	{func(c *Config) { c.Command = []string{"true"} }, "a command asks in its own way"},
	{func(c *Config) { c.Request, c.Command = Request{}, []string{"/no/such"} }, "/no/such"},
}
