//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rpmig/rpmig/result"
)

// starter starts a program and writes down how much memory it has held, in KiB. What the kernel counts for a process holds what the one
// that has started it held then (fs/exec.c:exec_mmap), and a test's may be large: Python's is not.
const starter = `import resource, subprocess, sys
status = subprocess.call(sys.argv[2:])
open(sys.argv[1], "w").write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(status)`

// measured is a command, and the most memory that it has held once it has ended, in MiB.
func measured(t testing.TB, name string, args ...string) (*exec.Cmd, func() int) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skipf("it takes a small process to measure another: %v", err)
	}
	file := filepath.Join(t.TempDir(), "memory")
	cmd := exec.CommandContext(t.Context(), python, append([]string{"-c", starter, file, name}, args...)...)
	return cmd, func() int {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		kib, err := strconv.Atoi(string(text))
		if err != nil {
			t.Fatal(err)
		}
		return kib >> 10
	}
}

// TestExplainInBoundedMemory: a capture takes no more memory for being longer. It comes by a pipe.
func TestExplainInBoundedMemory(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe.pcap")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd, held := measured(t, shipped(t), "explain", pipe, "--port", "80")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w, err := os.OpenFile(pipe, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	const connections = 200_000
	if err := writeConnections(w, connections); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	said := strings.Join(strings.Fields(out.String()), " ")
	if want := fmt.Sprintf("%d connections, of which servers reset %d", connections, connections); !strings.Contains(said, want) {
		t.Errorf("want %q:\n%s", want, out.String())
	}
	const most = 150
	if got := held(); got > most {
		t.Errorf("it took %d MiB, and not up to %d", got, most)
	} else {
		t.Logf("it took %d MiB", got)
	}
}

// writeConnections writes a pcap of so many connections, each of which the server resets while it is in a queue.
func writeConnections(w io.Writer, connections int) error {
	b := bufio.NewWriterSize(w, 1<<20)
	head := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	head = append(head, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	head = binary.LittleEndian.AppendUint32(head, 262144)
	if _, err := b.Write(binary.LittleEndian.AppendUint32(head, 101)); err != nil { // LINKTYPE_RAW
		return err
	}
	packet := make([]byte, 16+40+1000)
	for i := range connections {
		for step, s := range []struct {
			server   bool
			flags    byte
			seq, ack uint32
			payload  int
		}{{false, 0x02, 0, 0, 0}, {true, 0x12, 0, 1, 0}, {false, 0x10, 1, 1, 0}, {false, 0x18, 1, 1, 1000}, {true, 0x10, 1, 1001, 0}, {true, 0x14, 1, 1001, 0}} {
			p := packet[:16+40+s.payload]
			binary.LittleEndian.PutUint32(p, uint32(1_700_000_000+i/1000))
			binary.LittleEndian.PutUint32(p[4:], uint32(i%1000*1000+step*100))
			binary.LittleEndian.PutUint32(p[8:], uint32(len(p)-16))
			binary.LittleEndian.PutUint32(p[12:], uint32(len(p)-16))
			ip := p[16:]
			ip[0], ip[8], ip[9] = 0x45, 64, 6
			binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
			client, server := []byte{10, byte(i >> 24), byte(i >> 16), 2}, []byte{10, 0, 0, 1}
			port := 1024 + i&0x7fff
			src, dst, from, to := client, server, port, 80
			if s.server {
				src, dst, from, to = server, client, 80, port
			}
			copy(ip[12:], src)
			copy(ip[16:], dst)
			binary.BigEndian.PutUint16(ip[20:], uint16(from))
			binary.BigEndian.PutUint16(ip[22:], uint16(to))
			binary.BigEndian.PutUint32(ip[24:], uint32(i)<<8+s.seq)
			binary.BigEndian.PutUint32(ip[28:], s.ack)
			ip[32], ip[33] = 5<<4, s.flags
			if s.ack > 0 {
				binary.BigEndian.PutUint32(ip[28:], uint32(i)<<8+s.ack)
			}
			if _, err := b.Write(p); err != nil {
				return err
			}
		}
	}
	return b.Flush()
}

// resetClient is a cell of one client that was reset, as it should be.
func resetClient() result.Cell {
	return result.Cell{
		Scenario: "quiz2", Family: "ipv4", Mode: "off", Status: result.Pass, Reason: "lost, as expected", Control: result.IsControl,
		Connections: result.Connections{Staged: 1, Lost: 1},
		Checks:      []result.Check{{Name: "accepted", Witness: result.Application, Want: "0", Got: "0", OK: true}},
	}
}

// TestReportInBoundedMemory: a ledger of many cells takes no more memory than its index, 24 bytes a cell, in each format that is written
// as it is read. A million take less than 100 MiB: make test-million.
func TestReportInBoundedMemory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	repeatCell(t, filepath.Join(dir, ledgerName), resetClient(), 60_000)
	bin := shipped(t)
	for _, args := range [][]string{
		{"report", dir, "--format=text"}, {"report", dir, "--format=jsonl"}, {"report", dir, "--format=ktap"}, {"report", dir, "--format=junit"},
		{"report", dir, "--format=lava"}, {"report", dir, "--format=markdown"}, {"explain", filepath.Join(dir, "quiz2/ipv4/off/59999")},
	} {
		cmd, held := measured(t, bin, args...)
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		const most = 40
		if got := held(); got > most {
			t.Errorf("%s: it took %d MiB, and not up to %d", args, got, most)
		} else {
			t.Logf("%s: %d MiB", args, got)
		}
	}
	m := runMany(t, nil, "report", dir, "--format=html")
	m.want(t, result.ExitUsage, 200, "has more than the 20000 cells that --format=html is for", "rpmig report "+dir+", or --format=jsonl: these take any number")
}

// TestBundleRefusesAtOnce: what is far too large for a bundle is not read first.
func TestBundleRefusesAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	repeatCell(t, filepath.Join(dir, ledgerName), resetClient(), 1)
	if err := os.Truncate(filepath.Join(dir, ledgerName), 1<<30); err != nil {
		t.Fatal(err)
	}
	for _, in := range []func(io.Writer) error{nil, packed(zstded, &manyWriter{cells: 1, after: strings.Repeat(strings.Repeat(" ", 1<<20)+"\n", 300)}, 0)} {
		from := dir
		if in != nil {
			from = stdin
		}
		m := runMany(t, in, "bundle", from, "-o", filepath.Join(t.TempDir(), "b"))
		m.want(t, result.ExitSoftware, 250, "its ledger is larger than the 128 MiB that a bundle may have of it", "run fewer scenarios or repeats")
		if in == nil {
			m.within(t, 2*time.Second)
		}
	}
}

// TestBundleInBoundedMemory: a bundle of a ledger of 60 MB, which is as much as a run of all cells writes, takes no more than four times
// that, and neither does its check.
func TestBundleInBoundedMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("-short: it takes seconds")
	}
	dir, c := t.TempDir(), resetClient()
	for n := range 350 {
		c.Events = append(c.Events, result.Event{
			Time: float64(n) / 1000, Kind: "sock:inet_sock_set_state", State: "TCP_SYN_RECV", Old: "TCP_ESTABLISHED",
			From: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 80), To: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(32768+n)),
		})
	}
	repeatCell(t, filepath.Join(dir, ledgerName), c, 1000)
	bin, to := shipped(t), filepath.Join(t.TempDir(), "run.tar.gz")
	for _, args := range [][]string{{"bundle", dir, "-o", to}, {"bundle", "--check", to}} {
		cmd, held := measured(t, bin, args...)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		const most = 250
		if got := held(); got > most {
			t.Errorf("%s took %d MiB, and not up to %d", args[:2], got, most)
		} else {
			t.Logf("%s: %d MiB", args[:2], got)
		}
	}
}

// TestAfterCollections: what is done after a collection is done after the next one, too, until it says that it is enough.
func TestAfterCollections(t *testing.T) {
	did := make(chan int, 10)
	n := 0
	afterCollections(func() bool {
		n++
		did <- n
		return n < 3
	})
	for want := 1; want <= 3; want++ {
		if got := <-did; got != want {
			t.Fatalf("want time %d, got %d", want, got)
		}
		runtime.GC()
	}
	runtime.GC()
	if len(did) > 0 {
		t.Error("it was done again")
	}
}
