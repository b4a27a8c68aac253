//go:build ignore

// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// Destroys one TCP listener while the kernel walks through the sockets of a network namespace: an iterator (tcp_reg_info
// in net/ipv4/tcp_ipv4.c) that calls bpf_sock_destroy (net/core/filter.c).

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

// A member has to be read: otherwise the compiler only declares the structure, and the loader does not know it for the
// kernel's, to which bpf_sock_destroy wants a pointer.
struct sock_common {
	unsigned char skc_state;
};

struct bpf_iter__tcp {
	struct sock_common *sk_common;
};

#pragma clang attribute pop

extern int bpf_sock_destroy(struct sock_common *sock) __ksym;

volatile __u64 cookie = 0; // of the listener, as SO_COOKIE tells it; set before each walk

// What came of it: how many sockets had the cookie, and what the kernel said of the last.
__u32 found;
__s32 said;

SEC("iter/tcp")
int destroy_listener(struct bpf_iter__tcp *ctx)
{
	struct sock_common *sk = ctx->sk_common; // NULL: the walk is over

	if (!sk || sk->skc_state != BPF_TCP_LISTEN || bpf_get_socket_cookie(sk) != cookie)
		return 0;
	found++;
	said = bpf_sock_destroy(sk);
	return 0;
}

char _license[] SEC("license") = "Dual MIT/GPL";
