package lab

import (
	"net/netip"

	"github.com/rpmig/rpmig/migrate"
	"github.com/rpmig/rpmig/tcp"
)

// Family is an address family: where listeners bind and clients connect.
type Family struct {
	Name   string
	Listen netip.Addr // what listeners bind to
	Dial   netip.Addr // what clients connect to; never looked up by name
}

// socketFamilies are those in which sock_diag lists the cell's sockets, both ends of each connection.
func (f Family) socketFamilies() []uint8 {
	listen, dial := uint8(tcp.Domain(f.Listen)), uint8(tcp.Domain(f.Dial))
	if listen == dial {
		return []uint8{listen}
	}
	return []uint8{listen, dial}
}

var families = []Family{
	{"ipv4", netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.AddrFrom4([4]byte{127, 0, 0, 1})},
	{"ipv6", netip.IPv6Loopback(), netip.IPv6Loopback()},
	// An IPv6 wildcard listener with an IPv4 client, as most servers are set up.
	{"dual", netip.IPv6Unspecified(), netip.AddrFrom4([4]byte{127, 0, 0, 1})},
}

// Families returns every family, in the order in which reports show them.
func Families() []Family { return append([]Family(nil), families...) }

// FamilyNames returns their names.
func FamilyNames() []string {
	var names []string
	for _, f := range families {
		names = append(names, f.Name)
	}
	return names
}

// ParseFamilies reads a comma list of families, or "all", into table order, each once.
func ParseFamilies(list string) ([]Family, error) {
	return migrate.Pick("address family", list, families, func(f Family) string { return f.Name })
}
