//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"unsafe"
)

// atWork is how many bare cells are played side by side: enough for the processors never to wait for the grace periods in
// which the kernel opens and closes packet sockets.
const atWork = 24

// bare does what no run can do without that plays that many cells, with that many connections in each: the kernel's part
// of it, and nothing else. For each cell it makes a network namespace, on a thread of its own as rpmig does, sets sysctls,
// opens a packet ring that records lo, has clients connect to a listener and send, closes that while another listens,
// accepts and reads what has migrated, has so many survivors talk both ways and end, and reads the counters twice. It drops
// no packets, loads no program, records no trace, waits for no timer, tries no listener, decodes and judges nothing.
//
// It has to run in a network namespace of its own, whose sysctls it sets.
func bare(cells, connections, survivors int) error {
	// The one of rpmig's means that saves most: a small table of connections for each namespace.
	if err := set("ipv4", [][2]string{{"tcp_child_ehash_entries", "512"}}); err != nil {
		return err
	}
	var playing sync.WaitGroup
	places := make(chan struct{}, atWork)
	errs := make(chan error, cells)
	for range cells {
		places <- struct{}{}
		playing.Go(func() {
			defer func() { <-places }()
			runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, and the namespace with it
			errs <- bareCell(connections, survivors)
		})
	}
	playing.Wait()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	return errors.Join(all...)
}

// sysctls are what rpmig sets in each namespace for IPv4, by folder (netns.BaseSysctls).
var sysctls = map[string][][2]string{
	"core": {{"somaxconn", "4096"}},
	"ipv4": {
		{"ip_local_reserved_ports", "80"}, {"tcp_abort_on_overflow", "0"}, {"tcp_early_retrans", "3"}, {"tcp_ecn", "0"},
		{"tcp_fastopen", "0"}, {"tcp_max_syn_backlog", "4096"}, {"tcp_max_tw_buckets", "65536"}, {"tcp_sack", "1"},
		{"tcp_synack_retries", "5"}, {"tcp_syncookies", "0"}, {"tcp_timestamps", "1"}, {"tcp_migrate_req", "1"},
	},
}

// set writes sysctls. Their folder is looked up once, as in rpmig.
func set(folder string, all [][2]string) error {
	dir, err := syscall.Open("/proc/sys/net/"+folder, syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = syscall.Close(dir) }()
	for _, s := range all {
		fd, err := syscall.Openat(dir, s[0], syscall.O_WRONLY|syscall.O_CLOEXEC, 0)
		if errors.Is(err, syscall.ENOENT) {
			continue // this kernel has none
		}
		if err == nil {
			_, err = syscall.Write(fd, []byte(s[1]))
			err = errors.Join(err, syscall.Close(fd))
		}
		if err != nil {
			return fmt.Errorf("set %s/%s: %w", folder, s[0], err)
		}
	}
	return nil
}

func bareCell(connections, survivors int) error {
	if err := newNamespace(); err != nil {
		return err
	}
	for folder, all := range sysctls {
		if err := set(folder, all); err != nil {
			return err
		}
	}
	closeRing, err := openRing(48 * (connections + 2)) // as many as rpmig has room for
	if err != nil {
		return fmt.Errorf("open a packet ring: %w", err)
	}
	defer closeRing()
	if err := migrateAll(connections, survivors); err != nil {
		return err
	}
	for range 2 { // for the verdict, and after the aftercare
		for _, name := range []string{"snmp", "netstat"} {
			b, err := os.ReadFile("/proc/thread-self/net/" + name)
			if err != nil {
				return err
			}
			if name == "netstat" && !strings.Contains(string(b), "TCPMigrateReqSuccess") {
				return errors.New("this kernel does not migrate: there is nothing to measure")
			}
		}
	}
	return nil
}

// openRing records what lo sends, as package capture does (packet(7)).
func openRing(frames int) (closeRing func(), err error) {
	const (
		packetVersion, packetRxRing = 10, 5
		tpacketV2                   = 1
		slot, block                 = 512, 16 << 10
		all                         = 0x0300 // ETH_P_ALL, in network order on a little-endian machine
		lo                          = 1
	)
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	blocks := (frames*slot + block - 1) / block
	ring := struct{ blockSize, blocks, slotSize, slots uint32 }{block, uint32(blocks), slot, uint32(blocks * block / slot)}
	// What goes wrong ends the process, and that closes the descriptor.
	if err := syscall.SetsockoptInt(fd, syscall.SOL_PACKET, packetVersion, tpacketV2); err != nil {
		return nil, err
	}
	if _, _, e := syscall.Syscall6(syscall.SYS_SETSOCKOPT, uintptr(fd), syscall.SOL_PACKET, packetRxRing,
		uintptr(unsafe.Pointer(&ring)), unsafe.Sizeof(ring), 0); e != 0 {
		return nil, e
	}
	mem, err := syscall.Mmap(fd, 0, blocks*block, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	if err := syscall.Bind(fd, &syscall.SockaddrLinklayer{Protocol: all, Ifindex: lo}); err != nil {
		return nil, err
	}
	return func() { _ = syscall.Munmap(mem); _ = syscall.Close(fd) }, nil
}

// migrateAll is Quiz 1 with migration on.
func migrateAll(connections, survivors int) error {
	at := &syscall.SockaddrInet4{Port: 80, Addr: [4]byte{127, 0, 0, 1}}
	const reuseport = 15 // SO_REUSEPORT
	var fds []int
	defer func() {
		for _, fd := range fds {
			_ = syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
			_ = syscall.Close(fd)
		}
	}()
	socket := func(kind int) (int, error) {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|kind, 0)
		if err == nil {
			fds = append(fds, fd)
		}
		return fd, err
	}
	listen := func() (int, error) {
		fd, err := socket(syscall.SOCK_NONBLOCK)
		if err == nil {
			err = errors.Join(syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, reuseport, 1), syscall.Bind(fd, at), syscall.Listen(fd, 4096))
		}
		return fd, err
	}
	a, err := listen()
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	greeting := []byte("Hello World")
	clients := map[int]int{} // by port
	for range connections {
		c, err := socket(0)
		if err == nil {
			err = connectAndSend(c, at, greeting)
		}
		if err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		name, err := syscall.Getsockname(c)
		if err != nil {
			return err
		}
		clients[name.(*syscall.SockaddrInet4).Port] = c
	}
	b, err := listen()
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	fds = fds[1:] // A comes first
	if err := syscall.Close(a); err != nil {
		return err
	}
	buf := make([]byte, 64)
	for i := range connections {
		c, from, err := syscall.Accept4(b, syscall.SOCK_CLOEXEC)
		if err != nil {
			return fmt.Errorf("accept what has migrated: %w", err)
		}
		fds = append(fds, c)
		if n, err := syscall.Read(c, buf); string(buf[:max(n, 0)]) != string(greeting) {
			return fmt.Errorf("read what has migrated: %d bytes, %w", n, errors.Join(err, io.ErrUnexpectedEOF))
		}
		if i < survivors {
			if err := talk(clients[from.(*syscall.SockaddrInet4).Port], c); err != nil {
				return fmt.Errorf("talk: %w", err)
			}
		}
	}
	return nil
}

// said is what either side says, as in a run.
var said = make([]byte, 70_000)

// talk has a client and its server say as much to each other as in a run, and end.
func talk(client, server int) error {
	buf := make([]byte, len(said))
	for _, ends := range [][2]int{{server, client}, {client, server}} {
		for sent, got := 0, 0; got < len(said); {
			n, err := syscall.SendmsgN(ends[0], said[sent:], nil, nil, syscall.MSG_DONTWAIT)
			if sent += max(n, 0); err != nil && !errors.Is(err, syscall.EAGAIN) {
				return err
			}
			if n, err = syscall.Read(ends[1], buf); n <= 0 {
				return errors.Join(err, io.ErrUnexpectedEOF)
			}
			got += n
		}
	}
	for _, ends := range [][2]int{{server, client}, {client, server}} {
		if err := syscall.Shutdown(ends[0], syscall.SHUT_WR); err != nil {
			return err
		}
		if n, err := syscall.Read(ends[1], buf); n != 0 || err != nil {
			return fmt.Errorf("%d bytes instead of a FIN, %v", n, err)
		}
	}
	return nil
}

func connectAndSend(fd int, to syscall.Sockaddr, greeting []byte) error {
	err := syscall.Connect(fd, to)
	for errors.Is(err, syscall.EINTR) || errors.Is(err, syscall.EALREADY) { // a signal of the runtime's
		if err = syscall.Connect(fd, to); errors.Is(err, syscall.EISCONN) {
			err = nil
		}
	}
	if err == nil {
		_, err = syscall.Write(fd, greeting)
	}
	return err
}
