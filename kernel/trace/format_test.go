package trace

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"
)

// formats are those of a real kernel, which the folder names.
func formats(tb testing.TB) map[Kind]format {
	tb.Helper()
	all := map[Kind]format{}
	for k := ResetSent; k < kinds; k++ {
		_, name, _ := strings.Cut(k.String(), ":")
		text, err := os.ReadFile(filepath.Join("testdata", "6.18", name+".format"))
		if err != nil {
			tb.Fatal(err)
		}
		if all[k], err = parseFormat(text); err != nil {
			tb.Fatalf("%s: %v", k, err)
		}
	}
	return all
}

func TestParseFormat(t *testing.T) {
	all := formats(t)
	for _, tt := range []struct {
		kind    Kind
		id      uint16
		fields  map[string]field // some of them
		symbols map[string]int   // how many each field has
	}{
		{ResetSent, 2280, map[string]field{
			"common_type": {0, 2}, "common_flags": {2, 1}, "common_pid": {4, 4}, "skaddr": {16, 8}, "reason": {28, 4}, "daddr": {60, 28},
		}, map[string]int{"reason": 26}}, // for the states it has constants instead of numbers
		{ResetReceived, 2279, map[string]field{"saddr_v6": {30, 16}, "sock_cookie": {64, 8}}, map[string]int{"family": 2}},
		{Retransmit, 2281, map[string]field{"state": {24, 4}, "dport": {30, 2}, "err": {76, 4}}, map[string]int{"family": 2}},
		{SynAckRetransmit, 2275, map[string]field{"req": {16, 8}, "sport": {24, 2}}, map[string]int{"family": 2}},
		{StateChange, 2287, map[string]field{"oldstate": {16, 4}, "protocol": {30, 2}},
			map[string]int{"family": 2, "protocol": 3, "oldstate": 12, "newstate": 12}},
		{Drop, 2310, map[string]field{"rx_sk": {24, 8}, "protocol": {32, 2}, "reason": {36, 4}}, map[string]int{"reason": 127}},
		{Destroy, 2278, map[string]field{"skaddr": {8, 8}, "sport": {16, 2}}, map[string]int{"family": 2}},
	} {
		f := all[tt.kind]
		if f.id != tt.id {
			t.Errorf("%s: ID %d, want %d", tt.kind, f.id, tt.id)
		}
		for name, want := range tt.fields {
			if got, ok := f.fields[name]; !ok || got != want {
				t.Errorf("%s: %s is at %v, want %v", tt.kind, name, got, want)
			}
		}
		counted := map[string]int{}
		for name, symbols := range f.symbols {
			counted[name] = len(symbols)
		}
		if diff := cmp.Diff(tt.symbols, counted); diff != "" {
			t.Errorf("%s: symbols (-want +got):\n%s", tt.kind, diff)
		}
		if _, err := newDecoder(tt.kind, f); err != nil {
			t.Error(err)
		}
	}
	if got := all[ResetSent].symbols["reason"][14]; got != "TCP_STATE" {
		t.Errorf("reset reason 14 is %q", got)
	}
	if got := all[Drop].symbols["reason"][12]; got != "NETFILTER_DROP" {
		t.Errorf("drop reason 12 is %q", got)
	}
}

// TestReasonsAreBTFs: print fmt and BTF of the running kernel have the same names.
func TestReasonsAreBTFs(t *testing.T) {
	tr := tracer(t, Options{Tracefs: true})
	types, err := btf.LoadKernelSpec()
	if err != nil {
		t.Skip(err)
	}
	for kind, enum := range map[Kind][]string{
		ResetSent: {"sk_rst_reason", "SK_RST_REASON_"}, Drop: {"skb_drop_reason", "SKB_DROP_REASON_", "SKB_"},
	} {
		want, err := reasons(types, enum[0], enum[1:]...)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range tr.backend.(*perf).decoders {
			if d.kind != kind {
				continue
			}
			got := d.symbols["reason"]
			if len(got) < 20 {
				t.Errorf("%s: %d reasons", kind, len(got))
			}
			for n, name := range got {
				if want[n] != name {
					t.Errorf("%s: reason %d is %q, and in BTF %q", kind, n, name, want[n])
				}
			}
		}
	}
}

func TestParseSymbols(t *testing.T) {
	for _, tt := range []struct {
		printed string
		want    map[string]map[uint64]string
	}{
		{``, map[string]map[uint64]string{}},
		{`"%s", __print_symbolic(REC->a, { 0x1, "ONE" },{2,"TWO, \"{2}\"" } , { -1, "LAST" })`, map[string]map[uint64]string{"a": {1: "ONE", 2: `TWO, "{2}"`}}},
		{`__print_symbolic(REC->a, { A, "A" }, { 2, "B" })`, map[string]map[uint64]string{"a": {2: "B"}}},
		{`__print_symbolic(REC->a, { A, "A" }), __print_symbolic(REC->b, { 1, "B" })`, map[string]map[uint64]string{"b": {1: "B"}}},
		{`__print_symbolic(REC->a, { 1, "A" }, { 2, "B"`, map[string]map[uint64]string{"a": {1: "A"}}},
		{`__print_symbolic(REC->a & (1, 2), { 1, "A" })`, map[string]map[uint64]string{}},
		{`__print_symbolic(REC->a`, map[string]map[uint64]string{}},
	} {
		if diff := cmp.Diff(tt.want, parseSymbols(tt.printed)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.printed, diff)
		}
	}
}

func TestParseFormatRefuses(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", "it has no ID"},
		{"ID: 70000\n", `ID "70000"`},
		{"ID: x\n", `ID "x"`},
		{"ID: 1\n\tfield:int a;\toffset:99999;\tsize:4;\tsigned:0;\n", "no field"},
		{"ID: 1\n\tfield:;\toffset:9;\tsize:4;\tsigned:0;\n", "no field"},
	} {
		if _, err := parseFormat([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %v, want …%s…", tt.text, err, tt.want)
		}
	}
}

// FuzzFormat: no format makes a record be read beyond its end.
func FuzzFormat(f *testing.F) {
	paths, err := filepath.Glob("testdata/*/*.format")
	if err != nil || len(paths) == 0 {
		f.Fatal("no formats", err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, make([]byte, 88), uint8(1))
	}
	f.Fuzz(func(t *testing.T, text, record []byte, kind uint8) {
		parsed, err := parseFormat(text)
		if err != nil {
			return
		}
		for name, at := range parsed.fields {
			if got, err := at.in(record); err == nil && len(got) != at.size {
				t.Errorf("%s of %d bytes: got %d", name, at.size, len(got))
			}
		}
		for name, symbols := range parsed.symbols {
			if len(symbols) == 0 {
				t.Errorf("%s has no symbols", name)
			}
		}
		d, err := newDecoder(Kind(kind%uint8(kinds)), parsed)
		if err != nil {
			return
		}
		if e, err := d.decode(sample{raw: record}, 0); err == nil {
			_ = e.String()
		}
	})
}
