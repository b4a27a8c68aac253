package bundle

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/rpmig/rpmig/capture"
	"github.com/rpmig/rpmig/result"
)

// captureOf makes the capture of a cell: a bare RST from port 80 to the client's in frame 6, and ACKs of the client before it. It has
// so many packets; those that are left out are the first.
func captureOf(t testing.TB, c *result.Cell, client uint16, packets int) string {
	t.Helper()
	at := time.Unix(1_700_000_000, 0)
	rec := &capture.Recording{Start: at, End: at, SnapLen: 446}
	for n := 7 - packets; n <= 6; n++ {
		tcp := &layers.TCP{SrcPort: layers.TCPPort(client), DstPort: 80, ACK: true}
		if n == 6 {
			tcp = &layers.TCP{SrcPort: 80, DstPort: layers.TCPPort(client), RST: true}
		}
		local := net.IPv4(127, 0, 0, 1)
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: local, DstIP: local}
		eth := &layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: layers.EthernetTypeIPv4}
		if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		buf := gopacket.NewSerializeBuffer()
		if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, ip, tcp); err != nil {
			t.Fatal(err)
		}
		rec.Packets = append(rec.Packets, capture.Packet{Time: at, Data: buf.Bytes(), Length: len(buf.Bytes())})
	}
	var b bytes.Buffer
	if err := capture.WritePcapng(&b, rec, nil, capture.Meta{Comment: c.ID() + ": " + c.Reason}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestCaptureOfAnother: a capture that cannot be read, or that has not the frames which the ledger names, is refused. A new bundle
// does without it, and says why.
func TestCaptureOfAnother(t *testing.T) {
	dir := t.TempDir()
	src := sourceIn(t, dir)
	src.Redact = false
	data := pack(t, src)
	cell, other := &src.Run.Cells[0], &src.Run.Cells[1]
	good := captureOf(t, cell, 4000, 6)
	nameless := &result.Cell{Scenario: cell.Scenario, Family: cell.Family, Mode: cell.Mode, Repeat: cell.Repeat}
	for _, tt := range []struct{ name, capture, want string }{
		{"empty", "", "cannot be read: neither pcap nor pcapng"},
		{"random", strings.Repeat("random", 1000), "cannot be read: neither pcap nor pcapng"},
		{"the head alone", good[:4], "cannot be read"},
		{"cut in a packet", good[:len(good)/2], "cannot be read"},
		{"cut between packets", good[:strings.LastIndex(good, "\x06\x00\x00\x00")], "is not that of its cell: want 6 packets, got 5"},
		{"a frame left out", captureOf(t, cell, 4000, 5), "is not that of its cell: want 6 packets, got 5"},
		{"exchanged", captureOf(t, other, 4001, 6), `is not that of its cell: its comment is "quiz2/ipv4/off/1: lost`},
		{"exchanged, and its comment made to fit", captureOf(t, nameless, 4001, 6), "frame 6 is not the reset (bare RST) from port 80 to 4000 that the ledger names"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			name := cell.Folder() + "/" + captureFile
			a, err := readBundle(bytes.NewReader(data), MaxBytes)
			if err != nil {
				t.Fatal(err)
			}
			// Somebody who means harm lists it as it should be.
			a.captures[name] = readCapture(strings.NewReader(tt.capture))
			if _, err := a.check(t.Context()); err == nil || !strings.Contains(err.Error(), name+" ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("want %q, got %v", tt.want, err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(tt.capture), 0o644); err != nil {
				t.Fatal(err)
			}
			again := pack(t, src)
			if _, err := Check(t.Context(), bytes.NewReader(again)); err != nil {
				t.Fatal(err)
			}
			for _, m := range members(t, again) {
				switch text := string(m.data); {
				case m.h.Name == name:
					t.Error("it was taken")
				case m.h.Name == envName && !strings.Contains(text, "which is not that of its cell: ") && !strings.Contains(text, "which cannot be read: "):
					t.Errorf("not said why: %s", text)
				}
			}
		})
	}
}

// TestHolds: the frames that a ledger names, one wrong each.
func TestHolds(t *testing.T) {
	src := source(t)
	s := readCapture(strings.NewReader(captureOf(t, &src.Run.Cells[0], 4000, 6)))
	for _, tt := range []struct {
		name, want string
		change     func(c *result.Cell)
	}{
		{"as it is", "", func(*result.Cell) {}},
		{"another flavour", "not the reset (RST+ACK)", func(c *result.Cell) { c.Resets[0].Flavour = result.RSTACK }},
		{"another frame", "frame 5 is not the reset", func(c *result.Cell) { c.Resets[0].Frame = 5 }},
		{"no such frame", "frame 7 is not the reset", func(c *result.Cell) { c.Resets[0].Frame = 7 }},
		{"a frame of 0", "frame 0 is not", func(c *result.Cell) { c.Flow[0].Frame = 0 }},
		{"other flags in the flow", `frame 6 is not the "R. seq 1"`, func(c *result.Cell) { c.Flow[0].Text = "R. seq 1" }},
		{"the other side's", "frame 6 is not", func(c *result.Cell) { c.Flow[0].FromClient = true }},
		{"a packet more", "want 7 packets, got 6", func(c *result.Cell) { c.Capture.Packets = 7 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := source(t).Run.Cells[0]
			tt.change(&c)
			err := s.holds(&c)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("want %q, got %v", tt.want, err)
			}
		})
	}
}
