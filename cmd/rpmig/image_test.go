//go:build linux

package main

import (
	"cmp"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// enterImage makes the folder, which must be in a mount namespace of this thread's own, all that there is, beside what a container
// engine mounts into an image: /proc, /sys that cannot be written, and some devices.
func enterImage(dir string) error {
	for _, name := range []string{"proc", "sys", "dev", "tmp"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			return err
		}
	}
	err := errors.Join(
		unix.Mount(dir, dir, "", unix.MS_BIND, ""),
		unix.Mount("proc", filepath.Join(dir, "proc"), "proc", 0, ""),
		unix.Mount("sysfs", filepath.Join(dir, "sys"), "sysfs", unix.MS_RDONLY, ""),
	)
	for _, name := range []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"} {
		at := filepath.Join(dir, name)
		err = cmp.Or(err, os.WriteFile(at, nil, 0o666), unix.Mount(name, at, "", unix.MS_BIND, ""))
	}
	// pivot_root(2): the new root on top of the old one, which then goes.
	return cmp.Or(err, os.Chdir(dir), unix.PivotRoot(".", "."), unix.Unmount(".", unix.MNT_DETACH), os.Chdir("/tmp"))
}

// enterBare makes the folder, which must be in a mount namespace of this thread's own, all that there is, and takes away the right to
// write to it.
func enterBare(dir string) error {
	return cmp.Or(unix.Mount(dir, dir, "", unix.MS_BIND, ""), os.Chdir(dir), unix.PivotRoot(".", "."), unix.Unmount(".", unix.MNT_DETACH),
		os.Chdir("/"), unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, ""))
}

// dockerKeeps are the capabilities that "docker run" leaves a container by default (moby's oci/caps/defaults.go).
var dockerKeeps = []uintptr{
	unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FSETID, unix.CAP_FOWNER, unix.CAP_MKNOD, unix.CAP_NET_RAW, unix.CAP_SETGID,
	unix.CAP_SETUID, unix.CAP_SETFCAP, unix.CAP_SETPCAP, unix.CAP_NET_BIND_SERVICE, unix.CAP_SYS_CHROOT, unix.CAP_KILL, unix.CAP_AUDIT_WRITE,
}

// keepDockers drops all other capabilities but those that --cap-add would add, a comma list.
func keepDockers(added string) error {
	keep := slices.Clone(dockerKeeps)
	for name := range strings.SplitSeq(added, ",") {
		if number, known := map[string]uintptr{"SYS_ADMIN": unix.CAP_SYS_ADMIN, "NET_ADMIN": unix.CAP_NET_ADMIN}[name]; known {
			keep = append(keep, number)
		} else if name != "" {
			return unix.EINVAL
		}
	}
	for number := range uintptr(unix.CAP_LAST_CAP + 1) {
		if slices.Contains(keep, number) {
			continue
		}
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, number, 0, 0, 0); err != nil {
			return err
		}
	}
	return nil
}

// TestImage is ci/Dockerfile: the binary alone, with what "docker run" gives and with what README.md says to add. There is no
// container engine in it: the same mounts and capabilities are made here, and of Docker's seccomp filter what refuses namespaces.
func TestImage(t *testing.T) {
	t.Parallel()
	needRoot(t)
	built := shipped(t)
	run := func(stages []string, args ...string) *process {
		image := t.TempDir()
		data, err := os.ReadFile(built)
		if err := cmp.Or(err, os.WriteFile(filepath.Join(image, "rpmig"), data, 0o755)); err != nil {
			t.Fatal(err)
		}
		p := command(t, "stage", slices.Concat([]string{"private-mounts", "image=" + image}, stages, []string{"--", "/rpmig"}, args)...)
		p.Env = append(p.Env, "TMPDIR=/tmp")
		return p
	}
	plain := []string{"read-only=/proc/sys", "docker-capabilities=", "refused=unshare"}
	run(plain, "version").want(0, []string{`^rpmig `}, silent)
	run(plain, "explain", "quiz1").want(0, []string{`^## quiz1$`}, silent)
	run(plain, "doctor").want(1, []string{`^no +\* network namespaces`, `docker run `}, silent)
	run(plain, "run", "quiz1").want(70, []string{"!PASS", "!FAIL"}, []string{`^rpmig: error: `, `^rpmig: hint: .*docker run `})

	run([]string{"docker-capabilities="}, "run", "quiz1", "-q", "--migrate=off,sysctl").want(0, []string{`^2 cells: 2 PASS$`}, silent)
	if canBPF() {
		run([]string{"docker-capabilities=SYS_ADMIN,NET_ADMIN"}, "run", "quiz*", "-q", "--family=ipv4", "--trace=on").want(
			0, []string{`^6 cells: 6 PASS$`}, silent)
	}
}

// TestBare is the binary and nothing else: no /proc, no /tmp, nothing that can be written, with rights or without, and also in a
// chroot. What needs none of these works, and all else says what is missing.
func TestBare(t *testing.T) {
	t.Parallel()
	needRoot(t)
	data, err := os.ReadFile(shipped(t))
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	if err := cmp.Or(os.Chmod(root, 0o755), os.WriteFile(filepath.Join(root, "rpmig"), data, 0o755)); err != nil {
		t.Fatal(err)
	}
	run := func(stages []string, args ...string) *process {
		p := command(t, "stage", slices.Concat([]string{"private-mounts"}, stages, []string{"--", "/rpmig"}, args)...)
		p.Env = []string{"PATH=" + os.Getenv("PATH")} // no HOME, and no TMPDIR
		return p
	}
	hints := func(hint string) []string { return []string{`\Arpmig: error: .*\nrpmig: hint: ` + hint + `.*\n\z`} }
	bare := []string{"bare=" + root}
	for _, stages := range [][]string{bare, append(bare, "nobody"), {"chroot=" + root, "nobody"}} {
		run(stages, "version").want(0, []string{`^rpmig `}, silent)
		run(stages, "man").want(0, []string{`^\.TH RPMIG 8 `}, silent)
		run(stages, "explain", "quiz1").want(0, []string{`^## quiz1$`}, silent)
		run(stages, "doctor").want(1, []string{`mount\s+-t proc proc /proc`}, silent)
		run(stages, "kernels").want(70, silent, hints(`XDG_CACHE_HOME=DIR`))
		run(stages, "report", "x").want(64, silent, hints(`/rpmig run all --out DIR`))
	}
	run(bare, "run", "quiz1").want(70, silent, hints(`.*mount -t proc proc /proc`))
	run(bare, "run", "quiz1", "--out=o").want(70, silent, hints(`choose a folder that you may write to with --out`))
	run(bare, "run", "quiz1", "--bundle=b.tar.gz").want(70, silent, hints(`choose a file in a folder that is there and that you may write to`))
	run(append(bare, "nobody"), "run", "quiz1").want(70, silent, hints(`mount -t proc proc /proc`))
	run(append(bare, "nobody"), "reload", "--reload=signal:HUP", "--", "/rpmig", "list").want(70, silent, hints(`mount -t proc proc /proc`))
	run([]string{"chroot=" + root, "nobody"}, "run", "quiz1").want(70, silent, hints(`run it as root.*; in a chroot there are none`))
}
