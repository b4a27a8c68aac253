//go:build ignore

// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// Records what the kernel says of TCP in the network namespaces that are watched, and in no other: resets, drops,
// retransmissions and changes of state.
//
// These are raw tracepoints, whose arguments are plain numbers. tp_btf would load here too (it attaches without a
// trampoline), but before Linux 6.13 its verifier takes every argument for non-NULL and deletes the checks, and a NULL
// socket or segment is what tells a reset's cause.

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <stdbool.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

// The few fields that are read. CO-RE finds them by name in the running kernel, wherever they are.
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct net {
	__u64 net_cookie;
};

struct net_of {
	struct net *net;
};

struct counter64 {
	__s64 counter;
};

struct sock_common {
	__be32 skc_daddr, skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	unsigned char skc_state;
	struct net_of skc_net;
	struct in6_addr skc_v6_daddr, skc_v6_rcv_saddr; // with CONFIG_IPV6
	struct counter64 skc_cookie;
};

struct socket;

struct sock {
	struct sock_common __sk_common;
	struct socket *sk_socket;
	__u16 sk_protocol;
};

struct inet_sock {
	__be16 inet_sport;
};

struct net_device {
	struct net_of nd_net;
};

struct dst_entry {
	struct net_device *dev;
};

struct sk_buff {
	struct sock *sk;
	struct net_device *dev;
	char cb[48];
	unsigned long _skb_refdst;
	__be16 protocol;
	__u16 network_header;
	unsigned char *head;
};

struct tcp_skb_cb {
	__u32 seq;
};

struct ns_common {
	unsigned int inum;
};

struct pid_namespace {
	struct ns_common ns;
};

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	struct upid numbers[1];
};

struct task_struct {
	struct task_struct *group_leader;
	struct pid *thread_pid;
};

#pragma clang attribute pop

// The uapi headers have neither.
enum { FAMILY_INET = 2, FAMILY_INET6 = 10 };
enum { STATE_TIME_WAIT = 6, STATE_NEW_SYN_RECV = 12 };

// The numbers are those of the Kinds in event.go.
enum kind {
	RESET_SENT = 1,
	RESET_RECEIVED,
	RETRANSMIT,
	SYNACK_RETRANSMIT,
	STATE_CHANGE,
	DROP,
};

enum { STACK_DEPTH = 16 };

enum bits {
	HAS_SOCKET = 1,
	HAS_SEGMENT = 2, // flags, seq and ack are a segment's
	ORPHAN = 4,
	SOFTIRQ = 8,
};

struct event {
	__u64 time;
	__u64 cookie; // of the socket; 0 if nobody has asked for it yet
	__u32 watch;
	__u32 pid, tid;
	__u32 reason;
	__u32 seq, ack;
	__u8 src[16], dst[16];
	__u16 src_port, dst_port;
	__u16 family;
	__u8 kind, state, old_state, flags, bits;
	__u8 pad; // named, since the verifier of older kernels wants all that is sent to have been written
	__u32 stack; // its number in stacks, and 1; 0: none was taken
};

const struct event *to_bpf2go __attribute__((unused)); // types that no variable has are left out of the BTF

// Set before the programs are loaded.
const volatile bool clock_is_tai = false;     // bpf_ktime_get_tai_ns is there (Linux 6.1)
const volatile __u32 send_reset_args = 0;     // 2: sk, skb; 3: and the reason (Linux 6.10)
const volatile __u32 kfree_skb_args = 0;      // 2: skb, location; 3: and the reason (5.17); 4: and the socket (6.11)
const volatile __u64 pidns_dev = 0, pidns_ino = 0; // the PID namespace that pid and tid are of
const volatile __u64 wake_at = 0;             // the reader is woken when that many bytes are in the ring
const volatile bool with_stacks = false;      // of sockets that are aborted and that no process has

struct watch {
	__u32 id;
	__u32 pad;
	__u64 lost; // events that found the ring full
};

// By the cookie of the network namespace.
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct watch);
} watches SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20); // set anew by Open
} events SEC(".maps");

// Each different stack once. Of two that want the same place the second is not taken.
struct {
	__uint(type, BPF_MAP_TYPE_STACK_TRACE);
	__uint(max_entries, 256);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, STACK_DEPTH * sizeof(__u64));
} stacks SEC(".maps");

// The thread that this CPU's softirq interrupts, and 1; 0: it runs none. On loopback softirqs run inline at the end of a
// system call, so that the current thread says nothing; and the kernel's own word, the preemption count, is a per-CPU
// variable that only kernels with CONFIG_KALLSYMS_ALL show to programs.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} interrupted SEC(".maps");

SEC("raw_tp/softirq_entry")
int enter_softirq(void *ctx)
{
	__u32 zero = 0, *thread = bpf_map_lookup_elem(&interrupted, &zero);

	if (thread)
		*thread = (__u32)bpf_get_current_pid_tgid() + 1;
	return 0;
}

SEC("raw_tp/softirq_exit")
int exit_softirq(void *ctx)
{
	__u32 zero = 0, *thread = bpf_map_lookup_elem(&interrupted, &zero);

	if (thread)
		*thread = 0;
	return 0;
}

// The idle thread makes no system calls, and a softirq stays with the thread that it interrupts: that holds even where an
// entry or an exit was not traced.
static __always_inline bool is_softirq(void)
{
	__u32 zero = 0, *thread = bpf_map_lookup_elem(&interrupted, &zero);
	__u32 current = bpf_get_current_pid_tgid();

	return !current || (thread && *thread == current + 1);
}

// A read through a NULL pointer gives 0, here and below, and no namespace has the cookie 0.
static __always_inline struct watch *watch_of(struct net *net)
{
	__u64 cookie = BPF_CORE_READ(net, net_cookie);

	return bpf_map_lookup_elem(&watches, &cookie);
}

static __always_inline struct net *net_of_sk(struct sock *sk)
{
	return BPF_CORE_READ(sk, __sk_common.skc_net.net);
}

// A segment without a socket is of the namespace of its device, or of its route's.
static __always_inline struct net *net_of_skb(struct sk_buff *skb)
{
	struct net *net = BPF_CORE_READ(skb, dev, nd_net.net);
	struct dst_entry *dst;

	if (net)
		return net;
	dst = (void *)(BPF_CORE_READ(skb, _skb_refdst) & ~1UL); // bit 0 is SKB_DST_NOREF
	return BPF_CORE_READ(dst, dev, nd_net.net);
}

// Requests and sockets in TIME_WAIT are no more than a sock_common.
static __always_inline bool is_full(__u8 state)
{
	return state != STATE_TIME_WAIT && state != STATE_NEW_SYN_RECV;
}

// Begins an event of sk, which may be NULL, and returns the watch that it is for. What is of an unwatched namespace costs
// no more than finding that out: this comes first, and the event, of 88 bytes, is cleared after it.
static __always_inline struct watch *begin(struct event *e, enum kind kind, struct net *net, struct sock *sk)
{
	struct watch *w = watch_of(net);

	if (!w)
		return NULL;
	__builtin_memset(e, 0, sizeof(*e));
	e->watch = w->id;
	e->kind = kind;
	if (!sk)
		return w;
	e->bits = HAS_SOCKET;
	e->state = BPF_CORE_READ(sk, __sk_common.skc_state);
	e->cookie = BPF_CORE_READ(sk, __sk_common.skc_cookie.counter);
	if (is_full(e->state) && !BPF_CORE_READ(sk, sk_socket))
		e->bits |= ORPHAN;
	return w;
}

// Where sk, of that state, is the sender, or with from_peer the receiver.
static __always_inline void put_ends(struct event *e, struct sock *sk, __u8 state, bool from_peer)
{
	void *own = from_peer ? e->dst : e->src, *peer = from_peer ? e->src : e->dst;
	__u16 peer_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	__u16 own_port;

	// A client's skc_num is 0 by the time that its change to CLOSE is traced (inet_put_port).
	if (is_full(state))
		own_port = bpf_ntohs(BPF_CORE_READ((struct inet_sock *)sk, inet_sport));
	else
		own_port = BPF_CORE_READ(sk, __sk_common.skc_num);
	e->src_port = from_peer ? peer_port : own_port;
	e->dst_port = from_peer ? own_port : peer_port;
	e->family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if (e->family == FAMILY_INET) {
		bpf_core_read(own, 4, &sk->__sk_common.skc_rcv_saddr);
		bpf_core_read(peer, 4, &sk->__sk_common.skc_daddr);
	} else if (bpf_core_field_exists(sk->__sk_common.skc_v6_daddr)) {
		bpf_core_read(own, 16, &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_core_read(peer, 16, &sk->__sk_common.skc_v6_daddr);
	}
}

// Tells whether the segment has a TCP header that could be read.
static __always_inline bool put_segment(struct event *e, struct sk_buff *skb)
{
	unsigned char *at = BPF_CORE_READ(skb, head) + BPF_CORE_READ(skb, network_header);
	__u16 protocol = BPF_CORE_READ(skb, protocol);
	struct tcphdr tcp;

	if (protocol == bpf_htons(ETH_P_IP)) {
		struct iphdr ip;

		if (bpf_probe_read_kernel(&ip, sizeof(ip), at) || ip.protocol != IPPROTO_TCP ||
		    ip.frag_off & bpf_htons(0x1fff)) // not the first fragment
			return false;
		e->family = FAMILY_INET;
		__builtin_memcpy(e->src, &ip.saddr, 4);
		__builtin_memcpy(e->dst, &ip.daddr, 4);
		at += ip.ihl * 4;
	} else if (protocol == bpf_htons(ETH_P_IPV6)) {
		struct ipv6hdr ip;

		if (bpf_probe_read_kernel(&ip, sizeof(ip), at) || ip.nexthdr != IPPROTO_TCP)
			return false;
		e->family = FAMILY_INET6;
		__builtin_memcpy(e->src, &ip.saddr, 16);
		__builtin_memcpy(e->dst, &ip.daddr, 16);
		at += sizeof(ip);
	} else {
		return false;
	}
	if (bpf_probe_read_kernel(&tcp, sizeof(tcp), at))
		return false;
	e->src_port = bpf_ntohs(tcp.source);
	e->dst_port = bpf_ntohs(tcp.dest);
	e->seq = bpf_ntohl(tcp.seq);
	e->ack = bpf_ntohl(tcp.ack_seq);
	e->flags = ((__u8 *)&tcp)[13];
	e->bits |= HAS_SEGMENT;
	return true;
}

enum { PID_NAMESPACES = 32 }; // MAX_PID_NS_LEVEL, below the first

// The number of a thread, or of the process that it leads, at a level of its PID namespaces.
static __always_inline struct upid number_at(struct pid *pid, __u32 level)
{
	struct upid number = {};

	// The array has as many elements as there are levels, whatever length its type has, so CO-RE finds its beginning alone.
	bpf_probe_read_kernel(&number, sizeof(number), (void *)&pid->numbers + level * sizeof(number));
	return number;
}

// The helper knows a thread only where ours is the PID namespace that the thread is in. One in a namespace below ours, as of a
// sandbox or a container, has a number in ours too. Zeros: ours does not show it.
static __always_inline void put_thread(struct event *e)
{
	struct bpf_pidns_info thread = {};
	struct task_struct *task;
	struct pid *pid;
	__u32 deepest, level;

	if (!bpf_get_ns_current_pid_tgid(pidns_dev, pidns_ino, &thread, sizeof(thread))) {
		e->pid = thread.tgid;
		e->tid = thread.pid;
		return;
	}
	task = (void *)bpf_get_current_task();
	pid = BPF_CORE_READ(task, thread_pid);
	deepest = BPF_CORE_READ(pid, level);
	for (level = 0; level < PID_NAMESPACES && level < deepest; level++) {
		struct upid number = number_at(pid, level);

		if (BPF_CORE_READ(number.ns, ns.inum) != (__u32)pidns_ino)
			continue;
		e->tid = number.nr;
		e->pid = number_at(BPF_CORE_READ(task, group_leader, thread_pid), level).nr;
		return;
	}
}

static __always_inline int emit(struct watch *w, struct event *e)
{
	__u64 wake = BPF_RB_NO_WAKEUP;

	e->time = clock_is_tai ? bpf_ktime_get_tai_ns() : bpf_ktime_get_ns();
	if (is_softirq())
		e->bits |= SOFTIRQ;
	put_thread(e);
	// The ring is read when a watch stops; the reader is woken before that only lest it overflow. It may be the last event
	// for long, so it counts, too.
	if (bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) + BPF_RINGBUF_HDR_SZ + sizeof(*e) > wake_at)
		wake = BPF_RB_FORCE_WAKEUP;
	// Not reserve and submit: a reader has to wait for what is reserved, and this keeps that time short.
	if (bpf_ringbuf_output(&events, e, sizeof(*e), wake))
		__sync_fetch_and_add(&w->lost, 1);
	return 0;
}

SEC("raw_tp/tcp_send_reset")
int send_reset(struct bpf_raw_tracepoint_args *ctx)
{
	struct sock *sk = (void *)ctx->args[0];
	struct sk_buff *skb = (void *)ctx->args[1]; // what is answered; NULL: the socket is aborted
	struct event e;
	struct watch *w = begin(&e, RESET_SENT, sk ? net_of_sk(sk) : net_of_skb(skb), sk);

	if (!w)
		return 0;
	if (send_reset_args >= 3)
		e.reason = ctx->args[2];
	if (skb) {
		struct event in = {};

		// The reset goes the other way. Its socket may be a listener, which has no peer.
		put_segment(&in, skb);
		__builtin_memcpy(e.src, in.dst, 16);
		__builtin_memcpy(e.dst, in.src, 16);
		e.src_port = in.dst_port;
		e.dst_port = in.src_port;
		e.family = in.family;
		e.seq = in.seq;
		e.ack = in.ack;
		e.flags = in.flags;
		e.bits |= in.bits;
	} else {
		put_ends(&e, sk, e.state, false);
		if (with_stacks && e.bits & ORPHAN) {
			long id = bpf_get_stackid(ctx, &stacks, 0);

			if (id >= 0)
				e.stack = id + 1;
		}
	}
	return emit(w, &e);
}

SEC("raw_tp/tcp_receive_reset")
int receive_reset(struct bpf_raw_tracepoint_args *ctx)
{
	struct sock *sk = (void *)ctx->args[0];
	struct event e;
	struct watch *w = begin(&e, RESET_RECEIVED, net_of_sk(sk), sk);

	if (!w)
		return 0;
	put_ends(&e, sk, e.state, true);
	return emit(w, &e);
}

SEC("raw_tp/tcp_retransmit_skb")
int retransmit(struct bpf_raw_tracepoint_args *ctx)
{
	struct sock *sk = (void *)ctx->args[0];
	struct sk_buff *skb = (void *)ctx->args[1]; // has no headers yet
	struct tcp_skb_cb *cb = (void *)skb->cb;
	struct event e;
	struct watch *w = begin(&e, RETRANSMIT, net_of_sk(sk), sk);

	if (!w)
		return 0;
	put_ends(&e, sk, e.state, false);
	e.seq = BPF_CORE_READ(cb, seq);
	return emit(w, &e);
}

SEC("raw_tp/tcp_retransmit_synack")
int retransmit_synack(struct bpf_raw_tracepoint_args *ctx)
{
	struct sock *sk = (void *)ctx->args[0], *req = (void *)ctx->args[1];
	struct event e;
	struct watch *w = begin(&e, SYNACK_RETRANSMIT, net_of_sk(sk), sk);

	if (!w)
		return 0;
	put_ends(&e, req, STATE_NEW_SYN_RECV, false);
	return emit(w, &e);
}

SEC("raw_tp/inet_sock_set_state")
int set_state(struct bpf_raw_tracepoint_args *ctx)
{
	struct sock *sk = (void *)ctx->args[0];
	struct event e;
	struct watch *w = begin(&e, STATE_CHANGE, net_of_sk(sk), sk);

	if (!w || BPF_CORE_READ(sk, sk_protocol) != IPPROTO_TCP)
		return 0;
	put_ends(&e, sk, e.state, false);
	e.old_state = ctx->args[1];
	e.state = ctx->args[2]; // the socket still has the old one
	return emit(w, &e);
}

SEC("raw_tp/kfree_skb")
int drop(struct bpf_raw_tracepoint_args *ctx)
{
	struct sk_buff *skb = (void *)ctx->args[0];
	__u16 protocol = BPF_CORE_READ(skb, protocol);
	struct sock *sk = NULL;
	struct event e;
	struct watch *w;

	// All that is dropped on the host passes here, and this is one field to read where the namespace is up to five.
	if (protocol != bpf_htons(ETH_P_IP) && protocol != bpf_htons(ETH_P_IPV6))
		return 0;
	if (kfree_skb_args >= 4)
		sk = (void *)ctx->args[3]; // by now the segment may know neither its device nor its route
	if (!sk)
		sk = BPF_CORE_READ(skb, sk);
	w = begin(&e, DROP, sk ? net_of_sk(sk) : net_of_skb(skb), sk);
	if (!w || !put_segment(&e, skb))
		return 0;
	if (kfree_skb_args >= 3)
		e.reason = ctx->args[2];
	return emit(w, &e);
}

char _license[] SEC("license") = "Dual MIT/GPL";
