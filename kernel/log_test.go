package kernel

import (
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSplats: only the kernel's reports about itself count, and of these only those that name a function in question.
func TestSplats(t *testing.T) {
	atomic := []string{
		"3,9001,6720840105,-;BUG: sleeping function called from invalid context at net/ipv4/inet_connection_sock.c:1458",
		"3,9002,6720840106,-;in_atomic(): 0, irqs_disabled(): 0, non_block: 0, pid: 4615, name: rpmig",
		"4,9003,6720840107,-;Call Trace:", "4,9004,6720840108,-; <TASK>",
		"4,9005,6720840109,-; __might_resched+0x1a2/0x2b0", "4,9006,6720840110,-; inet_csk_listen_stop+0x5b/0x4a0",
		"4,9007,6720840111,-; tcp_abort+0x1f6/0x2a0", "4,9008,6720840112,-; bpf_sock_destroy+0x3a/0x50",
		"4,9009,6720840113,-; </TASK>",
	}
	warning := []string{
		"4,9010,6720840120,-;------------[ cut here ]------------",
		"4,9011,6720840121,-;WARNING: CPU: 0 PID: 4615 at net/ipv4/inet_connection_sock.c:1031 inet_csk_listen_stop+0x8e8/0xad0",
		"4,9012,6720840122,-;---[ end trace 0000000000000000 ]---",
	}
	other := []string{
		"4,9013,6720840130,-;WARNING: CPU: 1 PID: 12 at fs/inode.c:417 drop_nlink+0x3f/0x50",
		"4,9014,6720840131,-;Call Trace:", "4,9015,6720840132,-; <TASK>", "4,9016,6720840133,-; drop_nlink+0x3f/0x50",
		"4,9017,6720840134,-; </TASK>",
	}
	const bug = "BUG: sleeping function called from invalid context at net/ipv4/inet_connection_sock.c:1458"
	const warned = "WARNING: CPU: 0 PID: 4615 at net/ipv4/inet_connection_sock.c:1031 inet_csk_listen_stop+0x8e8/0xad0"
	written := slices.Clone(atomic) // by a process, which has facility 1
	for i, r := range written {
		written[i] = "12" + r[1:]
	}
	for _, tt := range []struct {
		name    string
		records []string
		want    []string
	}{
		{"nothing", nil, nil},
		{"a BUG in it", atomic, []string{bug}},
		{"a WARNING in it", warning, []string{warned}},
		{"one beside another", slices.Concat(other, atomic, other, warning), []string{bug, warned}},
		{"a trace without a title", atomic[2:], []string{"Call Trace:"}},
		{"no trace", atomic[:3], nil},
		{"a report that has no end", atomic[:6], []string{bug}},
		{"a WARNING in something else", other, nil},
		{"the function's name outside of a report", slices.Concat(other, atomic[5:8]), nil},
		{"a process that writes it", written, nil},
		{"a line that goes on", []string{"6,1,2,-;usb 1-1: new\n SUBSYSTEM=BUG: bpf_sock_destroy"}, nil},
		{"no records", []string{"", ";", "x;BUG: bpf_sock_destroy", "BUG: bpf_sock_destroy"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := splats(tt.records, []string{"inet_csk_listen_stop", "bpf_sock_destroy"}); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestLog: records are read one by one to the last, and not twice.
func TestLog(t *testing.T) {
	var fds [2]int
	// Each write is read apart, as each record of /dev/kmsg is.
	if err := unix.Pipe2(fds[:], unix.O_DIRECT|unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[1])
	l := &Log{fd: fds[0]}
	defer l.Close()
	for _, r := range []string{"4,1,2,-;WARNING: at bpf_sock_destroy+0x1/0x2", "4,2,3,-;---[ end trace 0 ]---"} {
		if _, err := unix.Write(fds[1], []byte(r)); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []int{1, 0} {
		if got, err := l.Splats("bpf_sock_destroy"); err != nil || len(got) != want {
			t.Errorf("%q, %v; want %d", got, err, want)
		}
	}
}

// TestOpenLog: the log itself can be read from its end on, without waiting for what comes.
func TestOpenLog(t *testing.T) {
	l, err := OpenLog()
	if err != nil {
		t.Skip(err)
	}
	defer l.Close()
	if got, err := l.Splats("+0x"); err != nil || got != nil {
		t.Errorf("%q, %v", got, err)
	}
}
