package scenarios

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/verdict"
)

// fastOpenSysctls switch TCP Fast Open on for clients and servers, both without a cookie (ip-sysctl.rst). The kernel's
// selftest sets the same.
var fastOpenSysctls = []lab.Sysctl{
	{Name: "net.ipv4.tcp_fastopen", Value: fmt.Sprint(0x1 | 0x2 | 0x4 | 0x200)},
	{Name: "net.ipv4.tcp_fastopen_blackhole_timeout_sec", Value: "0"},
}

// fastOpen lets a listener have that many connections whose handshake is not complete.
func fastOpen(pending int) lab.ListenOption {
	return lab.SockOpt(unix.IPPROTO_TCP, unix.TCP_FASTOPEN, pending)
}

// migratesChildren is migrates for TCP Fast Open children. A lost one is reset in SYN_RECV, which EstabResets does not
// count: it counts the client's socket alone.
var migratesChildren = migrates(result.RSTACK, 1)

var fastopen = lab.Scenario{
	Name:        "fastopen",
	Section:     lab.SectionWhere,
	Connections: 25,
	Sysctls:     fastOpenSysctls,
	Doc: `TCP Fast Open: accepted, and still in the handshake

With TCP Fast Open the data come with the SYN, and the connection is in the
accept queue before its handshake is complete: a full socket, in SYN_RECV. A
rule drops the final ACKs, and A closes. Without migration
inet_csk_listen_stop resets the children. With migration it moves them to B,
which accepts them and reads their data while they are still in SYN_RECV. Then
the rule is removed, the client's next segment brings the ACK, and the
handshake is complete.`,
	Path: "inet_csk_listen_stop → reuseport_migrate_sock, child in SYN_RECV",
	Play: func(l *lab.Lab) {
		a := l.Listen("A", fastOpen(l.Connections()))
		l.DropACKs()
		l.ConnectFast()
		b := l.Listen("B", fastOpen(l.Connections()))
		l.AssertChildren(a)
		a.Close()
		b.AcceptAll()
		l.Fact("in SYN_RECV when accepted", l.Share(l.Requests()))
		l.Fact("of SYN_RECV, the program was asked about", l.Share(int(l.Program().Asked().SYNRecv)))
		l.StopDropping()
		l.SendAgain()
		l.AwaitRequests(0)
		l.Fact("established in the end", l.Share(l.Children()))
	},
	Expect: func(m lab.Mode) verdict.Expectation {
		e := migratesChildren(m)
		e.Counted["TCPFastOpenPassive"] = 1
		e.Facts = map[string]any{
			"in SYN_RECV when accepted":                allIf(e.Lives),
			"of SYN_RECV, the program was asked about": allIf(e.Asked > 0),
			"established in the end":                   allIf(e.Lives),
		}
		return e
	},
}
