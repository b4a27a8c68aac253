//go:build linux

package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/rpmig/rpmig/vm"
)

func (e *env) kernelsCommand() *cli.Command {
	return &cli.Command{
		Name:      "kernels",
		Usage:     "list the kernels in the cache, fill it, or empty it",
		UsageText: "rpmig kernels [--json]\nrpmig kernels --fetch K… [--json]\nrpmig kernels --prune",
		Description: "K is a kernel's image or package, a build tree, a folder that packages were\n" +
			"unpacked to, host, @FILE with one K a line, or debian:VERSION, which apt\n" +
			"downloads: what stands behind linux-image- in the package's name. Nothing is\n" +
			"installed, and apt's own lists are not touched.",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "fetch", Usage: "download and unpack the kernels `K`, a comma list or several, and say what they are"},
			boolFlag("prune", "", "remove all that is in the cache"),
			boolFlag("json", "", "as JSON"),
		},
		Action: func(c *cli.Context) error {
			wanted := c.StringSlice("fetch")
			switch {
			case c.IsSet("fetch") && c.Bool("prune"):
				return &usageError{"kernels: --fetch and --prune exclude each other", "rpmig kernels --prune && rpmig kernels --fetch " + quote(strings.Join(wanted, ","))}
			case c.IsSet("fetch"):
				wanted = append(wanted, c.Args().Slice()...)
			case c.Bool("prune") && c.Bool("json"):
				return &usageError{"kernels: --prune has nothing to say as JSON", "rpmig kernels --prune"}
			default:
				if err := noArgs(c); err != nil {
					return err
				}
			}
			cache, err := vm.OpenCache()
			if err != nil {
				return err
			}
			defer cache.Close()
			switch {
			case c.IsSet("fetch"):
				return e.fetchKernels(c, cache, wanted)
			case c.Bool("prune"):
				size, err := cache.Prune()
				if err != nil {
					return err
				}
				fmt.Fprintf(e.stderr, "rpmig: removed %s from %s\n", mebibytes(size), printable(cache.Dir()))
				return nil
			}
			return e.listKernels(c.Context, cache, c.Bool("json"))
		},
	}
}

// fetchKernels finds kernels, which puts those that come in packages into the cache, and lists them.
func (e *env) fetchKernels(c *cli.Context, cache *vm.Cache, wanted []string) error {
	found, err := findKernels(c.Context, wanted, vm.Options{
		Cache: cache, AnyArch: true,
		Words: func(format string, args ...any) {
			fmt.Fprintf(e.stderr, "rpmig: %s\n", printable(fmt.Sprintf(format, args...)))
		},
	})
	switch {
	case c.Err() != nil:
		return context.Cause(c.Context)
	case err != nil:
		return err
	}
	if c.Bool("json") {
		return e.asJSON(c.Context, found)
	}
	var b strings.Builder
	for _, k := range found {
		has := "for " + k.Arch
		if k.Modules == "" {
			has += ", no modules"
		}
		if k.Config == "" {
			has += ", no .config"
		}
		fmt.Fprintf(&b, "%-40s %s\n  %s\n", printable(k.Name), has, printable(k.From))
	}
	return printTo(c.Context, e.stdout, b.String())
}

// listKernels lists what is in the cache.
func (e *env) listKernels(ctx context.Context, cache *vm.Cache, asJSON bool) error {
	all, err := cache.Contents()
	if err != nil {
		return err
	}
	if asJSON {
		return e.asJSON(ctx, all)
	}
	var b strings.Builder
	total := all.InitramfsSize + all.ListsSize
	for i := range all.Packages {
		p := &all.Packages[i]
		total += p.Size
		fmt.Fprintf(&b, "%-40s %10s  %s\n", printable(p.Package), mebibytes(p.Size), printable(p.Version))
		fmt.Fprintf(&b, "  %s\n", printable(p.From))
	}
	if len(all.Packages) == 0 {
		b.WriteString("no kernel yet\n")
	}
	fmt.Fprintf(&b, "\n%-40s %10s\n", fmt.Sprintf("initramfs, unpacked kernels: %d", all.Initramfs), mebibytes(all.InitramfsSize))
	fmt.Fprintf(&b, "%-40s %10s\n", "apt's lists", mebibytes(all.ListsSize))
	fmt.Fprintf(&b, "%-40s %10s\n", "in all", mebibytes(total))
	fmt.Fprintf(&b, "\nin %s\n", printable(all.Dir))
	return printTo(ctx, e.stdout, b.String())
}

func mebibytes(size int64) string { return fmt.Sprintf("%.1f MiB", float64(size)/(1<<20)) }
