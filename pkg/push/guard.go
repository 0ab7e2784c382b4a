package push

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"code.dny.dev/ssrf"
)

// BlockedError says that an address is not to be dialled. Its text names the
// address and the setting that allows it.
type BlockedError struct {
	Addr netip.Addr
}

// Error implements error.
func (e *BlockedError) Error() string {
	return fmt.Sprintf("address %s is not public; --allow-network %s permits it",
		e.Addr, netip.PrefixFrom(e.Addr.WithZone(""), e.Addr.BitLen()))
}

// guard decides which addresses may be dialled. It is asked after the name was
// looked up, with the very address of the connect call, so that an answer that
// changes between look-ups cannot slip past it.
type guard struct {
	allow  []netip.Prefix
	public *ssrf.Guardian
}

// denied are addresses that count as public in the registries but are not to be
// reached from a server. 168.63.129.16 is the platform endpoint inside Azure.
var denied = []netip.Prefix{netip.MustParsePrefix("168.63.129.16/32")}

var errBadPrefix = errors.New("not a valid network")

func newGuard(allow []netip.Prefix) (*guard, error) {
	g := &guard{public: ssrf.New(ssrf.WithAnyPort(), ssrf.WithDeniedV4Prefixes(denied...))}
	for _, p := range allow {
		if !p.IsValid() {
			return nil, fmt.Errorf("allow network %s: %w", p, errBadPrefix)
		}
		// ::ffff:10.0.0.0/104 means 10.0.0.0/8: addresses are compared unmapped.
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		g.allow = append(g.allow, p.Masked())
	}
	return g, nil
}

// control has the form of net.Dialer.Control.
func (g *guard) control(network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return fmt.Errorf("dial network %s: %w", network, errNotTCP)
	}
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("read the address to dial: %w", err)
	}
	return g.check(ap.Addr())
}

var errNotTCP = errors.New("not TCP")

// check returns a *BlockedError unless the address is public or allowed. An
// address that carries an IPv4 address inside has to pass both.
func (g *guard) check(addr netip.Addr) error {
	a := addr.Unmap().WithZone("")
	if inner, ok := embedded(a); ok && !g.permits(inner) {
		return &BlockedError{Addr: addr}
	}
	if !g.permits(a) {
		return &BlockedError{Addr: addr}
	}
	return nil
}

func (g *guard) permits(a netip.Addr) bool {
	for _, p := range g.allow {
		if p.Contains(a) {
			return true
		}
	}
	return g.public.SafeAddr(a) == nil
}

var nat64 = []netip.Prefix{
	netip.MustParsePrefix("64:ff9b::/96"),   // RFC 6052
	netip.MustParsePrefix("64:ff9b:1::/48"), // RFC 8215, for local use, as a /96 here
}

// embedded returns the IPv4 address that a translating or tunnelling router
// would make of an IPv6 address: NAT64 and ISATAP, which may stand in networks
// that are public or allowed. 6to4, Teredo and IPv4-compatible addresses are
// never public, so what is inside them does not matter.
func embedded(a netip.Addr) (netip.Addr, bool) {
	if !a.Is6() {
		return netip.Addr{}, false
	}
	b := a.As16()
	last := netip.AddrFrom4([4]byte(b[12:]))
	for _, p := range nat64 {
		if p.Contains(a) {
			return last, true
		}
	}
	// ISATAP (RFC 5214): interface identifier 0000:5efe or 0200:5efe, then IPv4.
	if id := binary.BigEndian.Uint32(b[8:12]); id&^0x03000000 == 0x00005efe {
		return last, true
	}
	return netip.Addr{}, false
}
