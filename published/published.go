// Package published finds what others have published and rpmig may not ship: what its reports and files are made for, for tests that
// hold them against it. Where it is not, such a test is skipped.
package published

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// variable names a folder with such files, under the names that they have where npm and git clone put them.
const variable = "RPMIG_TEST_DATA"

// File is a file of those that nothing installs, such as junit-10.xsd.
func File(t testing.TB, name string) string {
	t.Helper()
	return find(t, name, variable+" names no folder with it")
}

// Package is a file of an npm package, such as axe-core/axe.min.js.
func Package(t testing.TB, name string) string {
	t.Helper()
	return find(t, name, "make deps-consumers")
}

// Node is a Node.js that is new enough for those of the consumers that are programs for it.
func Node(t testing.TB) string {
	t.Helper()
	const oldest = 24
	had, _ := filepath.Glob(filepath.Join(root(), "bin", "node", "node_modules", "node-linux-*", "bin", "node"))
	for _, node := range append(had, "node") {
		if out, err := exec.Command(node, "--version").Output(); err == nil {
			major, _, _ := strings.Cut(strings.TrimPrefix(string(out), "v"), ".")
			if n, err := strconv.Atoi(major); err == nil && n >= oldest {
				return node
			}
		}
	}
	t.Skipf("no Node.js of version %d or later: make deps-consumers", oldest)
	return ""
}

// Look is the path of a file; empty: it is not there.
func Look(name string) string {
	for _, dir := range []string{
		os.Getenv(variable), filepath.Join(root(), "bin", "consumers", "node_modules"), filepath.Join(root(), "..", "shared", "data"),
	} {
		if path, err := filepath.Abs(filepath.Join(dir, name)); err == nil && dir != "" {
			if _, err := os.Stat(path); err == nil {
				return path
			}
		}
	}
	return ""
}

func find(t testing.TB, name, hint string) string {
	t.Helper()
	path := Look(name)
	if path == "" {
		t.Skipf("no %s: %s", name, hint)
	}
	return path
}

// root is the folder of the work tree. A test runs in the folder of its package.
func root() string {
	dir, err := os.Getwd()
	for err == nil && dir != "/" {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		dir = filepath.Dir(dir)
	}
	return "."
}
