package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/goreleaser/nfpm/v2"
	"github.com/goreleaser/nfpm/v2/deb"
	"github.com/goreleaser/nfpm/v2/files"
)

// debianPlaces is where Debian has each file of the tarball; README.md has no place that anyone would look at.
var debianPlaces = map[string]string{
	"rpmig":        "/usr/bin/rpmig",
	manual:         "/usr/share/man/man8/rpmig.8.gz",
	bashCompletion: "/usr/share/bash-completion/completions/rpmig",
	zshCompletion:  "/usr/share/zsh/vendor-completions/_rpmig",
	fishCompletion: "/usr/share/fish/vendor_completions.d/rpmig.fish",
	"CHANGELOG.md": "/usr/share/doc/rpmig/CHANGELOG.md.gz",
	"LICENSE":      "/usr/share/doc/rpmig/copyright",
	// What Debian alone has.
	debianChangelog: "/usr/share/doc/rpmig/changelog.gz",
	overrides:       "/usr/share/lintian/overrides/rpmig",
}

const (
	debianChangelog = "changelog"
	overrides       = "overrides"
	maintainer      = "the rpmig authors <rpmig@users.noreply.github.com>"
)

// forDebian is what the package has and the tarball has not, or has otherwise: a changelog in Debian's form (deb-changelog(5)), of a
// package without a revision; where Debian keeps the licence that the copyright file names; and what lintian need not say.
func (r *release) forDebian(all []file) []file {
	out := []file{
		{debianChangelog, fmt.Appendf(nil, "rpmig (%s) unstable; urgency=medium\n\n  * What has changed is in CHANGELOG.md.gz beside this file.\n\n -- %s  %s\n",
			r.version, maintainer, r.at.Format(time.RFC1123Z)), 0o644},
		{overrides, []byte("# It is to run in any kernel's guest and in any container: https://github.com/rpmig/rpmig\nrpmig: statically-linked-binary [usr/bin/rpmig]\n"), 0o644},
	}
	for _, f := range all {
		if f.name == "LICENSE" {
			f.data = append(bytes.Clone(f.data), "\nDebian has that license in /usr/share/common-licenses/GPL-2.\n"...)
		}
		out = append(out, f)
	}
	return out
}

// debian writes the .deb. It depends on nothing: the binary is static.
func (r *release) debian(arch string, all []file) error {
	info := &nfpm.Info{
		Name: "rpmig", Arch: arch, Platform: "linux", Version: r.version, Section: "net", Priority: "optional",
		Maintainer:  maintainer,
		Homepage:    "https://github.com/rpmig/rpmig",
		Description: "play TCP SO_REUSEPORT migration on this kernel, and prove it\nWhen a listener closes, its waiting connections die, though others listen on\nthe port. rpmig shows which the kernel loses and which it migrates.",
		MTime:       r.at,
	}
	info.Overridables = nfpm.Overridables{Suggests: []string{"iptables", "tshark", "qemu-system"}, Deb: nfpm.Deb{Compression: "xz"}}
	stage, err := os.MkdirTemp("", "rpmig-deb-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(stage)
	for i, f := range r.forDebian(all) {
		place, ok := debianPlaces[f.name]
		if !ok {
			continue
		}
		data := f.data
		if filepath.Ext(place) == ".gz" {
			data = packed(data)
		}
		from := filepath.Join(stage, fmt.Sprint(i))
		if err := os.WriteFile(from, data, 0o600); err != nil {
			return err
		}
		info.Contents = append(info.Contents, &files.Content{
			Source: from, Destination: place, FileInfo: &files.ContentFileInfo{Owner: "root", Group: "root", Mode: os.FileMode(f.mode), MTime: r.at},
		})
	}
	info = nfpm.WithDefaults(info)
	if err := nfpm.PrepareForPackager(info, "deb"); err != nil {
		return err
	}
	return r.create(fmt.Sprintf("rpmig_%s_%s.deb", r.version, arch), func(w io.Writer) error { return deb.Default.Package(info, w) })
}
