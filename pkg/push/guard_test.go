package push

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Addresses and spellings that must never be dialled without permission.
var blockedAddrs = []string{
	// loopback and "this network"
	"127.0.0.1", "127.1.2.3", "127.255.255.254", "0.0.0.0", "0.1.2.3", "::1", "::", "0:0:0:0:0:0:0:1",
	// private
	"10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.255.255",
	// link-local and cloud metadata
	"169.254.0.1", "169.254.169.254", "169.254.170.2", "fe80::1", "fe80::1%eth0", "febf::1", "fd00:ec2::254",
	"fd20:ce::254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "192.0.0.170",
	// shared, reserved, documentation, benchmark, broadcast, multicast
	"100.64.0.1", "100.127.255.255", "192.0.0.1", "192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1",
	"198.19.255.255", "192.88.99.1", "192.31.196.1", "192.52.193.1", "192.175.48.1", "240.0.0.1", "255.255.255.254",
	"255.255.255.255", "224.0.0.1", "239.255.255.255", "ff02::1", "ff05::2", "2001:db8::1", "3fff::1", "100::1", "5f00::1",
	// unique local and site-local
	"fc00::1", "fdff::1", "fec0::1",
	// IPv4 inside IPv6: mapped, compatible, translated, 6to4, Teredo, ISATAP
	"::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "::10.0.0.1",
	"::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::a00:1", "64:ff9b::8.8.8.8", "64:ff9b:1::1", "2002:7f00:1::1",
	"2002:a00:1::", "2002:808:808::", "2001::1", "2001:0:7f00:1::", "2001:2::1", "2001:10::1", "2001:20::1",
	"2a00:1450::5efe:7f00:1", "2a00:1450::200:5efe:a00:1", "2a00:1450::5efe:169.254.169.254",
}

var publicAddrs = []string{
	"8.8.8.8", "1.1.1.1", "93.184.216.34", "11.0.0.1", "9.255.255.255", "172.15.255.255", "172.32.0.1", "192.167.255.255",
	"192.169.0.1", "100.63.255.255", "100.128.0.1", "169.253.255.255", "169.255.0.1", "126.255.255.255", "128.0.0.1",
	"223.255.255.255", "198.17.255.255", "198.20.0.1", "168.63.129.15", "::ffff:8.8.8.8",
	"2606:4700:4700::1111", "2a00:1450:4001:80b::200e", "2400:cb00::1", "2a00:1450::5efe:8.8.8.8",
}

func TestGuard(t *testing.T) {
	if n := len(blockedAddrs) + len(publicAddrs); n < 60 {
		t.Fatalf("only %d addresses", n)
	}
	g := &Guard{} // public addresses alone
	for _, text := range blockedAddrs {
		addr := netip.MustParseAddr(text)
		err := g.control("tcp6", netip.AddrPortFrom(addr, 443).String(), nil)
		blocked, ok := errors.AsType[*BlockedError](err)
		if !ok {
			t.Errorf("%s may be dialled (%v)", text, err)
			continue
		}
		if msg := blocked.Error(); !strings.Contains(msg, addr.String()) || !strings.Contains(msg, "--allow-network") {
			t.Errorf("%s: %q names not both the address and the setting", text, msg)
		}
		_, advice, _ := strings.Cut(blocked.Error(), "--allow-network ")
		advice, _, _ = strings.Cut(advice, " ")
		var allow []Network
		for network := range strings.SplitSeq(advice, ",") {
			allow = append(allow, mustNetwork(t, network))
		}
		if advised, err := NewGuard(allow, nil); err != nil || advised.Check(netip.AddrPortFrom(addr, 443)) != nil {
			t.Errorf("%s: %q does not help, %v", text, blocked, err)
		}
		if blocked.Addr != addr {
			t.Errorf("%s was reported as %s", text, blocked.Addr)
		}
	}
	for _, text := range publicAddrs {
		if err := g.Check(netip.AddrPortFrom(netip.MustParseAddr(text), 443)); err != nil {
			t.Errorf("%s is public, but: %v", text, err)
		}
	}
	for _, network := range []string{"udp4", "unix", "tcp", "ip4"} {
		if g.control(network, "8.8.8.8:443", nil) == nil {
			t.Errorf("network %s may be dialled", network)
		}
	}
	if g.control("tcp4", "crm.example.com:443", nil) == nil {
		t.Error("a name instead of an address may be dialled")
	}
}

func TestGuardAllows(t *testing.T) {
	for _, tc := range []struct {
		allow    string
		yes, not []string
	}{
		{"10.1.0.0/16", []string{"10.1.2.3", "::ffff:10.1.2.3"}, []string{"10.2.0.1", "192.168.0.1"}},
		{"10.1.2.3/16", []string{"10.1.9.9"}, []string{"10.2.0.1"}}, // host bits are ignored
		{"::ffff:10.0.0.0/104", []string{"10.9.9.9"}, []string{"11.0.0.0/8", "192.168.0.1"}},
		{"fd00::/8", []string{"fd12::1"}, []string{"fc00::1", "fe80::1"}},
		{"fe80::/10", []string{"fe80::1%eth0"}, []string{"fd00::1"}},
		// A network behind NAT64 may reach public addresses through it, not its own.
		{"64:ff9b::/96", []string{"64:ff9b::8.8.8.8"}, []string{"64:ff9b::127.0.0.1", "64:ff9b::169.254.169.254"}},
		{"::/0", []string{"fd00::1", "::1"}, []string{"127.0.0.1"}},
	} {
		g, err := NewGuard([]Network{mustNetwork(t, tc.allow)}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range tc.yes {
			if err := g.Check(netip.AddrPortFrom(netip.MustParseAddr(text), 443)); err != nil {
				t.Errorf("%s does not allow %s: %v", tc.allow, text, err)
			}
		}
		for _, text := range tc.not {
			if addr, err := netip.ParseAddr(text); err == nil && g.Check(netip.AddrPortFrom(addr, 443)) == nil {
				t.Errorf("%s allows %s", tc.allow, text)
			}
		}
	}
	if _, err := NewClient(Options{Allow: []Network{{}}}); err == nil {
		t.Error("an invalid prefix was taken")
	}
}

// Spellings of a host that mean an address of this machine. However they are
// resolved, nothing is connected to.
func TestBlockedHosts(t *testing.T) {
	srv := newRawServer(t, answering(okAnswer))
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(srv.URL, "http://"))
	dns := newDNS(t, func(string, int) []string { return nil })
	c, err := NewClient(Options{Resolver: dns.resolver()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, host := range []string{
		"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "0.0.0.0", "[::]",
		"2130706433", "0x7f000001", "0177.0.0.1", "017700000001", "127.1", "127.0.1", "0x7f.1", "127.0.0.1.", "[fe80::1%25lo]",
		"①②⑦.⓪.⓪.①", "127.0.0.1%00.example.com",
	} {
		req := getRequest("http://" + host + ":" + port + "/")
		req.Timeout = time.Second
		res := c.Send(t.Context(), req)
		if res.Class != ClassBlocked && res.Class != ClassUnreached && res.Class != ClassUnusable || res.Sends != 0 {
			t.Errorf("%s: %+v", host, res)
		}
		if addr, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil && res.Class != ClassBlocked {
			t.Errorf("%s (%s): %s, want blocked", host, addr, res.Class)
		}
	}
	if n := srv.conns.Load(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
}

// The answer of the name service is judged at the connect call, each time.
func TestDNSThatChanges(t *testing.T) {
	srv := newRawServer(t, answering("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"))
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(srv.URL, "http://"))
	dns := newDNS(t, func(name string, n int) []string {
		if strings.HasPrefix(name, "mixed.") {
			return []string{"10.0.0.1", "127.0.0.1", "169.254.169.254"}
		}
		if n == 1 {
			return []string{"127.0.0.1"}
		}
		return []string{"127.0.0.2"}
	})
	c := newTestClient(t, Options{
		Resolver: dns.resolver(),
		Allow:    []Network{{Prefix: netip.MustParsePrefix("127.0.0.1/32")}},
	})
	url := "http://rebind.test:" + port + "/"
	if res := c.Send(t.Context(), getRequest(url)); res.Class != ClassOK {
		t.Fatalf("the first look-up: %+v", res)
	}
	res := c.Send(t.Context(), getRequest(url))
	blocked, ok := errors.AsType[*BlockedError](res.Err)
	if res.Class != ClassBlocked || !ok || blocked.Addr != netip.MustParseAddr("127.0.0.2") || res.Sends != 0 {
		t.Errorf("the second look-up: %+v", res)
	}
	if res := c.Send(t.Context(), getRequest("http://mixed.test:"+port+"/")); res.Class != ClassOK {
		t.Errorf("one allowed address among others: %+v", res)
	}
	if n := srv.conns.Load(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

func TestSlowDNS(t *testing.T) {
	dns := newDNS(t, nil)
	c := newTestClient(t, Options{Resolver: dns.resolver()})
	req := getRequest("http://slow.test/")
	req.Timeout = short
	res := c.Send(t.Context(), req)
	checkFault(t, res, ClassUnreached, 0, "DNS: not done within 150ms")
	if res.Duration > time.Second {
		t.Errorf("took %s", res.Duration)
	}
}

// dnsServer answers look-ups of IPv4 addresses as a test wants it. Without
// answers it says nothing at all.
type dnsServer struct {
	conn    net.PacketConn
	answers func(name string, n int) []string
	asked   sync.Map // name -> *atomic.Int64
	ctx     context.Context
}

func newDNS(t testing.TB, answers func(name string, n int) []string) *dnsServer {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dnsServer{conn: conn, answers: answers, ctx: t.Context()}
	var wg sync.WaitGroup
	wg.Go(s.serve)
	t.Cleanup(func() {
		conn.Close()
		wg.Wait()
	})
	return s
}

// resolver asks the server. A look-up outlives its request by up to
// DialTimeout; here it ends with the test.
func (s *dnsServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		if s.ctx.Err() != nil {
			return nil, s.ctx.Err()
		}
		var d net.Dialer
		conn, err := d.DialContext(ctx, "udp4", s.conn.LocalAddr().String())
		if err == nil {
			context.AfterFunc(s.ctx, func() { conn.Close() })
		}
		return conn, err
	}}
}

func (s *dnsServer) serve() {
	buf := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 || s.answers == nil {
			continue
		}
		q := m.Questions[0]
		m.Response, m.RecursionAvailable, m.Additionals = true, true, nil
		if q.Type == dnsmessage.TypeA {
			count, _ := s.asked.LoadOrStore(q.Name.String(), new(atomic.Int64))
			for _, text := range s.answers(q.Name.String(), int(count.(*atomic.Int64).Add(1))) {
				m.Answers = append(m.Answers, dnsmessage.Resource{
					Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class},
					Body:   &dnsmessage.AResource{A: netip.MustParseAddr(text).As4()},
				})
			}
		}
		if len(m.Answers) == 0 && q.Type == dnsmessage.TypeA {
			m.RCode = dnsmessage.RCodeNameError
		}
		if out, err := m.Pack(); err == nil {
			s.conn.WriteTo(out, from)
		}
	}
}

// What a host means without a look-up is looked at behind a proxy too, where
// nothing else does.
func TestHostsBehindAProxy(t *testing.T) {
	proxy := newRawServer(t, answering(okAnswer))
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("NO_PROXY", "")
	c := newTestClient(t, Options{ProxyFromEnvironment: true, Allow: []Network{{Prefix: netip.MustParsePrefix("127.0.0.1/32")}}})
	for _, host := range []string{
		"127.1", "2130706433", "0xa9fea9fe", "0xA9FEA9FE", "012.0.0.5", "0x7f.1", "0177.0.0.1", "127.0.1", "0x", "10.0.0.1.", "10.1",
		"169.254.169.254", "[::ffff:10.0.0.1]", "[fd00::1]", "1.2.3.4.5", "crm.example.com.1", "①⑥⑨.②⑤④.①⑥⑨.②⑤④", "127。2", "256.1.1.1",
		"8.8.8.8:25", "crm.example.com:465", "crm.example.com:587", "127.0.0.1:25",
	} {
		res := c.Send(t.Context(), getRequest("http://"+host+"/"))
		if res.Class != ClassBlocked || res.Sends != 0 {
			t.Errorf("%s: %+v", host, res)
		}
	}
	if n := proxy.conns.Load(); n != 0 {
		t.Errorf("the proxy got %d connections", n)
	}
	for _, host := range []string{"crm.example.com", "x9.example", "0xcafe.example", "crm.0xyz", "8.8.8.8", "crm.example.com:8025"} {
		if res := c.Send(t.Context(), getRequest("http://"+host+"/")); res.Class != ClassOK {
			t.Errorf("%s: %+v", host, res)
		}
	}
}

// A proxy that cannot be read is an error and not a direct connection.
func TestBadProxy(t *testing.T) {
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY"} {
		for _, address := range []string{"http://user:LEAKED@pro xy:3128", "http://LEAKED:port", "ftp://LEAKED", "://LEAKED", "http://%zz-LEAKED", "http://", "\x00LEAKED"} {
			if strings.ContainsRune(address, 0) {
				continue // no environment holds it
			}
			t.Setenv("HTTP_PROXY", "")
			t.Setenv("HTTPS_PROXY", "")
			t.Setenv(name, address)
			_, err := NewClient(Options{ProxyFromEnvironment: true})
			if err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "LEAKED") {
				t.Errorf("%s=%s: %v", name, address, err)
			}
		}
		for _, address := range []string{"", "http://proxy:3128", "proxy:3128", "socks5://user:pw@proxy", "https://proxy"} {
			t.Setenv(name, address)
			if _, err := NewClient(Options{ProxyFromEnvironment: true}); err != nil {
				t.Errorf("%s=%s: %v", name, address, err)
			}
		}
	}
}

// What stands on a call does not tell what a name means inside.
func TestBlockedAddressOfANameIsNotTold(t *testing.T) {
	dns := newDNS(t, func(string, int) []string { return []string{"10.77.0.9"} })
	var log strings.Builder
	c, err := NewClient(Options{Resolver: dns.resolver(), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	res := c.Send(t.Context(), getRequest("http://inside.test/"))
	checkFault(t, res, ClassBlocked, 0, "not public", "--allow-network")
	if strings.Contains(res.Err.Error(), "10.77") {
		t.Errorf("%v", res.Err)
	}
	if !strings.Contains(log.String(), "10.77.0.9") || !strings.Contains(log.String(), "inside.test") {
		t.Errorf("the log does not tell: %s", log.String())
	}
	checkFault(t, c.Send(t.Context(), getRequest("http://10.77.0.9/")), ClassBlocked, 0, "10.77.0.9 is not public")
}

func TestDeny(t *testing.T) {
	g, err := NewGuard(
		[]Network{mustNetwork(t, "10.0.0.0/8:443,8000-8999"), mustNetwork(t, "192.168.1.1")},
		[]Network{mustNetwork(t, "10.9.0.0/16"), mustNetwork(t, "8.8.8.8:80"), mustNetwork(t, "2606:4700::/32")})
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{
		"10.1.1.1:443": "", "10.1.1.1:8000": "", "10.1.1.1:8999": "", "10.1.1.1:9000": "not public", "10.1.1.1:80": "not public",
		"192.168.1.1:80": "", "192.168.1.2:80": "not public", "10.9.1.1:443": "--deny-network", "[::ffff:10.9.1.1]:443": "--deny-network",
		"8.8.8.8:80": "--deny-network", "8.8.8.8:443": "", "[2606:4700::1111]:443": "--deny-network", "[64:ff9b::10.9.1.1]:443": "--deny-network",
		"1.1.1.1:25": "mail", "10.1.1.1:465": "mail", "192.168.1.1:587": "mail",
	} {
		err := g.control("tcp", address, nil)
		if err == nil || !errors.Is(err, errNotTCP) {
			t.Fatal("network tcp may be dialled")
		}
		err = g.control("tcp4", address, nil)
		if want == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", address, err, want)
		}
	}
}

func mustNetwork(t testing.TB, text string) Network {
	t.Helper()
	n, err := ParseNetwork(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestParseNetwork(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.0/8": "10.0.0.0/8", "10.1.2.3/8": "10.0.0.0/8", "10.1.2.3": "10.1.2.3/32", "10.0.0.0/8:443": "10.0.0.0/8:443",
		"10.1.2.3:80,8000-8999": "10.1.2.3/32:80,8000-8999", "fd00::/8": "fd00::/8", "fd00::1": "fd00::1/128", "fd00::/8:443": "fd00::/8:443",
		"[fd00::1]:443": "fd00::1/128:443", "[fd00::/8]": "fd00::/8", "[fd00::/8]:1-65535": "fd00::/8:1-65535", "::ffff:10.0.0.0/104": "10.0.0.0/8",
		"0.0.0.0/0": "0.0.0.0/0", "::/0:80": "::/0:80",
	} {
		n, err := ParseNetwork(text)
		if err != nil || n.String() != want {
			t.Errorf("%q: %s, %v, want %s", text, n, err, want)
			continue
		}
		if again, err := ParseNetwork(n.String()); err != nil || again.String() != want {
			t.Errorf("%q is written as %s and read as %s, %v", text, n, again, err)
		}
	}
	for _, text := range []string{
		"", "crm.example.com", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/8:", "10.0.0.0/8:0", "10.0.0.0/8:65536", "10.0.0.0/8:90-80", "10.0.0.0/8:a",
		"10.0.0.0/8:80,", "10.0.0.0/8:-", "[fd00::1", "[fd00::1]443", "fd00::1:2:3:4:5:6:7:8:9", "/8", ":80", "10.0.0.0/8:80:90", "fe80::1%eth0/64",
	} {
		if n, err := ParseNetwork(text); err == nil {
			t.Errorf("%q was read as %s", text, n)
		}
	}
}
