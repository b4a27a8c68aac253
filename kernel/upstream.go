package kernel

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Upstream is the release of Linux that the running kernel was made of, such as 6.1.180 or 6.12-rc6; empty where it does not
// say. uname -r need not be that: distributions count their own builds in it.
var Upstream = sync.OnceValue(func() string {
	u := uname()
	signature, _ := os.ReadFile("/proc/version_signature") // only Ubuntu's kernels have it
	return upstream(Release(), unix.ByteSliceToString(u.Version[:]), string(signature))
})

var (
	// numbers are those of a release, and of a candidate for one: 6.18.44, 6.12-rc6, 6.12.0-rc6, and Debian's 6.12~rc6.
	numbers = regexp.MustCompile(`^(\d{1,5})\.(\d{1,5})(?:\.(\d{1,5}))?(?:[-~]rc(\d{1,5}))?`)

	// packaged is how Debian and those that build as it does put their package's version into uname -v: "#1 SMP Debian
	// 6.1.180-1 (2026-08-03)", "… Debian 1:6.18.39-1+rpt1 (…)", "… Kali 6.12.38-1kali1 (…)". Its first part is upstream's
	// (deb-version(7)).
	packaged = regexp.MustCompile(`(?:^| )(?:Debian|Kali) (?:\d+:)?(\d\S*)`)

	// counted is what follows the numbers where a distribution stays with a release and counts its own builds: Ubuntu's
	// 6.8.0-45-generic, Debian's 6.1.0-52-amd64, Red Hat's 5.14.0-427.el9, openEuler's 6.6.0-28.0.0.34.oe2403. All name a
	// release without a third number.
	counted = regexp.MustCompile(`^-\d`)

	// patched is the mark of those that keep a third number which says little of what is in the kernel: Red Hat and what is
	// built from it, with Oracle's UEK (el9uek); Amazon; Android; Alibaba, Anolis, openEuler, OpenCloudOS, Kylin; and SUSE,
	// whose builds have numbers of two parts or more (5.14.21-150500.55.39-default), unlike Tumbleweed's (6.13.1-1-default).
	patched = regexp.MustCompile(`\.el\d|\.amzn\d|-android\d|\.(?:al|an|oe|oc|ky)\d|^-\d+\.\d[.\d]*-[a-z]`)
)

// upstream finds the release of Linux in what a kernel says of itself: uname -r, uname -v, and Ubuntu's
// /proc/version_signature. It is empty where a distribution's way of counting hides it, and where there is none.
func upstream(release, version, signature string) string {
	// "Ubuntu 6.8.0-45.45-generic 6.8.12": the last word is the release whose fixes are in it. Old ones have two words.
	if words := strings.Fields(signature); len(words) > 0 && words[0] == "Ubuntu" {
		if len(words) != 3 {
			return ""
		}
		found, _ := readNumbers(words[2])
		return found
	}
	if m := packaged.FindStringSubmatch(version); m != nil {
		found, _ := readNumbers(m[1])
		return found
	}
	found, rest := readNumbers(release)
	stays := strings.HasSuffix(found, ".0") && counted.MatchString(rest)
	if stays || patched.MatchString(rest) {
		return ""
	}
	return found
}

// readNumbers reads the numbers at the start of a text, and returns what follows them. A release without a third number has a
// 0 there; a candidate for it is called as upstream calls it, without.
func readNumbers(s string) (found, rest string) {
	m := numbers.FindStringSubmatch(s)
	if m == nil {
		return "", s
	}
	var n [4]int
	for i := range n {
		n[i], _ = strconv.Atoi(m[i+1]) // nothing or digits
	}
	rest = s[len(m[0]):]
	switch {
	case rest != "" && rest[0] >= '0' && rest[0] <= '9': // longer than any number of a release
		return "", s
	case n[3] > 0 && n[2] == 0:
		return fmt.Sprintf("%d.%d-rc%d", n[0], n[1], n[3]), rest
	case n[3] > 0: // of the stable series
		return fmt.Sprintf("%d.%d.%d-rc%d", n[0], n[1], n[2], n[3]), rest
	default:
		return fmt.Sprintf("%d.%d.%d", n[0], n[1], n[2]), rest
	}
}
