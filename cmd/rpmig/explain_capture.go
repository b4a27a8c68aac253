//go:build linux

package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/rpmig/rpmig/capture"
	"github.com/rpmig/rpmig/foreign"
	"github.com/rpmig/rpmig/reports"
	"github.com/rpmig/rpmig/unpack"
)

const explainDoc = "With the folder of a run before it, a cell of that run is told as a timeline. A capture of anybody's, pcap or pcapng, is read for " +
	"the connections that a server has reset: how, what that means, what would have saved them, and what a capture cannot tell."

// explainCapture tells what a capture shows, if the file is one. With --port it has to be. Of another file it returns what that is.
func (e *env) explainCapture(c *cli.Context, name string) (done bool, is *fileKind, err error) {
	port := c.Int("port")
	if c.IsSet("port") && (port < 1 || port > math.MaxUint16) {
		return false, nil, &usageError{fmt.Sprintf("--port: %d is not between 1 and 65535", port), "rpmig explain --help"}
	}
	info, err := os.Stat(name)
	switch {
	case err == nil && info.IsDir() || notThere(err):
		const hint = "tcpdump -i any -w FILE.pcap tcp port 80, and then: rpmig explain FILE.pcap --port 80"
		switch {
		case c.IsSet("port"):
			return false, nil, &usageError{fmt.Sprintf("explain: %s is no file, and --port is for a capture", name), hint}
		case err != nil && namesCapture(strings.ToLower(name)) && whichRun(name) == nil:
			return false, nil, &usageError{fmt.Sprintf("explain: there is no file %s", name), hint}
		}
		return false, nil, nil
	case err != nil:
		return false, nil, fmt.Errorf("explain: %w", err)
	}
	debug.SetGCPercent(100) // a capture takes as long as its disk, and may be read where a server is at work
	var report *foreign.Report
	read := &countedReader{of: info.Size()}
	line := &drawnLine{w: e.stderr, columns: e.liveErr}
	if e.liveErr != nil {
		line.draw(read.text)
	}
	err = unlessEnded(c.Context, func() error { // it may be a pipe
		f, err := os.Open(name)
		if err != nil {
			return fmt.Errorf("explain: %w", err)
		}
		defer func() { _ = f.Close() }()
		plain, _, err := unpack.Reader(bufio.NewReaderSize(read.from(f), 64<<10))
		if err != nil {
			return fmt.Errorf("explain: %s: %w", name, err)
		}
		in := bufio.NewReader(plain)
		head, _ := in.Peek(fileHead)
		if is = kindOfFile(head); is != isCapture && !c.IsSet("port") {
			return nil
		}
		done = true
		if report, err = foreign.Read(c.Context, in, foreign.Options{Port: uint16(port)}); err != nil {
			return captureError(name, err)
		}
		return nil
	})
	line.end()
	if err != nil { // what reads it may not have ended
		return false, nil, err
	}
	if !done {
		return false, is, nil
	}
	o := reports.Options{Color: e.colorOut && !c.Bool("no-color"), Width: e.widthOut, Verbose: c.Bool("v")}
	return true, is, reportError(unlessEnded(c.Context, func() error {
		_, err := io.WriteString(&untilEnded{c.Context, e.stdout}, e.asStarted(report.Text(name, o)))
		return err
	}))
}

// countedReader counts what is read of a file.
type countedReader struct {
	r  io.Reader
	of int64 // its size; 0: it is a pipe
	n  atomic.Int64
}

func (c *countedReader) from(r io.Reader) io.Reader {
	c.r = r
	return c
}

func (c *countedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n.Add(int64(n))
	return n, err
}

// text says how much has been read, if there is room for it.
func (c *countedReader) text(_ time.Time, width int) string {
	said := mebibytes(c.n.Load()) + " read"
	if c.of > 0 {
		said = fmt.Sprintf("%s of %s read", mebibytes(c.n.Load()), mebibytes(c.of))
	}
	if len(said) > width {
		return ""
	}
	return said
}

// captureError says what to do about a file that is no capture, or one that cannot be decoded.
func captureError(name string, err error) error {
	wrapped := fmt.Errorf("explain: %s: %w", name, err)
	switch {
	case errors.Is(err, capture.ErrNoCapture):
		return &usageError{wrapped.Error(), "tcpdump -i any -w FILE.pcap tcp port 80 makes one"}
	case errors.Is(err, capture.ErrLinkType):
		return &hintedError{wrapped, "capture where the packets are Ethernet, Linux cooked or raw IP: tcpdump -i any -w FILE.pcap tcp port 80"}
	default:
		return wrapped
	}
}
