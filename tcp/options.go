package tcp

import (
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// IsIPv6 tells whether a socket is of AF_INET6, which one that an IPv4 client has reached may be.
func IsIPv6(fd int) (bool, error) {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return false, fmt.Errorf("getsockopt SO_DOMAIN: %w", err)
	}
	return domain == unix.AF_INET6, nil
}

// WindowScale is by how many bits a connection shifts the receive window that it advertises (RFC 7323): tcpi_rcv_wscale of
// tcp_info, which x/sys does not name.
func WindowScale(fd int) (int, error) {
	info, err := unix.GetsockoptUint64(fd, unix.IPPROTO_TCP, unix.TCP_INFO) // its first 8 bytes
	if err != nil {
		return 0, fmt.Errorf("getsockopt TCP_INFO: %w", err)
	}
	return int(info >> 52 & 0xf), nil // the upper half of byte 6, on the little-endian machines that rpmig is built for
}

// MD5Key has a socket sign what it sends to an address, and take from there nothing that is not signed, with an MD5 key
// (RFC 2385, TCP_MD5SIG in tcp(7)). On an AF_INET6 socket an IPv4 address is that of IPv4 clients.
func MD5Key(fd int, peer netip.Addr, key string) error {
	addr, err := storage(fd, peer)
	if err != nil {
		return err
	}
	sig := unix.TCPMD5Sig{Addr: addr, Keylen: uint16(len(key))}
	copy(sig.Key[:], key)
	if err := unix.SetsockoptTCPMD5Sig(fd, unix.IPPROTO_TCP, unix.TCP_MD5SIG, &sig); err != nil {
		return fmt.Errorf("set TCP_MD5SIG: %w", err)
	}
	return nil
}

// AOKey is MD5Key for TCP-AO (RFC 5925, Linux 6.7 with CONFIG_TCP_AO), by HMAC-SHA-1.
func AOKey(fd int, peer netip.Addr, key string) error {
	addr, err := storage(fd, peer)
	if err != nil {
		return err
	}
	k := aoKey{addr: addr, prefix: uint8(peer.Unmap().BitLen()), sndid: 1, rcvid: 1, keyLen: uint8(len(key))}
	copy(k.algorithm[:], "hmac(sha1)")
	copy(k.key[:], key)
	_, _, e := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, addAOKey, uintptr(unsafe.Pointer(&k)), unsafe.Sizeof(k), 0)
	if e != 0 {
		return fmt.Errorf("set TCP_AO_ADD_KEY: %w", e)
	}
	return nil
}

// addAOKey is TCP_AO_ADD_KEY of linux/tcp.h, and aoKey its struct tcp_ao_add: x/sys has neither.
const addAOKey = 38

type aoKey struct {
	addr                                           unix.SockaddrStorage
	algorithm                                      [64]byte
	ifindex                                        int32
	flags                                          uint32
	_                                              uint16
	prefix, sndid, rcvid, macLen, keyFlags, keyLen uint8
	key                                            [unix.TCP_AO_MAXKEYLEN]byte
}

// storage is an address as the keys of a socket are given it: family, port, and then an IPv4 address, or the flow and an IPv6
// address.
func storage(fd int, peer netip.Addr) (unix.SockaddrStorage, error) {
	addr := unix.SockaddrStorage{Family: unix.AF_INET}
	v6, err := IsIPv6(fd)
	if v6 {
		a := peer.As16()
		addr.Family = unix.AF_INET6
		copy(addr.Data[6:], a[:])
	} else {
		copy(addr.Data[2:], peer.Unmap().AsSlice())
	}
	return addr, err
}
