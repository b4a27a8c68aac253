package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// ledger has one cell.
const ledger = `{"schema":2,"version":"b","kernel":"6.18","machine":"x86_64","command":[],"cells":1,"port":80,"modes":[{"name":"off"}]}
{"scenario":"quiz2","family":"ipv4","mode":"off","repeat":1,"status":"PASS","reason":"lost, as expected: bare RST in frame 7, during \"await\"","control":"control","connections":{"staged":1,"survived":0,"lost":1},"resets":[{"time":0.3,"frame":7,"from":"127.0.0.1:80","to":"127.0.0.1:50000","flavour":"bare","step":2,"reason":"TCP_FLAGS","state":"LISTEN","owner":"surviving listener"}],"counters":{"OutRsts":1,"InSegs":5},"checks":[{"name":"accepted","witness":"application","want":"0","got":"0","ok":true}],"steps":[{"name":"close A","at":0.02},{"name":"await","at":0.03}],"client":"127.0.0.1:50000","flow":[{"time":0.02,"frame":1,"from_client":true,"role":"syn","text":"S seq 0","note":"the client connects"}],"tables":[{"step":1,"at":0.2,"sockets":[{"state":"LISTEN","name":"B","local":"127.0.0.1:80","remote":"0.0.0.0:0","queue":0,"backlog":32,"inode":3,"cookie":4}]}],"events":[{"time":0.2,"kind":"inet_sock_set_state","state":"LISTEN","old":"CLOSE","from":"127.0.0.1:80","to":"0.0.0.0:0"}],"trace":{"lost":0},"namespace":{"sysctls":{"net.ipv4.tcp_migrate_req":"0"},"counters":{}},"capture":{"packets":7,"lost":0,"file":"cells/a"},"elapsed":0.4}
`

func compareTexts(t *testing.T, before, after string, renames ...string) []string {
	t.Helper()
	pair := []string{t.TempDir(), t.TempDir()}
	for i, text := range []string{before, after} {
		if err := os.WriteFile(filepath.Join(pair[i], "run.jsonl"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list, err := compare(pair[0], pair[1], strings.NewReplacer(renames...))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestSame changes what no two runs have in common.
func TestSame(t *testing.T) {
	again := strings.NewReplacer("50000", "43612", `"frame":7`, `"frame":6`, "frame 7", "frame 6", `"time":0.2`, `"time":0.1`,
		`"at":0.0`, `"at":0.01`, `"InSegs":5`, `"InSegs":4`, `"inode":3`, `"inode":1`, `"cookie":4`, `"cookie":2`,
		`"packets":7`, `"packets":8`, `"elapsed":0.4`, `"elapsed":0.3`).Replace(ledger)
	if list := compareTexts(t, ledger, again); list != nil {
		t.Errorf("want nothing, got %q", list)
	}
}

// TestDiffers changes one thing at a time, and each must be seen.
func TestDiffers(t *testing.T) {
	for _, change := range []string{
		`"status":"PASS"→"status":"ERROR"`,
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
		`"want":"0","got":"0"→"want":"1","got":"1"`,
		`"name":"close A"→"name":"close B"`,
		`"from_client":true→"from_client":false`,
		`S seq 0→S. seq 0`,
		`"role":"syn"→"role":"data"`,
		`"step":1,"at":0.2→"step":2,"at":0.2`,
		`"name":"B"→"name":"A"`,
		`"old":"CLOSE"→"old":"CLOSING"`,
		`tcp_migrate_req→tcp_migrate`,
		`"packets":7,"lost":0→"packets":7,"lost":1`,
		`"family":"ipv4"→"family":"ipv6"`,
		`"cells":1→"cells":2`,
	} {
		before, after, _ := strings.Cut(change, "→")
		changed := strings.Replace(ledger, before, after, 1)
		if changed == ledger {
			t.Fatalf("%s changes nothing", change)
		}
		if len(compareTexts(t, ledger, changed)) == 0 {
			t.Errorf("%s is not seen", change)
		}
	}
}

func TestRename(t *testing.T) {
	renamed := strings.ReplaceAll(strings.ReplaceAll(ledger, `"await"`, `"wait"`), `\"await\"`, `\"wait\"`)
	if len(compareTexts(t, ledger, renamed)) == 0 {
		t.Error("another name of a step is not seen")
	}
	if list := compareTexts(t, ledger, renamed, "await", "wait"); list != nil {
		t.Errorf("with -rename: want nothing, got %q", list)
	}
}
