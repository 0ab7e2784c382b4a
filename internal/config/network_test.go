package config

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cxbridge/watcher/pkg/push"
)

func TestNetworks(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.0/8":                             "10.0.0.0/8",
		"10.1.2.3/8,192.0.2.7,2001:db8::1":       "10.0.0.0/8 192.0.2.7/32 2001:db8::1/128",
		"10.0.0.0/8:443,8000-8999":               "10.0.0.0/8:443,8000-8999",
		"10.0.0.0/8:80 , 443, [fd00::1]:80,81\n": "10.0.0.0/8:80,443 fd00::1/128:80,81",
		"fd00::/8:1-65535,10.0.0.1:8080,9090":    "fd00::/8:1-65535 10.0.0.1/32:8080,9090",
	} {
		networks, err := parseNetworks(text)
		if got := strings.Trim(fmt.Sprint(networks), "[]"); err != nil || got != want {
			t.Errorf("%q: %s, %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", ",", "443", "443,10.0.0.0/8", "10.0.0.0/8,443", "10.0.0.0/8,", "10.0.0.0/8:80,,81", "10.0.0.0/8:80,-", "10.0.0.0/8:80,90-80", "10.0.0.0/8:80,70000", "crm.example.com"} {
		if networks, err := parseNetworks(text); err == nil {
			t.Errorf("%q was read as %v", text, networks)
		}
	}
}

// What is written out, joined by commas, is read as the same networks.
func TestNetworksAreReadAsTheyAreWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var texts []string
		for range rapid.IntRange(1, 4).Draw(t, "networks") {
			addr := netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "v4")))
			if rapid.Bool().Draw(t, "is6") {
				addr = netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "v6"))).Unmap()
			}
			n := push.Network{Prefix: netip.PrefixFrom(addr, rapid.IntRange(0, addr.BitLen()).Draw(t, "bits")).Masked()}
			for range rapid.IntRange(0, 3).Draw(t, "ports") {
				first := rapid.Uint16Range(1, 65535).Draw(t, "first")
				n.Ports = append(n.Ports, push.Ports{First: first, Last: rapid.Uint16Range(first, 65535).Draw(t, "last")})
			}
			texts = append(texts, n.String())
		}
		networks, err := parseNetworks(strings.Join(texts, ","))
		if got := strings.Trim(fmt.Sprint(networks), "[]"); err != nil || got != strings.Join(texts, " ") {
			t.Errorf("%v: %s, %v", texts, got, err)
		}
	})
}

func TestNetworksThatHardlyAnybodyMeans(t *testing.T) {
	for _, tt := range []struct{ allow, deny, everything, clouds string }{
		{"", "", "", ""},
		{"10.0.0.0/8,169.254.169.254:443", "", "", ""},
		{"169.254.169.254:1-100", "", "", "169.254.169.254"},
		{"169.254.0.0/16", "169.254.170.0/24,169.254.0.23,169.254.42.42", "", "169.254.169.254"},
		{"fd00::/8", "fd00:42::/32", "", "fd00:ec2::254 fd00:ec2::23 fd20:ce::254"},
		{"168.63.129.16", "", "", "168.63.129.16"},
		{"0.0.0.0/0:443", "", "0.0.0.0/0:443", ""},
		{"10.0.0.0/8,::/0", "fd00::/8", "::/0", ""},
		{"0.0.0.0/1,128.0.0.0/1", "169.254.0.0/16,192.0.0.192,100.100.100.200", "", "168.63.129.16"},
	} {
		n := Network{AllowNetworks: networks(t, tt.allow), DenyNetworks: networks(t, tt.deny)}
		everything, clouds := n.Opened()
		if got := strings.Trim(fmt.Sprint(everything), "[]"); got != tt.everything {
			t.Errorf("%+v: everything by %q", tt, got)
		}
		if got := strings.Trim(fmt.Sprint(clouds), "[]"); got != tt.clouds {
			t.Errorf("%+v: opens %q", tt, got)
		}
	}
}

func networks(t *testing.T, text string) []push.Network {
	t.Helper()
	if text == "" {
		return nil
	}
	all, err := parseNetworks(text)
	if err != nil {
		t.Fatal(err)
	}
	return all
}
