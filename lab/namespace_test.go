package lab_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/kernel"
	"github.com/rpmig/rpmig/lab"
	"github.com/rpmig/rpmig/netns"
	"github.com/rpmig/rpmig/result"
)

// TestNamespaceOfAFailure: what goes wrong is told of in any case, and what passes costs nothing.
func TestNamespaceOfAFailure(t *testing.T) {
	lab.NeedNamespace(t)
	off, sysctl, quiz2 := modes(t, "off")[0], modes(t, "sysctl")[0], scenario(t, "quiz2")
	family := lab.Families()[0]
	if c := lab.PlayOne(t, quiz2, family, off, 1); c.Status != result.Pass || c.Namespace != nil {
		t.Errorf("%s: noted %+v", c.Status, c.Namespace)
	}
	fail := lab.PlayOne(t, quiz2, family, sysctl, 1, lab.KernelOf(off))
	if n := fail.Namespace; fail.Status != result.Fail || n == nil || len(n.Rules) != 1 || n.Sysctls[netns.MigrateReq] != "0" || len(n.Counters) == 0 {
		t.Errorf("%s: noted %+v", fail.Status, n)
	}
	bad := quiz2
	bad.Play = func(l *lab.Lab) { l.DropACKs(); panic("oh") }
	if c := lab.PlayOne(t, bad, family, off, 1); c.Status != result.Error || c.Namespace == nil || len(c.Namespace.Sysctls) == 0 {
		t.Errorf("%s: noted %+v", c.Status, c.Namespace)
	}
}

// TestListening: what the listeners' own descriptors tell is what sock_diag lists, with a queue and without, and when one
// has been shut down or closed.
func TestListening(t *testing.T) {
	lab.NeedNamespace(t)
	s := scenario(t, "quiz1")
	for _, f := range lab.Families() {
		var diffs []string
		s.Play = func(l *lab.Lab) {
			compare := func(want int) {
				own, listed := lab.Listening(l)
				byInode := func(a, b kernel.Socket) int { return cmp.Compare(a.Inode, b.Inode) }
				slices.SortFunc(own, byInode)
				slices.SortFunc(listed, byInode)
				if !slices.Equal(own, listed) || len(own) != want {
					diffs = append(diffs, fmt.Sprintf("%d listeners:\n%+v\n%+v", want, own, listed))
				}
			}
			compare(0)
			a, b, c := l.Listen("A"), l.Listen("B"), l.Listen("C", lab.Backlog(7))
			l.Connect()
			compare(3)
			b.Shutdown(unix.SHUT_RD)
			c.Close()
			compare(1)
			b.Relisten()
			compare(2)
			a.AcceptAll()
			b.AcceptAll()
		}
		lab.PlayOne(t, s, f, modes(t, "sysctl")[0], 3)
		if diffs != nil {
			t.Errorf("%s: %s", f.Name, strings.Join(diffs, "\n"))
		}
	}
}
