//go:build linux

package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/urfave/cli/v2"
)

// version is what the Makefile says, or else what the Go toolchain has noted: of go install, and of a build in a checkout.
var version = cmp.Or(madeVersion, notedVersion(), "dev")

// madeVersion is set by the Makefile.
var madeVersion string

// released is when the latest release was made, for the manual page. CHANGELOG.md has it too.
const released = "2026-11-28"

func notedVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "(devel)" {
		return ""
	}
	return strings.TrimPrefix(info.Main.Version, "v")
}

func (e *env) versionCommand() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print the version of rpmig",
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			_, err := fmt.Fprintf(e.stdout, "rpmig %s %s/%s %s\n", version, runtime.GOOS, runtime.GOARCH, runtime.Version())
			return err
		},
	}
}
