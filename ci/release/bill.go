package main

import (
	"debug/buildinfo"
	"fmt"
	"io"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// bill writes what the binary says it is made of, in CycloneDX's JSON: its modules, and Go's own library.
func (r *release) bill(arch, binary string) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	goVersion := strings.TrimPrefix(info.GoVersion, "go")
	parts := []cdx.Component{component("std", goVersion)}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		parts = append(parts, component(m.Path, m.Version))
	}
	root := component(info.Main.Path, r.version)
	root.Type = cdx.ComponentTypeApplication
	root.Licenses = &cdx.Licenses{{License: &cdx.License{ID: "MIT"}}}
	root.Properties = &[]cdx.Property{{Name: "arch", Value: arch}}
	refs := make([]string, 0, len(parts))
	for _, p := range parts {
		refs = append(refs, p.BOMRef)
	}
	b := cdx.NewBOM()
	b.Metadata = &cdx.Metadata{Timestamp: r.at.Format(time.RFC3339), Component: &root}
	b.Components = &parts
	b.Dependencies = &[]cdx.Dependency{{Ref: root.BOMRef, Dependencies: &refs}}
	return r.create(fmt.Sprintf("rpmig-%s-linux-%s.cdx.json", r.version, arch), func(w io.Writer) error {
		return cdx.NewBOMEncoder(w, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(b, cdx.SpecVersion1_6)
	})
}

func component(path, version string) cdx.Component {
	purl := "pkg:golang/" + path + "@" + version
	return cdx.Component{Type: cdx.ComponentTypeLibrary, BOMRef: purl, Name: path, Version: version, PackageURL: purl}
}
