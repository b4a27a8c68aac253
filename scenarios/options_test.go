package scenarios

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of docs/OPTIONS.md")

const optionsDoc = "../docs/OPTIONS.md"

// TestOptionsDoc holds the table in docs/OPTIONS.md to the one that the scenarios go by.
func TestOptionsDoc(t *testing.T) {
	b, err := os.ReadFile(optionsDoc)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- the table, by go test ./scenarios -update -->\n", "<!-- end of the table -->\n"
	before, rest, ok := strings.Cut(string(b), begin)
	got, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s: no %q … %q", optionsDoc, begin, end)
	}
	var want strings.Builder
	want.WriteString("| option | accept queue | final ACK | SYN+ACK timer | decided for a request by |\n| --- | --- | --- | --- | --- |\n")
	for _, o := range options {
		fmt.Fprintf(&want, "| %s | %s | %s | %s | %s |\n", o.name, o.queue, o.ack, o.timer, o.by)
	}
	if got == want.String() {
		return
	}
	if !*update {
		t.Fatalf("%s has another table than options.go: go test ./scenarios -run TestOptionsDoc -update\n%s", optionsDoc, want.String())
	}
	if err := os.WriteFile(optionsDoc, []byte(before+begin+want.String()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestWhose: a value that is of neither listener is told from that of either, and no row of the table takes one for the other.
func TestWhose(t *testing.T) {
	o := options[0]
	for _, tt := range []struct {
		a, b, got int
		want      string
	}{{3, 5, 3, listenerA}, {3, 5, 5, listenerB}, {3, 5, 0, zero}, {3, 5, 4, "neither's: 4"}} {
		if got := o.whose(tt.a, tt.b, tt.got); got != tt.want {
			t.Errorf("A has %d, B %d, the connection %d: %s, want %s", tt.a, tt.b, tt.got, got, tt.want)
		}
	}
	seen := map[string]bool{}
	for _, o := range options {
		if o.seen == nil && o.values[0] == o.values[1] || o.seen != nil && o.seen[0] == o.seen[1] {
			t.Errorf("%s: the same on both", o.name)
		}
		if seen[o.name] {
			t.Errorf("%s: twice", o.name)
		}
		seen[o.name] = true
	}
}
