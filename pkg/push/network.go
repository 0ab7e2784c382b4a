package push

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Network is a network with the ports that are meant.
type Network struct {
	Prefix netip.Prefix
	Ports  []Ports // none means every port
}

// Ports are the ports from First to Last, both included.
type Ports struct{ First, Last uint16 }

var errNetwork = errors.New("not a network such as 10.0.0.0/8, 10.1.2.3:443 or [fd00::/8]:80,8000-8999")

// ParseNetwork reads NETWORK[:PORTS]: an address or a prefix in CIDR form, an IPv6
// one in brackets when ports follow an address, and ports and ranges of ports
// separated by commas. Bits behind the prefix are ignored.
func ParseNetwork(text string) (Network, error) {
	network, ports := splitPorts(strings.TrimSpace(text))
	n := Network{}
	if addr, err := netip.ParseAddr(network); err == nil && addr.Zone() == "" {
		n.Prefix = hostPrefix(addr)
	} else if n.Prefix, err = netip.ParsePrefix(network); err != nil || strings.Contains(network, "%") {
		return Network{}, fmt.Errorf("%.80q: %w", text, errNetwork)
	}
	if ports == "" {
		return n.clean()
	}
	for part := range strings.SplitSeq(ports[1:], ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, errFrom := strconv.ParseUint(first, 10, 16)
		to, errTo := strconv.ParseUint(last, 10, 16)
		if errFrom != nil || errTo != nil || from == 0 || to < from {
			return Network{}, fmt.Errorf("%.80q: %w", text, errNetwork)
		}
		n.Ports = append(n.Ports, Ports{uint16(from), uint16(to)})
	}
	return n.clean()
}

// splitPorts returns the ports with their colon. In an IPv6 network a colon is
// one of ports only behind a bracket or the length of the prefix.
func splitPorts(text string) (network, ports string) {
	if inside, ok := strings.CutPrefix(text, "["); ok {
		if network, ports, ok = strings.Cut(inside, "]"); ok && (ports == "" || ports[0] == ':') {
			return network, ports
		}
		return text, ""
	}
	from := strings.IndexByte(text, '/')
	if from < 0 && strings.Count(text, ":") > 1 {
		return text, ""
	}
	from = max(from, 0)
	if i := strings.IndexByte(text[from:], ':'); i >= 0 {
		return text[:from+i], text[from+i:]
	}
	return text, ""
}

// String returns the form that ParseNetwork reads.
func (n Network) String() string {
	parts := make([]string, len(n.Ports))
	for i, p := range n.Ports {
		if parts[i] = strconv.Itoa(int(p.First)); p.Last != p.First {
			parts[i] += "-" + strconv.Itoa(int(p.Last))
		}
	}
	if len(parts) == 0 {
		return n.Prefix.String()
	}
	return n.Prefix.String() + ":" + strings.Join(parts, ",")
}

// clean returns the network in the form in which addresses are compared.
func (n Network) clean() (Network, error) {
	if !n.Prefix.IsValid() {
		return Network{}, fmt.Errorf("%s: %w", n.Prefix, errNetwork)
	}
	// ::ffff:10.0.0.0/104 means 10.0.0.0/8: addresses are compared unmapped.
	if n.Prefix.Addr().Is4In6() && n.Prefix.Bits() >= 96 {
		n.Prefix = netip.PrefixFrom(n.Prefix.Addr().Unmap(), n.Prefix.Bits()-96)
	}
	n.Prefix = n.Prefix.Masked()
	return n, nil
}

func cleanNetworks(all []Network) ([]Network, error) {
	clean := make([]Network, len(all))
	for i, n := range all {
		var err error
		if clean[i], err = n.clean(); err != nil {
			return nil, err
		}
	}
	return clean, nil
}

func contains(all []Network, ap netip.AddrPort) bool {
	return slices.ContainsFunc(all, func(n Network) bool {
		return n.Prefix.Contains(ap.Addr()) && (len(n.Ports) == 0 || slices.ContainsFunc(n.Ports, func(p Ports) bool {
			return p.First <= ap.Port() && ap.Port() <= p.Last
		}))
	})
}
