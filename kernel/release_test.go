package kernel

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestBefore(t *testing.T) {
	for release, want := range map[string]bool{
		"6.1.0-52-cloud-amd64": true, "5.10.262": true, "6.3.99": true, "6.4.0": false, "6.4-rc1": false, "6.12.117+deb12-cloud-amd64": false,
		"7.0.1": false, "": false, "unknown": false,
	} {
		if got := parseRelease(release).before(6, 4); got != want {
			t.Errorf("%q before 6.4: %t", release, got)
		}
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		t.Fatal(err)
	}
	if Release() != unix.ByteSliceToString(u.Release[:]) {
		t.Errorf("release %q", Release())
	}
}
