package tcp

import (
	"fmt"
	"net/netip"

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

// Key has a socket sign what it sends to an address, and take from there nothing that is not signed, with an MD5 key (RFC 2385,
// TCP_MD5SIG in tcp(7)). On an AF_INET6 socket an IPv4 address is that of IPv4 clients.
func Key(fd int, peer netip.Addr, key string) error {
	v6, err := IsIPv6(fd)
	if err != nil {
		return err
	}
	sig := unix.TCPMD5Sig{Keylen: uint16(len(key))}
	copy(sig.Key[:], key)
	// The kernel's struct has a sockaddr_storage: family, port, and then an IPv4 address, or the flow and an IPv6 address.
	sig.Addr.Family = unix.AF_INET
	a4, a16 := peer.Unmap(), peer.As16()
	if v6 {
		sig.Addr.Family = unix.AF_INET6
		copy(sig.Addr.Data[6:], a16[:])
	} else {
		copy(sig.Addr.Data[2:], a4.AsSlice())
	}
	if err := unix.SetsockoptTCPMD5Sig(fd, unix.IPPROTO_TCP, unix.TCP_MD5SIG, &sig); err != nil {
		return fmt.Errorf("set TCP_MD5SIG: %w", err)
	}
	return nil
}
