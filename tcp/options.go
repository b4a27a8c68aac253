package tcp

import (
	"fmt"

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
