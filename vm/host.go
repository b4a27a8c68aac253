package vm

import (
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// host adds the kernel that runs.
func (f *finder) host() error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return failed(err, "", "uname")
	}
	release := unix.ByteSliceToString(u.Release[:])
	places := []string{
		filepath.Join("/boot", "vmlinuz-"+release), filepath.Join("/lib/modules", release, "vmlinuz"),
		filepath.Join("/usr/lib/modules", release, "vmlinuz"), filepath.Join("/boot", "Image-"+release),
	}
	for _, p := range places {
		if _, err := os.Stat(p); err == nil {
			return f.image("host", p)
		}
	}
	return failed(nil, "name its image: --kernel FILE; or a packaged kernel: --kernel debian:VERSION",
		"kernel host: there is no image of %s on this machine, neither in /boot nor in /lib/modules", strings.TrimSpace(release))
}
