package capture

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket/pcapgo"
)

var testMeta = Meta{
	Application: "rpmig test",
	OS:          "Linux 6.18.44",
	Hardware:    "x86_64",
	Comment:     "quiz1/ipv4/off",
	Interface:   "lo",
}

// testRecording is a connection that is reset; its data were too long for a slot.
func testRecording(tb testing.TB) *Recording {
	rec := &Recording{Received: 6, Lost: 1, SnapLen: 1000, Start: epoch.Add(-time.Second), End: epoch.Add(time.Second)}
	for i, f := range []Frame{
		frame(client4, server4, SYN, 1000, 0, 0),
		frame(server4, client4, SYN|ACK, 5000, 1001, 0),
		frame(client4, server4, ACK, 1001, 5001, 0),
		frame(client4, server4, PSH|ACK, 1001, 5001, 1400),
		frame(server4, client4, RST|ACK, 5001, 2401, 0),
	} {
		p := packet(tb, f)
		p.Time = epoch.Add(time.Duration(i) * time.Microsecond)
		p.Data = p.Data[:min(len(p.Data), rec.SnapLen)]
		rec.Packets = append(rec.Packets, p)
	}
	return rec
}

// writeFile writes rec to a capture file and returns its path.
func writeFile(t *testing.T, rec *Recording, comments map[int][]string) string {
	t.Helper()
	var file bytes.Buffer
	if err := WritePcapng(&file, rec, comments, testMeta); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "capture.pcapng")
	if err := os.WriteFile(path, file.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// run returns what a program prints. A warning of the program is an error.
func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Skipf("%s is not installed", program)
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC", "HOME="+t.TempDir())
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	if strings.Contains(stderr.String(), "Couldn't change to 'tcpdump'") {
		t.Skip("tcpdump cannot give up root in this user namespace")
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", program, err, &stderr)
	}
	for line := range strings.Lines(stderr.String()) {
		switch {
		case strings.HasPrefix(line, "Running as user"): // tshark, as root
		case strings.HasPrefix(line, "reading from file"): // tcpdump, always
		default:
			t.Errorf("%s warns: %s", program, line)
		}
	}
	return stdout.String()
}

// TestWritePcapng: pcapgo's own reader reads all that was written.
func TestWritePcapng(t *testing.T) {
	rec := testRecording(t)
	comments := map[int][]string{1: {"connect"}, 5: {"close A\nand wait", "the RST"}}
	var file, again bytes.Buffer
	for _, w := range []io.Writer{&file, &again} {
		if err := WritePcapng(w, rec, comments, testMeta); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(file.Bytes(), again.Bytes()) {
		t.Error("the same recording was written in two ways")
	}

	r, err := pcapgo.NewNgReader(&file, pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	var packets []Packet
	gotComments := make(map[int][]string)
	for {
		data, info, options, err := r.ReadPacketDataWithOptions()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		packets = append(packets, Packet{Time: info.Timestamp, Data: data, Length: info.Length})
		if len(options.Comments) > 0 {
			gotComments[len(packets)] = options.Comments
		}
	}
	if diff := cmp.Diff(rec.Packets, packets); diff != "" {
		t.Errorf("packets (-written +read):\n%s", diff)
	}
	if diff := cmp.Diff(comments, gotComments); diff != "" {
		t.Errorf("comments (-written +read):\n%s", diff)
	}
	wantInfo := pcapgo.NgSectionInfo{
		Application: testMeta.Application, OS: testMeta.OS, Hardware: testMeta.Hardware, Comment: testMeta.Comment,
	}
	if diff := cmp.Diff(wantInfo, r.SectionInfo()); diff != "" {
		t.Errorf("section info (-written +read):\n%s", diff)
	}
	lo, err := r.Interface(0)
	if err != nil {
		t.Fatal(err)
	}
	if lo.Name != "lo" || lo.SnapLength != 1000 || lo.TimestampResolution != 9 {
		t.Errorf("interface %+v", lo)
	}
	stats := lo.Statistics
	if stats.PacketsReceived != 6 || stats.PacketsDropped != 1 || !stats.StartTime.Equal(rec.Start) || !stats.EndTime.Equal(rec.End) {
		t.Errorf("interface statistics %+v", stats)
	}
}

func TestWritePcapngRefuses(t *testing.T) {
	for name, comments := range map[string]map[int][]string{
		"a comment on no packet":    {6: {"x"}},
		"a comment on packet 0":     {0: {"x"}},
		"a comment that is too big": {1: {"x", strings.Repeat("x", 65536)}},
	} {
		if err := WritePcapng(io.Discard, testRecording(t), comments, testMeta); err == nil {
			t.Errorf("%s was written", name)
		}
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestWritePcapngFails(t *testing.T) {
	if err := WritePcapng(fullDisk{}, testRecording(t), nil, testMeta); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("error %v, want %v", err, io.ErrShortWrite)
	}
}

func TestTshark(t *testing.T) {
	why := []string{"the accept queue of A held 1,\nso inet_csk_listen_stop reset it", "step: close A"}
	file := writeFile(t, testRecording(t), map[int][]string{1: {"connect"}, 5: why})
	got := run(t, "tshark", "-r", file, "-T", "fields", "-E", "separator=|", "-E", "aggregator=;",
		"-e", "frame.number", "-e", "frame.time_epoch", "-e", "frame.len", "-e", "frame.cap_len",
		"-e", "frame.packet_flags_direction", "-e", "tcp.flags.str", "-e", "frame.comment")
	// gopacket fills frames up to the 60 bytes of Ethernet.
	want := `1|1700000000.123456789|60|60|0x00000002|··········S·|connect
2|1700000000.123457789|60|60|0x00000002|·······A··S·|
3|1700000000.123458789|60|60|0x00000002|·······A····|
4|1700000000.123459789|1458|1000|0x00000002|·······AP···|
5|1700000000.123460789|60|60|0x00000002|·······A·R··|` + strings.ReplaceAll(strings.Join(why, ";"), "\n", `\n`) + "\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tshark (-want +got):\n%s", diff)
	}
}

func TestTcpdump(t *testing.T) {
	rec := testRecording(t)
	got := run(t, "tcpdump", "-t", "-nn", "-r", writeFile(t, rec, map[int][]string{1: {"connect"}}))
	if lines := strings.Count(got, "\n"); lines != len(rec.Packets) {
		t.Errorf("tcpdump printed %d lines, want %d:\n%s", lines, len(rec.Packets), got)
	}
	const rst = "IP 127.0.0.1.80 > 127.0.0.1.39258: Flags [R.], seq 1, ack 1401, win 0, options [mss 65495], length 0\n"
	if !strings.HasSuffix(got, rst) {
		t.Errorf("tcpdump does not end with %q:\n%s", rst, got)
	}
}

func TestCapinfos(t *testing.T) {
	got := run(t, "capinfos", writeFile(t, testRecording(t), nil))
	for _, want := range []string{
		"Number of packets:   5\n",
		"Capture application: rpmig test\n",
		"Capture oper-sys:    Linux 6.18.44\n",
		"Capture hardware:    x86_64\n",
		"Time precision = nanoseconds (9)\n",
		"Capture length = 1000\n",
		"Name = lo\n",
		"Number of stat entries = 1\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("capinfos does not say %q:\n%s", want, got)
		}
	}
}
