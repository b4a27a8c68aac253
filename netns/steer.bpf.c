//go:build ignore

// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// Give what arrives at a port, at whichever address, to one listener, wherever that is bound. Either program does it alone.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

// Set before it is loaded.
volatile const __u32 port = 0;  // in host order
volatile const __u64 flags = 0; // of bpf_sk_assign, in sk_lookup

enum { goes_on = -1 }; // TCX_NEXT

// The listener. The kernel empties the slot when that is closed or shut down.
struct {
	__uint(type, BPF_MAP_TYPE_SOCKMAP);
	__uint(max_entries, 1);
	// By sizes: the kernel refuses a sockmap with types (ENOTSUPP), but not before it has waited for RCU grace periods, some 20 ms.
	__uint(key_size, 4);
	__uint(value_size, 8);
} listener SEC(".maps");

// The kernel asks it when it looks for a listener (inet_lookup_run_sk_lookup in net/ipv4/inet_hashtables.c).
SEC("sk_lookup")
int steer_lookup(struct bpf_sk_lookup *ctx)
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

// It sees each packet before the kernel looks for a socket, and gives the SYNs to the listener (inet_steal_sock in
// include/net/inet_hashtables.h). What follows them the kernel has to look up.
SEC("tc")
int steer_syn(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	struct tcphdr *tcp = data + ETH_HLEN;
	__u32 slot = 0;
	struct bpf_sock *sk;

	// Neither has options.
	tcp = (void *)tcp + (skb->protocol == bpf_htons(ETH_P_IP) ? sizeof(struct iphdr) : sizeof(struct ipv6hdr));
	if ((void *)(tcp + 1) > end || tcp->dest != bpf_htons(port) || !tcp->syn || tcp->ack)
		return goes_on;
	sk = bpf_map_lookup_elem(&listener, &slot);
	if (!sk)
		return goes_on;
	bpf_sk_assign(skb, sk, 0);
	bpf_sk_release(sk);
	return goes_on;
}

char _license[] SEC("license") = "Dual MIT/GPL";
