//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/nftables"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/vishvananda/netlink"

	"github.com/rpmig/rpmig/netns"
)

// TestMain makes the test binary answer to the name of rpmig too, so that the tests start the real main as a process.
func TestMain(m *testing.M) {
	// rpmig starts itself through /proc/self/exe, and not always by another name. Where a test has given it another place than PATH's it
	// is to know its name, which testscript would shorten.
	inPath, err := exec.LookPath("rpmig")
	if base := filepath.Base(os.Args[0]); base == "exe" || base == "rpmig" && strings.Contains(os.Args[0], "/") && err == nil && os.Args[0] != inPath {
		main()
	}
	// Under -race each process would wait a second before it ends.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE")); err != nil {
		panic(err)
	}
	testscript.Main(guard{m}, map[string]func(){"rpmig": main, "stage": stage, "leftovers": leftovers, "oddserver": oddserver})
}

// guard sees to it that the host is after the tests what it was before.
type guard struct{ *testing.M }

func (g guard) Run() int {
	// Another user must be able to start the binary.
	bin, err := exec.LookPath("rpmig")
	if err == nil {
		err = os.Chmod(filepath.Dir(filepath.Dir(bin)), 0o755)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	before := host()
	status := g.M.Run()
	if diff := cmp.Diff(before, host()); diff != "" {
		fmt.Fprintf(os.Stderr, "the tests changed the host (-before +after):\n%s", diff)
		return 1
	}
	return status
}

var packetCounts = regexp.MustCompile(`\[\d+:\d+\]`)

// host is all of the host that rpmig could change and must not.
func host() map[string]string {
	state := map[string]string{}
	for _, s := range append(netns.BaseSysctls(1, 80, true), netns.Sysctl{Name: netns.MigrateReq}) {
		value, err := netns.Get(s.Name)
		state[s.Name] = fmt.Sprint(value, err)
	}
	links, err := netlink.LinkList()
	for _, l := range links {
		state["link "+l.Attrs().Name] = l.Attrs().Flags.String()
	}
	state["links"] = fmt.Sprint(err)
	pinned, err := filepath.Glob("/sys/fs/bpf/*")
	state["/sys/fs/bpf"] = fmt.Sprint(pinned, err)
	if os.Geteuid() != 0 {
		return state
	}
	if c, err := nftables.New(); err == nil {
		chains, err := c.ListChains()
		var names []string
		for _, ch := range chains {
			rules, err := c.GetRules(ch.Table, ch)
			names = append(names, fmt.Sprint(ch.Table.Name, ch.Name, len(rules), err))
		}
		slices.Sort(names)
		state["nft"] = fmt.Sprint(names, err)
	}
	for _, save := range []string{"iptables-save", "ip6tables-save"} {
		out, err := exec.Command(save).Output()
		var lines []string
		for l := range strings.Lines(string(out)) {
			if !strings.HasPrefix(l, "#") { // the time is there
				lines = append(lines, packetCounts.ReplaceAllString(l, ""))
			}
		}
		state[save] = fmt.Sprint(lines, err)
	}
	return state
}

// rpmigPath is the test binary under the name of rpmig.
func rpmigPath(t testing.TB) string {
	t.Helper()
	bin, err := exec.LookPath("rpmig")
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

func matches(pattern, text string) bool { return regexp.MustCompile(pattern).MatchString(text) }
