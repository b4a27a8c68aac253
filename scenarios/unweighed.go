package scenarios

import "github.com/rpmig/rpmig/result"

// Unweighed are known kernel bugs near migration that no verdict is weighed by, with the reason in their line: "rpmig list --bugs"
// names them, so that nobody takes a PASS for a proof that they are not there.
var Unweighed = []result.Bug{
	{
		ID: "98da8ce87dd5",
		Doc: "a socket that sk_clone() could not make kept its listener's sk_reuseport_cb; not played: it takes an allocation " +
			"that fails, and is a matter of memory safety",
		Link: "https://git.kernel.org/torvalds/c/98da8ce87dd5",
	},
	{
		ID: "eaab8cab451b",
		Doc: "inet_csk_listen_stop may sleep inside a BPF program that destroys a listener; close-by-bpf-destroy-* play that, " +
			"but only a kernel with CONFIG_DEBUG_ATOMIC_SLEEP tells of it, in its log",
		Link: "https://git.kernel.org/torvalds/c/eaab8cab451b",
	},
}
