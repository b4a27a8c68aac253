//go:build ignore

// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// Gives what arrives at a port, at whichever address, to one listener, wherever that is bound: a program of the type
// sk_lookup, which the kernel asks when it looks for a listener (inet_lookup_run_sk_lookup in
// net/ipv4/inet_hashtables.c).

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

// Set before it is loaded.
volatile const __u32 port = 0;  // in host order
volatile const __u64 flags = 0; // of bpf_sk_assign

// The listener. The kernel empties the slot when that is closed or shut down.
struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} listener SEC(".maps");

SEC("sk_lookup")
int steer(struct bpf_sk_lookup *ctx)
{
	__u32 slot = 0;
	struct bpf_sock *sk;

	if (ctx->local_port != port)
		return SK_PASS;
	sk = bpf_map_lookup_elem(&listener, &slot);
	if (!sk)
		return SK_PASS;
	// An error means that the listener cannot have it; SK_PASS then leaves the search to the kernel.
	bpf_sk_assign(ctx, sk, flags);
	bpf_sk_release(sk);
	return SK_PASS;
}

char _license[] SEC("license") = "Dual MIT/GPL";
