package kernel

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestCgroupDirs(t *testing.T) {
	const (
		v2     = "29 22 0:25 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
		hybrid = "30 22 0:26 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n31 22 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" +
			"32 22 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
		// A container without a cgroup namespace: only its own cgroup is mounted.
		docker = "33 22 0:26 /docker/1 /sys/fs/cgroup/pids ro shared:1 - cgroup cgroup rw,pids\n"
	)
	for _, tt := range []struct {
		name, groups, mounts, controller string
		want                             []string
	}{
		{"version 2", "0::/user.slice/a.scope\n", v2, "pids",
			[]string{"/sys/fs/cgroup/user.slice/a.scope", "/sys/fs/cgroup/user.slice", "/sys/fs/cgroup"}},
		{"the root", "0::/\n", v2, "", []string{"/sys/fs/cgroup"}},
		{"both", "8:pids:/a\n4:memory:/b\n0::/\n", hybrid, "pids",
			[]string{"/sys/fs/cgroup/pids/a", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/unified"}},
		{"a container", "8:pids:/docker/1/x\n", docker, "pids", []string{"/sys/fs/cgroup/pids/x", "/sys/fs/cgroup/pids"}},
		{"out of sight", "8:pids:/docker/2\n", docker, "pids", nil},
		{"not mounted", "0::/a\n", "", "pids", nil},
		{"nonsense", "x\n::\n", "y\n - \n", "pids", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := slices.Concat(cgroupDirs(tt.groups, tt.mounts, tt.controller)...); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestDirLeft: what is used for files can be had again, and no number is no limit.
func TestDirLeft(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if l := dirLeft(dir, 1, "pids.max", "pids.current"); l != none {
		t.Errorf("without a file: %+v", l)
	}
	write("pids.max", "max\n")
	write("pids.current", "70\n")
	if l := dirLeft(dir, 1, "pids.max", "pids.current"); l != none {
		t.Errorf("max: %+v", l)
	}
	write("pids.max", "100\n")
	if l := dirLeft(dir, 1, "pids.max", "pids.current"); l.Left != 30 || l.Raise != "echo max | sudo tee "+dir+"/pids.max" {
		t.Errorf("70 of 100: %+v", l)
	}
	write("pids.current", "170\n")
	if l := dirLeft(dir, 1, "pids.max", "pids.current"); l.Left != 0 {
		t.Errorf("170 of 100: %+v", l)
	}
	for stat, want := range map[string]int{
		"anon 5\nfile 40000000\ninactive_file 20971520\nactive_file 10485760\n":     60,
		"active_file 1\ntotal_inactive_file 10485760\ntotal_active_file 10485760\n": 50,
		"": 30,
	} {
		write("memory.limit_in_bytes", "104857600\n")
		write("memory.usage_in_bytes", "73400320\n")
		write("memory.stat", stat)
		if l := dirLeft(dir, mib, "memory.limit_in_bytes", "memory.usage_in_bytes"); l.Left != want || l.Raise != "echo -1 | sudo tee "+dir+"/memory.limit_in_bytes" {
			t.Errorf("%q: %+v, want %d MiB", stat, l, want)
		}
	}
	if l := tighter(none, Limit{Left: 3}); l.Left != 3 || none.Left != math.MaxInt {
		t.Errorf("the tighter one is %+v", l)
	}
}

func TestParseProcess(t *testing.T) {
	for status, want := range map[string][2]int{
		"Name:\trpmig\nUid:\t1000\t0\t0\t0\nThreads:\t12\n": {1000, 12},
		"Uid:\nThreads:\n": {-1, 0},
		"":                 {-1, 0},
	} {
		if uid, threads := parseProcess(status); [2]int{uid, threads} != want {
			t.Errorf("%q: %d, %d", status, uid, threads)
		}
	}
}
