package config

import (
	"net/netip"
	"reflect"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/cxbridge/watcher/pkg/push"
)

// Network says which addresses may be dialled beside or without those that are
// public; every command that looks at the address of a bot has it.
type Network struct {
	AllowNetworks []push.Network `name:"allow-network" group:"delivery" placeholder:"NETWORK[:PORTS]" help:"Network that may be reached although it is not public, such as 10.1.2.3:443,8000-8999; repeatable."`
	DenyNetworks  []push.Network `name:"deny-network" group:"delivery" placeholder:"NETWORK[:PORTS]" help:"Network that is not reached, whatever else allows it; repeatable."`
}

// Guard returns what decides by these settings.
func (n *Network) Guard() (*push.Guard, error) {
	return push.NewGuard(n.AllowNetworks, n.DenyNetworks)
}

// metadata are the addresses at which clouds hand credentials of the machine, or
// its secrets, to whoever asks from inside.
var metadata = []string{
	"169.254.169.254",                                                  // nearly all of them
	"169.254.170.2", "169.254.170.23", "fd00:ec2::254", "fd00:ec2::23", // AWS, its containers too
	"fd20:ce::254",                 // Google Cloud
	"168.63.129.16",                // Azure
	"100.100.100.200",              // Alibaba Cloud
	"192.0.0.192",                  // Oracle Cloud
	"169.254.0.23",                 // Tencent Cloud
	"169.254.42.42", "fd00:42::42", // Scaleway
}

// Opened returns what the settings open that hardly anybody means to: networks of
// every address, as they were given, and metadata addresses of clouds.
func (n *Network) Opened() (everything []push.Network, clouds []netip.Addr) {
	for _, network := range n.AllowNetworks {
		if network.Prefix.Bits() == 0 {
			everything = append(everything, network)
		}
	}
	guard, err := n.Guard()
	if err != nil {
		return everything, nil // a network without a prefix; nothing is dialled then
	}
	for _, text := range metadata {
		addr := netip.MustParseAddr(text)
		if guard.Check(netip.AddrPortFrom(addr, 80)) == nil {
			clouds = append(clouds, addr)
		}
	}
	return everything, clouds
}

// decodeNetworks reads networks that are separated by commas and adds them to
// those of the flag before. Commas separate the ports of one network too: a part
// without a network belongs to the one before it.
func decodeNetworks(ctx *kong.DecodeContext, target reflect.Value) error {
	var text string
	if err := ctx.Scan.PopValueInto("network", &text); err != nil {
		return err
	}
	networks, err := parseNetworks(text)
	if err != nil {
		return err
	}
	target.Set(reflect.AppendSlice(target, reflect.ValueOf(networks)))
	return nil
}

func parseNetworks(text string) ([]push.Network, error) {
	var parts []string
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if isPorts := part != "" && strings.Trim(part, "0123456789-") == ""; isPorts && len(parts) > 0 {
			parts[len(parts)-1] += "," + part
		} else {
			parts = append(parts, part)
		}
	}
	networks := make([]push.Network, len(parts))
	for i, part := range parts {
		var err error
		if networks[i], err = push.ParseNetwork(part); err != nil {
			return nil, err
		}
	}
	return networks, nil
}
