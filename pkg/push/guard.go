package push

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unicode"

	"code.dny.dev/ssrf"
	"golang.org/x/net/idna"
)

// BlockedError says that an address is not to be dialled, and which setting
// would allow it.
type BlockedError struct {
	Addr netip.Addr // invalid when the host is neither an address nor a name
	Port uint16     // 0 when the port is not the reason
	// Named is true when the address was found by a look-up. The text does not tell
	// it then: whoever wrote the name must not learn what it means inside.
	Named  bool
	Denied bool // by Options.Deny
}

// Error implements error.
func (e *BlockedError) Error() string {
	what := "the host's address"
	if !e.Named {
		what = "address " + e.Addr.String()
	}
	switch {
	case e.Port != 0:
		return fmt.Sprintf("port %d is that of a mail server", e.Port)
	case !e.Addr.IsValid():
		return "the host is a number and neither an address nor a name"
	case e.Denied:
		return what + " is refused by --deny-network"
	case e.Named:
		return what + " is not public; --allow-network permits it"
	default:
		return fmt.Sprintf("%s is not public; --allow-network %s permits it", what, strings.Join(e.closed(), ","))
	}
}

// closed are the networks that would have to be allowed, at most: the address, and
// the IPv4 address inside of it.
func (e *BlockedError) closed() []string {
	var all []string
	for _, a := range meanings(nil, e.Addr) {
		if public.SafeAddr(a) != nil {
			all = append(all, hostPrefix(a).String())
		}
	}
	return all
}

// hostPrefix is the network of one address alone.
func hostPrefix(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	return netip.PrefixFrom(a, a.BitLen())
}

// Guard decides which addresses may be dialled; the zero Guard permits those that
// are public. A Client asks it after the name was looked up, with the very address
// of the connect call, so that an answer that changes between look-ups cannot slip
// past it.
type Guard struct {
	allow, deny []Network
}

// denied are addresses that count as public in the registries but are not to be
// reached from a server. 168.63.129.16 is the platform endpoint inside Azure.
var denied = []netip.Prefix{netip.MustParsePrefix("168.63.129.16/32")}

// public knows the registries of addresses.
var public = ssrf.New(ssrf.WithAnyPort(), ssrf.WithDeniedV4Prefixes(denied...))

// mailPorts are where a request might pass for mail.
var mailPorts = []uint16{25, 465, 587}

// NewGuard returns the guard of a Client whose Options.Allow and Options.Deny are
// these. A Network without a valid Prefix is an error.
func NewGuard(allow, deny []Network) (*Guard, error) {
	g := &Guard{}
	var err error
	if g.allow, err = cleanNetworks(allow); err != nil {
		return nil, fmt.Errorf("allowed networks: %w", err)
	}
	if g.deny, err = cleanNetworks(deny); err != nil {
		return nil, fmt.Errorf("denied networks: %w", err)
	}
	return g, nil
}

// control has the form of net.Dialer.Control.
func (g *Guard) control(network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return fmt.Errorf("dial network %s: %w", network, errNotTCP)
	}
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("read the address to dial: %w", err)
	}
	return g.Check(ap)
}

var errNotTCP = errors.New("not TCP")

// CheckURL returns a *BlockedError for what is known of a URL without a look-up,
// and another error when its port is none. Behind a proxy nothing else looks at it.
func (g *Guard) CheckURL(u *url.URL) error {
	port := uint16(80)
	if u.Scheme == "https" {
		port = 443
	}
	if text := u.Port(); text != "" {
		n, err := strconv.ParseUint(text, 10, 16)
		if err != nil {
			return errURL
		}
		port = uint16(n)
	}
	if slices.Contains(mailPorts, port) {
		return &BlockedError{Port: port}
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	if !isASCII(host) {
		if ascii, err := idna.Lookup.ToASCII(host); err == nil {
			host = strings.TrimSuffix(ascii, ".") // as net/http will write it
		}
	}
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		host = "127.0.0.1"
	}
	number := isNumeric(host[strings.LastIndexByte(host, '.')+1:])
	if !number && !strings.Contains(host, ":") {
		return nil // a name
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return g.Check(netip.AddrPortFrom(addr, port))
	}
	if number {
		return &BlockedError{}
	}
	return nil
}

// Opened reports whether the guard permits any address that is not public.
func (g *Guard) Opened() bool { return len(g.allow) > 0 }

// isNumeric reports whether the last label of a host makes it a number, which many
// resolvers and proxies read as an address: 127.1, 2130706433, 0xa9fea9fe, 012.0.0.5.
func isNumeric(label string) bool {
	digits, isHex := strings.CutPrefix(label, "0x")
	set := "0123456789"
	if isHex {
		set += "abcdef"
	}
	return (digits != "" || isHex) && strings.Trim(digits, set) == ""
}

// Check returns a *BlockedError unless the address is public or allowed. An
// address that carries an IPv4 address inside has to pass both.
func (g *Guard) Check(ap netip.AddrPort) error {
	addr := ap.Addr()
	if slices.Contains(mailPorts, ap.Port()) {
		return &BlockedError{Addr: addr, Port: ap.Port()}
	}
	var room [2]netip.Addr
	all := meanings(room[:0], addr)
	for _, a := range all {
		if contains(g.deny, netip.AddrPortFrom(a, ap.Port())) {
			return &BlockedError{Addr: addr, Denied: true}
		}
	}
	for _, a := range all {
		if !contains(g.allow, netip.AddrPortFrom(a, ap.Port())) && public.SafeAddr(a) != nil {
			return &BlockedError{Addr: addr}
		}
	}
	return nil
}

// meanings appends an address in its plain form and, where it carries one, the IPv4
// address inside.
func meanings(all []netip.Addr, addr netip.Addr) []netip.Addr {
	addr = addr.Unmap().WithZone("")
	all = append(all, addr)
	if inner, ok := embedded(addr); ok {
		all = append(all, inner)
	}
	return all
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

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII })
}
