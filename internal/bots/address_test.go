package bots

import (
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/cxbridge/watcher/pkg/push"
	"github.com/cxbridge/watcher/pkg/secret"
)

func TestURL(t *testing.T) {
	for stored, want := range map[any]string{
		"https://crm.example.com/hook":            "https://crm.example.com/hook",
		" https://crm.example.com ":               "https://crm.example.com",
		"HTTP://CRM.Example.com:8080/Path?A=b":    "http://crm.example.com:8080/Path?A=b",
		"https://crm.example.com/h?a=1#top?x=1":   "https://crm.example.com/h?a=1",
		"https://crm.example.com/a b/%20?q=a b":   "https://crm.example.com/a%20b/%20?q=a%20b",
		"https://crm.example.com/?q=ü|\"<>{}+%2":  "https://crm.example.com/?q=%C3%BC%7C%22%3C%3E%7B%7D+%2",
		"https://u:p%40@crm.example.com/x":        "https://u:p%40@crm.example.com/x",
		"https://bücher.example/x":                "https://xn--bcher-kva.example/x",
		"https://BÜCHER.example:8443/x":           "https://xn--bcher-kva.example:8443/x",
		"https://b%C3%BCcher.example:8443":        "https://xn--bcher-kva.example:8443",
		"https://u:p@例え.テスト:443/?a=b":             "https://u:p@xn--r8jz45g.xn--zckzah:443/?a=b",
		"https://crm.example.com/a%2Fb/c d":       "https://crm.example.com/a%2Fb/c%20d",
		"https://crm.example.com/a%2fb/ü?c=%2F d": "https://crm.example.com/a%2fb/%C3%BC?c=%2F%20d",
		"https://crm.example.com/50%/a%2Fb|{c}":   "https://crm.example.com/50%25/a%2Fb%7C%7Bc%7D",
		"http://[2606:4700::1]:8080/x":            "http://[2606:4700::1]:8080/x",
		"https://crm.example.com/a%2Fb":           "https://crm.example.com/a%2Fb",
	} {
		b := withPush(t, m{"url": stored})
		if b.Push.URL != want || !b.Usable() || !b.Push.HasURL {
			t.Errorf("%v: got %q, %v", stored, b.Push.URL, b.Warnings)
		}
	}
	for _, stored := range []any{nil, "", "  ", "\t\n"} {
		if b := withPush(t, m{"url": stored}); b.Push.HasURL || b.Push.URL != "" || find(b, "post_call_push.url") != (Warning{}) {
			t.Errorf("%q: %+v, %v", stored, b.Push, b.Warnings)
		}
	}
	for _, stored := range []any{
		5, true, m{}, bson.A{"https://x.example"}, "crm.example.com/hook", "crm.example.com:8080/hook", "/hook", "//crm.example.com",
		"ftp://crm.example.com", "https://", "https:///x", "https:crm.example.com", "https://crm.example.com:99999", "https://crm.example.com:0/",
		"https://crm example.com", "https://crm.example.com/\x00pass-word", "https://user:pass-word@crm.example.com:port/", "https://%zz/", "mailto:a@b.example",
	} {
		b := withPush(t, m{"url": stored})
		w := find(b, "post_call_push.url")
		if b.Usable() || !b.Push.HasURL || w.Code != CodeBadURL || b.Push.URL != "" {
			t.Errorf("%q: url %q, %v", stored, b.Push.URL, b.Warnings)
		}
		if strings.Contains(fmt.Sprint(w), "pass-word") {
			t.Errorf("%q: the fault shows the password: %s", stored, w)
		}
	}
	if b := withPush(t, m{"url": "https://u:p@crm.example.com/x?key=1"}); b.Push.PublicURL != "https://crm.example.com/x" {
		t.Errorf("public url: %s", b.Push.PublicURL)
	}
	if b := withPush(t, m{"url": "https://crm.example.com/{{call.id}}"}); find(b, "post_call_push.url").Code != CodeNotRendered || !b.Usable() {
		t.Errorf("a token in the url: %v", b.Warnings)
	}
	if b := withPush(t, m{"url": "http://crm.example.com/x", "token": "secret"}); find(b, "post_call_push.url").Code != CodePlainHTTP {
		t.Errorf("a token over http: %v", b.Warnings)
	}
	if b := withPush(t, m{"url": "http://crm.example.com/x"}); len(b.Warnings) != 0 {
		t.Errorf("nothing to hide over http: %v", b.Warnings)
	}
}

func TestHeaders(t *testing.T) {
	for _, tt := range []struct {
		name   string
		fields bson.M
		want   http.Header
	}{
		{"neither", m{}, http.Header{}},
		{"token as it is", m{"token": "tok-123"}, http.Header{"Authorization": {"tok-123"}}},
		{"token with a scheme", m{"token": "Bearer x"}, http.Header{"Authorization": {"Bearer x"}}},
		{"token that is a number", m{"token": 12345}, http.Header{"Authorization": {"12345"}}},
		{"token that is a whole double", m{"token": 45.0}, http.Header{"Authorization": {"45"}}},
		{"token null", m{"token": nil}, http.Header{}},
		{"token empty", m{"token": " "}, http.Header{}},
		{"headers win", m{"token": "t", "headers": m{"X-Api-Key": "k"}}, http.Header{"X-Api-Key": {"k"}}},
		{"headers empty", m{"token": "t", "headers": m{}}, http.Header{"Authorization": {"t"}}},
		{"headers null", m{"token": "t", "headers": nil}, http.Header{"Authorization": {"t"}}},
		{"headers empty list", m{"token": "t", "headers": bson.A{}}, http.Header{"Authorization": {"t"}}},
		{"headers empty text", m{"token": "t", "headers": ""}, http.Header{"Authorization": {"t"}}},
		{"values of other types", m{"headers": bson.D{{Key: "x-n", Value: 5}, {Key: "x-b", Value: true}, {Key: "x-z", Value: nil}, {Key: "x-e", Value: ""}}},
			http.Header{"X-N": {"5"}, "X-B": {"true"}, "X-E": {""}}},
		{"two spellings", m{"headers": bson.D{{Key: "X-A", Value: "1"}, {Key: "x-a", Value: "2"}}}, http.Header{"X-A": {"2"}}},
		{"blanks", m{"headers": m{" X-A ": " v "}}, http.Header{"X-A": {"v"}}},
		{"left to the sender", m{"headers": m{"Accept-Encoding": "gzip, br", "Host": "CRM.example.com"}}, http.Header{}},
		{"letters beyond ASCII", m{"headers": m{"X-A": "é"}}, http.Header{"X-A": {"é"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := withPush(t, tt.fields)
			if !b.Usable() {
				t.Fatalf("not usable: %v", b.Warnings)
			}
			if len(b.Push.Header) != len(tt.want) {
				t.Errorf("got %v, want %v", b.Push.Header, tt.want)
			}
			for k, v := range tt.want {
				if got := b.Push.Header[k]; len(got) != 1 || got[0] != v[0] {
					t.Errorf("%s: got %q, want %q", k, got, v)
				}
			}
		})
	}
}

func TestHeadersThatAreRefused(t *testing.T) {
	const value = "hidden-value"
	for name, v := range map[string]any{
		"Connection": value, "keep-alive": value, "Transfer-Encoding": "chunked", "TE": value, "Trailer": value, "Upgrade": value,
		"Content-Length": 12, "Proxy-Connection": value, "Host": "other.example", "": value, "X Y": value, "X:Y": value, "é": value, "X\nY": value,
		"Authorization: Bearer " + value: "", "X-A": value + "\r\nX-B: y", "X-C": value + "\x00", "X-D": value + "\n", "X-E": value + "\x7f", "X-F": m{}, "X-G": bson.A{}, "X-H": math.NaN(),
	} {
		b := withPush(t, m{"headers": bson.D{{Key: name, Value: v}, {Key: "X-Good", Value: "1"}}})
		w := find(b, "post_call_push.headers."+shownName(name))
		if b.Usable() || w.Code != CodeBadHeader {
			t.Errorf("%q: %v", name, b.Warnings)
		}
		if strings.Contains(b.FaultText(), value) {
			t.Errorf("%q: the fault shows the value: %s", name, b.FaultText())
		}
	}
	for _, v := range []any{"x", 5, true, bson.A{m{"key": "a", "value": "b"}}} {
		if b := withPush(t, m{"headers": v, "token": "t"}); b.Usable() || find(b, "post_call_push.headers").Code != CodeNotAnObject {
			t.Errorf("headers %v: %v", v, b.Warnings)
		}
	}
	for _, v := range []any{"a\nb", value + "\r\nX: y", "a\x00", true, m{}, bson.A{"x"}} {
		b := withPush(t, m{"token": v})
		if b.Usable() || find(b, "post_call_push.token").Code != CodeBadHeader || strings.Contains(b.FaultText(), value) {
			t.Errorf("token %q: %v", v, b.Warnings)
		}
	}
}

// A path is shown unless it is a secret: by its host, by its look, or because the bot
// says so. What is shown instead still tells two bots apart.
func TestPathsThatAreSecrets(t *testing.T) {
	shown := func(url string, secretPath any) string {
		raw, err := bson.Marshal(bson.D{{Key: "_id", Value: "a"}, {Key: "post_call_push", Value: bson.D{
			{Key: "url", Value: url}, {Key: "secret_path", Value: secretPath},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		b := Compile(raw, Options{})
		if !b.Usable() {
			t.Errorf("%s: %s", url, b.FaultText())
		}
		return b.Push.PublicURL
	}
	if got := shown("https://crm.example.com/calls/in", nil); got != "https://crm.example.com/calls/in" {
		t.Errorf("shown as %s", got)
	}
	one, two := shown("https://crm.example.com/calls/in", true), shown("https://crm.example.com/calls/out", "true")
	if strings.Contains(one, "calls") || strings.Contains(two, "calls") || one == two {
		t.Errorf("shown as %s and %s", one, two)
	}
	if got := shown("https://hooks.zapier.com/hooks/catch/1234567/abcdefg/", false); strings.Contains(got, "abcdefg") {
		t.Errorf("shown as %s", got)
	}
}

// Strangers that push to one address share nothing: neither without a credential,
// nor with one in the body alone.
func TestStrangersAtOneAddressAreDestinationsOfTheirOwn(t *testing.T) {
	bot := func(id string, mapper bson.D) *Bot {
		raw, err := bson.Marshal(bson.D{{Key: "_id", Value: id}, {Key: "post_call_push", Value: bson.D{
			{Key: "url", Value: "https://crm.example.com/in"}, {Key: "key_mapper", Value: mapper},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		return Compile(raw, Options{})
	}
	key := func(v string) bson.D { return bson.D{{Key: "api_key", Value: v}} }
	for _, c := range []struct {
		a, b   *Bot
		shared bool
	}{
		{bot("a", nil), bot("b", nil), false},
		{bot("a", key("k-1234567")), bot("b", key("k-7654321")), false},
		{bot("a", key("k-1234567")), bot("b", key("k-1234567")), true},
		{bot("a", nil), bot("a", nil), true},
	} {
		if a, b := c.a.Push.Destination, c.b.Push.Destination; (a == b) != c.shared {
			t.Errorf("%q and %q, shared: want %t", a, b, c.shared)
		}
	}
}

func TestDestination(t *testing.T) {
	base := m{"url": "https://crm.example.com/hook", "token": "tok-123"}
	with := func(more bson.M) *Push {
		fields := m{}
		for k, v := range base {
			fields[k] = v
		}
		for k, v := range more {
			fields[k] = v
		}
		return withPush(t, fields).Push
	}
	for name, more := range map[string]bson.M{
		"another mapping":        {"key_mapper": m{"x": "{{y}}"}},
		"another method":         {"method": "GET"},
		"host in capitals":       {"url": "https://CRM.example.com/hook"},
		"the same as a header":   {"headers": m{"authorization": "tok-123", "Content-Type": "text/plain", "Accept": "x"}},
		"a fragment":             {"url": "https://crm.example.com/hook#x"},
		"limits and time format": {"max_attempts": 3, "time_format": "unix"},
	} {
		if got, want := with(more).Destination, with(nil).Destination; got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	seen := map[string]string{with(nil).Destination: "itself"}
	for name, more := range map[string]bson.M{
		"another token":  {"token": "tok-124"},
		"no token":       {"token": nil},
		"another path":   {"url": "https://crm.example.com/hook2"},
		"another host":   {"url": "https://crm2.example.com/hook"},
		"another scheme": {"url": "http://crm.example.com/hook"},
		"query key":      {"url": "https://crm.example.com/hook?accessKey=1"},
		"user":           {"url": "https://u:p@crm.example.com/hook"},
		"api key":        {"headers": m{"X-Api-Key": "k"}},
		"oauth":          {"auth": m{"type": "oauth2", "token_url": "https://a.example/t", "client_id": "i", "client_secret": "s-e-c-r-e-t"}},
	} {
		got := with(more).Destination
		if other, again := seen[got]; again {
			t.Errorf("%s and %s share %s", name, other, got)
		}
		seen[got] = name
		if strings.Contains(got, "tok-12") {
			t.Errorf("%s: the credential is in it: %s", name, got)
		}
	}
}

func TestSecretsAreTakenOut(t *testing.T) {
	b := withPush(t, m{
		"url": "https://user:url-password@crm.example.com/x?accessKey=query-secret&src=visible", "headers": m{"Authorization": "Bearer bearer-secret", "X-Api-Key": "header-secret", "Content-Type": "application/json"},
		"signing_secret": "signing-secret", "key_mapper": m{"api_token": "mapped-secret", "name": "mapped-name"},
		"auth": m{"type": "query", "params": m{"k": "auth-secret"}},
	})
	if !b.Usable() {
		t.Fatal(b.Warnings)
	}
	got := b.Push.Redact.Redact("url-password query-secret visible bearer-secret header-secret application/json signing-secret mapped-secret mapped-name auth-secret")
	r := secret.Redacted
	if want := strings.Join([]string{r, r, "visible", r, r, "application/json", r, r, "mapped-name", r}, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if len(b.Push.Secrets) == 0 {
		t.Error("the secrets are not listed")
	}
	if p := Compile(raw(t, m{"post_call_push": 5}), Options{}).Push; p.Redact.Redact("x") != "x" {
		t.Error("an unusable bot has no redactor")
	}
}

// What is warned of is what the sender refuses, in its words.
func TestAddressesThatAreNotDialled(t *testing.T) {
	for host, want := range map[string]string{
		"10.1.2.3": "10.1.2.3/32", "192.168.0.1:8080": "192.168.0.1/32", "172.16.9.9": "172.16.9.9/32", "169.254.169.254": "169.254.169.254/32",
		"127.0.0.1": "127.0.0.1/32", "localhost": "127.0.0.1/32", "LOCALHOST:8080": "127.0.0.1/32", "crm.localhost": "127.0.0.1/32", "10.1.2.3.": "10.1.2.3/32",
		"[::1]:8080": "::1/128", "[fd00::5]": "fd00::5/128", "[::ffff:10.0.0.1]": "10.0.0.1/32", "[fe80::1%25eth0]": "fe80::1/128", "１０.1.2.3": "10.1.2.3/32",
		"127.1": "number", "2130706433": "number", "0xa9fea9fe": "number", "012.0.0.5": "number", "1.2.3.4.5": "number",
		"crm.example.com:25": "mail", "93.184.216.34:465": "mail",
		"93.184.216.34": "", "crm.example.com": "", "10.example.com": "", "[2606:4700::1111]": "", "0b1.0o1.1_0.1x": "", "crm.example.com:8025": "",
	} {
		for key, fields := range map[string]m{
			"url":            {"url": "https://" + host + "/x"},
			"auth.token_url": {"url": "https://crm.example.com", "auth": m{"type": "oauth2", "token_url": "https://" + host + "/t", "client_id": "i", "client_secret": "s"}},
		} {
			w := find(withPush(t, fields), "post_call_push."+key)
			if want == "" && w != (Warning{}) || want != "" && (w.Code != CodePrivateAddress || !strings.Contains(w.Message, want)) {
				t.Errorf("%s %s: %+v", key, host, w)
			}
		}
	}
}

func TestAddressesThatTheDeploymentAllowsOrDenies(t *testing.T) {
	network := func(text string) []push.Network {
		n, err := push.ParseNetwork(text)
		if err != nil {
			t.Fatal(err)
		}
		return []push.Network{n}
	}
	guard, err := push.NewGuard(network("10.1.0.0/16:443,8000-8999"), network("93.184.216.34"))
	if err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]string{
		"https://10.1.2.3": "", "https://10.1.2.3:8080/x": "", "http://10.1.2.3": "--allow-network", "https://10.2.0.1": "--allow-network",
		"https://93.184.216.34": "--deny-network", "https://1.1.1.1": "",
	} {
		b := Compile(raw(t, m{"_id": "b", "timezone": "UTC", "post_call_push": m{"url": url, "key_mapper": m{"a": "1"}}}), Options{Guard: guard})
		if w := find(b, "post_call_push.url"); want == "" != (w == Warning{}) || !strings.Contains(w.Message, want) {
			t.Errorf("%s: %v", url, b.Warnings)
		}
	}
}

// What is taken for an address can stand in a request line, and is taken for the
// same address again.
func FuzzAddress(f *testing.F) {
	for _, s := range []string{"https://crm.example.com/a%2Fb/c d?q=ü#x", "https://ü:p%40 1@bücher.example:8443", "http://[::1]:80/%", "https://１２７.1/\\"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, problem, _ := parseURL(text)
		if problem != "" {
			return
		}
		once := u.String()
		if i := strings.IndexFunc(once, func(r rune) bool { return r <= ' ' || r > '~' }); i >= 0 {
			t.Errorf("%q: %q", text, once)
		}
		again, problem, _ := parseURL(once)
		if problem != "" || again.String() != once {
			t.Errorf("%q: %q, then %v (%s)", text, once, again, problem)
		}
	})
}

func TestHostsOf(t *testing.T) {
	for address, want := range map[string]string{
		"https://CRM.example/x": "crm.example crm.example:443", "https://crm.example:443": "crm.example crm.example:443",
		"http://crm.example:80/": "crm.example crm.example:80", "http://crm.example:443/": "crm.example:443",
		"https://[2001:db8::1]:8443/x": "[2001:db8::1]:8443", "": "", "crm.example": "", "::": "",
	} {
		if got := strings.Join(HostsOf(address), " "); got != want {
			t.Errorf("%q: %q, want %q", address, got, want)
		}
	}
	b := withPush(t, m{"url": "https://CRM.example:443/x?a=1"})
	if b.Push.Host() != "crm.example" || (&Push{}).Host() != "" {
		t.Errorf("%q", b.Push.Host())
	}
}

// A name that no public server knows is told, unless the deployment opens a network.
func TestLocalNames(t *testing.T) {
	opened, err := push.NewGuard([]push.Network{{Prefix: netip.MustParsePrefix("10.0.0.0/8")}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for host, local := range map[string]bool{"crm": true, "crm:8080": true, "crm.internal": true, "a.b.local.": true, "x.test": true, "crm.example": false, "crm.local.example": false, "93.184.216.34": false, "[2606:2800:220:1::1]": false} {
		doc := raw(t, m{"_id": "b", "timezone": "UTC", "post_call_push": m{"url": "https://" + host + "/x", "key_mapper": m{"a": "1"}}})
		if w := find(Compile(doc, Options{}), "post_call_push.url"); (w.Code == CodePrivateAddress) != local {
			t.Errorf("%s: %+v", host, w)
		}
		if w := find(Compile(doc, Options{Guard: opened}), "post_call_push.url"); w.Code != "" {
			t.Errorf("%s with an open network: %+v", host, w)
		}
	}
}
