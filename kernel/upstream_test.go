package kernel

import (
	"regexp"
	"testing"
)

// TestUpstream: strings as kernels of these distributions print them.
func TestUpstream(t *testing.T) {
	for _, tt := range []struct{ release, version, signature, want string }{
		// Debian, and what is built as it is: uname -v has the package's version.
		{"6.1.0-52-cloud-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.180-1 (2026-08-03)", "", "6.1.180"},
		{"6.1.0-50-arm64", "#1 SMP Debian 6.1.176-1 (2026-07-02)", "", "6.1.176"},
		{"6.1.0-11-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.38-4 (2023-08-08)", "", "6.1.38"},
		{"5.10.0-46-cloud-amd64", "#1 SMP Debian 5.10.262-1 (2026-07-30)", "", "5.10.262"},
		{"6.12.101+deb12-cloud-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.12.101-1~bpo12+1 (2026-08-09)", "", "6.12.101"},
		{"6.12.74+deb13+1-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.12.74-2 (2026-03-08)", "", "6.12.74"},
		{"6.11.10-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.11.10-1 (2024-11-23)", "", "6.11.10"},
		{"6.12-rc6-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.12~rc6-1~exp1 (2024-11-10)", "", "6.12-rc6"},
		{"6.18.39+rpt-rpi-v8", "#1 SMP PREEMPT Debian 1:6.18.39-1+rpt1 (2026-07-29)", "", "6.18.39"},
		{"6.12.32-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.12.32-1parrot1 (2025-06-27)", "", "6.12.32"},
		{"6.1.0-kali9-amd64", "#1 SMP PREEMPT_DYNAMIC Kali 6.1.27-1kali1 (2023-05-12)", "", "6.1.27"},
		{"6.12.38+kali-amd64", "#1 SMP PREEMPT_DYNAMIC Kali 6.12.38-1kali1 (2025-08-12)", "", "6.12.38"},
		{"6.1.0-52-cloud-amd64", "#1 SMP", "", ""}, // Debian's count without Debian's version
		{"6.1.0-52-amd64", "#1 SMP Debian unknown", "", ""},

		// Ubuntu: /proc/version_signature, and nothing else.
		{"6.8.0-45-generic", "#45-Ubuntu SMP PREEMPT_DYNAMIC Fri Aug 30 12:02:04 UTC 2024", "Ubuntu 6.8.0-45.45-generic 6.8.12\n", "6.8.12"},
		{"6.8.0-106-generic", "#106~22.04.1-Ubuntu SMP PREEMPT_DYNAMIC", "Ubuntu 6.8.0-106.106~22.04.1-generic 6.8.12\n", "6.8.12"},
		{"5.11.0-31-generic", "#33-Ubuntu SMP", "Ubuntu 5.11.0-31.33-generic 5.11.22\n", "5.11.22"},
		{"5.6.0-1042-oem", "#46-Ubuntu SMP", "Ubuntu 5.6.0-1042.46-oem 5.6.19", "5.6.19"},
		{"3.16.0-59-generic", "", "Ubuntu 3.16.0-59.79~14.04.1-generic 3.16.7-ckt20\n", "3.16.7"},
		{"6.11.0-7-generic", "#7-Ubuntu SMP", "Ubuntu 6.11.0-7.7-generic 6.11.0-rc7\n", "6.11-rc7"},
		{"2.6.31-14-generic", "", "Ubuntu 2.6.31-14.48-generic\n", ""},
		{"6.8.0-87-generic", "#88~22.04.1-Ubuntu SMP PREEMPT_DYNAMIC Tue Oct 14 14:03:14 UTC 2", "", ""},
		{"6.8.0-45-generic", "", "Ubuntu 6.8.0-45.45-generic unknown\n", ""},
		{"4.4.0-19041-Microsoft", "#1-Microsoft Fri Dec 06 14:06:00 PST 2019", "Microsoft 4.4.0-19041.1-Microsoft 4.4.35\n", ""},

		// Upstream's own, and those that follow it release by release.
		{"6.18.44", "#1 SMP PREEMPT_DYNAMIC", "", "6.18.44"},
		{"6.18.0", "#1 SMP", "", "6.18.0"},
		{"6.18.0-dirty", "#1 SMP", "", "6.18.0"},
		{"6.18.44-fc-v669", "#1 SMP PREEMPT_DYNAMIC @0", "", "6.18.44"},
		{"6.12.0-rc6", "#3 SMP", "", "6.12-rc6"},
		{"6.12.0-rc6-00042-gdeadbeef", "#3 SMP", "", "6.12-rc6"},
		{"6.1.155-rc1-g1234567", "#3 SMP", "", "6.1.155-rc1"},
		{"6.1.112+", "#1 SMP PREEMPT_DYNAMIC Thu Oct 10 2024", "", "6.1.112"},
		{"6.11.4-301.fc41.x86_64", "#1 SMP PREEMPT_DYNAMIC Sun Oct 20 15:02:33 UTC 2024", "", "6.11.4"},
		{"6.11.5-arch1-1", "#1 SMP PREEMPT_DYNAMIC", "", "6.11.5"},
		{"6.6.58-1-lts", "#1 SMP PREEMPT_DYNAMIC", "", "6.6.58"},
		{"6.6.58-0-virt", "#1-Alpine SMP PREEMPT_DYNAMIC", "", "6.6.58"},
		{"6.18.44-gentoo-r1-arm64", "#1 SMP", "", "6.18.44"},
		{"6.6.58_1", "#1 SMP", "", "6.6.58"},
		{"6.13.1-1-default", "#1 SMP PREEMPT_DYNAMIC Mon Feb  3 05:33:25 UTC 2025 (1918d13)", "", "6.13.1"},
		{"6.14.0-rc3-1.gb6b4102-default", "#1 SMP PREEMPT_DYNAMIC Thu Feb 20 12:26:55 UTC 2025 (b6b4102)", "", "6.14-rc3"},
		{"6.6.92.2-2.azl3", "#1 SMP Wed Jul  2 02:43:35 UTC 2025", "", "6.6.92"},
		{"6.6.87.2-microsoft-standard-WSL2", "#1 SMP PREEMPT_DYNAMIC", "", "6.6.87"},
		{"6.8.12-9-pve", "#1 SMP PREEMPT_DYNAMIC PMX 6.8.12-9 (2025-03-16T19:18Z)", "", "6.8.12"},
		{"6.11.5-061105-generic", "#202410221737 SMP PREEMPT_DYNAMIC", "", "6.11.5"},

		// Those that count by themselves.
		{"5.14.0-427.13.1.el9_4.x86_64", "#1 SMP PREEMPT_DYNAMIC Wed May 1 19:11:28 UTC 2024", "", ""},
		{"6.12.0-55.20.1.el10_0.x86_64", "#1 SMP PREEMPT_DYNAMIC Tue Jul  8 14:26:52 EDT 2025", "", ""},
		{"5.15.0-312.187.5.3.el9uek.x86_64", "#2 SMP Sun Sep 21 08:53:25 PDT 2025", "", ""},
		{"6.1.166-197.305.amzn2023.x86_64", "#1 SMP PREEMPT_DYNAMIC Mon Mar 23 09:53:26 UTC 2026", "", ""},
		{"6.4.0-150600.23.73-default", "#1 SMP PREEMPT_DYNAMIC Tue Oct  7 08:43:02 UTC 2025 (46f6a23)", "", ""},
		{"5.14.21-150500.55.39-default", "#1 SMP PREEMPT_DYNAMIC Tue Dec 5 10:06:35 UTC 2023 (2e4092e)", "", ""},
		{"6.12.0-160000.33-default", "#1 SMP PREEMPT_DYNAMIC", "", ""},
		{"6.1.157-android14-11-gbd23337e42e7-ab14791245", "#1 SMP PREEMPT", "", ""},
		{"6.6.0-28.0.0.34.oe2403.x86_64", "#1 SMP Mon May 27 22:22:46 CST 2024", "", ""},
		{"5.10.134-18.al8.x86_64", "#1 SMP Fri Dec 13 16:56:53 CST 2024", "", ""},
		{"6.12.0-0.rc6.20241106git2e1b3cc9d7f7.53.fc42.x86_64", "#1 SMP PREEMPT_DYNAMIC", "", ""},

		{"", "", "", ""},
		{"6", "", "", ""},
		{"custom", "#1 SMP", "", ""},
		{"6.18.123456", "", "", ""},
	} {
		if got := upstream(tt.release, tt.version, tt.signature); got != tt.want {
			t.Errorf("%s | %s | %q: %q, want %q", tt.release, tt.version, tt.signature, got, tt.want)
		}
	}
}

var canonical = regexp.MustCompile(`^\d+\.\d+(\.\d+|(\.\d+)?-rc\d+)$`)

// FuzzUpstream: what is found has the form of a release, and is found again in itself.
func FuzzUpstream(f *testing.F) {
	f.Add("6.1.0-52-cloud-amd64", "#1 SMP Debian 6.1.180-1 (2026-08-03)", "")
	f.Add("6.8.0-45-generic", "#45-Ubuntu SMP", "Ubuntu 6.8.0-45.45-generic 6.8.12\n")
	f.Add("6.12.0-rc6", "", "")
	f.Fuzz(func(t *testing.T, release, version, signature string) {
		got := upstream(release, version, signature)
		if got == "" {
			return
		}
		if !canonical.MatchString(got) {
			t.Errorf("%q", got)
		}
		if again := upstream(got, "", ""); again != got {
			t.Errorf("%q in %q", again, got)
		}
	})
}
