//go:build ignore

// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// Chooses the listener for a SYN, and for a socket whose listener has closed. One program serves every bpf mode: what
// it answers to a migration is set before it is loaded, and bpf-select loads it with the attach type that the kernel
// never asks about a migration (BPF_SK_REUSEPORT_SELECT).

#include <linux/bpf.h>
#include <linux/tcp.h>
#include <bpf/bpf_helpers.h>

enum answer {
	ANSWER_SELECT, // name a listener
	ANSWER_PASS,   // leave it to the kernel
	ANSWER_REFUSE,
};

volatile const __u32 answer = ANSWER_SELECT;

// Runs of the program, read by the harness as a witness of its own: for a SYN, for another segment that belongs to no
// socket but a listener (such as the ACK of a handshake that is forgotten), and for a socket that is to migrate.
__u64 asked_syn, asked_stray, asked_migrate;

// Slot 0 takes what arrives, slot 1 what migrates. An empty slot leaves the choice to the kernel.
enum { SLOT_SYN, SLOT_MIGRATE };

struct {
	__uint(type, BPF_MAP_TYPE_REUSEPORT_SOCKARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} listeners SEC(".maps");

SEC("sk_reuseport/migrate")
int choose_listener(struct sk_reuseport_md *md)
{
	// Read once: the verifier refuses a second load of this field.
	struct bpf_sock *migrating = md->migrating_sk;
	__u32 slot = SLOT_SYN;

	if (migrating) {
		__sync_fetch_and_add(&asked_migrate, 1);
		if (answer == ANSWER_REFUSE)
			return SK_DROP;
		if (answer == ANSWER_PASS)
			return SK_PASS;
		slot = SLOT_MIGRATE;
	} else {
		// The data begin at the transport header.
		struct tcphdr *tcp = md->data;

		if ((void *)(tcp + 1) <= md->data_end && tcp->syn && !tcp->ack)
			__sync_fetch_and_add(&asked_syn, 1);
		else
			__sync_fetch_and_add(&asked_stray, 1);
	}
	// An error means that the slot is empty; SK_PASS then leaves the choice to the kernel.
	bpf_sk_select_reuseport(md, &listeners, &slot, 0);
	return SK_PASS;
}

char _license[] SEC("license") = "Dual MIT/GPL";
