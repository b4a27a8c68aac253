package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What one ledger of schema 1 and one of schema 2 say of the same cell.
const (
	schema1 = `{"schema":1,"version":"a","kernel":"6.18","machine":"x86_64","command":[],"cells":1}
{"scenario":"quiz2","family":"ipv4","mode":"off","repeat":1,"status":"PASS","reason":"lost, as expected: bare RST in frame 6, during \"await\"","control":"control","connections":{"staged":1,"survived":0,"lost":1},"resets":[{"time":0.2,"frame":6,"from":"127.0.0.1:80","to":"127.0.0.1:43612","flavour":"bare","step":"await","reason":"TCP_FLAGS","state":"LISTEN","owner":"surviving listener"}],"counters":{"OutRsts":1,"InSegs":4},"checks":[{"name":"accepted","witness":"application","want":"0","got":"0","ok":true}],"steps":[{"name":"close A","at":0.01},{"name":"await","at":0.02}],"client":"127.0.0.1:43612","flow":[{"time":0.01,"frame":1,"from_client":true,"text":"S seq 0","note":"the client connects"},{"time":0.01,"frame":3,"from_client":true,"text":". ack 1"}],"tables":[{"step":"close A","at":0.1,"sockets":[{"state":"LISTEN","name":"B","local":"127.0.0.1:80","remote":"0.0.0.0:0","queue":0,"backlog":32,"inode":1,"cookie":2}]}],"events":[{"time":0.1,"kind":"sock:inet_sock_set_state","state":"CLOSE → LISTEN","from":"127.0.0.1:80","to":"0.0.0.0:0"}],"trace":{"lost":0},"namespace":{"sysctls":{"net.ipv4.tcp_migrate_req":"0"},"counters":{}},"capture":{"packets":6,"lost":0,"file":"cells/a"},"elapsed":0.3}
`
	schema2 = `{"schema":2,"version":"b","kernel":"6.18","machine":"x86_64","command":[],"cells":1,"port":80,"modes":[{"name":"off"}]}
{"scenario":"quiz2","family":"ipv4","mode":"off","repeat":1,"status":"PASS","reason":"lost, as expected: bare RST in frame 7, during \"await\"","control":"control","connections":{"staged":1,"survived":0,"lost":1},"resets":[{"time":0.3,"frame":7,"from":"127.0.0.1:80","to":"127.0.0.1:50000","flavour":"bare","step":2,"reason":"TCP_FLAGS","state":"LISTEN","owner":"surviving listener"}],"counters":{"OutRsts":1,"InSegs":5},"checks":[{"name":"accepted","witness":"application","want":"0","got":"0","ok":true}],"steps":[{"name":"close A","at":0.02},{"name":"await","at":0.03}],"client":"127.0.0.1:50000","flow":[{"time":0.02,"frame":1,"from_client":true,"role":"syn","text":"S seq 0","note":"the client connects"}],"tables":[{"step":1,"at":0.2,"sockets":[{"state":"LISTEN","name":"B","local":"127.0.0.1:80","remote":"0.0.0.0:0","queue":0,"backlog":32,"inode":3,"cookie":4}]}],"events":[{"time":0.2,"kind":"inet_sock_set_state","state":"LISTEN","old":"CLOSE","from":"127.0.0.1:80","to":"0.0.0.0:0"}],"trace":{"lost":0},"namespace":{"sysctls":{"net.ipv4.tcp_migrate_req":"0"},"counters":{}},"capture":{"packets":7,"lost":0,"file":"cells/a"},"elapsed":0.4}
`
)

func compareTexts(t *testing.T, name, before, after string, renames ...string) []string {
	t.Helper()
	pair := make([]string, 2)
	for i, text := range []string{before, after} {
		pair[i] = filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(pair[i], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if name == "run.jsonl" {
			pair[i] = filepath.Dir(pair[i])
		}
	}
	list, err := compare(pair[0], pair[1], strings.NewReplacer(renames...))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestSameAcrossSchemas(t *testing.T) {
	if list := compareTexts(t, "run.jsonl", schema1, schema2); list != nil {
		t.Errorf("want nothing, got %q", list)
	}
}

// TestDiffers changes one thing at a time, and each must be seen.
func TestDiffers(t *testing.T) {
	for _, change := range []string{
		`"status":"PASS"→"status":"FAIL"`,
		`lost, as expected→lives`,
		`"control":"control"→"control":"uncontrolled"`,
		`"survived":0,"lost":1→"survived":1,"lost":0`,
		`"flavour":"bare"→"flavour":"RST+ACK"`,
		`"step":2→"step":1`,
		`surviving listener→closing listener`,
		`TCP_FLAGS→TCP_STATE`,
		`"OutRsts":1→"OutRsts":2`,
		`"name":"accepted"→"name":"taken"`,
		`"witness":"application"→"witness":"wire"`,
		`"want":"0"→"want":"1"`,
		`"ok":true→"ok":false`,
		`"name":"close A"→"name":"close B"`,
		`"from_client":true→"from_client":false`,
		`S seq 0→S. seq 0`,
		`"step":1,"at":0.2→"step":2,"at":0.2`,
		`"name":"B"→"name":"A"`,
		`"old":"CLOSE"→"old":"CLOSING"`,
		`tcp_migrate_req→tcp_migrate`,
		`"packets":7,"lost":0→"packets":7,"lost":1`,
		`"family":"ipv4"→"family":"ipv6"`,
		`"cells":1→"cells":2`,
	} {
		before, after, _ := strings.Cut(change, "→")
		changed := strings.Replace(schema2, before, after, 1)
		if changed == schema2 {
			t.Fatalf("%s changes nothing", change)
		}
		if len(compareTexts(t, "run.jsonl", schema2, changed)) == 0 {
			t.Errorf("%s is not seen", change)
		}
	}
	roles := strings.Replace(schema2, `"role":"syn"`, `"role":"data"`, 1)
	if len(compareTexts(t, "run.jsonl", schema2, roles)) == 0 {
		t.Error("a role is not seen")
	}
	if list := compareTexts(t, "run.jsonl", schema1, roles); list != nil {
		t.Errorf("schema 1 has no roles: %q", list)
	}
}

func TestRename(t *testing.T) {
	renamed := strings.ReplaceAll(strings.ReplaceAll(schema2, `"await"`, `"wait"`), `\"await\"`, `\"wait\"`)
	if len(compareTexts(t, "run.jsonl", schema1, renamed)) == 0 {
		t.Error("another name of a step is not seen")
	}
	if list := compareTexts(t, "run.jsonl", schema1, renamed, "await", "wait"); list != nil {
		t.Errorf("with -rename: want nothing, got %q", list)
	}
}

// TestReports: what differs between two runs is nothing, what differs between two programs is something.
func TestReports(t *testing.T) {
	for _, c := range []struct {
		name, before, after string
		differs             bool
	}{
		{"r.ktap", "KTAP version 1\n1..1\n# a.off: RST in frame 6\nok 1 a.off\n", "KTAP version 1\n1..1\n# a.off: RST in frame 7\nok 1 a.off\n", false},
		{"r.ktap", "ok 1 a.off\nok 2 b.off\n", "ok 1 b.off\nok 2 a.off\n", true},
		{"r.ktap", "ok 1 a.off\n", "not ok 1 a.off\n", true},
		{"r.junit", "<testcase name=\"off\" time=\"0.1\">\ncounter: DelayedACKs 1\n", "<testcase name=\"off\" time=\"0.2\">\n", false},
		{"r.junit", "<testcase name=\"off\" time=\"0.1\">\ncounter: OutRsts 1\n", "<testcase name=\"off\" time=\"0.2\">\n", true},
		{"r.text", "quiz1 ipv4  0/1 PASS\n  at\n      0.1 s\n", "quiz1 ipv4  0/1 PASS\n  at 0.12 s\n", false},
		{"r.text", "quiz1 ipv4  0/1 PASS\n", "quiz1 ipv4  0/1 FAIL\n", true},
		{"r.text", "quiz1 ipv4  0/1 PASS\nquiz2 ipv4  0/1 PASS\n", "quiz2 ipv4  0/1 PASS\nquiz1 ipv4  0/1 PASS\n", true},
	} {
		if list := compareTexts(t, c.name, c.before, c.after); (len(list) > 0) != c.differs {
			t.Errorf("%s: %q and %q: got %q", c.name, c.before, c.after, list)
		}
	}
}
