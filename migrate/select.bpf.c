//go:build ignore

// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// Chooses the listener for a segment that arrives, and for a socket whose listener has closed. One program serves every
// bpf mode: what it answers is set from outside, and bpf-select loads it with the attach type that the kernel never
// asks about a migration (BPF_SK_REUSEPORT_SELECT).

#include <linux/bpf.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

enum answer {
	ANSWER_SELECT, // name a listener
	ANSWER_PASS,   // leave it to the kernel
	ANSWER_REFUSE,
};

// What to do; written while the program runs.
volatile __u32 answer = ANSWER_SELECT; // to a migration
volatile __u32 arrive_slot = 0;        // listener for what arrives
volatile __u32 migrate_slot = 1;       // listener for what migrates
volatile __u32 spread = 1;             // the client's port modulo this is added to either slot

// Runs of the program, read by the harness as a witness of its own: for a SYN; for another segment that belongs to no
// socket but a listener (such as the ACK of a handshake that is forgotten); and for a socket that is to migrate, by its
// state: ESTABLISHED and SYN_RECV children from the accept queue, NEW_SYN_RECV requests.
__u64 asked_syn, asked_stray, asked_established, asked_syn_recv, asked_new_syn_recv, asked_other;
__u64 named; // migrations for which it has named a listener that is there

// An empty slot leaves the choice to the kernel.
struct {
	__uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	__uint(max_entries, 256);
	__type(key, __u32);
	__type(value, __u64);
} listeners SEC(".maps");

SEC("sk_reuseport/migrate")
int choose_listener(struct sk_reuseport_md *md)
{
	// Read once: the verifier refuses a second load of this field.
	struct bpf_sock *migrating = md->migrating_sk;
	__u32 slot, port = 0;

	if (migrating) {
		switch (migrating->state) {
		case BPF_TCP_ESTABLISHED:
			__sync_fetch_and_add(&asked_established, 1);
			break;
		case BPF_TCP_SYN_RECV:
			__sync_fetch_and_add(&asked_syn_recv, 1);
			break;
		case BPF_TCP_NEW_SYN_RECV:
			__sync_fetch_and_add(&asked_new_syn_recv, 1);
			break;
		default:
			__sync_fetch_and_add(&asked_other, 1);
		}
		if (answer == ANSWER_REFUSE)
			return SK_DROP;
		if (answer == ANSWER_PASS)
			return SK_PASS;
		port = bpf_ntohs(migrating->dst_port);
		// Keeps the compiler from folding this load and the one below into one through a computed address,
		// which the verifier refuses for sockets.
		barrier_var(port);
		slot = migrate_slot;
	} else {
		// The data begin at the transport header.
		struct tcphdr *tcp = md->data;

		if ((void *)(tcp + 1) > md->data_end)
			return SK_PASS;
		if (tcp->syn && !tcp->ack)
			__sync_fetch_and_add(&asked_syn, 1);
		else
			__sync_fetch_and_add(&asked_stray, 1);
		port = bpf_ntohs(tcp->source);
		slot = arrive_slot;
	}
	if (spread > 1)
		slot += port % spread;
	// An error means that the slot is empty; SK_PASS then leaves the choice to the kernel.
	if (!bpf_sk_select_reuseport(md, &listeners, &slot, 0) && migrating)
		__sync_fetch_and_add(&named, 1);
	return SK_PASS;
}

char _license[] SEC("license") = "Dual MIT/GPL";
