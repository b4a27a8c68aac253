package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func TestPackaged(t *testing.T) {
	const search = `linux-image-6.1.0-50-cloud-ARCH - Linux 6.1 for x86-64 cloud (signed)
linux-image-6.1.0-47-cloud-ARCH - Linux 6.1 for x86-64 cloud (signed)
linux-image-6.1.0-47-cloud-ARCH-unsigned - Linux 6.1 for x86-64 cloud
linux-image-6.1.0-9-cloud-ARCH - too old
linux-image-6.1.0-57-cloud-ARCH - too new
linux-image-6.1.0-51-ARCH - another flavour
linux-image-6.12.48-51-cloud-ARCH - another series
`
	got := packaged(strings.ReplaceAll(search, "ARCH", runtime.GOARCH))
	if want := []string{"6.1.0-47-cloud-" + runtime.GOARCH, "6.1.0-50-cloud-" + runtime.GOARCH}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for show, want := range map[string]bool{
		"Package: x\nVersion: 6.1.183-1\n": true, "Version: 6.1.187-1~deb12u1\n": true, "Version: 6.12.1-1\n": true,
		"Version: 6.1.182-3\n": false, "Version: 6.1.99-1\n": false, "Version: 5.10.251-1\n": false,
	} {
		if got, err := fixed(show); err != nil || got != want {
			t.Errorf("%q: %v, %v", show, got, err)
		}
	}
	if _, err := fixed("N: Unable to locate package\n"); err == nil {
		t.Error("no version, and no error")
	}
}

// TestBisection has git walk through a history, in which what stands for rpmig knows the commit, or is wrong about it.
func TestBisection(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("needs git: apt-get install git")
	}
	for name, c := range map[string]struct{ rpmig, want string }{
		"it knows":           {`[ "$(cat version)" -lt 5 ]`, ""},
		"it says one late":   {`[ "$(cat version)" -lt 6 ]`, `has found "6", and it is "5"`},
		"it is always good":  {`true`, `has found "9", and it is "5"`},
		"it is always bad":   {`false`, `has found "1", and it is "5"`},
		"it boots too often": {`echo >>"$RPMIG_BOOTS"; echo >>"$RPMIG_BOOTS"; [ "$(cat version)" -lt 5 ]`, "boots: want 1 to 5"},
		"it cannot run":      {`exit 128`, "git bisect: "},
		"it never can tell":  {`exit 125`, "git bisect: "},
	} {
		t.Run(name, func(t *testing.T) {
			p := &player{rpmig: filepath.Join(t.TempDir(), "rpmig"), temp: t.TempDir()}
			if err := os.WriteFile(p.rpmig, []byte("#!/bin/sh\n"+c.rpmig+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			b := &bisection{p: p, dir: t.TempDir(), want: 5, test: "\nboot\n\"$RPMIG\" || exit $?"}
			if err := b.init(t.Context()); err != nil {
				t.Fatal(err)
			}
			for i := range 10 {
				v := string(rune('0' + i))
				if err := os.WriteFile(filepath.Join(b.dir, "version"), []byte(v), 0o644); err != nil {
					t.Fatal(err)
				}
				if err := b.commit(t.Context(), v, "version"); err != nil {
					t.Fatal(err)
				}
			}
			var said bytes.Buffer
			err := b.find(t.Context(), &said)
			switch {
			case c.want == "" && (err != nil || !strings.HasPrefix(said.String(), "5: the first bad of 10 commits, found with ")):
				t.Errorf("%v: %q", err, said.String())
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}
