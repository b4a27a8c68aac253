package bundle

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/reports"
	"github.com/rpmig/rpmig/result"
)

// source is a run of two cells, of which one failed, in a folder.
func source(t testing.TB) Source { return sourceIn(t, t.TempDir()) }

func sourceIn(t testing.TB, dir string) Source {
	t.Helper()
	reset := result.Reset{
		Time: 0.2, Frame: 6, From: netip.MustParseAddrPort("127.0.0.1:80"), To: netip.MustParseAddrPort("127.0.0.1:4000"),
		Flavour: result.BareRST, Step: 1, Reason: "TCP_FLAGS", State: "LISTEN", Owner: result.SurvivingListener,
	}
	run := &result.Run{
		Header: result.Header{
			Schema: result.Schema, Version: "v1.2.3", Kernel: "6.18.44-zeus", Machine: "x86_64", Cells: 2,
			Command: []string{"run", "quiz2", "-n", "1", "--out", "/home/jane/secret plans", "--migrate=off,sysctl", "--drop=nftables"},
			Guest:   &result.Guest{Name: "mine", From: "/home/jane/linux/bzImage", Emulator: "QEMU 7.2.22", Accelerator: "tcg", Memory: 768, CPUs: 1, Virtual: true},
		},
		Ending: &result.Ending{Why: "the guest was lost", Console: []string{"zeus login: jane", "RSP: 0018:ffffc9000025be08"}},
		Cells: []result.Cell{{
			Scenario: "quiz2", Family: "ipv4", Mode: "sysctl", Repeat: 1, Status: result.Fail, Control: result.Controlled,
			Reason:      "zeus has no mercy: /home/jane/x says so to 10.1.2.3",
			Connections: result.Connections{Staged: 1, Lost: 1}, Resets: []result.Reset{reset},
			Checks:  []result.Check{{Name: "accepted", Witness: result.Application, Want: "1", Got: "0 <b>"}},
			Steps:   []result.Step{{Name: "close A", At: 0.1}},
			Flow:    []result.Segment{{Time: 0.2, Frame: 6, Role: result.RoleReset, Text: "R seq 1"}},
			Capture: result.Capture{Packets: 6},
		}, {
			Scenario: "quiz2", Family: "ipv4", Mode: "off", Repeat: 1, Status: result.Pass, Control: result.IsControl,
			Reason: "lost, as expected", Connections: result.Connections{Staged: 1, Lost: 1}, Resets: []result.Reset{reset},
			Capture: result.Capture{Packets: 6},
		}},
	}
	run.Cells[1].Resets = []result.Reset{reset}
	run.Cells[1].Resets[0].To = netip.MustParseAddrPort("127.0.0.1:4001")
	run.Cells[0].Client = reset.To
	for i := range run.Cells {
		c := &run.Cells[i]
		c.Capture.File = "cells/" + c.ID() + "/capture.pcapng"
		folder := filepath.Join(dir, "cells", c.ID())
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		write := func(name, text string) {
			if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		write(captureFile, captureOf(t, c, uint16(4000+i), 6))
		c.Namespace = &result.Namespace{
			Sysctls: map[string]string{"net.ipv4.tcp_migrate_req": "1"}, Rules: []string{"ip filter INPUT: counter packets 2 bytes 115 drop"},
			Counters: map[string][2]int64{"Tcp.OutRsts": {0, 1}}, Unknown: []string{"/home/jane/x: denied"},
		}
		if i == 0 {
			write(panicFile, "goroutine 1 [running]: /home/jane/go/x.go:12 on zeus")
		}
	}
	if err := os.WriteFile(filepath.Join(dir, consoleFile), []byte("Linux version 6.18.44-zeus (jane@zeus)\nzeus login: "), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"select.bpf.c": "int choose_listener;\n", "select.bpf.o": "\x7fELF", "bpf.txt": "kernel: accepted\nr3 = 0xffffc9000625e008 on zeus\n",
		"notes of jane": "not the program's", "run.sh": "rm -r /",
	} {
		name = filepath.Join(dir, "bpf", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return Source{
		Files: root.FS(), Run: run, KernelConfig: []byte("CONFIG_DEFAULT_HOSTNAME=\"zeus\"\n"), Redact: true,
		Environment: reports.Environment{Release: "6.18.44-zeus", Machine: "x86_64", Tainted: "0", Rpmig: "v1.2.3", Go: "go1.26"},
		Identity:    Identity{Hosts: []string{"zeus.example.org"}, Users: []string{"jane"}, Homes: []string{"/home/jane"}},
	}
}

// TestGuest: what is known of a guest, and how it ended, is in the report and in the ledger.
func TestGuest(t *testing.T) {
	checked, err := Check(t.Context(), bytes.NewReader(pack(t, source(t))))
	if err != nil {
		t.Fatal(err)
	}
	run := checked.Run
	if run.Header.Guest == nil || run.Ending == nil || run.Header.Guest.From != "[home]" || run.Ending.Console[0] != "[host] login: [user]" {
		t.Errorf("got %+v, %+v", run.Header.Guest, run.Ending)
	}
	said := reports.Bundle(run, &reports.Environment{})
	for _, want := range []string{"How it ended", "the guest was lost", "[host] login: [user]", "QEMU 7.2.22, tcg, 768 MiB, 1 CPU", "virtual, counted in the guest's"} {
		if !strings.Contains(said, want) {
			t.Errorf("no %q in:\n%s", want, said)
		}
	}
}

func pack(t testing.TB, src Source) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Write(t.Context(), &b, src); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// member is a file of an archive as tests take it apart and put it together.
type member struct {
	h    tar.Header
	data []byte
}

func members(t testing.TB, bundle []byte) []member {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(bundle))
	if err != nil {
		t.Fatal(err)
	}
	var all []member
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, member{*h, data})
	}
}

func archive(t testing.TB, all []member) []byte {
	t.Helper()
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	w := tar.NewWriter(zip)
	for _, m := range all {
		if m.h.Typeflag == tar.TypeReg {
			m.h.Size = int64(len(m.data))
		}
		if err := w.WriteHeader(&m.h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(m.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), zip.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	dir := t.TempDir()
	src := sourceIn(t, dir)
	got := pack(t, src)
	if again := pack(t, src); !bytes.Equal(got, again) {
		t.Error("the same source gave other bytes")
	}
	checked, err := Check(t.Context(), bytes.NewReader(got))
	if err != nil {
		t.Fatal(err)
	}
	all := members(t, got)
	if checked.Files != len(all) || len(checked.Run.Cells) != 2 {
		t.Errorf("checked %d files and %d cells, want %d and 2", checked.Files, len(checked.Run.Cells), len(all))
	}
	if all[0].h.Name != reportName {
		t.Errorf("first is %s", all[0].h.Name)
	}
	report := string(all[0].data)
	for _, want := range []string{
		"tcp: SO_REUSEPORT migration on Linux 6.18.44-zeus: quiz2 ipv4 sysctl: FAIL, 0 of 1 lived\n",
		"\n  rpmig run quiz2 --family=ipv4 --migrate=sysctl -n 1 --drop=nftables\n",
		"want 1\n", "TCP_FLAGS", "surviving listener",
		"ip filter INPUT: counter packets 2", "net.ipv4.tcp_migrate_req=1",
	} {
		if !strings.Contains(report, want) {
			t.Errorf("the report lacks %q:\n%s", want, report)
		}
	}
	for _, m := range all {
		text := strings.ReplaceAll(string(m.data), "6.18.44-zeus", "")
		for _, secret := range []string{"zeus", "jane", "10.1.2.3", "c9000625e008", dir} {
			if strings.Contains(text, secret) {
				t.Errorf("%s tells %q:\n%s", m.h.Name, secret, text)
			}
		}
	}
	names := map[string]string{}
	for _, m := range all {
		names[m.h.Name] = string(m.data)
	}
	for name, want := range map[string]string{
		"bpf/select.bpf.c": "int choose_listener;\n", "bpf/select.bpf.o": "\x7fELF", "bpf/bpf.txt": "kernel: accepted\nr3 = 0x[kernel] on [host]\n",
		"cells/quiz2/ipv4/sysctl/1/panic.txt": "goroutine 1 [running]: [home]:12 on [host]",
	} {
		if names[name] != want {
			t.Errorf("%s holds %q, want %q", name, names[name], want)
		}
	}
	for name := range names {
		if strings.Contains(name, "jane") || strings.Contains(name, ".sh") {
			t.Errorf("it took %s", name)
		}
	}

	src.Redact = false
	if _, err := Check(t.Context(), bytes.NewReader(pack(t, src))); err != nil {
		t.Errorf("not redacted: %v", err)
	}
}

// TestStored: of cells that are in a file, some of which are redacted, there is the same bundle as of those in memory.
func TestStored(t *testing.T) {
	for _, redact := range []bool{false, true} {
		src := source(t)
		src.Redact = redact
		want := pack(t, src)
		var ledger bytes.Buffer
		w, err := result.NewWriter(&ledger, src.Run.Header)
		if err != nil {
			t.Fatal(err)
		}
		for i := range src.Run.Cells {
			if err := w.Write(&src.Run.Cells[i]); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.End(*src.Run.Ending); err != nil {
			t.Fatal(err)
		}
		if src.Run, err = result.ReadStored(bytes.NewReader(ledger.Bytes()), bytes.NewReader(ledger.Bytes()), 0); err != nil {
			t.Fatal(err)
		}
		got := pack(t, src)
		if !bytes.Equal(want, got) {
			t.Errorf("redact %v: another bundle of stored cells", redact)
		}
		if _, err := Check(t.Context(), bytes.NewReader(got)); err != nil {
			t.Errorf("redact %v: %v", redact, err)
		}
	}
}

// TestHostOfAModesName: a host that is called as a mode is takes no cell and no file with it.
func TestHostOfAModesName(t *testing.T) {
	src := source(t)
	src.Identity = Identity{Hosts: []string{"sysctl"}, Users: []string{"quiz2"}}
	if _, err := Check(t.Context(), bytes.NewReader(pack(t, src))); err != nil {
		t.Error(err)
	}
}

// A capture that is gone is said, not made up; and none is read from outside the folder.
func TestCaptureMissing(t *testing.T) {
	dir := t.TempDir()
	src := sourceIn(t, dir)
	name := filepath.Join(dir, "cells/quiz2/ipv4/off/1", captureFile)
	if err := errors.Join(os.Remove(name), os.Symlink("/etc/hostname", name)); err != nil {
		t.Fatal(err)
	}
	src.Run.Cells[0].Capture.File = "../../../../etc/passwd"
	src.Environment.LeftOut = []reports.LeftOut{{File: "cells/quiz2/ipv4/off/1/" + panicFile, Why: "it is a link"}}
	got := pack(t, src)
	checked, err := Check(t.Context(), bytes.NewReader(got))
	if err != nil {
		t.Fatal(err)
	}
	if w := checked.Without; len(w) != 1 || w[0].File != "cells/quiz2/ipv4/off/1/"+captureFile {
		t.Errorf("of what was left out, the captures are %v", w)
	}
	for _, m := range members(t, got) {
		if m.h.Name == "cells/quiz2/ipv4/off/1/"+captureFile {
			t.Error("the link was followed")
		}
		if m.h.Name == reportName && !strings.Contains(string(m.data), "Not here: cells/quiz2/ipv4/off/1/") {
			t.Errorf("not said:\n%s", m.data)
		}
	}
}

// withoutCaptures takes them out, and out of the manifest.
func withoutCaptures(all []member, m *manifest) []member {
	m.Files = slices.DeleteFunc(m.Files, func(f file) bool { return path.Base(f.Name) == captureFile })
	return slices.DeleteFunc(all, func(f member) bool { return path.Base(f.h.Name) == captureFile })
}

func TestCheckRefuses(t *testing.T) {
	good := pack(t, source(t))
	file := func(name, data string) member {
		return member{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, []byte(data)}
	}
	with := func(more ...member) []byte { return archive(t, append(members(t, good), more...)) }
	// changed changes a file, and the manifest with it, as somebody would who means harm.
	changed := func(name string, change func(string) string, honest bool) []byte {
		all := members(t, good)
		i := slices.IndexFunc(all, func(m member) bool { return m.h.Name == name })
		all[i].data = []byte(change(string(all[i].data)))
		if !honest {
			return archive(t, all)
		}
		last := &all[len(all)-1]
		var m manifest
		if err := json.Unmarshal(last.data, &m); err != nil {
			t.Fatal(err)
		}
		for j := range m.Files {
			if m.Files[j].Name == name {
				m.Files[j].Size, m.Files[j].SHA256 = int64(len(all[i].data)), sum(all[i].data)
			}
		}
		data, err := indented(m)
		if err != nil {
			t.Fatal(err)
		}
		last.data = data
		return archive(t, all)
	}
	// listedIn adds files that the manifest lists as it should.
	listedIn := func(bundle []byte, more ...member) []byte {
		all := members(t, bundle)
		last := all[len(all)-1]
		var m manifest
		if err := json.Unmarshal(last.data, &m); err != nil {
			t.Fatal(err)
		}
		for _, f := range more {
			m.Files = append(m.Files, struct {
				Name   string `json:"name"`
				Size   int64  `json:"size"`
				SHA256 string `json:"sha256"`
			}{f.h.Name, int64(len(f.data)), sum(f.data)})
		}
		var err error
		if last.data, err = indented(m); err != nil {
			t.Fatal(err)
		}
		return archive(t, append(append(all[:len(all)-1], more...), last))
	}
	listed := func(more ...member) []byte { return listedIn(good, more...) }
	// relisted changes the files, and what the manifest lists.
	relisted := func(edit func(all []member, m *manifest) []member) []byte {
		all := members(t, good)
		last := all[len(all)-1]
		var m manifest
		if err := json.Unmarshal(last.data, &m); err != nil {
			t.Fatal(err)
		}
		all = edit(all[:len(all)-1], &m)
		var err error
		if last.data, err = indented(m); err != nil {
			t.Fatal(err)
		}
		return archive(t, append(all, last))
	}
	without := func(name string) []byte {
		return archive(t, slices.DeleteFunc(members(t, good), func(m member) bool { return m.h.Name == name }))
	}
	onHost := source(t)
	onHost.Run.Header.Guest = nil
	evil := func(s string) string { return s + "<script>alert(1)</script>" }
	for _, tt := range []struct {
		name string
		data []byte
		want string
	}{
		{"nothing", nil, "not a bundle"},
		{"no gzip", []byte("PK\x03\x04 and so on"), "not a bundle"},
		{"no archive", packed(t, strings.NewReader("no archive at all, though it is packed")), "no tar file"},
		{"empty", archive(t, nil), "not a bundle"},
		{"absolute", with(file("/etc/cron.d/x", "")), "no name"},
		{"traversal", with(file("../x", "")), "no name"},
		{"hidden traversal", with(file("cells/../../x", "")), "no name"},
		{"backslash", with(file(`cells\x`, "")), "no name"},
		{"escape sequence", with(file("a\x1b[2Jb", "")), "no name"},
		{"dot", with(file("./report.txt", "")), "twice"},
		{"two dots", with(file("././report.txt", "")), "no name"},
		{"symlink", with(member{tar.Header{Typeflag: tar.TypeSymlink, Name: "x", Linkname: "/etc/passwd"}, nil}), "no plain file"},
		{"hard link", with(member{tar.Header{Typeflag: tar.TypeLink, Name: "x", Linkname: "report.txt"}, nil}), "no plain file"},
		{"device", with(member{tar.Header{Typeflag: tar.TypeBlock, Name: "x"}, nil}), "no plain file"},
		{"character device", with(member{tar.Header{Typeflag: tar.TypeChar, Name: "x", Devmajor: 1, Devminor: 5}, nil}), "no plain file"},
		{"fifo", with(member{tar.Header{Typeflag: tar.TypeFifo, Name: "x"}, nil}), "no plain file"},
		{"folder", with(member{tar.Header{Typeflag: tar.TypeDir, Name: "x"}, nil}), "\"x\" is an empty folder"},
		{"folder of a file", with(member{tar.Header{Typeflag: tar.TypeDir, Name: "report.txt/"}, nil}), "twice"},
		{"folder without", with(member{tar.Header{Typeflag: tar.TypeDir, Name: "../"}, nil}), "no name"},
		{"twice", with(file(reportName, "another")), "twice"},
		{"stowaway", with(file("readme.exe", "")), "does not list"},
		{"listed stowaway", listed(file("readme.exe", "")), "does not belong"},
		{"stowaway by the program", listed(file("bpf/run.sh", "rm -r /")), "does not belong"},
		{"listed twice", listed(file("x", ""), file("x", "")), "twice"},
		{"listed twice, and there once", relisted(func(all []member, m *manifest) []member {
			m.Files = append(m.Files, m.Files[0])
			return all
		}), `" twice`},
		{"no capture", relisted(withoutCaptures), captureFile + " is missing"},
		{"a console of no guest", listedIn(pack(t, onHost), file(consoleFile, "")), "does not belong"},
		{"a folder twice", with(member{tar.Header{Typeflag: tar.TypeDir, Name: "cells/"}, nil}, member{tar.Header{Typeflag: tar.TypeDir, Name: "cells/"}, nil}), "twice"},
		{"long name", with(file(strings.Repeat("x/", 600)+"x", "")), "no name"},
		{"huge line", changed(ledgerName, func(s string) string { return s + `{"scenario":"` + strings.Repeat("x", 17<<20) }, true), "longer than 16 MiB"},
		{"deep", changed(envName, func(string) string { return strings.Repeat(`{"build":`, 20_000) }, true), "environment.json"},
		{"wrong sum", changed(reportName, strings.ToUpper, false), "not what was put in"},
		{"another report", changed(reportName, evil, true), "report.txt is not what its run.jsonl makes"},
		{"another page", changed(pageName, evil, true), "page.html is not what"},
		{"another ledger", changed(ledgerName, func(s string) string { return strings.Replace(s, "no mercy", "some mercy", 1) }, true), "is not what"},
		{"another verdict", changed(ledgerName, func(s string) string { return strings.Replace(s, "FAIL", "PASS", 1) }, true), "line 2: quiz2/ipv4/sysctl/1 contradicts itself"},
		{"no ledger", changed(ledgerName, func(string) string { return "?" }, true), "no header"},
		{"no environment", changed(envName, func(string) string { return "?" }, true), "environment.json"},
		{"no manifest", without(manifestName), "missing"},
		{"a file less", without(reportName), "not there"},
		{"bad sum of all", flip(good, len(good)-6), "checksum"},
		{"cut short", good[:len(good)/2], "cut short"},
		{"cut at the end", good[:len(good)-1], "cut short"},
		{"another record of a namespace", changed("cells/quiz2/ipv4/off/1/"+namespaceFile, evil, true), "is not what"},
		{"two in one", append(bytes.Clone(good), good...), "something follows"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Check(t.Context(), bytes.NewReader(tt.data))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("want an error with %q, got %v", tt.want, err)
			}
		})
	}
}

// TestCheckRefusesWhatIsCut: wherever it ends too early.
func TestCheckRefusesWhatIsCut(t *testing.T) {
	good := pack(t, source(t))
	for n := 0; n < len(good); n += 101 {
		if _, err := Check(t.Context(), bytes.NewReader(good[:n])); err == nil || !strings.Contains(err.Error(), "cut short") {
			t.Errorf("%d of %d bytes: %v", n, len(good), err)
		}
	}
}

// poison is put into every string of a ledger that may be anything.
const poison = "\x1b[2J\x1b]0;x\x07</script><script>boom()</script><img src=x onerror=boom()>\r\n\u202e../../etc/passwd"

// TestHostileLedger: a ledger that was written to do harm makes a bundle that does none, and one that is whole.
func TestHostileLedger(t *testing.T) {
	src := source(t)
	src.Run.Header.Version, src.Run.Header.Kernel, src.Run.Header.Machine = poison, poison, poison
	src.Run.Header.Command = []string{poison, "--" + poison}
	src.Environment = reports.Environment{
		Release: poison, Version: poison, Machine: poison, Tainted: poison, Tables: poison, Rpmig: poison, Go: poison,
		Sysctls: map[string]string{poison: poison}, Build: map[string]string{poison: poison}, LeftOut: []reports.LeftOut{{File: poison, Why: poison}},
	}
	for i := range src.Run.Cells {
		c := &src.Run.Cells[i]
		c.Reason, c.Bug, c.DropBackend, c.Capture.File = poison, poison, poison, poison
		c.Counters = map[string]int64{poison: 1}
		c.Checks = []result.Check{{Name: poison, Witness: poison, Want: poison, Got: poison, OK: true}}
		if c.Status != result.Pass {
			c.Checks[0].Got, c.Checks[0].OK = poison+"x", false
		}
		c.Steps = []result.Step{{Name: poison}}
		c.Flow = []result.Segment{{Frame: 1, Role: poison, Dropped: true, Text: poison, Note: poison}}
		c.Resets[0].Reason, c.Resets[0].State, c.Resets[0].Owner, c.Resets[0].Flavour = poison, poison, poison, poison
		c.Events = []result.Event{{Kind: poison, Reason: poison, State: poison, Old: poison}}
		c.Trace = &result.Trace{Missing: []string{poison}}
		c.Tables = []result.Table{{Step: 1, Sockets: []result.Socket{{State: poison, Name: poison}, {State: "LISTEN", Name: poison}}}}
		c.Namespace = &result.Namespace{
			Sysctls: map[string]string{poison: poison}, Rules: []string{poison}, Counters: map[string][2]int64{poison: {1, 2}}, Unknown: []string{poison},
		}
	}
	for _, src.Redact = range []bool{true, false} {
		data := pack(t, src)
		if _, err := Check(t.Context(), bytes.NewReader(data)); err != nil {
			t.Errorf("redacted %t: %v", src.Redact, err)
		}
		for _, m := range members(t, data) {
			switch {
			case strings.HasPrefix(m.h.Name, "cells/") && !slices.Contains([]string{"cell.json", socketsFile, namespaceFile}, filepath.Base(m.h.Name)):
				// Taken from the folder as it is.
			case m.h.Name == pageName && bytes.Contains(m.data, []byte("<script>boom()")):
				t.Errorf("%s runs it", m.h.Name)
			case bytes.ContainsFunc(m.data, func(r rune) bool { return r != '\n' && unicode.IsControl(r) }) && !strings.HasPrefix(m.h.Name, "bpf/") && m.h.Name != pageName:
				t.Errorf("%s has control characters", m.h.Name)
			}
		}
	}
}

func flip(data []byte, i int) []byte {
	data = bytes.Clone(data)
	data[i] ^= 1
	return data
}

func packed(t testing.TB, r io.Reader) []byte {
	t.Helper()
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	_, err := io.Copy(zip, r)
	if err := errors.Join(err, zip.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// zeros are as many as are asked for.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestCheckRefusesBombs(t *testing.T) {
	const most = 1 << 20
	var head bytes.Buffer
	w := tar.NewWriter(&head)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "page.html", Size: most}); err != nil {
		t.Fatal(err)
	}
	bomb := packed(t, io.MultiReader(&head, io.LimitReader(zeros{}, most+4096)))
	if _, err := readBundle(bytes.NewReader(bomb), most); !errors.Is(err, errTooBig) {
		t.Errorf("a bomb of %d bytes: %v", len(bomb), err)
	}
	// Behind the end of the archive, where no file is.
	if _, err := readBundle(bytes.NewReader(packed(t, io.LimitReader(zeros{}, most+1))), most); !errors.Is(err, errTooBig) {
		t.Errorf("a bomb behind the archive: %v", err)
	}
	// A file that says it is larger than what follows of it.
	var huge bytes.Buffer
	if err := tar.NewWriter(&huge).WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "page.html", Size: MaxBytes + 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := Check(t.Context(), bytes.NewReader(packed(t, &huge))); !errors.Is(err, errTooBig) {
		t.Errorf("a huge file: %v", err)
	}
}

func TestWriteDiskFull(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	if err := Write(t.Context(), full, source(t)); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("got %v", err)
	}
}

// FuzzArchive reads what is inside the gzip: a mutated gzip is refused at its first broken block, and compressing what a
// fuzzer has made takes longer than all else. Seeds are small, since the fuzzer spends its time on making them smaller.
func FuzzArchive(f *testing.F) {
	reg := func(name, data string) member {
		return member{tar.Header{Typeflag: tar.TypeReg, Name: name}, []byte(data)}
	}
	for _, all := range [][]member{
		nil,
		{reg("../x", "x")},
		{{tar.Header{Typeflag: tar.TypeSymlink, Name: "x", Linkname: "/"}, nil}},
		{reg(ledgerName, "{}"), reg(manifestName, `{"schema":2,"files":[{"name":"run.jsonl","size":2}]}`)},
		{{tar.Header{Typeflag: tar.TypeReg, Name: "x", PAXRecords: map[string]string{"RPMIG.x": "y"}}, nil}},
	} {
		tarball := unpacked(f, archive(f, all))
		f.Add(bytes.TrimRight(tarball, "\x00"))
		f.Add(tarball)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := readArchive(bytes.NewReader(data))
		if (err == nil) != (a != nil) {
			t.Fatalf("got %v and %v", a, err)
		}
		if err != nil {
			return
		}
		for name := range a.files {
			if !filepath.IsLocal(name) {
				t.Errorf("took %q", name)
			}
		}
		if checked, err := a.check(t.Context()); (err == nil) != (checked != nil) {
			t.Errorf("got %v and %v", checked, err)
		}
	})
}

// FuzzReplay makes again what a ledger and an environment make, whatever they say.
func FuzzReplay(f *testing.F) {
	for _, m := range members(f, pack(f, source(f))) {
		if m.h.Name == ledgerName {
			f.Add(m.data, []byte(`{"sysctls":{"a":"b"},"left_out":[{"file":"x","why":"y"}],"build":null}`))
		}
	}
	f.Fuzz(func(t *testing.T, ledger, environment []byte) {
		run, err := result.Read(bytes.NewReader(ledger))
		var env reports.Environment
		if err != nil || json.Unmarshal(environment, &env) != nil || len(run.Cells) > 8 {
			return
		}
		a := &contents{files: map[string]file{}}
		for _, e := range derived(run, &env) {
			if !filepath.IsLocal(e.name) || a.files[e.name] != (file{}) {
				t.Errorf("made %q", e.name)
			}
			if e.name == pageName {
				continue // its compression is all that it costs, and package reports looks at it
			}
			made, pour, err := e.made()
			var b bytes.Buffer
			if err := errors.Join(err, pour(&b)); err != nil {
				t.Errorf("%s: %v", e.name, err)
			}
			data := b.Bytes()
			a.files[e.name] = made
			if strings.HasSuffix(e.name, ".txt") && bytes.ContainsFunc(data, func(r rune) bool { return r != '\n' && unicode.IsControl(r) }) {
				t.Errorf("%s has control characters: %q", e.name, data)
			}
		}
	})
}

// unpacked is what is inside the gzip.
func unpacked(t testing.TB, data []byte) []byte {
	t.Helper()
	zip, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(zip)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}
