//go:build linux

package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rpmig/rpmig/result"
	"github.com/rpmig/rpmig/scenarios"
	"github.com/rpmig/rpmig/vm"
)

// TestAsStarted: a command of rpmig's gets the name by which that was started, and nothing else does.
func TestAsStarted(t *testing.T) {
	for _, c := range []struct{ arg0, text, want string }{
		{"bin/rpmig", "rpmig list", "bin/rpmig list"},
		{"/opt/x y/rpmig", "see (rpmig explain quiz1), or: rpmig --help", "see ('/opt/x y/rpmig' explain quiz1), or: '/opt/x y/rpmig' --help"},
		{"rpmig", "rpmig list", "rpmig list"},
		{"", "rpmig list", "rpmig list"},
		{"./it's", "rpmig run all", `'./it'\''s' run all`},
		{"./rpmig", "run it as root: sudo rpmig …; or in a container", "run it as root: sudo ./rpmig run 'q*' --migrate=bpf; or in a container"},
		{"rpmig", "sudo rpmig …", "sudo rpmig run 'q*' --migrate=bpf"},
		// What is no command of it.
		{"./rpmig", "rpmig is about TCP only; this rpmig boots kernels", "rpmig is about TCP only; this rpmig boots kernels"},
		{"./rpmig", "rpmig report rpmig --format=html", "./rpmig report rpmig --format=html"},
		{"./rpmig", "rpmig report 'my rpmig run'", "./rpmig report 'my rpmig run'"},
		{"./rpmig", `rpmig report 'it'\''s my rpmig run'; rpmig list`, `./rpmig report 'it'\''s my rpmig run'; ./rpmig list`},
		{"./rpmig", `rpmig report $'a\x0a rpmig run'`, `./rpmig report $'a\x0a rpmig run'`},
		{"./rpmig", "a server's files: rpmig list; the servers' names: rpmig run all", "a server's files: ./rpmig list; the servers' names: ./rpmig run all"},
		{"./rpmig", "/home/rpmig run", "/home/rpmig run"},
	} {
		e := &env{arg0: c.arg0, args: []string{"run", "q*", "--migrate=bpf"}}
		if got := e.asStarted(c.text); got != c.want {
			t.Errorf("as %q, %q: got %q, want %q", c.arg0, c.text, got, c.want)
		}
	}
	// In a guest it is the host's rpmig that is meant, which knows its own name.
	if e := (&env{arg0: "./rpmig", home: &vm.Home{}}); e.asStarted("rpmig list; sudo rpmig …") != "rpmig list; sudo rpmig …" {
		t.Error("in a guest: changed")
	}
}

// TestPastedAsRoot: what another user is told to type can be pasted, with another program in the place of sudo.
func TestPastedAsRoot(t *testing.T) {
	t.Parallel()
	needRoot(t)
	needPlay(t)
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(filepath.Dir(dir), 0o755), os.Symlink(rpmigPath(t), filepath.Join(dir, "rpmig"))); err != nil {
		t.Fatal(err)
	}
	asNobody := exec.Command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "./rpmig", "run", "quiz[1]", "--migrate=bpf", "--trace=on")
	asNobody.Dir = dir
	out, err := asNobody.CombinedOutput()
	if err == nil {
		t.Fatalf("it was allowed:\n%s", out)
	}
	_, hint, told := strings.Cut(string(out), "\nrpmig: hint: run it as root: sudo ")
	command, _, _ := strings.Cut(hint, ";")
	if !told {
		t.Fatalf("no such hint:\n%s", out)
	}
	pasted := exec.Command("sh", "-c", command)
	pasted.Dir = dir
	if out, err := pasted.CombinedOutput(); err != nil || !strings.Contains(string(out), " PASS") {
		t.Errorf("%s: %v\n%s", command, err, out)
	}
}

// TestDidYouMean: whatever takes one of a list asks whether the word was meant that is most like what was typed, and only then.
func TestDidYouMean(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Chdir(t.TempDir())
	for _, c := range []struct{ args, meant string }{
		{"rnu quiz1", "run"}, {"help rnu", "run"}, {"x", ""},
		{"run quiz9", "quiz1"}, {"explain qiuz2", "quiz2"}, {"run x", ""},
		{"run quiz1 --migrat=off", "--migrate"}, {"doctor --jsn", "--json"}, {"doctor --x", ""},
		{"run quiz1 --migrate=syctl", "sysctl"}, {"run quiz1 --migrate=off,bfp", "bpf"}, {"run quiz1 --migrate=Off", "off"},
		{"run quiz1 --migrate=x", ""}, {"run quiz1 --migrate=", ""},
		{"run quiz1 --family=ipv5", "ipv4"}, {"run quiz1 --family=al", "all"}, {"run quiz1 --family=unix", ""},
		{"run quiz1 --trace=tracfs", "tracefs"}, {"run quiz1 --trace=x", ""},
		{"run quiz1 --drop=iptable", "iptables"}, {"run quiz1 --drop=x", ""},
		{"run quiz1 --out=DIR --packets=los", "lost"}, {"run quiz1 --out=DIR --packets=some", ""},
		{"run quiz1 --format=juint", "junit"}, {"run quiz1 --format=pdf", ""}, {"report DIR --format=juint", "junit"},
		{"compare A B --format=markdwn", "markdown"}, {"compare A B --format=ktap", ""},
		{"run quiz1 --shard=atuo", "auto"}, {"run quiz1 --shard=atuo/3", "auto"}, {"run quiz1 --shard=1", ""},
		{"run quiz1 --kernel=hots", "host"}, {"run quiz1 --kernel=debain:6.1", "debian:6.1"}, {"run quiz1 --kernel=./vmlinuz", ""},
		{"doctor --kernel=hst", "host"}, {"kernels --fetch hots", "host"}, {"kernels --fetch old.deb", ""},
		{"run quiz1 --kernel=host --accel=kmv", "kvm"}, {"run quiz1 --kernel=host --accel=x", ""},
		{"run quiz1 --kernel=host --time=rael", "real"}, {"run quiz1 --kernel=host --time=x", ""},
		{"completion bsh", "bash"}, {"completion", ""},
		{"reload --reload signal:HPU -- x", "HUP"}, {"reload --reload signal:sigtrem -- x", "TERM"}, {"reload --reload signal:NOSUCH -- x", ""},
		{"reload --reload rolling --stop=QIUT -- x", "QUIT"}, {"reload --reload rolling --migrate=bpf-drian -- x", "bpf-drain"},
		{"reload --reload rolling --judge=syctl -- x", "sysctl"}, {"reload --reload rolling --trace=onn -- x", "on"},
		{"reload --reload rolling --format=juint -- x", "junit"},
	} {
		var stdout, stderr bytes.Buffer
		status := run(t.Context(), env{args: strings.Fields(c.args), stdout: &stdout, stderr: &stderr, scenarios: scenarios.All()})
		if status != result.ExitUsage || stdout.Len() > 0 {
			t.Errorf("%s: status %d, printed %q", c.args, status, &stdout)
		}
		want := "rpmig: hint: did you mean " + c.meant + "? "
		if asked := strings.Contains(stderr.String(), "did you mean"); asked != (c.meant != "") || asked && !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: want %q, got\n%s", c.args, c.meant, &stderr)
		}
	}
}
