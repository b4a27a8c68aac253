//go:build linux

package main

import (
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/rpmig/rpmig/result"
)

// packets says of which cells a run keeps the captures. A long one fills a disk with those of cells that all went alike.
type packets string

const (
	allPackets  packets = "all"
	lostPackets packets = "lost" // of cells that lost a connection
	noPackets   packets = "none"
)

// packetChoices are the values of --packets.
var packetChoices = []string{string(allPackets), string(lostPackets), string(noPackets)}

func packetsFlag() cli.Flag {
	return &cli.StringFlag{Name: "packets", Value: string(allPackets), Usage: "keep `WHICH` captures of --out or --bundle: " +
		strings.Join(packetChoices, ", ") + "; lost are those of cells that lost a connection; a FAIL or ERROR always keeps its own"}
}

func checkPackets(c *cli.Context) error {
	hint := func(p string) string { return c.Command.HelpName + " --out=DIR --packets=" + p }
	if err := notOneOf(c, "packets", packetChoices, hint(string(lostPackets))); err != nil {
		return err
	}
	if c.IsSet("packets") && !c.IsSet("out") && !c.IsSet("bundle") {
		return &usageError{"--packets: of which folder?", hint(c.String("packets"))}
	}
	return nil
}

// capture tells whether a cell's capture is kept, if it has one.
func (p packets) capture(c *result.Cell) bool {
	switch p {
	case lostPackets:
		return c.Bad() || c.Connections.Lost > 0
	case noPackets:
		return c.Bad()
	default:
		return true
	}
}
