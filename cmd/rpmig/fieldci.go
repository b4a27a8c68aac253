//go:build linux

package main

import (
	"cmp"

	"github.com/urfave/cli/v2"

	"github.com/rpmig/rpmig/reports"
)

// kcidbFlags are what format kcidb cannot do without, and the environment variables in which a lab has the same for all its tools.
var kcidbFlags = []struct{ flag, variable, usage string }{
	{"kcidb-origin", "KCIDB_ORIGIN", "for --format=kcidb: the CI system's `NAME` in KernelCI's database; or KCIDB_ORIGIN"},
	{"kcidb-build", "KCIDB_BUILD_ID", "for --format=kcidb: the tested build's `ID`, as NAME:SOMETHING; or KCIDB_BUILD_ID. Of several kernels, each has its own name behind it"},
	{"kcidb-id", "KCIDB_TEST_ID", "for --format=kcidb: a `WORD` that no other run of this CI system has; or KCIDB_TEST_ID"},
}

func kcidbOptions() []cli.Flag {
	var flags []cli.Flag
	for _, k := range kcidbFlags {
		flags = append(flags, &cli.StringFlag{Name: k.flag, Usage: k.usage})
	}
	return flags
}

// kcidb reads them, of a format that needs them.
func (e *env) kcidb(c *cli.Context, format reports.Format) (reports.KCIDB, error) {
	if format.Name != "kcidb" || e.home != nil { // the host of a guest makes the report
		return reports.KCIDB{}, nil
	}
	var values []string
	for _, k := range kcidbFlags {
		values = append(values, cmp.Or(c.String(k.flag), e.lookupEnv(k.variable)))
	}
	k := reports.KCIDB{Origin: values[0], Build: values[1], ID: values[2]}
	if err := k.Validate(); err != nil {
		return k, &usageError{"--format=kcidb: " + err.Error(), c.Command.HelpName + " --format=kcidb --kcidb-origin=mylab --kcidb-build=mylab:6.18-x86 --kcidb-id=job-7"}
	}
	return k, nil
}

// slowVariable is set by netdev's CI, and by others who run the kernel's selftests, on machines that do not keep up: those with a
// debug kernel, or emulated ones (tools/testing/selftests/net/lib.sh in the kernel).
const slowVariable = "KSFT_MACHINE_SLOW"

// slowTimes is how much longer than others such a machine may take.
const slowTimes = 4

// slowMachine is how deadlines are stretched, and whether nothing is asserted on time: what --timeout-mul says goes first.
func (e *env) slowMachine(c *cli.Context) (mul float64, slow bool) {
	mul, slow = c.Float64("timeout-mul"), e.lookupEnv(slowVariable) != ""
	if slow && !c.IsSet("timeout-mul") {
		mul = slowTimes
	}
	return mul, slow
}
