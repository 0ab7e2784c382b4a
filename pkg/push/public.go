package push

import "net/netip"

// Public reports whether an address may be dialled without being allowed.
func Public(addr netip.Addr) bool {
	g, err := newGuard(Options{})
	return err == nil && g.check(netip.AddrPortFrom(addr, 443)) == nil
}
